/*
 * What one seat was answered last, so that a message that is sent again is answered again and not done again.
 *
 * Decides: which answers are remembered. A message is known by its number, which grows in a session. A number that was
 * passed over (refused before it reached the room, or used in another of the session's rooms) is remembered as not done: a
 * later one was, so it cannot be done any more. An answer without a result and without an error takes no memory: it is what
 * is said of every number that is not remembered. Invariant: what is kept is at most REPLIES_MAX answers and REPLIES_BYTES,
 * except that the newest is always kept if there is memory.
 *
 * Weakness: what had to be forgotten is said to be done, without a result. So it was, unless it was refused or passed over, its
 * client never heard of that, and more than REPLIES_MAX answers and gaps came after it.
 */
#ifndef ROOM_REPLIES_H
#define ROOM_REPLIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

enum { REPLIES_MAX = 64, REPLIES_BYTES = 4096 };

struct reply {
    struct reply *next;
    int64_t from, n; /* the numbers that it answers: all of them alike */
    int code;
    uint32_t len;
    uint8_t data[];
};

struct replies {
    int64_t last_n; /* the highest number handed to the room; 0: none yet */
    uint32_t count;
    size_t bytes; /* of the results */
    struct reply *first, *last; /* the oldest, the newest */
};

struct replies_answer {
    int code;
    const uint8_t *data; /* borrowed from what is kept */
    size_t len;
};

/* True if the number, or a later one, was handed to the room before: then `out` says what the answer was, CANCELLED if the
 * number was passed over. */
bool replies_find(const struct replies *r, int64_t n, struct replies_answer *out);
/* `n` is above last_n; those between are passed over. The result is copied. */
void replies_add(struct replies *r, const struct alloc *alloc, int64_t n, int code, const void *data, size_t len);
/* One answer as it was kept before, `from` above those that are kept; says nothing of the numbers between. */
void replies_restore(struct replies *r, const struct alloc *alloc, const struct reply *answer, const void *data);
void replies_clear(struct replies *r, const struct alloc *alloc);

#endif
