/*
 * The room host: the rooms that run on this node.
 *
 * Decides: who has a seat, which callback of a room type runs when, and what an ill-behaved room costs (its room, never the
 * node). Knows nothing of networks, buses, clocks (`now` is handed in, and never falls) or other nodes; all it says goes
 * out through `struct host_out`. Loop thread only. Invariant: taken + reserved seats of a room never exceed max_players.
 *
 * Limits: config.max_rooms rooms, config.room_max_bytes each; ids, players and tickets as below. Values are raw msgpack
 * bytes; options and messages that are not one whole well-formed value are refused with BAD_FRAME.
 *
 * Durability: rooms live in memory only. A type's declared durability is in its room_type_def; host_room_durability() says
 * what is true now: "none".
 */
#ifndef ROOM_HOST_H
#define ROOM_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "base/time.h"
#include "room/types.h"

enum {
    HOST_TICKET_SIZE = 33,       /* 32 hexadecimal digits and the NUL: 128 secret bits */
    HOST_OPTIONS_MAX = 65536,    /* bytes of options */
    HOST_MESSAGE_MAX = ROOM_DATA_MAX, /* bytes of one message */
    HOST_TICK_ROOMS = 1000       /* rooms served by one host_tick() */
};

struct host;

/*
 * What the host tells the node. Called from inside host_*() calls, as it happens, in order. All pointers are borrowed until
 * the function returns; `room` may be asked with the read-only functions below (host_find, host_room_*), and
 * nothing else of the host may be called from here. None may be NULL.
 */
struct host_out {
    /* To one seated member. */
    void (*message)(void *arg, const struct room *room, uint64_t who, const char *player, const void *data, size_t len);
    /* To every seated member but `except_who` (0: to all). Walk them with host_room_member(). `from` NULL: the room. */
    void (*broadcast)(void *arg, const struct room *room, uint64_t except_who, const char *from, const void *data,
                      size_t len);
    /* A member's seat has ended, not by host_leave(): "replaced", "kicked" or the type's own word, or the reason of the
     * room's end. `who` is not seated any more. */
    void (*left)(void *arg, const struct room *room, uint64_t who, const char *player, const char *reason);
    /* Seats, lock or metadata are no longer what was listed. At most once per host call and room, after all else. */
    void (*changed)(void *arg, const struct room *room);
    /* The room is gone; its members were reported left before. Reasons: "closed" or the type's or host_stop()'s own word,
     * "empty", "room_memory" (its limit), "room_stuck" (a callback ran too long). Not called when host_start() fails. */
    void (*ended)(void *arg, const char *room_id, const char *reason);
};

struct host_config {
    const struct alloc *alloc; /* borrowed, like all pointers here, until host_destroy() */
    const struct types *types;
    const struct host_out *out;
    void *out_arg;
    int64_t seat_ttl_ms;   /* life of a ticket; 0: 15,000 */
    int64_t empty_ms;      /* grace of an empty auto_dispose room; 0: never disposed */
    size_t room_max_bytes; /* 0: 8 MiB */
    unsigned max_rooms;    /* 0: 10,000 */
    unsigned lobby_max;    /* rooms that host_lobby_change() remembers; 0: 100,000 */
    void (*fill_random)(void *arg, void *out, size_t len); /* secrets (tickets); NULL: the kernel's */
    void *random_arg;
    uint64_t seed;               /* of room_random() */
    int64_t (*cpu_us)(void *arg); /* watchdog: processor time of this thread; NULL: no watchdog */
    void *cpu_arg;
    int64_t callback_max_us; /* 0: 1,000,000 */
};

/* NULL: no memory. */
struct host *host_create(const struct host_config *config);
/* Ends what still runs without a word to the node. NULL is fine. */
void host_destroy(struct host *h);

struct host_start {
    const char *id;
    const char *type;
    uint64_t epoch;
    bool private_room; /* also private if the type is */
    struct wall created; /* only handed back by host_room_created() */
    const void *options; /* len 0: none */
    size_t options_len;
};

/* The room runs when this returns 0. EXISTS (a room of this id runs here), UNKNOWN_TYPE, INVALID (id), BAD_FRAME, TOO_BIG,
 * FULL (max_rooms), NO_MEMORY, CANCELLED (the type closed it at once), or what the type's create() said. */
MUST_USE int host_start(struct host *h, const struct host_start *start, struct mono now, struct err_detail *detail);

/* Reserves a seat and gives out its ticket: secret, single-use, for this player only, good for seat_ttl_ms. A player who has
 * a reservation gets a fresh ticket for the same seat (the old one is void). A player who is seated gets a ticket that
 * moves its seat to whoever takes it; this needs no free seat and no unlocked room.
 * NOT_FOUND, ROOM_FULL, ROOM_LOCKED, INVALID (player), NO_MEMORY. */
MUST_USE int host_reserve(struct host *h, const char *id, const char *player, struct mono now,
                          char ticket[HOST_TICKET_SIZE]);
/* Gives a reservation back before it is used. NOT_FOUND, BAD_TICKET. */
int host_unreserve(struct host *h, const char *id, const char *player, const char *ticket, struct mono now);

struct host_join {
    const char *id;
    const char *player;
    const char *ticket;  /* NULL: no reservation, a free seat is needed (or the player's own reserved one) */
    const void *options; /* len 0: none */
    size_t options_len;
    uint64_t who; /* the node's word for this member, not 0, one seat per room; it comes back in host_out */
};

