/*
 * Inside of the core: its state and the calls between its parts. Only files of core/ include this.
 *
 * core.c     dispatches events and ticks
 * op.c       operations under way: token -> what to do with the answer
 * self.c     this node's own registry entry: claim, heartbeat, fencing, isolation
 * member.c   watching others: pings, probes, verdicts
 * owner.c    rooms owned here: winning, listing, loss
 * create.c   rooms that somebody asks for
 * adopt.c    rooms that have lost their owner: whose turn it is to take them
 * restore.c  rooms taken over: claim, restore, tries, parking
 * release.c  rooms given up for others to take, and rooms that only this node's disk knows
 * move.c     rooms that move to another node, as seen from the old owner
 * expect.c   the same, as seen from the new one
 * drain.c    moves all rooms away
 * reap.c     finds rooms without an owner; removes those that cannot come back
 * allocate.c join_or_create for the types this node allocates
 * join.c     a player's way into a room
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include "core/core.h"

enum op_kind {
    OP_FREE,
    OP_SELF,    /* registry operation of self.c */
    OP_PING,    /* member.c: ping of a watched node */
    OP_PROBE,   /* member.c: ping on behalf of another watcher; req is its call */
    OP_ASK,     /* member.c: a probe asked of another watcher */
    OP_VERDICT, /* member.c: registry operation that declares a node down */
    OP_ROOM,    /* owner.c: registry operation of an owned room */
    OP_REAP,    /* reap.c: removal of a dead node's room */
    OP_ADOPT,   /* adopt.c: an entry of a room without an owner becomes pending or parked */
    OP_HELD,    /* release.c: a room of this node's disk is listed again */
    OP_MOVE,    /* move.c: another node is asked to take a room; req is the move's number */
    OP_EXPECT,  /* expect.c: is a room's entry ours? */
    OP_MAKE,    /* allocate.c: creation of a room for waiting requests */
    OP_SEAT,    /* allocate.c: reservation for one waiting request */
    OP_JOIN     /* join.c */
};

struct op {
    enum op_kind kind;
    uint32_t generation;
    uint32_t next_free;
    struct id server, room;
    void *owner; /* the structure that waits; its life covers the op's */
    int step;
    uint64_t req;
    struct mono sent;
};

enum self_state { SELF_OUT, SELF_READING, SELF_PINGING, SELF_CLAIMING, SELF_UP, SELF_REFUSED, SELF_LEAVING, SELF_GONE };

struct self {
    enum self_state state;
    struct server_info info;
    uint64_t revision;
    bool busy;       /* a registry operation or ping is under way */
    bool unsure;     /* the last write's result is unknown, or we were isolated: read before anything else */
    bool isolated;
    bool bus_up;
    struct mono next, last_reached, last_tick, bus_down_since, holder_since, stop_deadline;
    struct mono ready_since;
    bool unlisted;   /* leaving without the registry: when rooms are saved, that is all */
    bool holder_silent;
    uint64_t holder_revision;
    enum server_status wrote; /* what the last write of the entry says */
    bool told;                /* the drain, to everybody */
    char boot_high[ULID_SIZE]; /* the highest boot seen on our entry: a new one must be above it */
};

struct peer { /* a node this one watches */
    struct id id;
    bool pinging, failing, silent, judging;
    bool unsettled; /* our verdict was sent, and its event is not published yet */
    unsigned failures;
    struct mono next_ping, first_fail;
    int asked;
    bool reached_by_other;
};

enum owned_state {
    OWNED_CLAIMING, /* its entry is being won; a room under restore is here between its tries too */
    OWNED_STARTING, /* the room host is at work */
    OWNED_RUNNING,
    OWNED_MOVING,     /* the room host saves it for the node it moves to, and it stands still */
    OWNED_COMMITTING, /* and has; the entry is to name that node */
    OWNED_KEEPING,    /* that may or may not have happened, or may happen yet; it is to be settled before the room goes on */
    OWNED_CLOSING,  /* over; the entry is to be deleted */
    OWNED_PARKING,  /* given up; the entry is to say so */
    OWNED_RELEASING, /* the room host saves it for another owner */
    OWNED_RELEASED   /* and has; the entry is to say that it may be taken */
};

