/*
 * Writing a room type: what it implements and what it may ask for.
 *
 * A room type is one `const struct room_type`. A shared object exports it under the name `room_type`:
 *
 *     const struct room_type room_type = {.api_version = ROOM_TYPE_API_VERSION, .name = "dice", .message = on_message};
 *
 * and is loaded with `roomd --room-type ./dice.so`. tests/rooms/tictactoe.c is a whole one to copy from.
 *
 * Rules, all of them:
 *  - Everything runs on one thread, one callback at a time. A callback must not block or sleep; one that takes longer than
 *    the node allows (1 s) costs its room. A callback that never returns cannot be stopped: it hangs its node, and the
 *    cluster takes the node's rooms away.
 *  - Values (options, messages, states, results) are the raw bytes of one msgpack value each, exactly as on the wire. What
 *    comes in is checked to be one whole well-formed value, nothing more: its shape is yours to check. What goes out must
 *    be one whole value too. msgpack-c reads and writes them.
 *  - Pointers handed to a callback are borrowed until it returns. Pointers handed to a service are borrowed until that
 *    returns. The strings `player` and `reason` are NUL-terminated; players match [A-Za-z0-9_-]{1,64}.
 *  - Memory comes from room_alloc(): it counts against the room's limit (8 MiB), and a room that asks for more ends. What
 *    was not freed by the end of dispose() is a leak of the node.
 *  - An error (a negative code of room/error.h) costs the call it answers, not the room: the message or the join is
 *    refused with that code, so change nothing before you are sure.
 *  - A room can come back after its node has died if its type has save() and restore(). With durability `journal` what
 *    happened since the last save() is then done again from the journal: by the callbacks themselves, which must therefore
 *    depend on nothing but the room's state, their arguments, room_now_ms() and room_random() (both give what they gave
 *    then) - no clock, no other random numbers, no addresses, no files - or, if the type has apply(), by the changes it
 *    recorded. A room that does not do again what it did is not served. What is told to players while it is done again goes
 *    nowhere.
 */
#ifndef ROOM_ROOM_TYPE_H
#define ROOM_ROOM_TYPE_H

#include <stddef.h>
#include <stdint.h>

#include "room/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever there is more in struct room_type or among the services. A type built for an older version is loaded down to
 * ROOM_TYPE_API_OLDEST: what has come since is not asked of it. */
#define ROOM_TYPE_API_VERSION 5u
#define ROOM_TYPE_API_OLDEST 3u

enum {
    ROOM_TYPE_MAX_PLAYERS = 10000, /* the most a type may ask for */
    ROOM_TYPE_MAX_TICK_MS = 3600000,
    ROOM_METADATA_MAX = 1024, /* bytes of msgpack */
    ROOM_DATA_MAX = 786432,   /* bytes of one message to or from players, of a result and of a state */
    ROOM_IMAGE_MAX = 33554432, /* bytes that save() may write */
    ROOM_REASON_MAX = 64,     /* characters of a reason; more is cut */
    ROOM_ASKS_MAX = 16,       /* tells, publishes, requests and questions about locks and shared data of one callback */
    ROOM_OPEN_MAX = 64,       /* requests and questions about shared data of one room that are not answered yet */
    ROOM_ASK_DATA_MAX = 65536, /* bytes of msgpack in a request to a service, and of a shared value */
    ROOM_REQUEST_MIN_MS = 50,  /* time-out of a request to a service */
    ROOM_REQUEST_MAX_MS = 60000,
    ROOM_SHARED_MEMBER_MAX = 128, /* bytes of a member of a shared set */
    ROOM_TOPIC_MAX = 128,     /* characters of a topic, a pattern or a shared key */
    ROOM_TOPICS_MAX = 16      /* patterns of one room */
};

/* What survives the death of the room's node. None: nothing. Snapshot: the state of the last snapshot. Journal: everything that
 * was acknowledged, and what a room of this type tells anybody leaves the node only once it would survive. Other than none
 * needs save() and restore(). A node may be set to give less; the listing says what is true. */
