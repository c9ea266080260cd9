/*
 * The room host: the rooms that run on this node.
 *
 * Decides: who has a seat, which callback of a room type runs when, and what an ill-behaved room costs (its room, never the
 * node). Knows nothing of networks, buses, clocks (`now` is handed in, and never falls) or other nodes; all it says goes
 * out through `struct host_out`. Loop thread only. Invariants: taken + reserved seats of a room never exceed max_players; of a
 * room that keeps a journal nothing is said before what it rests on is durable.
 *
 * Limits: config.max_rooms rooms, config.room_max_bytes each; ids, players and tickets as below. Values are raw msgpack
 * bytes; options and messages that are not one whole well-formed value are refused with BAD_FRAME.
 *
 * Rooms that outlive their node. A room whose type has save() and restore() can be turned into an image (host_snapshot()) and
 * made from one (host_restore()). A room of durability `journal`, on a host that keeps journals (config.journal), also hands
 * out everything it does as batches (append()); what is said because of them is held until host_appended(). Image and the
 * batches after it make the same room again: host_restore(), host_replay() for each batch, host_resume(). All this the host
 * only asks for and answers; where images and batches are kept, and who may write them, is the node's matter.
 *
 * Limits of a journal: 4,096 commands or 4 MiB of commands and of held words uncommitted, then joins, attaches and messages
 * are refused with RATE_LIMITED and ticks are left out; one callback that says more than 32 MiB costs its room
 * ("room_memory"). A batch is 256 KiB at most, or one command and what followed from it (below 1 MiB).
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
#include "core/lock.h"
#include "room/types.h"

enum {
    HOST_TICKET_SIZE = 33,       /* 32 hexadecimal digits and the NUL: 128 secret bits */
    HOST_OPTIONS_MAX = 65536,    /* bytes of options */
    HOST_MESSAGE_MAX = ROOM_DATA_MAX, /* bytes of one message */
    HOST_TICK_ROOMS = 1000,      /* rooms served by one host_tick() */
    HOST_REPLY_MAX = 512         /* characters */
};

struct host;

struct host_lock_ask { /* of a room, for a lock of the cluster */
    enum lock_verb verb;
    struct id name;
    int64_t ttl_ms, wait_ms;
    uint64_t token, request;
};

enum host_ask_kind { HOST_ASK_PLAYER, HOST_ASK_PUBLISH, HOST_ASK_SERVICE, HOST_ASK_SHARED };

enum host_shared_verb { HOST_SHARED_GET, HOST_SHARED_SET, HOST_SHARED_DELETE, HOST_SHARED_ADD, HOST_SHARED_INSERT,
                        HOST_SHARED_REMOVE };