enum { RESTORES_MAX = 256 };      /* claims and restores under way at a time */
enum { OWNER_COMMIT = 100 };      /* step of an OP_ROOM: the write that gives the room away */
#define BOOT_UNKNOWN "0"          /* in the entry of a room from a disk: below every boot that ever was */

enum { DURABILITY_NONE, DURABILITY_SNAPSHOT, DURABILITY_JOURNAL }; /* room_info.durability */

struct asked { /* what a room was asked for with */
    struct core_call call;
    uint8_t *options;
};

struct restoring { /* of a room taken over, until it is sound */
    struct owned *room;
    struct restoring *prev, *next; /* of the rooms that run, in the order in which they will be sound */
    struct id from;
    const char *reason;
    int pause_ms;      /* before the next try */
    bool counted;      /* in core.restores: a claim or a restore is under way */
    bool own_write;    /* our write may be in the registry: a conflict is to be looked at */
    bool running;      /* linked */
    struct mono sound; /* running: then */
};

enum { REFUSALS_MAX = 8 };

struct moving { /* of a room that moves away */
    struct owned *room;
    struct moving *prev, *next; /* in the order in which they began */
    uint64_t number; /* never 0; what belongs to an earlier move of the room bears another one */
    uint64_t req;    /* to be answered; 0: nobody waits */
    const char *reason;
    struct mono deadline;
    struct room_info entry; /* asked: the new owner. From the commit on: all of what is written */
    struct id avoid[1 + REFUSALS_MAX]; /* this node, and those that have refused */
    unsigned avoids;
    uint64_t saved; /* the snapshot's version */
    int code;   /* why the last one refused, or why it is to be kept */
    bool fixed; /* the target was named, no other will do */
    bool drain; /* begun by the drain */
    bool sent;  /* the commit: from then on it is settled by the registry alone */
    bool keep;  /* it is to go on here, and the room host could not be told for lack of memory */
    bool ended; /* the room ended by itself while that was open */
};

struct expected { /* a room that another node gives to this one */
    struct id room, from;
    uint64_t epoch;
    const char *reason;
    struct mono due; /* not waited for any longer */
    bool asked;   /* and agreed to: its entry is believed as the view has it. Else it is read */
    bool reading;
};

struct waiter {
    struct waiter *next;
    uint64_t req;
};

struct owned { /* kept small: a node has thousands */
    struct room_info info;
    enum owned_state state;
    uint64_t revision; /* of our last accepted write; 0: not listed yet */
    bool busy;      /* a registry operation is under way */
    bool unsure;    /* its result is unknown: read the entry before the next write */
    bool dirty;     /* linked in the list of rooms to write */
    bool announced; /* room.<id>.created was published */
    bool updated;   /* something people see has changed since the last room.<id>.updated */
    bool removed;   /* no longer in the table; freed when its operation ends */
    bool doubted;   /* to be read: is it still ours? */
    bool only_read; /* the read under way is for that alone: nothing is to be written after it */
    enum room_state wrote; /* what the last write says of it */
    struct restoring *restoring; /* NULL: made here, or sound */
    struct moving *move;         /* NULL: it does not move */
    uint64_t req;   /* the create to answer, 0: none */
    struct waiter *waiters, **waiters_last; /* creates of the same name that came before it was settled */
    unsigned waiting;
    struct asked *asked; /* until it runs */
    struct mono next, deadline;
    char *reason; /* closing: a copy, the event's own is gone by the time it is told */
    struct owned *dirty_prev, *dirty_next;
    struct owned *drain_prev, *drain_next;
    bool queued; /* linked: the drain will try it */
    bool stuck;  /* the drain could not move it */
};

struct reap {
    struct room_info info;
    uint64_t revision;
    struct mono due;
    bool busy, told;
};

enum fate { FATE_NONE, FATE_REAP, FATE_WAIT, FATE_ADOPT, FATE_TAKE /* it was given to this node */ };

struct adoption { /* a room without an owner, and when it is this node's turn */
    struct id room;
    uint64_t revision; /* that was judged */
    struct mono due;
    bool busy;
    struct room_info *written; /* pending or parked, until it is known whether that was applied */
    bool unsure;               /* a write of it may still be applied: a conflict is to be looked at */
};

struct held { /* a room of this node's disk */
    struct room_info info;
    struct mono due;
    bool busy;
};

/* allocate.c */
struct join;

struct wanting {
    struct wanting *next;
    uint64_t req;   /* call to answer, or 0 */
    struct join *join; /* local join to answer, or NULL */
    struct core_call call;
    uint8_t *options;
    int tries;
};