enum room_durability { ROOM_DURABILITY_NONE = 0, ROOM_DURABILITY_SNAPSHOT = 1, ROOM_DURABILITY_JOURNAL = 2 };

enum {
    ROOM_TYPE_PRIVATE = 1u << 0,     /* rooms are left out of listings and found by id or ticket only */
    ROOM_TYPE_AUTO_DISPOSE = 1u << 1 /* an empty room ends after the node's --room-ttl (0: never) */
};

/* What comes to a room from elsewhere than its players. */
enum room_event_kind {
    ROOM_EVENT_SEND = 1, /* a message of a backend, on room.<id>.send */
    ROOM_EVENT_TELL,     /* a message of another room */
    ROOM_EVENT_TOLD,     /* what came of room_tell() */
    ROOM_EVENT_LOCK,     /* what came of room_lock_acquire(), _renew(), _release() */
    ROOM_EVENT_PLAYER,   /* what came of room_tell_player() */
    ROOM_EVENT_TOPIC,    /* what was published on a topic that room_subscribe() asked for */
    ROOM_EVENT_SERVICE,  /* what came of room_request() */
    ROOM_EVENT_SHARED    /* what came of room_shared_*() */
};

struct room_event {
    enum room_event_kind kind;
    const char *from;  /* SEND: who sends it, as it calls itself, or NULL; TELL: the room; TOLD: that room; LOCK: the lock; PLAYER:
                        * the player; TOPIC: the topic; SERVICE: the service; SHARED: the key */
    const void *data;  /* SEND, TELL, TOPIC: the message; TOLD: the other room's result, SERVICE: the reply, SHARED: see there;
                        * len 0: none, or nil */
    size_t len;
    uint64_t request;  /* all that is asked for: as it was asked with */
    int code;          /* the same: 0 or what went wrong */
    uint64_t token;    /* LOCK: the fencing token, if code is 0; of one that is held: its holder's. SHARED: the key's
                        * revision */
};

/* One room. Valid from create() until dispose() returns. */
struct room;

/* Every callback may be NULL: then nothing happens and the answer is success. */
struct room_type {
    unsigned api_version;  /* ROOM_TYPE_API_VERSION */
    const char *name;      /* [A-Za-z0-9_-]{1,64}, not "all" */
    unsigned max_players;  /* 1 .. ROOM_TYPE_MAX_PLAYERS */
    unsigned tick_ms;      /* how often tick() is called; 0: never */
    enum room_durability durability;
    unsigned flags; /* ROOM_TYPE_* */

    /* The room begins. `options` may be empty (len 0). An error: it does not, and nothing else is called (not dispose
     * either: free what you took). Done again from the journal for every type, so nothing is recorded here. */
    int (*create)(struct room *room, const void *options, size_t len);

    /* A player asks for its seat. An error refuses it with that code. The player is not seated until this has returned:
     * broadcasts from here go to the others, and what the newcomer must know goes into state(). A player who comes back
     * over another connection, or whose seat was held while it was away, keeps it: join() is not called again, state() is. */
    int (*join)(struct room *room, const char *player, const void *options, size_t len);

    /* A player's seat has ended, for whatever reason but the end of the room; "timeout": it was away too long. */
    void (*leave)(struct room *room, const char *player, const char *reason);

    /* A message from a seated player. room_reply() gives the result that goes with the acknowledgement, if there is one. */
    int (*message)(struct room *room, const char *player, const void *data, size_t len);

    /* About every tick_ms. Both times are milliseconds: since the room began, and since the last tick. Missed ticks are
     * not made up for; `dt_ms` tells. */
    void (*tick)(struct room *room, int64_t now_ms, int64_t dt_ms);

    /* What a player gets when it takes its seat: room_reply(), once or in pieces. Changes nothing. An error refuses the join,
     * after leave(). */
    int (*state)(struct room *room, const char *player);

    /* The room ends; every seat is gone already. Free everything. Only room_free(), room_user() and room_log() here. */
    void (*dispose)(struct room *room);

