/*
 * Which room has something to do next: a binary heap by due time.
 *
 * Rooms without ticks, tickets or an end in sight are not in it, so that any number of idle rooms costs nothing. The heap's
 * memory is made when a room starts, so that nothing later can fail for it.
 */
#include "room/room.h"

static bool before(const struct room *a, const struct room *b)
{
    return a->due.us != b->due.us ? a->due.us < b->due.us : a->number < b->number;
}

static void place(struct host *h, uint32_t at, struct room *r)
{
    h->heap[at] = r;
    r->due_at = at;
}

static void up(struct host *h, uint32_t at, struct room *r)
{
    while (at > 0 && before(r, h->heap[(at - 1) / 2])) {
        place(h, at, h->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(h, at, r);
}

static void down(struct host *h, uint32_t at, struct room *r)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= h->heap_len)
            break;
        if (child + 1 < h->heap_len && before(h->heap[child + 1], h->heap[child]))
            child++;
        if (!before(h->heap[child], r))
            break;
        place(h, at, h->heap[child]);
        at = child;
    }
    place(h, at, r);
}

bool due_prepare(struct host *h, size_t rooms)
{
    if (rooms <= h->heap_cap)
        return true;
    uint32_t cap = h->heap_cap ? h->heap_cap * 2 : 16;
    struct room **heap = alloc_resize(h->config.alloc, h->heap, h->heap_cap * sizeof(*heap), cap * sizeof(*heap));
    if (!heap)
        return false;
    h->heap = heap;
    h->heap_cap = cap;
    return true;
}

void due_remove(struct room *r)
{
    struct host *h = r->host;
    uint32_t at = r->due_at;
    if (at == DUE_NONE)
        return;
    r->due_at = DUE_NONE;
    struct room *last = h->heap[--h->heap_len];
    if (last == r)
        return;
    if (before(last, r))
        up(h, at, last);
    else
        down(h, at, last);
}

static void earlier(bool *any, struct mono *due, struct mono t)
{
    if (!*any || t.us < due->us)
        *due = t;
    *any = true;
}

static bool next_of(const struct room *r, struct mono *due)
{
    if (!r->running || r->frozen || r->ending)
        return false;
    bool any = seats_next_expiry(&r->seats, due);
    if (r->def->tick_ms && r->def->impl->tick)
        earlier(&any, due, r->next_tick);
    if (r->def->auto_dispose && r->host->config.empty_ms > 0 && r->seats.taken + r->seats.reserved == 0)
        earlier(&any, due, mono_add_ms(r->empty_since, r->host->config.empty_ms));
    return any;
}

void due_update(struct room *r)
{
    struct host *h = r->host;
    struct mono due;
    if (!next_of(r, &due)) {
        due_remove(r);
        return;
    }
    if (r->due_at != DUE_NONE && r->due.us == due.us)
        return;
    due_remove(r);
    r->due = due;
    ASSERT(h->heap_len < h->heap_cap);
    up(h, h->heap_len++, r);
}
