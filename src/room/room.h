/*
 * Inside the host: what a room and a host are made of, shared by the files of room/ that are the host, and by no other.
 *
 *   host.c     life of the host, starting and ending rooms, tickets, messages, ticks
 *   member.c   taking, leaving, holding a seat
 *   run.c      calling into a type, and what follows from it
 *   service.c  what a type may ask for
 *   out.c      what is said to the node: at once, or held until it is durable
 *   journal.c  what a journal room did, as batches of records
 *   replay.c   doing it again
 *   image.c    a whole room as bytes
 *   topics.c   what a room has subscribed to
 *   open.c     what a room has asked for and is not answered
 *   due.c      the order in which rooms have something to do
 *   view.c     reading
 *
 * Invariants: a callback of a type runs only inside a function of run.c, and what it asked for that ends seats or
 * the room is carried out by run_settle() afterwards, so that no callback ever sees its room vanish. Nothing is said of a
 * room that is not `running`: it is being put together again.
 */
#ifndef ROOM_ROOM_H
#define ROOM_ROOM_H

#include "base/map.h"
#include "base/rng.h"
#include "room/host.h"
#include "room/seats.h"
#include "wire/mp_read.h"

struct lobby;
struct topic;
struct open_ask;
struct journal;

enum { DUE_NONE = UINT32_MAX };

struct room {
    struct host *host;
    struct room *prev, *next; /* all rooms, in the order of their start */
    struct room *lobby_next;  /* rooms of the type lobby */
    const struct room_type_def *def; /* of no type (room_no_type) while a journal's first record is waited for */
    struct journal *journal;         /* NULL: none is kept */
    struct alloc_budget budget; /* seats, metadata and what the type takes */
    struct seats seats;
    void *user;
    uint64_t number; /* of its start: settles equal due times the same way on every run */
    uint64_t epoch;
    struct wall created;
    struct mono started, next_tick, empty_since, due;
    int64_t last_tick_ms; /* in the room's own time */
    int64_t replay_ms;    /* the room's own time while it is not running */
    uint32_t due_at; /* place in the heap, DUE_NONE: not in it */
    unsigned metadata_len;
    uint32_t metadata_version; /* +1 at each change */
    uint8_t *metadata;
    struct topic *topics;      /* in the order in which they came */
    uint32_t topics_version, told_topics; /* +1 at each change; what the node knows of */
    struct open_ask *open;     /* in the order of their numbers */
    uint64_t ask_number;       /* of the last one */
    struct rng rng;
    struct buf *reply; /* where room_reply() writes; NULL: not now */
    size_t reply_at, reply_max; /* where it began to; bytes */
    int reply_error;
    uint64_t told_version; /* seats.version the node knows of */
    uint64_t changes, image_changes; /* commands so far, and at the newest image */
    uint64_t image_version;
    int64_t entered_us;
    unsigned asks; /* of the running callback */
    bool private_room, locked, dirty, kicks, closing, over_memory, stuck, in_callback;
    bool alive;   /* the type has made it: dispose() is owed */
    bool running; /* false: it is being put together again */
    bool over;    /* replayed to its end */
    bool frozen;
    bool ending;    /* ended; waits until that is durable */
    bool recording; /* room_record() is allowed */
    bool creating;  /* in create() */
    char *reason; /* of room_close(), an alloc_str() of the host's; NULL: no memory for it */
    char id[];
};

struct host {
    struct host_config config;
    struct map rooms;
    struct room *head, *tail;
    struct room **heap; /* rooms with something due, the first due at 0; holds all rooms if need be */
    uint32_t heap_len, heap_cap;
    uint64_t started, players;
    struct mono now; /* of the running call */
    struct lobby *lobby;
    struct buf reply; /* what the running callback replies */
};

extern const struct room_type_def room_no_type;

/* host.c */
/* A room in all tables, not yet made by its type and not running. NULL: no memory. `def` may be room_no_type. */
struct room *room_make(struct host *h, const char *id, uint64_t epoch, const struct room_type_def *def);
/* What room_make() could not do for room_no_type. False: no memory. */
bool room_set_type(struct room *r, const struct room_type_def *def, bool is_private);
/* The room for a call that changes it; NULL: there is none, or it has ended. */
struct room *room_of(struct host *h, const char *id, struct mono now);
/* 0, NOT_FOUND (`r` NULL) or UNAVAILABLE: frozen, or not running yet. */
int room_usable(const struct room *r);
/* Options of nil are none, here as on the wire. */
bool room_is_nil(const void *data, size_t len);
/* One whole value of at most `max` bytes? */
int room_check_value(const void *data, size_t len, size_t max, struct err_detail *detail);

/* member.c: ends held seats that are due. */
void member_expire(struct room *r);