    /* The whole state as one value: room_reply(), once or in pieces, ROOM_IMAGE_MAX in all. Changes nothing. Seats, lock,
     * metadata, time and random numbers are kept by the node. */
    int (*save)(struct room *room);

    /* In the place of create(): makes the room from what save() wrote, perhaps on another machine and by an older build of
     * the type. No player is seated yet. What is here is one well-formed value, nothing more. An error: the room does not
     * come back, and nothing else is called (free what you took). */
    int (*restore)(struct room *room, const void *state, size_t len);

    /* Does a change of room_record() again. With it, no other callback but create() is called while the journal is read, and
     * they may depend on whatever they like. May look at nothing but the change and the type's own state. */
    int (*apply)(struct room *room, const void *data, size_t len);

    /* Something came from elsewhere. To SEND and TELL room_reply() gives the result, and an error refuses it with that code.
     * NULL: the type takes none of it; whoever sends is answered `unsupported`. */
    int (*event)(struct room *room, const struct room_event *event);
};

/* To one seated player. NOT_FOUND: no such player is seated. TOO_BIG (ROOM_DATA_MAX) and BAD_FRAME (not one whole msgpack
 * value, an ext value, or a key that is no string: what JSON cannot say), wherever the player is connected. */
int room_send(struct room *room, const char *player, const void *data, size_t len);

/* To everybody seated but `except` (NULL: to all). `from` is the player shown as the sender; NULL: the room itself.
 * TOO_BIG and BAD_FRAME as room_send(); then nobody gets it. */
int room_broadcast(struct room *room, const char *except, const char *from, const void *data, size_t len);

/* In message(), and in event() to SEND and TELL: the result. In state() and save(): the state. The pieces of several calls
 * are put together. INVALID anywhere else, TOO_BIG past ROOM_DATA_MAX in all (save(): ROOM_IMAGE_MAX), NO_MEMORY. Pieces that do not make one whole value cost
 * the call `internal`. */
int room_reply(struct room *room, const void *data, size_t len);

/* In join(), leave(), message(), tick() and event() of a type with apply(): notes one change, before it is made, for the
 * journal; one whole value. It is made by the caller; apply() does it again elsewhere. Where no journal is kept this does nothing.
 * UNSUPPORTED (the type has no apply()), INVALID anywhere else, BAD_FRAME, TOO_BIG (past ROOM_DATA_MAX in one callback,
 * with its result), NO_MEMORY: then make no change. */
int room_record(struct room *room, const void *data, size_t len);

/* What follows is asked of the cluster, in join(), leave(), message(), tick() and event() only (else INVALID), ROOM_ASKS_MAX
 * times in one callback (else FULL). It is answered by event(), with the `request` given, if that is not 0: `full` if the node has
 * too much of it under way. What a room of durability journal asks leaves the node only once it would survive; the answer is
 * journalled as a message is. If the room moves or fails over before the answer, none comes: ask again. Only room_request() and
 * room_shared_*() are part of the room until they are answered: they go where it goes, and there they are done again. */

/* A message to another room, wherever it runs. The answer says that it was applied, and as durable as that room is; or
 * NO_RESPONDERS (nobody runs such a room now), UNSUPPORTED, UNKNOWN_RESULT (it may have been applied), TOO_BIG, or what the
 * other room's event() said. Now: INVALID (no room's id), TOO_BIG, BAD_FRAME. */
int room_tell(struct room *room, const char *other, const void *data, size_t len, uint64_t request);

/* A message to a player who is connected, wherever that is and in whatever rooms: it comes as `push`. The answer (kind PLAYER): 0, it
 * is in the sequence of what the player's session is told; NOT_FOUND, the player is not connected, and will not get it;
 * UNKNOWN_RESULT, it may be; UNAVAILABLE, it could not be found out where the player is. Now: INVALID, TOO_BIG, BAD_FRAME. */
int room_tell_player(struct room *room, const char *player, const void *data, size_t len, uint64_t request);

/* To every room that has subscribed to the topic, wherever it runs, and to whoever listens on `topic.<topic>` on NATS. A topic is
 * words of [A-Za-z0-9_-] with dots between them. Nobody says who has got it: whoever was not there at the time, or stood still
 * because it moved, has not. Now: INVALID, TOO_BIG, BAD_FRAME. */
