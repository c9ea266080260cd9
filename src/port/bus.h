/*
 * The bus port: everything a node says to the rest of the cluster goes through here.
 *
 * Decides: the words (publish, request, key-value compare-and-set, watch, append to a log) and their outcomes. Knows nothing
 * of rooms or servers, and nothing of NATS: bus_nats talks to a NATS cluster, bus_mem is one process by itself, the
 * simulator has its own. All calls come from the loop thread, none of them ever blocks, and no event is delivered inside a
 * call: events wait in a bounded queue until bus_drain().
 *
 * A result is one of ok, conflict, unknown (it may have happened: read it back), not found, no responders, refused,
 * closed. Unknown never means no. Every accepted request, key-value or log operation ends in exactly one BUS_EV_DONE with its
 * token, at the latest `timeout_ms` after the call plus one turn of the loop; a call that returns an error has no event.
 *
 * Prefix: the implementation puts `p.` before subjects and `p_` before names of buckets and streams and takes them off
 * again; callers never see it. A reply subject out of an event is opaque: hand it back to bus_publish() as it came.
 */
#ifndef PORT_BUS_H
#define PORT_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum bus_result {
    BUS_OK,
    BUS_CONFLICT,      /* compare-and-set, append: the revision was another one; nothing was changed */
    BUS_UNKNOWN,       /* no answer, or the connection went: it may or may not have happened, now or later */
    BUS_NOT_FOUND,     /* key-value get: no such key (or it was deleted); revision is that of the delete marker or 0. Log:
                          no such message */
    BUS_NO_RESPONDERS, /* nobody subscribes to the subject; key-value, log: the bucket or stream had no leader until the
                          deadline (or does not exist), and nothing was changed */
    BUS_REFUSED,       /* the server refused for a reason that will not go away (data = text) */
    BUS_CLOSED         /* the bus was closed before there was an answer */
};

enum bus_event_kind {
    BUS_EV_UP,       /* connected (again): subscriptions are in place, watches resynchronise by themselves */
    BUS_EV_DOWN,     /* the connection is lost; publish fails until BUS_EV_UP */
    BUS_EV_MESSAGE,  /* sub, subject, reply (or NULL), data */
    BUS_EV_DONE,     /* token, result, revision, data */
    BUS_EV_SYNC,     /* bucket: a whole listing follows; keys not seen until BUS_EV_SYNCED do not exist */
    BUS_EV_ENTRY,    /* bucket, key, revision, data (NULL: deleted); older revisions than one seen are left out */
    BUS_EV_KEPT,     /* bucket, key, revision: in a listing, instead of an entry that was handed out before and is still the
                        last one; never in a listing that kv_watch() asked for */
    BUS_EV_SYNCED,   /* bucket: the listing is complete, changes follow */
    BUS_EV_LOST      /* messages of subscription `sub` were dropped (slow consumer); count in revision */
};

/* Everything pointed to is borrowed until the handler returns. */
struct bus_event {
    enum bus_event_kind kind;
    enum bus_result result;
    uint64_t token;
    uint64_t revision;
    uint32_t sub;
    const char *subject;
    const char *reply;
    const char *bucket;
    const char *key;
    const uint8_t *data;
    size_t len;
};

typedef void bus_handler(void *arg, const struct bus_event *event);

#define BUS_ANY_REVISION UINT64_MAX /* kv_put, kv_delete: whatever is there */

/* A deleted key's revision can be read for at least this long; then the key counts as never written. */
enum { BUS_KEEP_DELETED_MS = 10 * 60 * 1000 };

struct bus_bucket {
    const char *name;
    int64_t ttl_ms; /* 0: entries stay */
    int replicas; /* 0: as the bus is configured */
    bool watched; /* changes are republished so that kv_watch() can follow them */
};

/* A log: a stream of messages, each appended to one subject. One sequence counts all messages of the stream, from 1, so
 * that those of one subject grow with gaps. A message stays until it is purged, unless the stream has a limit of age or of
 * messages of one subject: then the oldest go by themselves, and the sequence of what is left does not change. */
