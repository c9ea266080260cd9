/*
 * The cluster brain of one node: core_step(event, now) -> effects.
 *
 * Decides: who is alive, who owns a room, where a room goes, which seat a join gets, and when this node itself has been
 * superseded. It does no I/O, reads no clock, starts no thread, and takes memory only from the allocator it is given; it
 * sees the world through events and changes it through effects. The same events in the same order give the same effects.
 *
 * Order: the caller performs the effects of a step in their order before it makes the next step. An effect with a token
 * is answered by exactly one event with that token (at the effect's time-out at the latest). Bytes in an effect are
 * borrowed until the next step.
 * Invariant: a room is started here only after its registry entry was won (named and adopted rooms) or with an id that is
 * unique by construction (generated ids); it is dropped as soon as the registry shows another owner or a higher epoch.
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include "core/place.h"
#include "core/view.h"

enum {
    CORE_TICK_MS = 50,      /* the caller sends CORE_EV_TICK about this often */
    CORE_WATCHERS = 3,      /* nodes that watch one node */
    CORE_TICKET_SIZE = 33,  /* 32 hexadecimal digits and the NUL */
    CORE_RESTORES_MAX = 3,  /* owners in a row that may fail to keep a room running; then it is parked */
    CORE_OPS_MAX = 65536,   /* operations under way; more are refused with `full` */
    CORE_MOVES_MAX = 64,    /* rooms that move away at a time; more are refused with `full` */
};

struct core;

struct core_config {
    const struct alloc *alloc; /* borrowed for the life of the core */
    struct server_info self;   /* id, address, port, region, capacity, version */
    uint64_t seed;
    enum place_strategy strategy;
    bool prefer_local;
    int ping_interval_ms; /* 250 */
    int detect_ms;        /* 500: how long "no responders" must last before a node is declared down */
    int hang_ms;          /* 3000: the same for silence */
    int lease_ms;         /* 2000: unreached for so long, this node treats itself as isolated */
    int heartbeat_ms;     /* 5000: own registry entry is written at least so often */
    int listing_ms;       /* 100: room counts are written at most so often, per room */
    int call_ms;          /* 400: deadline of reserve and probe; three times that of allocate and of create with a generated id */
    int create_ms;        /* 9000: deadline of create by name; longer than a JetStream leader election */
    int kv_ms;            /* 2000: deadline of one registry operation */
    int settle_ms;        /* 5000: so long after READY a room that only this node's disk knows may still turn up listed */
    int stable_ms;        /* 30000: a restored room that has run for so long counts as sound again */
    int migration_timeout_ms; /* 10000: a move that is not committed by then is rolled back */
    unsigned drain_parallel;  /* 8: rooms that a drain moves at a time; CORE_MOVES_MAX at most */
    bool failover;        /* true: rooms of dead nodes are taken over; else only this node's own former rooms are */
    /* Seats of a room type known here, 0 if it is not. */
    uint32_t (*type_max_players)(void *arg, const char *type);
    /* What a room of the type can promise on this node: 0 none, 1 snapshot, 2 journal. NULL: 0 for all. */
    uint8_t (*type_durability)(void *arg, const char *type);
    /* May rooms of the type be taken over by another node? NULL: all may. */
    bool (*type_failover)(void *arg, const char *type);
    /* Can a room of the type be saved, though nothing of it is kept (durability none), so that it may be moved? NULL: none. */
    bool (*type_movable)(void *arg, const char *type);
    void *type_arg; /* of all four */
};

/* The defaults named above; the caller fills in the rest. */
void core_config_defaults(struct core_config *config);

enum core_call_kind { CORE_CALL_RESERVE = 1, CORE_CALL_CREATE, CORE_CALL_ALLOCATE, CORE_CALL_PROBE, CORE_CALL_ADOPT };

/* One request from node to node. */
struct core_call {
    enum core_call_kind kind;
    struct id room;      /* reserve, adopt; create: wanted id or empty */
    struct id type;      /* create, allocate, adopt */
    struct id player;    /* whose seat; empty in a create: no seat */
    struct id create_id; /* create, allocate: makes the request repeatable */
    struct id server;    /* probe; adopt: who gives the room away */
    bool is_private;
    bool generated; /* create: the id was made for this call, so nobody else can own it and the room may start unlisted */
    const uint8_t *options; /* create: one msgpack value */
    size_t options_len;
    uint64_t epoch;     /* adopt: the room's under its new owner */
    uint64_t revision;  /* adopt with `commit`: of the entry */
    const char *reason; /* adopt: migration or drain; a static word */
    bool commit;        /* adopt: the entry names the one called now; else: would you take it? */
};

struct core_answer {
    int code; /* 0 or a room_error */
    struct id room, type, server;
    uint64_t epoch;
    char ticket[CORE_TICKET_SIZE]; /* empty when no seat was reserved */
    uint32_t players, seats, max_players;
    uint64_t seats_version;
    char boot[ULID_SIZE]; /* to adopt: of the node that will take the room */
};

