/*
 * One key of the data that rooms and backends share: what its entry in the bucket says, and what a change makes of it.
 *
 * Decides: what is there and what is over, what each operation answers, and by what a repeat is known: an entry remembers its
 * last changes by who made them. Whoever is repeated after an answer was lost finds it there; one that is older than what is
 * remembered of its author is never done again, but UNKNOWN_RESULT. The oldest change of whoever has most goes first, so that a
 * busy author does not push the others out. Pure: no bus, no clock.
 * Weak point: `expires` is compared with this machine's clock, and was reckoned with another's.
 */
#ifndef NODE_SHARED_ENTRY_H
#define NODE_SHARED_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/time.h"
#include "room/host.h"

enum {
    SHARED_DONE_MAX = 100,
    SHARED_MEMBERS_MAX = 1000,
    SHARED_KEEP_MS = 60000, /* what is over is kept so long, for who repeats what was done before */
    SHARED_LATER = 1
};

struct shared_done {
    struct id by; /* a room; for backends, the boot of the node they asked */
    uint64_t epoch, number;
    bool older; /* changes of this author before it are forgotten */
    enum { SHARED_SAYS_NOTHING, SHARED_SAYS_BOOL, SHARED_SAYS_INT } says;
    int64_t result;
};

struct shared_entry {
    bool there;
    bool foreign;          /* somebody wrote what is no entry: it can be set and deleted */
    struct buf value;      /* msgpack */
    struct wall expires;   /* 0: never */
    struct wall changed;
    uint64_t revision;     /* as it was read; 0: nothing was there */
    unsigned changes;      /* since */
    enum { SHARED_LOOKED, SHARED_CHANGED, SHARED_REPEATED } last; /* what the last operation has done, if it said 0 */
    unsigned done_count;
    struct shared_done done[SHARED_DONE_MAX]; /* the oldest first */
};

struct shared_op {
    enum host_shared_verb verb;
    struct id by;
    uint64_t epoch, number; /* of one author and key they grow */
    uint64_t expect;
    int64_t ttl_ms, add;
    const void *data; /* a value; a member, in UTF-8 */
    size_t len;
};

void shared_entry_init(struct shared_entry *e, const struct alloc *alloc);
void shared_entry_deinit(struct shared_entry *e);
/* `json` NULL: there is no entry. `scratch` is used meanwhile. False: no memory. */
bool shared_entry_read(struct shared_entry *e, const uint8_t *json, size_t len, uint64_t revision, struct buf *scratch);
/* Appends what is to be written; `server` is who writes. An error of the codec: the value cannot be written as JSON. */
MUST_USE int shared_entry_write(const struct shared_entry *e, const char *server, struct wall now, struct buf *scratch,
                                struct buf *out);
/* Something is there that is not over. */
bool shared_entry_there(const struct shared_entry *e, struct wall now);
/* From when on it may be removed; 0: never, as it stands. */
struct wall shared_entry_purge_at(const struct shared_entry *e);

/* Does it; what it says is appended to `result`, as msgpack. 0 or the code of its answer, with which nothing was changed, but
 * for NO_MEMORY, after which the entry is worth nothing. LATER: it has to do with a revision, and the entry has been changed
 * since it was read: write it first. */
int shared_apply(struct shared_entry *e, const struct shared_op *op, struct wall now, struct buf *result);

#endif
