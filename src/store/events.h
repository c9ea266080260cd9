/*
 * The events of a store that wait for the loop, shared by both stores.
 *
 * Decides only how an event owns what it points to. No lock of its own: the store's covers it. Invariant: the place of a
 * DONE is made when its call is accepted, so that no lack of memory can lose a result.
 */
#ifndef STORE_EVENTS_H
#define STORE_EVENTS_H

#include "base/alloc.h"
#include "base/id.h"
#include "port/store.h"

struct queued {
    struct queued *next;
    struct store_event event; /* its strings lead into this record */
    struct id room, type;
    void *extra; /* owned: data or detail */
    size_t extra_size;
};

struct events {
    const struct alloc *alloc; /* borrowed */
    struct queued *head, **tail;
    size_t count;
    size_t bytes; /* of data that waits */
};

void events_init(struct events *e, const struct alloc *alloc);
/* Drops what waits. */
void events_deinit(struct events *e);

/* A new event, or NULL. Owned by the caller until events_push(). */
struct queued *queued_new(const struct alloc *alloc, enum store_event_kind kind, uint64_t token);
void queued_free(const struct alloc *alloc, struct queued *q);
void queued_room(struct queued *q, const char *room, const struct store_mark *mark);
/* Copies the whole snapshot. False: no memory. */
bool queued_snapshot(const struct alloc *alloc, struct queued *q, const struct store_snapshot *s);
/* Best effort: without memory the event has no detail. */
void queued_detail(const struct alloc *alloc, struct queued *q, const char *text);

/* Takes `q`. True: it is the only one, the loop may be asleep. */
bool events_push(struct events *e, struct queued *q);
/* An event without a token; left out if there is no memory. */
void events_say(struct events *e, enum store_event_kind kind, enum store_result result, const char *text);
/* Moves all of `from` behind what is there; the same return. */
bool events_move(struct events *e, struct events *from);
/* Owned by the caller, or NULL. */
struct queued *events_pop(struct events *e);

#endif