struct host_ask { /* of a room, for something beyond it */
    enum host_ask_kind kind;
    const char *target; /* a player; a topic; a service; a key */
    uint64_t request;   /* PLAYER: not 0: ROOM_EVENT_PLAYER is to be handed in later */
    const void *data;   /* SHARED: a value, or a member without a NUL */
    size_t len;
    /* SERVICE, SHARED: the two numbers name it in this room for ever. It is open, and part of the room, until host_done(). */
    uint64_t epoch, number;
    bool again; /* it was said before, here or by an earlier owner: perhaps it has been done */
    int64_t limit_ms; /* SERVICE: time-out; SHARED: expiry, 0: none */
    enum host_shared_verb verb;
    uint64_t expect;
    int64_t by;
};

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
    /* `who` has its seat after host_join(), and this is its state (len 0: the type has none). */
    void (*joined)(void *arg, const struct room *room, uint64_t who, const char *player, const void *state, size_t len);
    /* The answer to host_message(): 0 and the result (len 0: none), or the type's refusal; NO_MEMORY and INTERNAL if the room
     * ends for its memory limit or for a callback that ran too long. After what the message itself sent and before the ends
     * of seats that it led to. */
    void (*sent)(void *arg, const struct room *room, uint64_t who, const char *player, int64_t n, int code,
                 const void *result, size_t len);
    /* `who` has its seat again after host_attach(), and this is its state. */
    void (*attached)(void *arg, const struct room *room, uint64_t who, const char *player, const void *state, size_t len);
    /* A member's seat has ended, not by host_leave(): "replaced", "kicked" or the type's own word, "timeout", or the reason of
     * the room's end. `who` is not seated any more; 0: nobody sat there, the seat was held. */
    void (*left)(void *arg, const struct room *room, uint64_t who, const char *player, const char *reason);
    /* Seats, lock or metadata are no longer what was listed. At most once per host call and room, after all else. */
    void (*changed)(void *arg, const struct room *room);
    /* The room is gone; its members were reported left before. Reasons: "closed" or the type's or host_stop()'s own word,
     * "empty", "room_memory" (its limit), "room_stuck" (a callback ran too long). Not called when host_start() fails. */
    void (*ended)(void *arg, const char *room_id, const char *reason);
    /* The image asked for by host_snapshot(). `version` is 1, 2, 3 ... for a room and epoch. `position`: the sequence of the last
     * batch whose doing is in it, as host_appended() or host_replay() said it; 0 without a journal. */
    void (*image)(void *arg, const struct room *room, uint64_t version, uint64_t position, const void *data, size_t len);
    /* The next batch of a journal room; one at a time. host_appended() is to be called for it once it is durable, not from
     * inside. If it never can be (another owner has superseded this one), host_discard(). */
    void (*append)(void *arg, const struct room *room, uint64_t number, const void *data, size_t len);
    /* What came of a host_event() with `reply`: 0 and the result (len 0: none), or a refusal, as sent() says of a message. */
    void (*answered)(void *arg, const struct room *room, const char *reply, int code, const void *result, size_t len);
    /* room_tell(), and what is asked about a lock. `request` not 0: ROOM_EVENT_TOLD or _LOCK is to be handed in later. */
    void (*tell)(void *arg, const struct room *room, const char *other, uint64_t request, const void *data, size_t len);
    void (*lock)(void *arg, const struct room *room, const struct host_lock_ask *ask);
    /* room_tell_player(), room_publish(), room_request(), room_shared_*(). */
    void (*ask)(void *arg, const struct room *room, const struct host_ask *ask);
    /* The patterns of host_room_topic() are others than when the room began to run here, or than when this was called last. */
    void (*topics)(void *arg, const struct room *room);
};

struct host_config {
    const struct alloc *alloc; /* borrowed, like all pointers here, until host_destroy() */
    const struct types *types;
    const struct host_out *out;
    void *out_arg;
    int64_t seat_ttl_ms;   /* life of a ticket; 0: 15,000 */
    int64_t hold_ms;       /* life of a held seat; 0: 30,000 */
    int64_t empty_ms;      /* grace of an empty auto_dispose room; 0: never disposed */
    size_t room_max_bytes; /* 0: 8 MiB */
    unsigned max_rooms;    /* 0: 10,000 */
    bool journal;          /* rooms of durability journal keep one: append() is answered by host_appended() */
    bool snapshots;        /* the node keeps images; only for what host_room_durability() says */
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
    const void *options; /* len 0 or nil: none */
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
    const void *options; /* len 0 or nil: none */
    size_t options_len;
    uint64_t who; /* the node's word for this member, not 0, one seat per room; it comes back in host_out */
    const char *session; /* an id; what was answered to it is not done twice. NULL: none */
};

/* Seats the player. 0: joined() is called for `who` once, or left() if the type ended the seat or the room at once. Tickets of
 * a locked room are honoured. A seated player with a ticket: its old holder is reported left "replaced" and the seat is kept;
 * for another session than before, messages are counted anew. So it is for a player whose own seat is held, who needs no
 * ticket.
 * NOT_FOUND, ROOM_FULL, ROOM_LOCKED, BAD_TICKET, ALREADY (the player is seated and there is no ticket; or `who` is),
 * INVALID, BAD_FRAME, TOO_BIG, NO_MEMORY, UNAVAILABLE (frozen, or not resumed), RATE_LIMITED (the journal is behind), or
 * what the type's join() or state() said. A ticket refused by the host stays what it
 * was; one of a reservation that the type refused is used up. On error neither joined() nor left() is called for `who`. */
MUST_USE int host_join(struct host *h, const struct host_join *join, struct mono now);

/* The member's gateway is lost: the seat is held, the type hears nothing. What is said to it goes nowhere. It ends after
 * hold_ms with leave("timeout"). NOT_FOUND. */
