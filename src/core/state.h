/*
 * Inside of the core: its state and the calls between its parts. Only files of core/ include this.
 *
 * core.c     dispatches events and ticks
 * op.c       operations under way: token -> what to do with the answer
 * self.c     this node's own registry entry: claim, heartbeat, fencing, isolation
 * member.c   watching others: pings, probes, verdicts
 * owner.c    rooms owned here: creation, listing, loss; removal of dead nodes' rooms
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
    OP_REAP,    /* owner.c: removal of a dead node's room */
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
    bool holder_silent;
    uint64_t holder_revision;
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

enum owned_state { OWNED_CLAIMING, OWNED_STARTING, OWNED_RUNNING, OWNED_CLOSING };

struct asked { /* what a room was asked for with */
    struct core_call call;
    uint8_t *options;
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
    uint64_t req;   /* the create to answer, 0: none */
    struct waiter *waiters, **waiters_last; /* creates of the same name that came before it was settled */
    unsigned waiting;
    struct asked *asked; /* until it runs */
    struct mono next, deadline;
    char *reason; /* closing: a copy, the event's own is gone by the time it is told */
    struct owned *dirty_prev, *dirty_next;
};

struct reap {
    struct room_info info;
    uint64_t revision;
    struct mono due;
    bool busy, told;
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
    struct map reaps; /* struct reap */
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
/* Counts the room as handed out to the server chosen. */
int core_place(struct core *c, const char *avoid, struct id *server_out);
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
bool op_call(struct core *c, enum op_kind kind, void *owner, const char *server, const struct core_call *call,
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
void owner_create(struct core *c, uint64_t req, const struct core_call *call);
void owner_started(struct core *c, const struct core_answer *answer);
void owner_changed(struct core *c, const struct room_info *info);
void owner_ended(struct core *c, const char *room, const char *reason);
void owner_entry(struct core *c, const struct room_info *info, uint64_t revision, bool deleted);
void owner_kv_done(struct core *c, struct op *op, const struct core_event *ev);
void owner_tick(struct core *c);
void owner_drop_all(struct core *c, const char *reason);  /* superseded: the listing is not touched */
void owner_close_all(struct core *c, const char *reason); /* rooms end and leave the listing */
void owner_free_dead(struct core *c);
void owner_release(struct core *c, struct owned *o); /* frees one that is in no list and no table */
void owner_deinit(struct core *c);

/* reap.c: rooms of dead nodes leave the listing */
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