/* due.c */
/* Makes place for one more room; false: no memory. */
bool due_prepare(struct host *h, size_t rooms);
/* Puts the room where its seats, tick and emptiness say. */
void due_update(struct room *r);
void due_remove(struct room *r);

/* topics.c */
uint32_t topics_count(const struct room *r);
/* An array of patterns. */
void topics_write(const struct room *r, struct buf *out);
/* They take the place of those that are there. BAD_FRAME, NO_MEMORY. */
int topics_read(struct room *r, struct mp_read *in);
void topics_clear(struct room *r);
bool topics_valid(const char *topic, bool wildcards);

/* open.c */
struct open_ask {
    struct open_ask *next;
    struct host_ask ask; /* its pointers lead into `bytes` */
    bool unsaid;         /* the node does not know of it (any more) */
    char bytes[];
};
/* But for a value, is all of it within its limits? */
bool open_sound(const struct host_ask *ask);
/* Makes it open and says it. FULL, NO_MEMORY. */
int open_add(struct room *r, const struct host_ask *ask);
struct open_ask *open_find(const struct room *r, uint64_t number);
/* Open no more; to be freed with open_free(). NULL: there is none. */
struct open_ask *open_take(struct room *r, uint64_t number);
void open_free(struct room *r, struct open_ask *o);
/* The number of the last one, then an array of those that are open. */
void open_write(const struct room *r, struct buf *out);
/* BAD_FRAME, NO_MEMORY. */
int open_read(struct room *r, struct mp_read *in);
/* One alone, as a record of the journal has it. */
void open_write_one(const struct host_ask *ask, struct buf *out);
int open_read_one(struct room *r, struct mp_read *in);
void open_clear(struct room *r);
void open_say_unsaid(struct room *r);

/* run.c: calling into a type, and what follows from it. */
int run_create(struct room *r, const void *options, size_t len);
int run_restore(struct room *r, const void *state, size_t len);
int run_join(struct room *r, const char *player, const void *options, size_t len);
void run_leave(struct room *r, const char *player, const char *reason);
void run_tick(struct room *r, int64_t now_ms, int64_t dt_ms);
int run_apply(struct room *r, const void *data, size_t len);
/* Calls state() or message() for the player; what the type replied is in host.reply, which is empty on error. */
int run_state(struct room *r, const char *player);
int run_message(struct room *r, const char *player, const void *data, size_t len);
/* The type has event(). What it replied is in host.reply. */
int run_event(struct room *r, const struct room_event *event);
/* Calls save() and appends to `out`, which is as before on error. */
int run_save(struct room *r, struct buf *out);
/* Why the room has to end: NO_MEMORY, INTERNAL (a callback ran too long), CANCELLED (it closed itself). 0: it goes on. */
int run_verdict(const struct room *r);
/* Carries out pending kicks and the room's end. True: it goes on; false: `r` may be gone. */
bool run_carry_out(struct room *r);
/* After every change: refreshes the due time, tells the node, hands on what is to be journalled. */
void run_refresh(struct room *r);
/* Both. */
void run_settle(struct room *r);
/* Ends the room now; `r` may be gone afterwards. */
void run_end(struct room *r, const char *reason);
/* Frees a room without a word; dispose() is called if it is owed. */
void run_discard(struct room *r);

/* Cuts `reason` to ROOM_REASON_MAX characters; NULL or empty becomes `otherwise`. */
void run_reason(char out[ROOM_REASON_MAX + 1], const char *reason, const char *otherwise);

/* out.c: the functions of host_out, held back where a journal asks for it. Nothing is said of a room that is not running. */
void out_message(struct room *r, uint64_t who, const char *player, const void *data, size_t len);
void out_broadcast(struct room *r, uint64_t except_who, const char *from, const void *data, size_t len);
void out_joined(struct room *r, const struct seat *seat, bool again, const void *state, size_t len);
void out_sent(struct room *r, uint64_t who, const char *player, int64_t n, int code, const void *result, size_t len);
void out_answered(struct room *r, const char *reply, int code, const void *result, size_t len);
void out_tell(struct room *r, const char *other, uint64_t request, const void *data, size_t len);
void out_lock(struct room *r, const struct host_lock_ask *ask);
void out_ask(struct room *r, const struct host_ask *ask);
void out_open(struct room *r, const struct open_ask *o);
void out_topics(struct room *r);
void out_left(struct room *r, uint64_t who, const char *player, const char *reason);
void out_changed(struct room *r);
/* True: the room is gone; false: it goes once its end is durable. */
bool out_ended(struct room *r, const char *reason);
/* The journal's image, once what it holds is durable. False: no memory. */
bool out_image(struct room *r, uint64_t version);

#endif