int host_hold(struct host *h, const char *id, uint64_t who, struct mono now);
/* The same session takes its seat up again, held or not (whoever has it loses it without a word). 0: attached() is called for
 * `who` once, or left() if the seat ended before. NOT_FOUND (no seat of this player and session), UNAVAILABLE,
 * RATE_LIMITED, ALREADY (`who` sits elsewhere in this room), INVALID, or what the type's state() said: then all is as
 * before. */
MUST_USE int host_attach(struct host *h, const char *id, const char *player, const char *session, uint64_t who,
                         struct mono now);

/* Ends a member's seat; not reported through left(). NOT_FOUND (the room or the member). */
int host_leave(struct host *h, const char *id, uint64_t who, const char *reason, struct mono now);
/* Ends a player's seat or reservation; reported through left() if it was seated. NOT_FOUND. */
int host_kick(struct host *h, const char *id, const char *player, const char *reason, struct mono now);

/* Hands a member's message to the room: 0, and sent() says what came of it. `n` is the client's number, which grows in a
 * session (0: none): one that was handed to the room before is not handed to it again, but answered again (struct replies:
 * an old answer is forgotten and becomes plain success). Refused at once, so that sent() is not called and the number does
 * not count: NOT_FOUND (the room, or `who` has no seat in it), BAD_FRAME, TOO_BIG, UNAVAILABLE (frozen, or not resumed),
 * RATE_LIMITED (the journal is behind), NO_MEMORY. Weakness: such a number counts as done
 * once a higher one was accepted. Whoever repeats a message that was refused for a reason that passes must repeat all
 * after it, too. */
MUST_USE int host_message(struct host *h, const char *id, uint64_t who, int64_t n, const void *data, size_t len,
                          struct mono now);

/* Hands in what comes from elsewhere: 0, and with `reply` answered() says what came of it, once that is durable. `reply` is the
 * caller's word, at most HOST_REPLY_MAX characters. Refused at once: NOT_FOUND, UNAVAILABLE (frozen, or not resumed),
 * UNSUPPORTED (the type takes none), BAD_FRAME, TOO_BIG, INVALID, NO_MEMORY, RATE_LIMITED (the journal is behind; messages
 * only). */
MUST_USE int host_event(struct host *h, const char *id, const struct room_event *event, const char *reply, struct mono now);

/* What came of an open ask: of `event` only code, data, len and token are looked at. It is open no more, and the type hears of
 * it if it gave a request. NOT_FOUND: no such room, or nothing of this number is open; UNAVAILABLE (frozen, or not resumed),
 * NO_MEMORY: it is as it was, and either this is called again or host_unsaid(). `data` is a value of
 * ROOM_DATA_MAX at most. */
MUST_USE int host_done(struct host *h, const char *id, uint64_t number, const struct room_event *event, struct mono now);
/* The node could not keep an ask, or what came of it; host_say_again() says all those of the room once more, if it runs. Open
 * asks of a room that begins to run from an image or a journal are said by host_resume(). */
void host_unsaid(struct host *h, const char *id, uint64_t number);
/* True: none is unsaid any more. */
bool host_say_again(struct host *h, const char *id, struct mono now);

/* NOT_FOUND, UNAVAILABLE (not resumed); 0 also if it is so already. */
int host_lock(struct host *h, const char *id, bool locked, struct mono now);
/* Ends the room for good. NOT_FOUND. `reason` is at most ROOM_REASON_MAX characters, more is cut. A journal room takes nothing
 * more, and is there until its end is durable: then left() and ended() are called. */
int host_stop(struct host *h, const char *id, const char *reason, struct mono now);
/* The room ends here without a word to anybody, running or not: it is superseded, or moved. What was held of it is never
 * said. NOT_FOUND. */
int host_discard(struct host *h, const char *id);
/* A frozen room does not tick, no seat of it ends by time, and it takes no joins, messages, attaches or reservations
 * (UNAVAILABLE). Seats may be left, held, kicked. NOT_FOUND. */
int host_freeze(struct host *h, const char *id, bool frozen, struct mono now);

/* Asks for an image of the room as it is; image() is called inside this, or once what is in it is durable. If one is on its
 * way already, another one is taken after it. NOT_FOUND, UNAVAILABLE (not resumed), UNSUPPORTED (the type has not both save()
 * and restore()), NO_MEMORY, TOO_BIG, or what save() said. */
int host_snapshot(struct host *h, const char *id, struct mono now);