/* Seats the player and appends the state for it to `state_out` (nothing if the type has none). Tickets of a locked room are
 * honoured. A seated player with a ticket: its old holder is reported left "replaced" and the seat is kept.
 * NOT_FOUND, ROOM_FULL, ROOM_LOCKED, BAD_TICKET, ALREADY (the player is seated and there is no ticket; or `who` is),
 * INVALID, BAD_FRAME, TOO_BIG, NO_MEMORY, CANCELLED (the type ended the seat or the room at once; left() was called for
 * `who`), or what the type's join() or state() said. A ticket refused by the host stays what it was; one of a reservation
 * that the type refused is used up. `state_out` is as before on error. */
MUST_USE int host_join(struct host *h, const struct host_join *join, struct mono now, struct buf *state_out);

/* Ends a member's seat; not reported through left(). NOT_FOUND (the room or the member). */
int host_leave(struct host *h, const char *id, uint64_t who, const char *reason, struct mono now);
/* Ends a player's seat or reservation; reported through left() if it was seated. NOT_FOUND. */
int host_kick(struct host *h, const char *id, const char *player, const char *reason, struct mono now);

/* Hands a member's message to the room and appends its result to `result_out` (nothing if there is none). NOT_FOUND (the
 * room, or `who` has no seat in it), BAD_FRAME, TOO_BIG, NO_MEMORY (also: the room has ended for its memory limit), INTERNAL (the
 * room has ended because the callback ran too long), or what the type said. `result_out` is as before on error. */
MUST_USE int host_message(struct host *h, const char *id, uint64_t who, const void *data, size_t len, struct mono now,
                          struct buf *result_out);

/* NOT_FOUND; 0 also if it is so already. */
int host_lock(struct host *h, const char *id, bool locked, struct mono now);
/* NOT_FOUND. `reason` is at most ROOM_REASON_MAX characters, more is cut. */
int host_stop(struct host *h, const char *id, const char *reason, struct mono now);

/* Runs what is due: ticks, expiry of tickets, end of empty rooms; at most HOST_TICK_ROOMS rooms, the longest due first. Costs
 * nothing for rooms with nothing due. */
void host_tick(struct host *h, struct mono now);
/* When host_tick() has something to do next; may lie in the past. False: never, until some other call. */
bool host_next_due(const struct host *h, struct mono *due);

/* Read-only, allowed inside host_out. `room` pointers live until the room ends: keep ids across calls. */
const struct room *host_find(const struct host *h, const char *id);
unsigned host_room_count(const struct host *h);
/* Taken seats of all rooms. */
uint64_t host_player_count(const struct host *h);

/* Walks the rooms in the order of their start; NULL begins, NULL ends. No room may start or end during the walk. */
const struct room *host_room_next(const struct host *h, const struct room *room);

const char *host_room_id(const struct room *r);
const struct room_type_def *host_room_type(const struct room *r);
uint64_t host_room_epoch(const struct room *r);
unsigned host_room_players(const struct room *r);      /* taken */
unsigned host_room_seats(const struct room *r);        /* taken + reserved */
uint64_t host_room_seats_version(const struct room *r); /* +1 at each change of seats */
unsigned host_room_max_players(const struct room *r);
bool host_room_locked(const struct room *r);
bool host_room_private(const struct room *r);
const char *host_room_durability(const struct room *r); /* effective: "none" */
struct wall host_room_created(const struct room *r);
/* Borrowed until the room changes it; NULL and 0: none. */
const void *host_room_metadata(const struct room *r, size_t *len);
uint32_t host_room_metadata_version(const struct room *r); /* +1 at each change */
/* Bytes the room takes: itself, its seats and what its type holds. */
size_t host_room_bytes(const struct room *r);

/* One seated member; walk with `cursor` NULL at first. False: no more. `player` is borrowed until the seat ends.
 *   const void *cursor = NULL; struct host_member m;
 *   while (host_room_member(room, &cursor, &m)) ... */
struct host_member {
    uint64_t who;
    const char *player;
};
bool host_room_member(const struct room *r, const void **cursor, struct host_member *out);
/* 0: not seated. */
uint64_t host_room_who(const struct room *r, const char *player);

/*
 * The cluster's listing, for rooms of the built-in type `lobby`. The node calls this once for each room when it learns of
 * it, at every change and with `removed` when it goes (private rooms: do not call, or remove). What is the same as before
 * is ignored. Members of lobby rooms whose filter is touched get a message. FULL past lobby_max (the entry is not
 * shown), NO_MEMORY (as FULL), INVALID.
 */
struct lobby_entry {
    const char *id;
    bool removed; /* nothing below is read */
    const char *type;
    const char *server; /* the owner's id; may be NULL */
    unsigned players;   /* taken */
    unsigned seats;     /* taken + reserved: has_space looks at these */
    unsigned max_players;
    bool locked;
    const void *metadata; /* msgpack; len 0: none; at most ROOM_METADATA_MAX */
    size_t metadata_len;
};
int host_lobby_change(struct host *h, const struct lobby_entry *entry, struct mono now);
/* Removes every room of which `listed` says false: after a listing, which shows what went without a word. */
void host_lobby_keep(struct host *h, bool (*listed)(void *arg, const char *id), void *arg, struct mono now);

#endif