struct making { /* one room being created for a type */
    struct making *next;
    struct id type, server, room;
    uint32_t seats; /* of the room to be, and how many requests may wait for it */
    uint32_t count;
    int tries;
    struct wanting *first, **last;
};

struct join {
    struct join *next; /* paused */
    struct mono due, deadline;
    uint64_t req;
    enum core_join_mode mode;
    struct core_call call;
    uint8_t *options;
    int tries, unlisted, pauses;
    bool confirmed;  /* the leader has just named the owner that is being asked */
    struct id tried; /* the allocator or target that did not take it */
};

struct core {
    struct core_config config;
    const struct alloc *alloc;
    struct rng rng;
    struct mono now; /* of the step under way */
    struct wall wall;
    struct view view;
    struct core_effects fx;
    struct op *ops;
    size_t ops_cap, ops_used;
    uint32_t ops_free; /* index + 1 of the first free one */
    struct self self;
    struct map peers; /* struct peer */
    struct map owned; /* struct owned */
    struct owned *dirty_head, *dirty_tail;
    struct owned *dead; /* to be freed by the next step */
    bool more;          /* rooms are due that the last tick has left */
    uint32_t owner_ops; /* registry operations of owned rooms under way */
    uint32_t restores;  /* claims and restores under way */
    uint32_t releasing; /* rooms that the room host is saving for another owner */
    struct restoring *unsound_head, *unsound_tail;
    struct map reaps;     /* struct reap */
    struct map adoptions; /* struct adoption */
    struct map held;      /* struct held */
    struct map expected;  /* struct expected */
    struct moving *moves_head, *moves_tail;
    unsigned moves;
    uint64_t last_move; /* its number */
    uint64_t moves_kept;
    struct {
        struct core_drain shown; /* but for what is counted when asked */
        struct owned *head, *tail; /* rooms to be tried */
        struct mono next_fill;
    } drain;
    struct mono next_relist[2]; /* servers, rooms: not before then */
    struct mono next_reap_scan;
    struct id reap_at; /* the room the scan has come to; empty: none is under way */
    struct making *making;
    struct join *paused;
    uint32_t waiting;
    uint64_t place_cursor;
};

/* core.c */
struct core_fx *core_fx(struct core *c, enum core_fx_kind kind); /* NULL: no memory */
/* Any but the `n` of `avoid`. Counts the room as handed out to the server chosen. */
int core_place(struct core *c, const struct id *avoid, size_t n, struct id *server_out);
/* Rooms that count against this node's capacity: those here, and those it has agreed to take. */
size_t core_rooms(const struct core *c);
/* How long to wait for a create: a generated id needs no registry, so that silence means a node in trouble. */
int core_create_ms(const struct core *c, const struct core_call *call);
/* Creations that `server` was asked for end with `timeout` now: it is suspect or down. */
void core_abandon_creates(struct core *c, const char *server);
uint8_t *core_keep_options(struct core *c, struct core_call *call, bool *ok);
void core_drop_options(struct core *c, struct core_call *call, uint8_t *options);

/* op.c: op_start() returns a token or 0 when the table is full; op_find() NULL when it is not under way any more. */
uint64_t op_start(struct core *c, enum op_kind kind, void *owner, struct op **out);
uint64_t op_token(const struct core *c, const struct op *op); /* of one that is under way */
struct op *op_find(struct core *c, uint64_t token);
struct op op_end(struct core *c, uint64_t token);
struct op *op_ping(struct core *c, enum op_kind kind, void *owner, const char *server, int timeout_ms);
struct op *op_call(struct core *c, enum op_kind kind, void *owner, const char *server, const struct core_call *call,
                   int timeout_ms);
bool op_get(struct core *c, enum op_kind kind, void *owner, int step, const char *server, const char *room);
bool op_put_server(struct core *c, enum op_kind kind, void *owner, int step, const struct server_info *info,
                   uint64_t expected);
bool op_put_room(struct core *c, enum op_kind kind, void *owner, int step, const struct room_info *info,
                 uint64_t expected);
bool op_del(struct core *c, enum op_kind kind, void *owner, int step, const char *server, const char *room,
            uint64_t expected);