struct bus_stream {
    const char *name;     /* as a bucket's: [A-Za-z0-9_-]{1,64} */
    const char *subjects; /* one pattern, as "journal.0.*"; no other stream may have a subject that matches it */
    int replicas;         /* 0: as the bus is configured */
    int64_t ttl_ms;       /* of a message; 0: it stays */
    int64_t max_per_subject; /* messages of one subject; 0: any number */
};

struct bus;

struct bus_ops {
    int (*publish)(struct bus *b, const char *subject, const char *reply, const void *data, size_t len);
    int (*request)(struct bus *b, uint64_t token, const char *subject, const void *data, size_t len, int timeout_ms);
    int (*subscribe)(struct bus *b, uint32_t sub, const char *subject);
    int (*unsubscribe)(struct bus *b, uint32_t sub);
    int (*kv_bucket)(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms);
    int (*kv_watch)(struct bus *b, const char *bucket);
    int (*kv_get)(struct bus *b, uint64_t token, const char *bucket, const char *key, int timeout_ms);
    int (*kv_put)(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                  const void *data, size_t len, int timeout_ms);
    int (*kv_delete)(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                     int timeout_ms);
    int (*stream)(struct bus *b, uint64_t token, const struct bus_stream *stream, int timeout_ms);
    int (*log_append)(struct bus *b, uint64_t token, const char *subject, uint64_t expected, const void *data, size_t len,
                      int timeout_ms);
    int (*log_last)(struct bus *b, uint64_t token, const char *stream, const char *subject, int timeout_ms);
    int (*log_next)(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t from,
                    int timeout_ms);
    int (*log_purge)(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t below,
                     int timeout_ms);
    size_t (*drain)(struct bus *b, bus_handler *handler, void *arg, size_t max_events);
    void (*flush)(struct bus *b);
    void (*close)(struct bus *b);
};

/* First member of every implementation. */
struct bus {
    const struct bus_ops *ops;
};

/* Each returns 0 or DISCONNECTED, FULL (the outgoing queue is at its limit: shed), TOO_BIG, INVALID, NO_MEMORY. */

/* Fire and forget; 0 means handed over, not delivered. Copies `data`. */
static inline int bus_publish(struct bus *b, const char *subject, const char *reply, const void *data, size_t len)
{
    return b->ops->publish(b, subject, reply, data, len);
}

/* One answer, or no responders, or unknown at the deadline. */
static inline int bus_request(struct bus *b, uint64_t token, const char *subject, const void *data, size_t len,
                              int timeout_ms)
{
    return b->ops->request(b, token, subject, data, len, timeout_ms);
}

/* `sub` is the caller's number and comes back in events. Subscriptions outlive reconnects. */
static inline int bus_subscribe(struct bus *b, uint32_t sub, const char *subject)
{
    return b->ops->subscribe(b, sub, subject);
}

static inline int bus_unsubscribe(struct bus *b, uint32_t sub)
{
    return b->ops->unsubscribe(b, sub);
}

/* Makes the bucket if it is not there; ok too if it is there already. */
static inline int bus_kv_bucket(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms)
{
    return b->ops->kv_bucket(b, token, bucket, timeout_ms);
}

/* BUS_EV_SYNC, entries, BUS_EV_SYNCED now, after each reconnect, after a gap, and at least every minute. Called again for the
 * same bucket: a whole listing now. */
static inline int bus_kv_watch(struct bus *b, const char *bucket)
{
    return b->ops->kv_watch(b, bucket);
}

/* Reads from the stream's leader. Stale only in one case, then as it was some seconds ago: for a second or two after the
 * NATS server that led the stream has come back from a hang, because it still believes that it leads (half of the times
 * tried). What must not be built on a stale answer is confirmed by a compare-and-set. */
static inline int bus_kv_get(struct bus *b, uint64_t token, const char *bucket, const char *key, int timeout_ms)
{
    return b->ops->kv_get(b, token, bucket, key, timeout_ms);
}

