/*
 * The store port: a node's own copy of its rooms' states.
 *
 * Decides: the words (save, load, list, sent, forget) and their outcomes. Knows nothing of how a room's state is made, and
 * nothing of LMDB: store_lmdb keeps it on disk, store_mem in memory for the simulator. All calls come from the loop
 * thread, none of them ever blocks, and no event is delivered inside a call: events wait until store_drain().
 *
 * Of each room the two newest whole snapshots are kept, ordered by their mark. Every snapshot saved is in the **outbox**
 * until store_sent() says that it was acknowledged elsewhere, or a newer one of the same room takes its place there. The
 * outbox outlives restarts.
 *
 * Every accepted call ends in exactly one STORE_EV_DONE with its token; a call that returns an error has no event. STORE_OK
 * is said once the change is on disk. Results of different rooms may come in any order; calls on one room take effect in
 * the order in which they were made, but a load or a list sees what is on disk, so it can overtake a save of which no
 * result has come yet.
 *
 * Trouble: a save that meets a full disk or an I/O error is not given up: it waits, and is tried again about every second.
 * The loop hears of it once (STORE_EV_TROUBLE), not per save, and once when everything has gone through (STORE_EV_WELL).
 * While saves wait, a newer one of the same room takes the place of the older one.
 */
#ifndef PORT_STORE_H
#define PORT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/time.h"

enum { STORE_LIST_MAX = 1024 }; /* rooms in one answer to store_list() */

/* Where a snapshot stands among those of its room. */
struct store_mark {
    uint64_t epoch;
    uint64_t position; /* of the journal */
    uint64_t version;
};

/* Negative, 0, positive: by epoch, then position, then version. */
static inline int store_mark_cmp(const struct store_mark *a, const struct store_mark *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    if (a->position != b->position)
        return a->position < b->position ? -1 : 1;
    return a->version < b->version ? -1 : a->version > b->version;
}

struct store_snapshot {
    const char *room; /* an id */
    const char *type; /* an id */
    struct store_mark mark;
    struct wall saved;
    uint16_t codec; /* the caller's number for what the bytes are */
    const void *data;
    size_t len;
};

enum store_result {
    STORE_OK,         /* save, sent, forget: on disk */
    STORE_NOT_FOUND,  /* load: the room is not held, or nothing of it waits */
    STORE_DAMAGED,    /* load: there are snapshots, none of them whole; each was named by a STORE_EV_DAMAGED */
    STORE_SUPERSEDED, /* save, forget: another call on the same room took its place before it reached the disk (a newer save, a
                         later forget): that one's result counts */
    STORE_NO_SPACE,   /* the disk or the store's own limit is full */
    STORE_IO,         /* reading or writing failed; event.detail says how */
    STORE_CLOSED      /* the store was closed first */
};

enum store_event_kind {
    STORE_EV_DONE,     /* token, result; detail unless ok. save, load: snapshot.mark; list: count. Last event of its token */
    STORE_EV_SNAPSHOT, /* token, snapshot: what a load found, whole */
    STORE_EV_ROOM,     /* token, snapshot without data and type (len is there): one room of a list */
    STORE_EV_DAMAGED,  /* snapshot.room and mark, detail: one that is not whole. room NULL: the file as a whole was not; detail
                          says what it is called now, and that a new one was begun */
    STORE_EV_TROUBLE,  /* result, detail: what waits cannot be written */
    STORE_EV_WELL      /* nothing that failed before waits any more */
};

/* Everything pointed to is borrowed until the handler returns. */
struct store_event {
    enum store_event_kind kind;
    enum store_result result;
    uint64_t token;
    size_t count;
    struct store_snapshot snapshot;
    const char *detail; /* or NULL */
};

typedef void store_handler(void *arg, const struct store_event *event);

/* Of which snapshots a load or a list speaks. */
enum store_which { STORE_HELD, STORE_WAITING };

