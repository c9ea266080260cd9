/* See tail.h. The ring grows by doubling and is given back when the client has everything. */
#include "node/tail.h"

#include <string.h>

enum { FIRST_CAP = 8 };

struct words *words_get(const struct alloc *alloc, const char *from, const void *data, size_t len)
{
    struct words *w = len <= UINT32_MAX ? alloc_get(alloc, sizeof(*w) + len) : NULL;
    if (!w)
        return NULL;
    w->users = 1;
    w->len = (uint32_t)len;
    if (from)
        id_set(&w->from, from);
    if (len)
        memcpy(w->data, data, len);
    return w;
}

void words_put(const struct alloc *alloc, struct words *w)
{
    if (w && --w->users == 0)
        alloc_put(alloc, w, sizeof(*w) + w->len);
}

static void drop_oldest(struct tail *t, const struct alloc *alloc)
{
    struct tail_message *m = &t->ring[++t->floor % t->cap];
    t->bytes -= m->words->len;
    words_put(alloc, m->words);
    m->words = NULL;
}

static void give_back(struct tail *t, const struct alloc *alloc)
{
    alloc_put(alloc, t->ring, t->cap * sizeof(*t->ring));
    t->ring = NULL;
    t->cap = 0;
}

static bool grow(struct tail *t, const struct alloc *alloc)
{
    uint32_t cap = t->cap ? t->cap * 2 : FIRST_CAP;
    struct tail_message *ring = alloc_get(alloc, cap * sizeof(*ring));
    if (!ring)
        return false;
    for (uint64_t n = t->floor + 1; n <= t->last; n++)
        ring[n % cap] = t->ring[n % t->cap];
    alloc_put(alloc, t->ring, t->cap * sizeof(*t->ring));
    t->ring = ring;
    t->cap = cap;
    return true;
}

static void drop_all(struct tail *t, const struct alloc *alloc)
{
    while (t->floor < t->last)
        drop_oldest(t, alloc);
}

uint64_t tail_add(struct tail *t, const struct alloc *alloc, uint32_t room, struct words *words)
{
    bool room_for_it = words && (t->last - t->floor < t->cap || t->cap == TAIL_COUNT || grow(t, alloc));
    if (!room_for_it) {
        drop_all(t, alloc);
        t->floor = ++t->last;
        return t->last;
    }
    while (t->floor < t->last && (t->last - t->floor >= TAIL_COUNT || t->bytes + words->len > TAIL_BYTES))
        drop_oldest(t, alloc);
    t->last++;
    t->ring[t->last % t->cap] = (struct tail_message){.room = room, .words = words};
    words->users++;
    t->bytes += words->len;
    return t->last;
}

void tail_acknowledge(struct tail *t, const struct alloc *alloc, uint64_t seq)
{
    while (t->floor < t->last && t->floor < seq)
        drop_oldest(t, alloc);
    if (t->floor == t->last)
        give_back(t, alloc);
}

const struct tail_message *tail_at(const struct tail *t, uint64_t seq)
{
    return seq > t->floor && seq <= t->last ? &t->ring[seq % t->cap] : NULL;
}

void tail_begin_after(struct tail *t, const struct alloc *alloc, uint64_t last)
{
    tail_clear(t, alloc);
    t->last = t->floor = last;
}

void tail_clear(struct tail *t, const struct alloc *alloc)
{
    drop_all(t, alloc);
    give_back(t, alloc);
}