int room_publish(struct room *room, const char *topic, const void *data, size_t len);

/* From now on what is published on topics that match comes to event(), kind TOPIC, once for each pattern that matches; a room's own,
 * too. In a pattern `*` is any one word, and `>` at the end any one or more. The patterns of a room are part of it: they go where it
 * goes, and come back with it. Also in create(). One that is there already is fine. FULL (ROOM_TOPICS_MAX), INVALID, NO_MEMORY. */
int room_subscribe(struct room *room, const char *pattern);
/* NOT_FOUND, INVALID. */
int room_unsubscribe(struct room *room, const char *pattern);

/* A lock of the cluster; its holder is this room's id, on whatever node it runs. It is held for ttl_ms (100 to 3,600,000) from
 * when it was asked for, and lost then unless it is renewed. wait_ms (to 60,000): how long to wait while somebody has it; then
 * HELD. The token of the answer grows with each holder: what is guarded by the lock must refuse one that is lower than it
 * has seen. A room that acquires what it has gets a new token. FENCED (renew, release): it is somebody else's by now.
 * UNKNOWN_RESULT: ask again. Now: INVALID. */
int room_lock_acquire(struct room *room, const char *name, int64_t ttl_ms, int64_t wait_ms, uint64_t request);
int room_lock_renew(struct room *room, const char *name, uint64_t token, int64_t ttl_ms, uint64_t request);
int room_lock_release(struct room *room, const char *name, uint64_t token, uint64_t request);

/* A request to a backend service, as a route leads those of players to: to one of its instances, which has timeout_ms
 * (ROOM_REQUEST_MIN_MS to _MAX_MS). The answer (kind SERVICE): 0 and the reply; SERVICE_ERROR, and data is the service's error,
 * a map of `code` and `message`. NO_SERVICE (nobody serves it), UNAVAILABLE: it was not done. TIMEOUT, UNRESPONSIVE (it answers
 * no pings either), UNKNOWN_RESULT (also in the place of the two before, of a request that was made again): nobody knows.
 * BAD_REPLY, TOO_BIG (the reply). An answer comes always: if the room moves or fails over meanwhile, its next owner makes the
 * request again, with a time-out of its own, and with the room, epoch and number that it was made with
 * (schemas/service_request.json). A service that must do nothing twice remembers these. Now: INVALID, TOO_BIG
 * (ROOM_ASK_DATA_MAX), BAD_FRAME, FULL (also ROOM_OPEN_MAX), NO_MEMORY. */
int room_request(struct room *room, const char *service, const void *data, size_t len, int64_t timeout_ms, uint64_t request);

/* Data that all rooms of the cluster share, in the bucket `shared`: one value under each key. A key is words of [A-Za-z0-9_-]
 * with dots between them, ROOM_TOPIC_MAX characters at most; a value is ROOM_ASK_DATA_MAX bytes at most. Each of these happens
 * at once or not at all, whoever else changes the key, and what a room asks of one key is done in that order.
 *
 * The answer (kind SHARED) always comes: 0 and what is said below, with the key's revision as token, or 0 if it has another one
 * by now; UNAVAILABLE, the registry could not be reached and nothing was changed; UNKNOWN_RESULT, nobody knows. If a room of
 * durability journal fails over or moves before it has the answer, it is asked again by the next owner, and what had been done
 * is known by what the entry remembers. It is done once: an entry remembers a hundred changes, of each who changed it the last
 * ones, a key that is deleted or expired does so for a minute more, and of what is older UNKNOWN_RESULT is said. A
 * room of another durability that fails over goes back to an earlier state, and may do again what it did since. Now: INVALID,
 * TOO_BIG, BAD_FRAME, FULL (also ROOM_OPEN_MAX), NO_MEMORY. */

#define ROOM_SHARED_ANY UINT64_MAX /* expect: whatever is there */
#define ROOM_SHARED_EXPIRY_MIN_MS INT64_C(100)
#define ROOM_SHARED_EXPIRY_MAX_MS INT64_C(2592000000) /* 30 days */