/* Figures for /metrics and `roomctl server`. The counts since the start fit the life of one store object. */
struct store_stats {
    size_t rooms;        /* held */
    size_t bytes;        /* of all snapshots held */
    size_t outbox;       /* rooms of which a snapshot waits */
    size_t outbox_bytes; /* what would have to be sent */
    size_t queue;        /* calls without a result */
    size_t queue_bytes;
    size_t map_bytes;    /* address space of the database, and how much of it holds something */
    size_t used_bytes;
    uint64_t commits;    /* since the start */
    uint64_t saves;      /* snapshots written; saves / commits says how well commits are shared */
    uint64_t merged;     /* saves that a newer one replaced before they were written */
    uint64_t damaged;    /* snapshots met that were not whole */
    uint64_t commit_us;  /* time spent in commits, and in the longest */
    uint64_t commit_us_max;
    enum store_result trouble; /* STORE_OK: none */
    struct err_detail error;   /* the last failure, also when it is over; empty: never one */
};

struct store;

struct store_ops {
    int (*save)(struct store *s, uint64_t token, const struct store_snapshot *snapshot);
    int (*load)(struct store *s, uint64_t token, enum store_which which, const char *room);
    int (*list)(struct store *s, uint64_t token, enum store_which which, const char *after, size_t max);
    int (*sent)(struct store *s, uint64_t token, const char *room, uint64_t epoch, uint64_t version);
    int (*forget)(struct store *s, uint64_t token, const char *room);
    size_t (*drain)(struct store *s, store_handler *handler, void *arg, size_t max_events);
    void (*stats)(struct store *s, struct store_stats *out);
    void (*close)(struct store *s);
};

/* First member of every implementation. */
struct store {
    const struct store_ops *ops;
};

/* Each returns 0 or INVALID (an id that is none), TOO_BIG (a snapshot over the implementation's limit), FULL (too many calls
 * or bytes without a result: leave the room dirty and come again after the next result), NO_MEMORY, CANCELLED (closed). */

/* Copies `snapshot`. If a save of the same room waits already, only the newer of the two is written; the other ends with
 * STORE_SUPERSEDED at once, so that never more than one of a room waits.
 * One that is older than what is held is kept only if it is the second newest, and does not enter the outbox. */
static inline int store_save(struct store *s, uint64_t token, const struct store_snapshot *snapshot)
{
    return s->ops->save(s, token, snapshot);
}

/* STORE_HELD: the newest whole one; each newer one that is damaged is named first. STORE_WAITING: the one in the outbox and
 * no other; if that is damaged (DONE has its mark), store_sent() takes it out. Waits for one commit at the most. */
static inline int store_load(struct store *s, uint64_t token, enum store_which which, const char *room)
{
    return s->ops->load(s, token, which, room);
}

/* Up to `max` (1..STORE_LIST_MAX) rooms in the order of their ids, from the first behind `after` (NULL: from the start); DONE
 * has their count. Fewer than `max`: there are no more. What is listed was not read whole: it can turn out damaged. */
static inline int store_list(struct store *s, uint64_t token, enum store_which which, const char *after, size_t max)
{
    return s->ops->list(s, token, which, after, max);
}

/* The room's waiting snapshot leaves the outbox if it is this one or older. Ok also if nothing waits. */
static inline int store_sent(struct store *s, uint64_t token, const char *room, uint64_t epoch, uint64_t version)
{
    return s->ops->sent(s, token, room, epoch, version);
}

/* All snapshots of the room go, also from the outbox. Ok also if there are none. */
static inline int store_forget(struct store *s, uint64_t token, const char *room)
{
    return s->ops->forget(s, token, room);
}

/* Hands out up to `max_events` waiting events, oldest first; returns how many. The handler may call the store, but not
 * drain. If it returns `max_events`, call it again before going to sleep: there is no second wake for what it left. */
static inline size_t store_drain(struct store *s, store_handler *handler, void *arg, size_t max_events)
{
    return s->ops->drain(s, handler, arg, max_events);
}

static inline void store_stats(struct store *s, struct store_stats *out)
{
    s->ops->stats(s, out);
}

/* What waits is tried once more; what cannot be written ends with its error, loads and lists with STORE_CLOSED (all still to
 * be drained). The implementation's own destroy frees it. */
static inline void store_close(struct store *s)
{
    s->ops->close(s);
}

#endif