/* self.c */
void self_init(struct core *c);
void self_tick(struct core *c);
void self_bus(struct core *c, bool up);
void self_reached(struct core *c);
void self_kv_done(struct core *c, const struct op *op, const struct core_event *ev);
void self_ping_done(struct core *c, const struct op *op, const struct core_event *ev);
void self_entry(struct core *c, const struct server_info *info, uint64_t revision);
void self_counts(struct core *c, const struct server_info *counts);
void self_stop(struct core *c);
bool self_serves(const struct core *c);
void self_drain(struct core *c); /* it was turned on or off: the entry says so next */

/* member.c */
void member_tick(struct core *c);
void member_forgive(struct core *c); /* our own loop stood still: nobody else is to blame */
void member_ping_done(struct core *c, const struct op *op, const struct core_event *ev);
void member_kv_done(struct core *c, const struct op *op, const struct core_event *ev);
void member_ask_done(struct core *c, const struct op *op, const struct core_answer *answer);
void member_probe(struct core *c, uint64_t req, const struct core_call *call);
void member_probe_done(struct core *c, const struct op *op, const struct core_event *ev);
void member_alive(struct core *c, const char *server);
void member_server_gone(struct core *c, const struct server_info *info);
void member_deinit(struct core *c);

/* owner.c */
void owner_changed(struct core *c, const struct room_info *info);
void owner_ended(struct core *c, const char *room, const char *reason);
void owner_entry(struct core *c, const struct room_info *info, uint64_t revision, bool deleted);
void owner_kv_done(struct core *c, struct op *op, const struct core_event *ev);
void owner_tick(struct core *c);
void owner_doubt(struct core *c, const char *room);
void owner_drop_all(struct core *c, const char *reason); /* superseded: the listing is not touched */
void owner_free_dead(struct core *c);
void owner_release(struct core *c, struct owned *o); /* frees one that is in no list and no table */
void owner_deinit(struct core *c);
/* For create.c, restore.c and release.c. */
void owner_mark(struct core *c, struct owned *o);   /* something is to be done in the registry, once o->next is reached */
void owner_forget(struct core *c, struct owned *o); /* out of the table; freed after this step, or with its operation */
void owner_forget_call(struct core *c, struct owned *o);
void owner_act(struct core *c, struct owned *o);    /* what is due: a read, a delete, or a write at the revision known */
void owner_soon(struct core *c, struct owned *o);   /* the same now if it can be done now, else when it can */
void owner_close(struct core *c, struct owned *o, const char *reason); /* its entry goes, then its end is told */

/* create.c */
void create_asked(struct core *c, uint64_t req, const struct core_call *call);
void create_won(struct core *c, struct owned *o); /* its entry is ours, or needs none: start it */
void create_started(struct core *c, const struct core_answer *answer);
/* How it went, to all who asked for the room or after it. */
void create_reply(struct core *c, struct owned *o, int code, const struct core_answer *from);
/* The name is somebody else's. */
void create_taken(struct core *c, struct owned *o, const struct room_info *info, uint64_t revision);
void create_lose_patience(struct core *c, struct owned *o);

/* adopt.c */
/* What is to become of a listed room, if it has no owner that runs it. */
enum fate adopt_fate(const struct core *c, const struct view_room *r);
void adopt_add(struct core *c, const struct view_room *r);
/* Just told of: a room that is free to take need not wait for the next scan. */
void adopt_heard(struct core *c, const char *room);
void adopt_tick(struct core *c);
void adopt_done(struct core *c, const struct op *op, const struct core_event *ev);
void adopt_deinit(struct core *c);
/* The share of `candidate` in all subjects is in proportion to `weight` (0: none); the highest wins, as for view_rank(). */
double adopt_score(const char *subject, const char *candidate, uint32_t weight);

/* restore.c */
/* False: no memory or no capacity for it. */
bool restore_claim(struct core *c, const struct view_room *r);
void restore_won(struct core *c, struct owned *o);
/* The same for one whose entry names this node already: nothing is to be won. */
bool restore_take(struct core *c, const struct view_room *r, const struct id *from, const char *reason);
/* A write of a claim was not accepted, or the entry, as read, is not (or not yet) ours. True: that is settled here. */
bool restore_refused(struct core *c, struct owned *o, const struct core_event *ev);
bool restore_lost(struct core *c, struct owned *o, const struct core_event *ev);
/* Is it being restored, and not running yet? */
bool restore_under_way(const struct owned *o);
void restore_started(struct core *c, struct owned *o, const struct core_answer *answer);
void restore_parked(struct core *c, struct owned *o); /* its entry says so now */
void restore_tick(struct core *c);
void restore_end(struct core *c, struct owned *o); /* sound, or none of ours any more */

