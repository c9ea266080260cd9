/*
 * What a journal room did, on its way to where it survives.
 *
 * Decides: how commands become records, records batches, and what may be said when. A *group* is what one call of the host
 * did (a message, and the seats that ended by it): it is never cut, unless it has grown past JOURNAL_GROUP. A batch is as
 * many groups as fit JOURNAL_BATCH, one at least, and one batch is on its way at a time. What is said in a group waits in
 * a queue until the group's batch is durable.
 *
 * Invariant: what is said is said in the order it came about, and no part of it before the batch that holds its cause.
 *
 *   batch  [1, epoch, number, [record ...]]        number 1, 2, 3 ... in an epoch; 0: the mark of a take-over, no records
 *   record [kind, time, ...]                       time: milliseconds of the room's own time
 *     START    type, created, private, rng [4 numbers], options
 *     JOIN     player, session, options, code of join()
 *     LEAVE    player, reason
 *     MESSAGE  player, n, code, data, result       data without apply(), result with it; the other one is nil
 *     TICK     dt
 *     LOCK     bool                                by the node; by the type only if it has apply()
 *     END      reason
 *     CHANGE   value                               these three of types with apply() only
 *     METADATA value
 *     RANDOM   rng [4 numbers]
 *     TOPICS   [pattern ...]                       this one, too
 *     EVENT    kind, from, request, code, token, data, what event() said     data without apply(), else nil; and the number of
 *              the open ask that it answers, if it does
 *     ASK      [as open.c writes it]               of types with apply() only
 */
#ifndef ROOM_JOURNAL_H
#define ROOM_JOURNAL_H

#include "room/room.h"

enum journal_kind {
    JOURNAL_START = 1,
    JOURNAL_JOIN,
    JOURNAL_LEAVE,
    JOURNAL_MESSAGE,
    JOURNAL_TICK,
    JOURNAL_LOCK,
    JOURNAL_END,
    JOURNAL_CHANGE,
    JOURNAL_METADATA,
    JOURNAL_RANDOM,
    JOURNAL_EVENT,
    JOURNAL_TOPICS,
    JOURNAL_ASK
};

enum {
    JOURNAL_FORMAT = 1,
    JOURNAL_BATCH = 256 * 1024,
    JOURNAL_GROUP = 128 * 1024,
    JOURNAL_COMMANDS = 4096,             /* uncommitted, then RATE_LIMITED */
    JOURNAL_BYTES = 4 * 1024 * 1024,     /* the same, with what is held */
    JOURNAL_HELD_MAX = 32 * 1024 * 1024, /* what one callback may add to that; then the room ends */
    JOURNAL_HEAD = 25                    /* bytes of a batch before its records, as journal.c writes it */
};

struct held; /* something to be said later, see out.c */

struct journal {
    struct buf pending; /* JOURNAL_HEAD bytes for the head, then the records of groups that are in no batch yet */
    struct buf marks;   /* struct group of each closed one */
    struct held *first, *last;
    size_t held_bytes, flight_bytes;
    size_t open_at; /* where the open group begins */
    size_t open_changes; /* bytes of room_record() in it */
    uint32_t open_records;
    bool open;
    uint64_t groups;  /* closed so far */
    uint64_t acked;   /* of these durable */
    uint64_t flight;  /* the last one of the batch on its way; 0: none is */
    uint64_t barrier; /* an image ends there, and a batch has to */
    uint64_t number, sequence; /* of the last batch cut; of the last one that is durable */
    struct buf image;
    bool imaging, image_wanted;
    /* what types with apply() changed without a record */
    bool locked;
    uint32_t metadata_version, topics_version;
    struct rng rng;
    /* reading */
    uint64_t seen_epoch, seen_number;
};

/* False: no memory. */
bool journal_begin(struct room *r);
void journal_drop(struct room *r);
/* The type's lock, metadata and random numbers are known to the journal as they are now. */
void journal_known(struct room *r);
/* Too much is uncommitted to take more. */
bool journal_busy(const struct room *r);
/* What is said now has to wait. */
bool journal_holds(const struct room *r);
/* Makes sure that a command with `len` bytes can be recorded, before it is done. False: no memory. */
bool journal_reserve(struct room *r, size_t len);

/* The records. They open a group if none is; without memory the room ends. Nothing is done for a room that keeps no journal or
 * is not running. */
void journal_start(struct room *r, const struct rng *rng, const void *options, size_t len);
void journal_join(struct room *r, const struct host_join *join, int code);
void journal_leave(struct room *r, const char *player, const char *reason);
/* The result is in host.reply. */
void journal_message(struct room *r, const char *player, int64_t n, int code, const void *data, size_t len);
void journal_tick(struct room *r, int64_t dt_ms);
/* `number`: of the open ask that it answers; 0: none. */
void journal_event(struct room *r, const struct room_event *event, uint64_t number, int rc);
/* Of a type with apply(): it has asked. */
void journal_ask(struct room *r, const struct host_ask *ask);
void journal_lock(struct room *r);
void journal_end(struct room *r, const char *reason);
bool journal_change(struct room *r, const void *data, size_t len);

/* Begins a group for a tick that may come to nothing; journal_tick() says whether it did. */
void journal_open(struct room *r);
/* Ends the group if it has grown too big to be one. */
void journal_split(struct room *r);
/* Ends the group and hands a batch to the node, if none is on its way. */
void journal_flush(struct room *r);

/* out.c */
/* Says what is durable. False: the room is gone. */
bool out_release(struct room *r);
void out_drop_held(struct room *r);
/* The answer to this message is among what is held. */
bool out_has_sent(const struct room *r, uint64_t who, int64_t n);
/* What was said in a group that came to nothing belongs to the one before. */
void out_ungroup(struct room *r);
/* Something was said in the open group. */
bool out_has_new(const struct room *r);

#endif