/* `expected`: the revision that must be the last one, 0 to create (also over a delete marker), or BUS_ANY_REVISION.
 * Ok carries the new revision. */
static inline int bus_kv_put(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                             const void *data, size_t len, int timeout_ms)
{
    return b->ops->kv_put(b, token, bucket, key, expected, data, len, timeout_ms);
}

static inline int bus_kv_delete(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                                int timeout_ms)
{
    return b->ops->kv_delete(b, token, bucket, key, expected, timeout_ms);
}

/* Subjects of a log are made of [-/_=.A-Za-z0-9]. A message has at most the payload of the bus (1 MiB where NATS has its
 * default) less 128 bytes, as a value of a bucket has: TOO_BIG at once beyond it. Whoever reads many big messages or values
 * bounds how many bytes are under way: what does not fit the bus's queues is asked for again, and at the end unknown. */

/* Makes the stream if it is not there; ok too if there is one of that name already, however configured. */
static inline int bus_stream(struct bus *b, uint64_t token, const struct bus_stream *stream, int timeout_ms)
{
    return b->ops->stream(b, token, stream, timeout_ms);
}

/* `expected`: sequence of the last message of this subject, 0: it has none; never BUS_ANY_REVISION. Copies `data`. OK: revision is the sequence of
 * this message. CONFLICT: another one is the last (revision, or 0 if it was not told), and nothing was appended. UNKNOWN: it
 * may be there, or come seconds later if `expected` still holds then: read the last message back, and if it is not there,
 * append something else with the same expectation; of the two one at the most gets in.
 *
 * The sequence of a subject's last message is the fence against whoever wrote it before. So that message must be kept by
 * whoever relies on it: a subject that was emptied expects 0 again, and lets in an old append that expected 0. */
static inline int bus_log_append(struct bus *b, uint64_t token, const char *subject, uint64_t expected, const void *data,
                                 size_t len, int timeout_ms)
{
    return b->ops->log_append(b, token, subject, expected, data, len, timeout_ms);
}

/* The last message of the subject: OK with its sequence and data, or NOT_FOUND. As stale as bus_kv_get() may be: never what
 * was not appended, but perhaps not all that was. So whoever must see everything appends first, and then reads with
 * bus_log_next() until that message comes; NOT_FOUND before it means: ask again. */
static inline int bus_log_last(struct bus *b, uint64_t token, const char *stream, const char *subject, int timeout_ms)
{
    return b->ops->log_last(b, token, stream, subject, timeout_ms);
}

/* The first message of the subject with a sequence of `from` or more, as bus_log_last() tells it. */
static inline int bus_log_next(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t from,
                               int timeout_ms)
{
    return b->ops->log_next(b, token, stream, subject, from, timeout_ms);
}

/* Messages of the subject with a sequence below `below` go; 0: all that are there when the bus looks (as bus_log_last() does).
 * What is appended after that is not touched, however late an unknown purge is done. OK too if nothing was there.
 *
 * Dear: the server walks over all messages of the stream, of every subject, from the first that goes to the last (10 ms at
 * 100,000 with one replica, 20 to 30 ms with three), and every append to the stream waits meanwhile. One at a time for each
 * stream; and it helps if subjects that are written much do not wait long for theirs. */
static inline int bus_log_purge(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t below,
                                int timeout_ms)
{
    return b->ops->log_purge(b, token, stream, subject, below, timeout_ms);
}

/* Hands out up to `max_events` waiting events, oldest first; returns how many. The handler may call the bus. If it returns
 * `max_events` or more, call it again before going to sleep: there is no second wake for what it left. */
static inline size_t bus_drain(struct bus *b, bus_handler *handler, void *arg, size_t max_events)
{
    return b->ops->drain(b, handler, arg, max_events);
}

/* Pushes out what was published in this turn of the loop. */
static inline void bus_flush(struct bus *b)
{
    b->ops->flush(b);
}

/* Ends every open request with BUS_CLOSED (still to be drained). The implementation's own destroy frees it. */
static inline void bus_close(struct bus *b)
{
    b->ops->close(b);
}

#endif
