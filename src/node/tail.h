/*
 * What was said to one session and may have to be said again: the messages its client has not acknowledged.
 *
 * Decides: how much is kept (TAIL_COUNT messages, TAIL_BYTES; the oldest goes first, and lost() says so). Invariant: the
 * messages kept are those of the numbers floor + 1 .. last, without a gap. Knows nothing of connections and encodings. What
 * is said to many sessions at once is kept once (struct words).
 */
#ifndef NODE_TAIL_H
#define NODE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/id.h"

enum { TAIL_COUNT = 1024, TAIL_BYTES = 256 * 1024 };

/* Shared by the tails that hold it. */
struct words {
    unsigned users;
    struct id from; /* empty: the room, or a backend, itself */
    bool push;       /* a backend's; `from` is empty then */
    uint64_t number; /* of a push out of the player's inbox: where in the stream it is; 0: of none */
    uint32_t missed; /* and how many before it were dropped */
    uint32_t len;
    uint8_t data[]; /* one msgpack value */
};

struct tail_message {
    uint32_t room; /* the session's number; 0: to the player, not in a room */
    struct words *words;
};

struct tail {
    uint64_t last;  /* number of the newest message of the session */
    uint64_t floor; /* what is kept begins after it */
    struct tail_message *ring; /* `cap` places, that of number n at n % cap; NULL: nothing was kept yet */
    uint32_t cap;
    size_t bytes;
};

/* NULL: no memory. The caller is a user of it until words_put(). */
struct words *words_get(const struct alloc *alloc, const char *from, const void *data, size_t len);
void words_put(const struct alloc *alloc, struct words *w); /* may be NULL */

/* The session's next message; returns its number. `words` NULL (no memory, or nothing is to be kept): it and those before
 * it cannot be said again. */
uint64_t tail_add(struct tail *t, const struct alloc *alloc, uint32_t room, struct words *words);
/* The client has all up to `seq`. */
void tail_acknowledge(struct tail *t, const struct alloc *alloc, uint64_t seq);
/* The message of that number; NULL: it is not kept. */
const struct tail_message *tail_at(const struct tail *t, uint64_t seq);
/* Numbers that another node has given out already: nothing of them is kept here. */
void tail_begin_after(struct tail *t, const struct alloc *alloc, uint64_t last);
void tail_clear(struct tail *t, const struct alloc *alloc);

#endif
