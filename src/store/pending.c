/* See pending.h. */
#include "store/pending.h"

#include <string.h>

void pending_init(struct pending *p, const struct alloc *alloc, size_t max_count, size_t max_bytes)
{
    *p = (struct pending){.alloc = alloc, .max_count = max_count, .max_bytes = max_bytes};
    map_init(&p->by_room, alloc);
}

void pending_deinit(struct pending *p)
{
    map_deinit(&p->by_room);
    for (struct op *op; (op = p->head);) {
        p->head = op->next;
        op_free(p->alloc, op);
    }
}

int op_new(const struct alloc *alloc, enum op_kind kind, uint64_t token, const struct store_snapshot *s, struct op **out)
{
    struct op *op = alloc_get(alloc, sizeof *op);
    if (!op)
        return ROOM_E_NO_MEMORY;
    op->kind = kind;
    op->mark = s->mark;
    op->saved = s->saved;
    op->codec = s->codec;
    bool named = s->room && id_set(&op->room, s->room) && (kind != OP_SAVE || (s->type && id_set(&op->type, s->type)));
    op->done = named ? queued_new(alloc, STORE_EV_DONE, token) : NULL;
    if (op->done && s->len) {
        op->data = alloc_resize(alloc, NULL, 0, s->len);
        op->len = op->data ? s->len : 0;
    }
    if (!op->done || op->len != s->len) {
        op_free(alloc, op);
        return named ? ROOM_E_NO_MEMORY : ROOM_E_INVALID;
    }
    if (s->len)
        memcpy(op->data, s->data, s->len);
    *out = op;
    return 0;
}

void op_free(const struct alloc *alloc, struct op *op)
{
    queued_free(alloc, op->done);
    alloc_put(alloc, op->data, op->len);
    alloc_put(alloc, op, sizeof *op);
}

struct store_snapshot op_snapshot(const struct op *op)
{
    return (struct store_snapshot){.room = op->room.s, .type = op->type.s, .mark = op->mark, .saved = op->saved,
                                   .codec = op->codec, .data = op->data, .len = op->len};
}

static void link_between(struct pending *p, struct op *prev, struct op *op, struct op *next)
{
    op->prev = prev;
    op->next = next;
    *(prev ? &prev->next : &p->head) = op;
    *(next ? &next->prev : &p->tail) = op;
    p->waiting++;
}

static void unlink_op(struct pending *p, struct op *op)
{
    *(op->prev ? &op->prev->next : &p->head) = op->next;
    *(op->next ? &op->next->prev : &p->tail) = op->prev;
    op->prev = op->next = NULL;
    p->waiting--;
}

/* Ends `op`, which is in no list. */
static void finish(struct pending *p, struct op *op, enum store_result result, const char *detail, struct events *out)
{
    struct queued *done = op->done;
    op->done = NULL;
    done->event.result = result;
    queued_room(done, op->room.s, &op->mark);
    if (detail)
        queued_detail(p->alloc, done, detail);
    events_push(out, done);
    p->count--;
    p->bytes -= op->len;
    p->failed -= op->failed;
    op_free(p->alloc, op);
}

static void fail_on(struct pending *p, struct op *op)
{
    p->failed += !op->failed;
    op->failed = true;
}

/* Two calls on one room, `later` made after `earlier`: which one stays? It does the work of both. */
static struct op *stays(struct pending *p, struct op *earlier, struct op *later)
{
    struct op *winner = later;
    if (later->kind == OP_SAVE && earlier->kind == OP_FORGET) {
        later->clear_first = true;
    } else if (later->kind == OP_SAVE && !later->clear_first) {
        p->merged++;
        if (store_mark_cmp(&earlier->mark, &later->mark) > 0)
            winner = earlier;
        else
            later->clear_first = earlier->clear_first;
    }
    if (earlier->failed || later->failed)
        fail_on(p, winner);
    return winner;
}

/* Makes `op` the one that waits for its room. */
static bool place(struct pending *p, struct op *op)
{
    return op->kind == OP_SENT || map_put_borrowed(&p->by_room, op->room.s, op);
}

int pending_add(struct pending *p, struct op *op, size_t others, struct events *out)
{
    struct op *old = op->kind == OP_SENT ? NULL : map_get(&p->by_room, op->room.s);
    size_t count = p->count + others - (old != NULL), bytes = p->bytes - (old ? old->len : 0);
    int err = count >= p->max_count || bytes + op->len > p->max_bytes ? ROOM_E_FULL : 0;
    if (!err && !old && !place(p, op))
        err = ROOM_E_NO_MEMORY;
    if (err) {
        op_free(p->alloc, op);
        return err;
    }
    p->count++;
    p->bytes += op->len;
    if (old && stays(p, old, op) == old) {
        finish(p, op, STORE_SUPERSEDED, NULL, out);
        return 0;
    }
    if (old) {
        /* The place in the line is kept, so that a room saved all the time is not always the last. */
        struct op *prev = old->prev, *next = old->next;
        unlink_op(p, old);
        link_between(p, prev, op, next);
        ASSERT(place(p, op)); /* replaces an entry: takes no memory */
        finish(p, old, STORE_SUPERSEDED, NULL, out);
    } else {
        link_between(p, p->tail, op, NULL);
    }
    return 0;
}

struct op *pending_take(struct pending *p, size_t max_count, size_t max_bytes)
{
    struct op *first = NULL, *last = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < max_count && p->head; i++) {
        struct op *op = p->head;
        if (first && bytes + op->len > max_bytes)
            break;
        bytes += op->len;
        unlink_op(p, op);
        if (op->kind != OP_SENT)
            map_del(&p->by_room, op->room.s);
        op->prev = last;
        *(last ? &last->next : &first) = op;
        last = op;
    }
    return first;
}

/* One call back into the list. `next`: the one it waits before, NULL: the last place. */
static void put_back(struct pending *p, struct op *op, struct op *next, struct events *out)
{
    struct op *later = op->kind == OP_SENT ? NULL : map_get(&p->by_room, op->room.s);
    op->prev = op->next = NULL;
    fail_on(p, op);
    if (!later && !place(p, op)) {
        finish(p, op, STORE_IO, "out of memory", out);
    } else if (!later) {
        link_between(p, next ? next->prev : p->tail, op, next);
    } else if (stays(p, op, later) == later) {
        finish(p, op, STORE_SUPERSEDED, NULL, out);
    } else {
        struct op *at = later->next;
        unlink_op(p, later);
        link_between(p, at ? at->prev : p->tail, op, at);
        ASSERT(place(p, op));
        finish(p, later, STORE_SUPERSEDED, NULL, out);
    }
}

void pending_return(struct pending *p, struct op *ops, bool back, struct events *out)
{
    struct op *last = ops;
    while (last && last->next)
        last = last->next;
    for (struct op *prev; last; last = prev) {
        prev = last->prev;
        put_back(p, last, back ? NULL : p->head, out);
    }
}

void pending_finish(struct pending *p, struct op *ops, enum store_result result, const char *detail, struct events *out)
{
    for (struct op *next; ops; ops = next) {
        next = ops->next;
        finish(p, ops, result, detail, out);
    }
}
