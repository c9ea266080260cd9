/*
 * Buckets and streams below the listings: single values, compare-and-set, what subjects there are, a journal's messages.
 *
 * Decides: what an answer of the bus means to a verb, and how an unknown write is settled. Must not know what is in a value.
 * One thread. Invariant: success of a write is said only of one that was acknowledged or read back.
 *
 * Errors of all: UNAVAILABLE (no answer, no leader), NO_MEMORY, IO (refused); `detail` says which.
 */
#ifndef ROOMCTL_STREAM_H
#define ROOMCTL_STREAM_H

#include <stddef.h>

#include "roomctl/connect.h"

/* The value under `key` and its revision, from the leader. NOT_FOUND: never written, or deleted. Freed by the caller. */
MUST_USE int stream_value(struct conn *c, const char *bucket, const char *key, struct conn_answer *out,
                          struct err_detail *detail);

/* `expected`: a revision, 0 (create), BUS_ANY_REVISION. CONFLICT: somebody else wrote. `revision` may be NULL. The value must
 * be one that nobody else writes, because an unknown result is settled by reading it back. */
MUST_USE int stream_put(struct conn *c, const char *bucket, const char *key, uint64_t expected, const void *data, size_t len,
                        uint64_t *revision, struct err_detail *detail);

/* Whatever is there. */
MUST_USE int stream_delete(struct conn *c, const char *bucket, const char *key, struct err_detail *detail);

/* Only what is at this revision; what has been written since stays, and that is no error. */
MUST_USE int stream_delete_at(struct conn *c, const char *bucket, const char *key, uint64_t revision,
                              struct err_detail *detail);

/* The subjects of a bucket's keys (`bucket`) or of a log (`log`), one of them NULL, that match `pattern`: an object
 * subject -> true, without the prefix, keys without "$KV.<bucket>.". Deleted keys are among them. Empty if there is no such
 * bucket or log. */
MUST_USE int stream_subjects(struct conn *c, const char *bucket, const char *log, const char *pattern, json_t **out,
                             struct err_detail *detail);

/* The first message of the subject from sequence `from` on; the last one. NOT_FOUND. */
MUST_USE int stream_last(struct conn *c, const char *log, const char *subject, struct conn_answer *out,
                         struct err_detail *detail);
/* All messages of the subject go. */
MUST_USE int stream_purge(struct conn *c, const char *log, const char *subject, struct err_detail *detail);

/* Many at once, some at a time. start() is called with i = 0 .. count - 1, each() in the same order with what came, as 0 or
 * NOT_FOUND, and borrows it; what it returns ends the walk unless it is 0. */
struct stream_walk {
    int (*start)(struct conn *c, uint64_t token, void *arg, size_t i);
    int (*each)(void *arg, size_t i, int err, const struct conn_answer *answer, struct err_detail *detail);
    void *arg;
};
MUST_USE int stream_walk(struct conn *c, const struct stream_walk *walk, size_t count, struct err_detail *detail);

#endif
