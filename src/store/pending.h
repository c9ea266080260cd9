/*
 * The calls that change something and have no result yet, shared by both stores.
 *
 * Decides which calls still fit, which one takes another's place, and in which order they are written. No lock of its own,
 * no I/O. Invariant: of one room at most one save or forget waits, so that what waits is bounded by the rooms and order
 * within a room needs no care: a save behind a forget clears the room first, a forget voids the save before it.
 */
#ifndef STORE_PENDING_H
#define STORE_PENDING_H

#include "base/map.h"
#include "store/events.h"

enum op_kind { OP_SAVE, OP_SENT, OP_FORGET };

struct op {
    struct op *prev, *next;
    enum op_kind kind;
    bool clear_first; /* save: a forget came before */
    bool failed;      /* was tried, and waits for better times */
    struct id room, type;
    struct store_mark mark; /* sent: epoch and version only */
    struct wall saved;
    uint16_t codec;
    void *data; /* owned */
    size_t len;
    struct queued *done; /* owned: the result to be */
};

struct pending {
    const struct alloc *alloc; /* borrowed */
    struct map by_room;        /* the save or forget that waits, by its room */
    struct op *head, *tail;
    size_t waiting; /* in the list */
    size_t count;   /* and those taken */
    size_t bytes;   /* data of both */
    size_t failed;  /* of both */
    size_t max_count, max_bytes;
    uint64_t merged;
};

void pending_init(struct pending *p, const struct alloc *alloc, size_t max_count, size_t max_bytes);
/* Drops what waits; nothing is taken. */
void pending_deinit(struct pending *p);

/* A new call, owned by the caller until pending_add(); copies `s`, of which kinds other than saves need room and mark only.
 * Returns 0, INVALID or NO_MEMORY. */
MUST_USE int op_new(const struct alloc *alloc, enum op_kind kind, uint64_t token, const struct store_snapshot *s,
                    struct op **out);
void op_free(const struct alloc *alloc, struct op *op);
/* Borrows its strings from `op`. */
struct store_snapshot op_snapshot(const struct op *op);

/* Takes `op`, also on error (FULL, NO_MEMORY). `others`: calls without a result that are not here. What it displaces, or
 * itself, ends in `out` with STORE_SUPERSEDED. */
MUST_USE int pending_add(struct pending *p, struct op *op, size_t others, struct events *out);
/* Takes the oldest calls out, as many as fit both limits but at least one: a chain by `next`. */
struct op *pending_take(struct pending *p, size_t max_count, size_t max_bytes);
/* These could not be written: they wait again, before the others or (`back`) behind them, unless a later call has their
 * place by now. */
void pending_return(struct pending *p, struct op *ops, bool back, struct events *out);
/* These are over. `detail` may be NULL. */
void pending_finish(struct pending *p, struct op *ops, enum store_result result, const char *detail, struct events *out);

#endif
