/* See events.h. */
#include "store/events.h"

#include <string.h>

void events_init(struct events *e, const struct alloc *alloc)
{
    *e = (struct events){.alloc = alloc};
    e->tail = &e->head;
}

void events_deinit(struct events *e)
{
    for (struct queued *q; (q = events_pop(e));)
        queued_free(e->alloc, q);
}

struct queued *queued_new(const struct alloc *alloc, enum store_event_kind kind, uint64_t token)
{
    struct queued *q = alloc_get(alloc, sizeof *q);
    if (q) {
        q->event.kind = kind;
        q->event.token = token;
    }
    return q;
}

void queued_free(const struct alloc *alloc, struct queued *q)
{
    if (!q)
        return;
    alloc_put(alloc, q->extra, q->extra_size);
    alloc_put(alloc, q, sizeof *q);
}

void queued_room(struct queued *q, const char *room, const struct store_mark *mark)
{
    if (id_set(&q->room, room))
        q->event.snapshot.room = q->room.s;
    q->event.snapshot.mark = *mark;
}

static bool set_extra(const struct alloc *alloc, struct queued *q, const void *data, size_t size)
{
    void *extra = alloc_resize(alloc, NULL, 0, size ? size : 1);
    if (!extra)
        return false;
    if (size)
        memcpy(extra, data, size);
    q->extra = extra;
    q->extra_size = size ? size : 1;
    return true;
}

bool queued_snapshot(const struct alloc *alloc, struct queued *q, const struct store_snapshot *s)
{
    if (!set_extra(alloc, q, s->data, s->len))
        return false;
    q->event.snapshot = *s;
    q->event.snapshot.data = q->extra;
    id_set(&q->room, s->room);
    id_set(&q->type, s->type);
    q->event.snapshot.room = q->room.s;
    q->event.snapshot.type = q->type.s;
    return true;
}

void queued_detail(const struct alloc *alloc, struct queued *q, const char *text)
{
    if (set_extra(alloc, q, text, strlen(text) + 1))
        q->event.detail = q->extra;
}

bool events_push(struct events *e, struct queued *q)
{
    q->next = NULL;
    *e->tail = q;
    e->tail = &q->next;
    e->bytes += q->extra_size;
    return e->count++ == 0;
}

void events_say(struct events *e, enum store_event_kind kind, enum store_result result, const char *text)
{
    struct queued *q = queued_new(e->alloc, kind, 0);
    if (!q)
        return;
    q->event.result = result;
    queued_detail(e->alloc, q, text);
    events_push(e, q);
}

bool events_move(struct events *e, struct events *from)
{
    bool first = e->count == 0 && from->count > 0;
    if (!from->head)
        return false;
    *e->tail = from->head;
    e->tail = from->tail;
    e->count += from->count;
    e->bytes += from->bytes;
    events_init(from, from->alloc);
    return first;
}

struct queued *events_pop(struct events *e)
{
    struct queued *q = e->head;
    if (!q)
        return NULL;
    e->head = q->next;
    if (!e->head)
        e->tail = &e->head;
    e->count--;
    e->bytes -= q->extra_size;
    return q;
}
