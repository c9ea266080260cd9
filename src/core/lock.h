/*
 * Locks of the whole cluster, as one node sees them: locks_step(event, now) -> effects.
 *
 * Decides: who may have a lock, from the entries of the bucket `locks`. A lock is taken by creating its entry, or by a
 * compare-and-set over an entry that this node has seen unchanged for the entry's ttl, and a little more, on its own clock.
 * An unknown result is settled by reading: the nonce says whose write it was. No I/O, no clock, no threads.
 *
 * The fence is the revision of the entry that made the holder the holder. Of one lock it only grows, whoever holds it, so
 * whatever is guarded by the lock can refuse whoever comes with a lower one than it has seen. Without that a holder that
 * stood still past its ttl can act once more: the ttl alone is a promise about time, and clocks keep none.
 *
 * Order: effects are performed in their order before the next step; one with a token is answered by one LOCK_EV_DONE.
 * Invariant: an answer of 0 is given only if the entry bore our nonce, or our renewal, and there was time left of its ttl.
 */
#ifndef CORE_LOCK_H
#define CORE_LOCK_H

#include "core/core.h"

enum {
    LOCKS_MAX = 1024,          /* requests under way, and names remembered; more are refused with `full` */
    LOCK_TTL_MIN_MS = 100,
    LOCK_TTL_MAX_MS = 3600000,
    LOCK_WAIT_MAX_MS = 60000,  /* for a lock that somebody holds */
    LOCK_PATIENCE_MS = 10000,  /* beyond that, for the registry: longer than the election of a leader */
    LOCK_MARGIN_MS = 100       /* beyond the ttl, before a lock is taken from its holder: a turn of the loop, and drift */
};

enum lock_verb { LOCK_ACQUIRE = 1, LOCK_RENEW, LOCK_RELEASE };

struct lock_entry {
    struct id holder;
    int64_t ttl_ms;
    uint64_t fence; /* 0: the entry's own revision */
    char n[ULID_SIZE];
};

enum lock_event_kind {
    LOCK_EV_ASK,   /* req, verb, name, holder, ttl_ms (renew: 0 as before), wait_ms, fence (renew, release) */
    LOCK_EV_DONE,  /* token, result, revision, entry (NULL: none, or none that can be read) */
    LOCK_EV_ENTRY, /* name, revision, entry (NULL: deleted): somebody wrote it */
    LOCK_EV_TICK   /* every CORE_TICK_MS or so */
};

struct lock_event {
    enum lock_event_kind kind;
    uint64_t req, token, revision, fence;
    enum lock_verb verb;
    const char *name, *holder;
    int64_t ttl_ms, wait_ms;
    enum core_kv_result result;
    const struct lock_entry *entry;
};

/*
 * 0; HELD (by `holder`; `left_ms` until it may be taken from him, if he does not renew it; to acquire only); FENCED (somebody
 * else has it, or has had it since); NOT_FOUND (nobody has it; both to renew and release only); UNKNOWN_RESULT (it may be ours
 * now or soon: ask again, as the same holder); UNAVAILABLE (the registry did not answer); INVALID, FULL, NO_MEMORY.
 */
struct lock_answer {
    int code;
    uint64_t fence;
    int64_t ttl_ms, left_ms; /* left: of the ttl, since the write was sent */
    struct id holder;
};

enum lock_fx_kind {
    LOCK_FX_GET,    /* token, name */
    LOCK_FX_PUT,    /* token, name, expected (0: create), entry */
    LOCK_FX_DELETE, /* token, name, expected */
    LOCK_FX_ANSWER  /* req, answer */
};

struct lock_fx {
    enum lock_fx_kind kind;
    uint64_t token, expected, req;
    struct id name;
    struct lock_entry entry;
    struct lock_answer answer;
};

struct lock_effects {
    struct lock_fx *items;
    size_t count, cap;
};

struct locks;

/* NULL: no memory. `alloc` is borrowed for the life of the locks. */
struct locks *locks_create(const struct alloc *alloc, uint64_t seed);
/* Requests under way are not answered. */
void locks_destroy(struct locks *l);

/* The effects of this one event, borrowed until the next call. Never fails: without memory a request is refused. */
const struct lock_effects *locks_step(struct locks *l, const struct lock_event *event, struct mono now, struct wall wall);
/* An operation could not be begun: as if its result were unknown, at the next tick. Called while effects are performed. */
void locks_failed(struct locks *l, uint64_t token);
/* There are requests, so ticks are needed. */
bool locks_busy(const struct locks *l);

#endif