enum core_join_mode { CORE_JOIN_OR_CREATE = 1, CORE_JOIN, CORE_CREATE };

enum core_event_kind {
    CORE_EV_TICK,
    CORE_EV_BUS_UP,
    CORE_EV_BUS_DOWN,
    CORE_EV_SYNC,         /* rooms: which registry; a whole listing begins */
    CORE_EV_SYNCED,       /* and has ended */
    CORE_EV_SERVER_ENTRY, /* server, revision; server.status 0: deleted */
    CORE_EV_ROOM_ENTRY,   /* room, revision; room.state 0: deleted */
    CORE_EV_KEPT,         /* rooms, key, revision: in a listing, an entry told before that is still the last */
    CORE_EV_BEAT,         /* server: a beat of another node (id, boot, counts, status) */
    CORE_EV_PINGED,       /* another node's liveness request was answered */
    CORE_EV_PING_DONE,    /* token, ping_result, boot, took_us */
    CORE_EV_CALL,         /* req, call: another node asks (create, allocate, probe) */
    CORE_EV_CALL_DONE,    /* token, answer (code: no_responders, timeout, or what the other said) */
    CORE_EV_KV_DONE,      /* token, kv_result, revision, server or room when read */
    CORE_EV_JOIN,         /* req, join_mode, call: a player of this node wants into a room */
    CORE_EV_STARTED,      /* answer: how CORE_FX_ROOM_START or _RESTORE of answer.room went; one of another epoch than
                           * the room has now is ignored if answer.epoch is given. 0: it runs, with players, seats,
                           * seats_version, max_players. To a restore: NOT_FOUND
                           * there is no state of it anywhere; CANCELLED it had ended; any other code: tried again. After
                           * a code nothing of the room may be left behind */
    CORE_EV_ROOM_CHANGED, /* room: players, seats, seats_version, locked of a room running here */
    CORE_EV_ROOM_ENDED,   /* room.id, reason: a room here ended by itself */
    CORE_EV_RELEASED,     /* room.id, token of CORE_FX_ROOM_RELEASE: it was done. The room is saved and runs here no more, or,
                           * if it moves, stands still. revision: the version of its newest snapshot, 0 if it has a journal
                           * to tell what is missing. answer, if given: its code says why a room that was to move could
                           * not be saved */
    CORE_EV_HELD,         /* room (id, type, epoch, durability, created, max_players, is_private): this node's disk has it.
                           * One that a registry without memory does not list is listed again */
    CORE_EV_DOUBT,        /* room.id: something refused this room's writes: is it still ours? */
    CORE_EV_MOVE,         /* req, room.id, server (its id; NULL or empty: the placement chooses), reason (migration or drain):
                           * move it. Answered by CORE_FX_CALL_REPLY: code; server and epoch say where the room is then. A
                           * result that is still unknown at migration_timeout_ms is answered `timeout` */
    CORE_EV_DRAIN,        /* on: take nothing new, move all rooms away; or not any more */
    CORE_EV_COUNTS,       /* server: this node's own rooms, players, connections, load */
    CORE_EV_STOP          /* leave the cluster: rooms end or are released for others, then the entry is gone */
};

enum core_ping_result { CORE_PING_OK, CORE_PING_NO_RESPONDERS, CORE_PING_SILENT };
enum core_kv_result { CORE_KV_OK, CORE_KV_CONFLICT, CORE_KV_UNKNOWN, CORE_KV_NOT_FOUND };

struct core_event {
    enum core_event_kind kind;
    uint64_t token, req, revision;
    bool rooms, on;
    enum core_ping_result ping_result;
    enum core_kv_result kv_result;
    enum core_join_mode join_mode;
    int64_t took_us;
    const char *boot;
    const char *reason;
    const char *key;
    const struct server_info *server;
    const struct room_info *room;
    const struct core_call *call;
    const struct core_answer *answer;
};