/* release.c */
void release_all(struct core *c, const char *reason); /* this node stops: rooms end, or others may take them */
void release_room(struct core *c, struct owned *o, const char *reason); /* one of these */
void release_done(struct core *c, const struct core_event *ev);
void release_now(struct core *c, struct owned *o); /* nothing to be saved: its entry says pending next */
void release_written(struct core *c, struct owned *o);
void release_held(struct core *c, const struct room_info *info);
void release_held_done(struct core *c, const struct op *op, const struct core_event *ev);
void release_tick(struct core *c);
void release_deinit(struct core *c);

/* move.c */
/* Why a room cannot be moved now; 0: it is being moved. `server` NULL: the placement chooses. */
int move_begin(struct core *c, struct owned *o, const char *server, const char *reason, uint64_t req, bool drain);
void move_asked(struct core *c, const struct core_event *ev);
const char *move_reason(const char *word); /* the static one; `migration` for what is none */
void move_answered(struct core *c, const struct op *op, const struct core_answer *answer);
void move_released(struct core *c, struct owned *o, int code, uint64_t version);
bool move_write(struct core *c, struct owned *o); /* the commit */
void move_unsure(struct owned *o, enum core_kv_result result); /* it was not accepted, as far as that is known */
/* Ours is in the registry after the commit was: that one will never be. */
void move_keep(struct core *c, struct owned *o);
/* The entry is somebody else's. True: it was given to him, and that is settled here. */
bool move_settled(struct core *c, struct owned *o, const struct room_info *info, uint64_t revision);
/* The entry is deleted, at this revision (0: that is not known). True: after it was given away, by whoever had it then. */
bool move_over(struct core *c, struct owned *o, uint64_t deleted);
/* The room has ended by itself. True: whether it has moved before is still open. */
bool move_open(struct owned *o);
/* This node stops. True: the room does not move, or not any more. */
bool move_stop(struct core *c, struct owned *o);
void move_end(struct core *c, struct owned *o, int code); /* answers and forgets the move, whatever has become of it */
void move_tick(struct core *c);

/* expect.c */
bool expect_handed(const struct core *c, const struct room_info *info); /* given to this node, and not here yet */
void expect_asked(struct core *c, uint64_t req, const struct core_call *call);
void expect_seen(struct core *c, const struct view_room *r); /* of one that was handed over */
void expect_before(struct core *c, const struct room_info *info); /* the view is about to take this entry in */
void expect_read(struct core *c, const struct op *op, const struct core_event *ev);
void expect_tick(struct core *c);
void expect_forget(struct core *c, const char *room);
void expect_deinit(struct core *c);

/* drain.c */
void drain_set(struct core *c, bool on);
void drain_tick(struct core *c);
void drain_next(struct core *c); /* at the end of each step: as many as may move at a time */
void drain_forget(struct core *c, struct owned *o);
void drain_ended(struct core *c, struct owned *o, int code); /* a move of the drain */

/* reap.c */
/* Does nobody run it? Its owner is dead, or another boot, or this node without knowing the room. */
bool reap_orphaned(const struct core *c, const struct room_info *info);
/* May this node judge others' rooms now? */
bool reap_may(const struct core *c);
void reap_tick(struct core *c);
void reap_done(struct core *c, const struct op *op, const struct core_event *ev);
void reap_deinit(struct core *c);

/* allocate.c */
void allocate_request(struct core *c, uint64_t req, struct join *join, const struct core_call *call);
void allocate_made(struct core *c, const struct op *op, const struct core_answer *answer);
void allocate_seated(struct core *c, const struct op *op, const struct core_answer *answer);
void allocate_deinit(struct core *c);

/* join.c */
void join_tick(struct core *c);
void join_deinit(struct core *c);
void join_start(struct core *c, const struct core_event *ev);
void join_answer(struct core *c, struct join *j, const struct core_answer *answer); /* final: answers and frees */
void join_call_done(struct core *c, const struct op *op, const struct core_answer *answer);
void join_kv_done(struct core *c, const struct op *op, const struct core_event *ev);

#endif
