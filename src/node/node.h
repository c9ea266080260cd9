/*
 * One node: the core and the room host joined to a bus and a gate.
 *
 * Decides: how effects of the core become calls on the bus, how frames of players become joins and messages, and how
 * players on one node sit in rooms on another (relay). Does no I/O and reads no clock itself: the bus is a port, the gate
 * is the four functions of `struct node_out`, and `now` is handed in. The same node runs in roomd, standalone, and many
 * times in one process under the simulator.
 *
 * One thread. node_turn() is called once per turn of the loop: it drains the bus, lets the core and the rooms do what is
 * due, and flushes what is to be sent to other nodes. Functions of node_out are called from inside any node_*() call and
 * must not call back into the node.
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include "base/buf.h"
#include "core/core.h"
#include "core/queue.h"
#include "login/login.h"
#include "node/routes.h"
#include "port/bus.h"
#include "room/service_hook.h"
#include "room/types.h"

struct node;

/* What the node prefers where the client can do both; auto: what the client named first. */
enum node_routing { NODE_AUTO, NODE_REDIRECT, NODE_RELAY };
enum node_encoding { NODE_MSGPACK, NODE_JSON }; /* same numbers as enum gate_encoding */

struct node_config {
    struct core_config core;   /* alloc and self filled in; types' look-up is set by the node */
    const struct types *types; /* borrowed for the node's life */
    enum node_routing routing;
    bool login_reject; /* a second login of a player who is connected is refused; else it takes the place of the first */
    int64_t seat_ttl_ms;       /* 15000 */
    int64_t empty_ms;          /* an empty auto_dispose room ends after it */
    int64_t beat_ms;           /* 1000 */
    int64_t server_ttl_ms;     /* 30000: ttl of the `servers` bucket */
    int replicas;              /* of the buckets; 0: as the bus is configured */
    size_t room_max_bytes;
    const struct login *login; /* borrowed for the node's life; NULL: players need no token */
    struct store *store;       /* borrowed until node_destroy(); NULL: no room outlives this node */
    int64_t snapshot_ms;       /* 30000: a changed room is saved at least so often; 0: never but at a move or a stop */
    int64_t snapshot_ttl_ms;   /* 0: what is in the bucket `snapshots` stays */
    int64_t drain_ms;          /* 30000: how long a stop may take to move everything away; 0: it does not try */
    int64_t hold_ms;           /* 30000: a session without a connection, and a seat whose player is away, are kept for so long */
    unsigned rooms_per_session; /* 16 */
    const struct queues *queues; /* of matchmaking; borrowed until node_destroy(); NULL: none */
    const struct routes *routes; /* to services; borrowed until node_destroy(); NULL: none */
    const struct room_service_hook *service_hook; /* the same */
    int64_t rate_requests;      /* 50: requests of one client in a second; 0: no limit */
    size_t reply_max_bytes;     /* 768 KiB: of a service's answer, at least 32 KiB */
    bool shared;                /* the bucket `shared` is made; false: who asks for shared data hears `unavailable` */
    int64_t inbox_messages;     /* 0: no pushes to players; pushes kept for one player */
    int64_t inbox_bytes;        /* 256 KiB: and their bytes */
    int64_t inbox_ttl_ms;       /* 7 days: and for how long; 0: for ever */
    unsigned relay_window_bytes; /* unacknowledged bytes to one peer, 8 MiB; beyond it its players are told */
    void (*fill_random)(void *arg, void *out, size_t len);
    void *random_arg;
    int64_t (*cpu_us)(void *arg); /* processor time of this thread, for the watchdog and `load`; NULL: none */
    void *cpu_arg;
    bool log; /* one line per event on standard error */
};

void node_config_defaults(struct node_config *config);

/* What the node asks of the gate. */
struct node_out {
    void *arg;
    /* One frame in two parts (tail_len may be 0). Copies. A connection that is gone is ignored. */
    void (*send)(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len);
    /* `final` as in gate_close(). node_closed() follows. */
    void (*close)(void *arg, uint64_t conn, const char *reason, const void *final, size_t final_len);
    void (*established)(void *arg, uint64_t conn);
    enum node_encoding (*encoding)(void *arg, uint64_t conn);
    /* The node is in the registry and serves (again after a fence). */
    void (*ready)(void *arg);
    /* What came of node_ask(): 0 and the answer (JSON), or NO_RESPONDERS, or UNKNOWN_RESULT (it may have been done). NULL:
     * nobody asks. */
    void (*asked)(void *arg, uint64_t ticket, int code, const char *json, size_t len);
    /* Over: after node_stop() (code 0), or because the id is in use by a live node (ROOM_E_EXISTS). */
    void (*stopped)(void *arg, int code, const char *reason);
};

/* `bus` is borrowed until node_destroy(). NULL: no memory. */
struct node *node_create(const struct node_config *config, struct bus *bus, const struct node_out *out,
                         struct mono now, struct wall wall);
/* Forgets everything at once, as a kill would; nothing is said to anybody. */
void node_destroy(struct node *n);

void node_opened(struct node *n, uint64_t conn, const char *address, struct mono now, struct wall wall);
void node_frame(struct node *n, uint64_t conn, enum node_encoding encoding, const uint8_t *data, size_t len,
                struct mono now, struct wall wall);
/* The gate is about to close it for a bad frame; the node may say so in a last frame. */
void node_refused(struct node *n, uint64_t conn, int code, const char *text, struct mono now, struct wall wall);
void node_closed(struct node *n, uint64_t conn, const char *reason, struct mono now, struct wall wall);

/* True: there is more to do at once (the bus has more events than one turn's budget). */
bool node_turn(struct node *n, struct mono now, struct wall wall);
/* When node_turn() has something to do next by itself. */
struct mono node_next_due(const struct node *n);

/* Leaves, then `stopped`. If others can take them, rooms move first and players are told to reconnect elsewhere, for drain_ms at
 * most; called again meanwhile, or if nobody can, it leaves at once: players are told, rooms that are kept are saved for others,
 * the rest ends. False: it was at that already. */
bool node_stop(struct node *n, const char *reason, struct mono now, struct wall wall);

/* As a backend would ask over the bus, from this process: the body as on player.<id>.push, room.<id>.push, room.<id>.send and
 * server.all.broadcast. `ticket` is the caller's and comes back in out.asked(), later. A push that has no id gets one, and is
 * repeated with it while nobody answers. INVALID (the id), BAD_FRAME, TOO_BIG (`detail` says what), UNAVAILABLE, FULL,
 * NO_MEMORY. */
enum node_ask_kind { NODE_ASK_PUSH_PLAYER, NODE_ASK_PUSH_ROOM, NODE_ASK_SEND_ROOM, NODE_ASK_PUSH_ALL };
MUST_USE int node_ask(struct node *n, uint64_t ticket, enum node_ask_kind kind, const char *id, const char *json, size_t len,
                      struct mono now, struct wall wall, struct err_detail *detail);

/* Degraded: what runs goes on, but the others, or their store, are not reached. */
enum node_health { NODE_STARTING, NODE_READY, NODE_DEGRADED, NODE_DRAINING };
enum node_health node_get_health(const struct node *n);

/* For tests, benchmarks and the simulator's invariants; borrowed until the next call. */
struct core *node_core(struct node *n);
struct host *node_host(struct node *n);

struct node_stats {
    uint64_t sessions, relayed, joins, joins_local, joins_redirect, joins_relay, messages_in, messages_out;
    uint64_t link_resent, link_resets, bad_frames, calls_in, calls_out;
};
void node_get_stats(const struct node *n, struct node_stats *out);

#endif