enum core_fx_kind {
    CORE_FX_RELIST,      /* rooms: ask for a whole listing, an entry told before is not in the view */
    CORE_FX_PING,        /* token, server, timeout_ms */
    CORE_FX_CALL,        /* token, server, call, timeout_ms (server may be this node) */
    CORE_FX_CALL_REPLY,  /* req, answer */
    CORE_FX_JOIN_RESULT, /* req, answer: where the seat is */
    CORE_FX_GET_SERVER,  /* token, server */
    CORE_FX_PUT_SERVER,  /* token, expected, server_entry */
    CORE_FX_DEL_SERVER,  /* token, expected, server */
    CORE_FX_GET_ROOM,    /* token, room */
    CORE_FX_PUT_ROOM,    /* token, expected, room_entry */
    CORE_FX_DEL_ROOM,    /* token, expected, room */
    CORE_FX_ROOM_START,  /* room_entry, call (options, player): answered by CORE_EV_STARTED */
    CORE_FX_ROOM_DROP,   /* room, reason: stop it now, it is not ours any more or was closed. `moved`: it goes on elsewhere, and
                          * its players with it */
    CORE_FX_ROOM_RESTORE, /* room_entry, server (the former owner), reason (see MIGRATED): bring its state back and run it;
                           * answered by CORE_EV_STARTED. A CORE_FX_ROOM_DROP before that calls it off */
    CORE_FX_ROOM_RELEASE, /* room, reason, token: save it for another owner and stop it; answered by CORE_EV_RELEASED. If it
                           * was still being restored, that is called off and nothing is saved. With a token (reason
                           * migration or drain) it is not stopped: from the save on it stands still, its input waits, until
                           * CORE_FX_ROOM_DROP or CORE_FX_ROOM_KEEP. Another release of the same room takes the place of the
                           * first, which is not answered any more */
    CORE_FX_ROOM_KEEP,   /* room, reason: it does not move after all; from where it stands still it goes on */
    CORE_FX_MIGRATED,     /* room_entry, server (the former owner), reason: failover, restart, released, recovery,
                           * migration, drain: publish room.<id>.migrated. Once per change of owner, when the room runs */
    CORE_FX_PARKED,       /* room_entry, reason: nobody tries to restore it any more; a person must look at it */
    CORE_FX_CREATED,     /* room_entry: publish room.<id>.created */
    CORE_FX_UPDATED,     /* room_entry: publish room.<id>.updated */
    CORE_FX_DISPOSED,    /* room_entry, reason: publish room.<id>.disposed */
    CORE_FX_OFFLINE,     /* server_entry, reason: publish server.<id>.offline */
    CORE_FX_DRAINING,    /* server_entry: the registry says it now: publish server.<id>.draining */
    CORE_FX_ROOM_GONE,   /* room, server, reason: players relayed from here to that room on that server must be told */
    CORE_FX_READY,       /* server_entry: this node is in the registry; answer pings from now on */
    CORE_FX_FENCED,      /* reason: every room here was dropped; a new boot is claimed */
    CORE_FX_ISOLATED,
    CORE_FX_REACHED,
    CORE_FX_REFUSED,     /* reason: this id is in use by a live node; the process must end */
    CORE_FX_STOPPED      /* the entry is gone from the registry (or the time for it ran out) */
};

struct core_fx {
    enum core_fx_kind kind;
    int timeout_ms;
    uint64_t token, req, expected;
    struct id server, room;
    bool rooms;
    const char *reason; /* a static word */
    struct core_call call;
    struct core_answer answer;
    union {
        struct server_info server_entry;
        struct room_info room_entry;
    };
};

/* Filled by core_step(); the caller reads items[0..count) and may not keep pointers into it over the next step. */
struct core_effects {
    struct core_fx *items;
    size_t count, cap;
};

/* NULL: no memory. `config` is copied. `wall` stamps the first boot id. */
struct core *core_create(const struct core_config *config, struct mono now, struct wall wall);
void core_destroy(struct core *c);

/* Returns the effects of this one event, borrowed until the next call. Never fails: what cannot be done for lack of
 * memory is answered `no_memory` where there is somebody to answer, and retried by the next tick where there is not. */
const struct core_effects *core_step(struct core *c, const struct core_event *event, struct mono now, struct wall wall);

/* May this node take players and rooms now: in the registry, neither isolated nor stopping? */
bool core_may_serve(const struct core *c);
bool core_is_isolated(const struct core *c);
/* The last tick did a bounded part of what was due: send another one soon, without waiting for CORE_TICK_MS. */
bool core_has_more(const struct core *c);
/* The registry key of an operation under way: room or server id; NULL if the token is not (or no longer) one. Borrowed
 * until the next step. */
const char *core_pending_key(struct core *c, uint64_t token);

struct core_drain {
    bool on;
    unsigned left;   /* rooms still here */
    unsigned moving; /* of these: being moved by the drain */
    unsigned moved;  /* since it began */
    unsigned failed; /* of those left: not moved when it was tried last; tried again every second */
    char reason[32]; /* of the last that failed: not_movable, no_target, or an error's word; empty: none */
};

struct core_drain core_drain_state(const struct core *c);

struct core_moves {
    unsigned open;        /* rooms that are on their way from here */
    unsigned expected;    /* rooms that this node has agreed to take, or asks the registry about */
    uint64_t rolled_back; /* rooms that stood still for a move and went on here, since the start */
};

struct core_moves core_moves(const struct core *c);
const struct view *core_view(const struct core *c);
const struct server_info *core_self(const struct core *c);

enum core_route_kind { CORE_ROUTE_LOCAL, CORE_ROUTE_REMOTE, CORE_ROUTE_CREATE, CORE_ROUTE_UNAVAILABLE };

struct core_route {
    enum core_route_kind kind;
    struct id server; /* local, remote: the owner; create: where it would go */
    const char *reason; /* unavailable: a static phrase */
};

/* Where a room is, or where a room of `type` (may be NULL) would be made; from the view alone. */
struct core_route core_route(struct core *c, const char *room, const char *type);

#endif
