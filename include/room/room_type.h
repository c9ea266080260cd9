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
 */
#ifndef ROOM_ROOM_TYPE_H
#define ROOM_ROOM_TYPE_H

#include <stddef.h>
#include <stdint.h>

#include "room/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever struct room_type or the meaning of a service changes; a type of another version is not loaded. */
#define ROOM_TYPE_API_VERSION 1u

enum {
    ROOM_TYPE_MAX_PLAYERS = 10000, /* the most a type may ask for */
    ROOM_TYPE_MAX_TICK_MS = 3600000,
    ROOM_METADATA_MAX = 1024, /* bytes of msgpack */
    ROOM_DATA_MAX = 786432,   /* bytes of one message to or from players, of a result and of a state */
    ROOM_REASON_MAX = 64      /* characters of a reason; more is cut */
};

/* What the author wants to survive the death of the room's node. This version keeps rooms in memory only: whatever is
 * declared here, a room's effective durability is `none`, and the listing says so. */
enum room_durability { ROOM_DURABILITY_NONE = 0, ROOM_DURABILITY_SNAPSHOT = 1, ROOM_DURABILITY_JOURNAL = 2 };

enum {
    ROOM_TYPE_PRIVATE = 1u << 0,     /* rooms are left out of listings and found by id or ticket only */
    ROOM_TYPE_AUTO_DISPOSE = 1u << 1 /* an empty room ends after the node's --room-ttl (0: never) */
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
     * either: free what you took). */
    int (*create)(struct room *room, const void *options, size_t len);

    /* A player asks for its seat. An error refuses it with that code. The player is not seated until this has returned:
     * broadcasts from here go to the others, and what the newcomer must know goes into state(). A player who comes back
     * over another connection keeps its seat: join() is not called again, state() is. */
    int (*join)(struct room *room, const char *player, const void *options, size_t len);

    /* A player's seat has ended, for whatever reason but the end of the room. */
    void (*leave)(struct room *room, const char *player, const char *reason);

    /* A message from a seated player. room_reply() gives the result that goes with the acknowledgement, if there is one. */
    int (*message)(struct room *room, const char *player, const void *data, size_t len);

    /* About every tick_ms. Both times are milliseconds: since the room began, and since the last tick. Missed ticks are
     * not made up for; `dt_ms` tells. */
    void (*tick)(struct room *room, int64_t now_ms, int64_t dt_ms);

    /* What a player gets when it takes its seat: room_reply(), once or in pieces. An error refuses the join, after
     * leave(). */
    int (*state)(struct room *room, const char *player);

    /* The room ends; every seat is gone already. Free everything. Only room_free(), room_user() and room_log() here. */
    void (*dispose)(struct room *room);
};

/* To one seated player. NOT_FOUND: no such player is seated. TOO_BIG (ROOM_DATA_MAX) and BAD_FRAME (not one whole msgpack
 * value, an ext value, or a key that is no string: what JSON cannot say), wherever the player is connected. */
int room_send(struct room *room, const char *player, const void *data, size_t len);

/* To everybody seated but `except` (NULL: to all). `from` is the player shown as the sender; NULL: the room itself.
 * TOO_BIG and BAD_FRAME as room_send(); then nobody gets it. */
int room_broadcast(struct room *room, const char *except, const char *from, const void *data, size_t len);

/* In message(): the result. In state(): the state. The pieces of several calls are put together. INVALID anywhere else,
 * TOO_BIG past ROOM_DATA_MAX in all, NO_MEMORY. Pieces that do not make one whole value cost the call `internal`. */
int room_reply(struct room *room, const void *data, size_t len);

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
/* Milliseconds since the room began. */
int64_t room_now_ms(const struct room *room);

/* Uniform in [0, n), 0 if n is 0. Repeatable in a simulation; not for secrets. */
uint64_t room_random(struct room *room, uint64_t n);

enum room_log_level { ROOM_LOG_DEBUG, ROOM_LOG_INFO, ROOM_LOG_WARN, ROOM_LOG_ERROR };
/* One log line of the node with room= and type=. Cut at 500 characters; control characters and quotes are replaced. */
void room_log(const struct room *room, enum room_log_level level, const char *text);

#ifdef __cplusplus
}
#endif

#endif