/* data: the value. NOT_FOUND. */
int room_shared_get(struct room *room, const char *key, uint64_t request);
/* ttl_ms: the key is gone after so long (ROOM_SHARED_EXPIRY_MIN_MS to _MAX_MS), by the clock of the node that looks; 0: it
 * stays. expect: ROOM_SHARED_ANY; 0, only if nothing is there, else EXISTS; a revision, only if nobody has changed it since,
 * else CONFLICT. */
int room_shared_set(struct room *room, const char *key, const void *data, size_t len, int64_t ttl_ms, uint64_t expect,
                    uint64_t request);
/* NOT_FOUND; CONFLICT: `expect` is not ROOM_SHARED_ANY and not its revision. */
int room_shared_delete(struct room *room, const char *key, uint64_t expect, uint64_t request);
/* Adds `by`, which may be negative, to an integer; where nothing is, to 0. data: the sum. ttl_ms: 0 leaves the expiry as it is.
 * INVALID: the value is no integer. TOO_BIG: the sum is beyond 64 bits. */
int room_shared_add(struct room *room, const char *key, int64_t by, int64_t ttl_ms, uint64_t request);
/* A set is an array of texts; where nothing is, the empty one. data: true, or false if the member was, or was not, there
 * already. room_shared_get() gives all members, in the order they came. INVALID: the value is no array of texts. FULL: 1,000
 * members, TOO_BIG: the set as a whole. `member`: UTF-8, 1 to ROOM_SHARED_MEMBER_MAX bytes. */
int room_shared_insert(struct room *room, const char *key, const char *member, int64_t ttl_ms, uint64_t request);
int room_shared_remove(struct room *room, const char *key, const char *member, uint64_t request);

/* The type's own pointer; NULL at first. */
void room_set_user(struct room *room, void *user);
void *room_user(const struct room *room);

/* Zeroed memory within the room's limit; NULL when there is none. Past the limit the room ends (`left: room_memory`) as
 * soon as the callback returns. `size` must be given back as it was asked for. */
void *room_alloc(struct room *room, size_t size);
/* Resizes; bytes above `old` are not cleared. NULL leaves `ptr` as it was. */
void *room_realloc(struct room *room, void *ptr, size_t old, size_t size);
void room_free(struct room *room, void *ptr, size_t size);

/* A locked room gives out no new seats; tickets already given are honoured. */
void room_lock(struct room *room);
void room_unlock(struct room *room);

/* One msgpack value that appears in the room's listing. len 0 removes it. TOO_BIG, BAD_FRAME, NO_MEMORY. */
int room_set_metadata(struct room *room, const void *data, size_t len);

/* Ends one player's seat once the callback has returned; leave() is called with the reason. NOT_FOUND. */
int room_kick(struct room *room, const char *player, const char *reason);

/* Ends the room once the callback has returned; players get `left` with the reason. */
void room_close(struct room *room, const char *reason);

const char *room_id(const struct room *room);
/* Taken seats. */
unsigned room_player_count(const struct room *room);
unsigned room_max_players(const struct room *room);
/* The i-th seated player in the order of their joining, NULL past the end. Each call walks the list. */
const char *room_player(const struct room *room, unsigned i);
/* Milliseconds since the room began, on whatever node; the time it was dead does not count. */
int64_t room_now_ms(const struct room *room);

/* Uniform in [0, n), 0 if n is 0. Repeatable in a simulation and when a journal is read; not for secrets. In state() and
 * save() it gives the same again and again. */
uint64_t room_random(struct room *room, uint64_t n);

enum room_log_level { ROOM_LOG_DEBUG, ROOM_LOG_INFO, ROOM_LOG_WARN, ROOM_LOG_ERROR };
/* One log line of the node with room= and type=. Cut at 500 characters; control characters and quotes are replaced. */
void room_log(const struct room *room, enum room_log_level level, const char *text);

#ifdef __cplusplus
}
#endif

#endif