struct host_restore {
    const char *id;
    uint64_t epoch;    /* of the new owner */
    const void *image; /* NULL: none, the journal begins with the room's creation */
    size_t image_len;
    uint64_t position; /* of the image */
};

/* Makes a room from an image. All its seats are held; it says nothing, and takes nothing (UNAVAILABLE), until host_resume().
 * BAD_FRAME (not a whole image), UNKNOWN_TYPE, UNSUPPORTED (the type cannot restore), ROOM_FULL (more seats than the type has
 * here), EXISTS, FULL, INVALID, NO_MEMORY, or what restore() said. `in` is borrowed. */
MUST_USE int host_restore(struct host *h, const struct host_restore *in, struct mono now, struct err_detail *detail);
/* Does one batch of its journal again, in the order of their sequences, beginning after the image's position. A batch of a
 * lower epoch than one seen, or one seen already, is ignored. NOT_FOUND, INVALID (it runs), UNSUPPORTED (no journal is kept
 * here), BAD_FRAME (not a batch, or one is missing before it), FENCED (a later owner has written already), INTERNAL (the type does not do again what it did),
 * UNKNOWN_TYPE, NO_MEMORY, ROOM_FULL. After an error the room is worth nothing: host_discard(). */
MUST_USE int host_replay(struct host *h, const char *id, uint64_t sequence, const void *data, size_t len);
/* The room runs from here on: room_now_ms() goes on from where it was, held seats end after hold_ms. CANCELLED: it had
 * ended; NOT_FOUND: there is no such room, or nothing of it was in image or journal. In both cases it is gone. */
MUST_USE int host_resume(struct host *h, const char *id, struct mono now);
/* The batch `number` of this epoch is durable under `sequence`. Anything but the batch that is waited for is ignored. */
void host_appended(struct host *h, const char *id, uint64_t epoch, uint64_t number, uint64_t sequence, struct mono now);
/* Appends the batch that marks a take-over: whoever replays it ignores what lower epochs wrote after it. NO_MEMORY. */
MUST_USE int host_mark(struct buf *out, uint64_t epoch);

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
unsigned host_room_players(const struct room *r);      /* taken, held ones too */
unsigned host_room_seats(const struct room *r);        /* taken + reserved */
uint64_t host_room_seats_version(const struct room *r); /* +1 at each change of seats */
unsigned host_room_max_players(const struct room *r);
bool host_room_locked(const struct room *r);
bool host_room_private(const struct room *r);
/* What is true here: the type's, or what this host's configuration makes of it. */
const char *host_room_durability(const struct room *r);
/* Does it stand still while nobody can reach its node? */
bool host_room_freezes(const struct room *r);
/* False: being restored, or ended and waiting for that to be durable. */
bool host_room_running(const struct room *r);
/* Something was done since the newest image was taken, or there is none. False if there can be none. */
bool host_room_unsaved(const struct room *r);
/* Something it did, or an image of it, waits for a batch of its journal that is not durable yet. */
bool host_room_waits(const struct room *r);
struct wall host_room_created(const struct room *r);
/* Borrowed until the room changes it; NULL and 0: none. */
const void *host_room_metadata(const struct room *r, size_t *len);
uint32_t host_room_metadata_version(const struct room *r); /* +1 at each change */
/* Bytes the room takes: itself, its seats and what its type holds. */
size_t host_room_bytes(const struct room *r);

/* Whoever the node was told of as seated and not as left; and held seats, with `who` 0. In a journal room that is not quite who
 * is seated now. Walk with `cursor` NULL at first. False: no more. `player` is borrowed until the next call that changes.
 *   const void *cursor = NULL; struct host_member m;
 *   while (host_room_member(room, &cursor, &m)) ... */
struct host_member {
    uint64_t who;
    const char *player;
};
bool host_room_member(const struct room *r, const void **cursor, struct host_member *out);
/* The pattern that the room has subscribed to after `pattern` (NULL: the first one), NULL: no more. Borrowed until the next call
 * that changes. */
const char *host_room_topic(const struct room *r, const char *pattern);
/* Words of [A-Za-z0-9_-] with dots between them, ROOM_TOPIC_MAX characters at most: so are keys of shared data, too. */
bool host_topic_valid(const char *topic);
/* 0: not seated, or held. */
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
