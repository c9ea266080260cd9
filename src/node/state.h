/*
 * Inside of the node: its state and the calls between its parts. Only files of node/ include this.
 *
 * node.c     life, the turn of the loop, events from the bus
 * step.c     the queue of events into the core, and its effects performed
 * registry.c entries of the registries <-> structs, listing events
 * call.c     requests between nodes
 * session.c  players connected here: hello, join, leave, send
 * seat.c     who sits in the rooms here (players of this node and of others), and what rooms say to them
 * link.c     ordered, repeated delivery between two nodes
 * relay.c    what travels on a link
 * ctl.c      control requests
 */
#ifndef NODE_STATE_H
#define NODE_STATE_H

#include "base/log.h"
#include "base/umap.h"
#include "node/node.h"
#include "room/host.h"
#include "wire/codec.h"
#include "wire/json_read.h"
#include "wire/json_write.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/subject.h"
#include "wire/wire_gen.h"

enum { NODE_TICK_MS = 50, NODE_BUS_BUDGET = 256, NODE_FRAME_MAX = 2 * 1024 * 1024, JOIN_WAIT_MS = 3000 };
enum { SUB_BEATS = 1, SUB_PING, SUB_RPC, SUB_RELAY, SUB_CTL };

/* What a token on the bus stands for: in its top four bits; the rest is the core's own token. */
enum { TOKEN_PING = 1, TOKEN_CALL, TOKEN_SERVER, TOKEN_ROOM, TOKEN_BUCKET };
#define TOKEN_SHIFT 60
#define TOKEN_MASK ((UINT64_C(1) << TOKEN_SHIFT) - 1)

struct session {
    uint64_t serial; /* of this session in this process */
    uint64_t conn;   /* 0: gone */
    struct id id, player;
    bool can_redirect, can_relay, relay_first;
    uint64_t seq;
    uint32_t next_room;
    unsigned place_count, joining, bad_frames;
    struct place *places;
};

/* A session in one room, here or relayed. */
struct place {
    struct session *session;
    struct place *next;
    struct place *room_next; /* relayed: next place in the same room */
    uint32_t number;         /* what the client calls the room; on a link the number of the request */
    struct id room, type;
    bool relayed, joined;
    uint64_t who; /* local */
    struct id server; /* relayed: the owner */
    uint64_t epoch;   /* the highest seen; frames of a lower one are dropped */
    int64_t request;
    struct mono deadline; /* relayed, until joined */
};

/* All places of this node's sessions in one room elsewhere. */
struct relayed {
    struct place *first;
};

/* Somebody seated in a room here. */
struct member {
    uint64_t who;
    struct place *place; /* a player of this node, or NULL */
    struct id server;    /* the gateway otherwise */
    struct id session, room;
};

struct batch {
    struct batch *next;
    uint64_t seq;
    size_t frames_len;
    uint32_t count;
    uint8_t frames[];
};

struct link {
    struct id server;
    struct id boot; /* of the other side */
    uint64_t number, number_in; /* first sequence number of the link, ours and theirs */
    struct buf out; /* frames of this turn */
    uint32_t out_count;
    struct batch *first, **last; /* sent, not acknowledged */
    size_t window;
    uint64_t next_seq, expected, marker;
    bool ack_due, broken;
    struct mono resend_at, progress;
};

struct request { /* something the core will answer */
    uint64_t session; /* serial; 0: a call */
    int64_t frame_id;
    struct id player;
    char *reply;          /* call from another node: where the answer goes */
    uint64_t local_token; /* call of this node to itself */
    uint8_t *options;     /* join: for the room's join callback */
    size_t options_len;
};

struct queued { /* an event on its way into the core, with what it points to */
    struct queued *next;
    struct core_event ev;
    struct core_answer answer;
    struct room_info room;
    struct server_info server;
    struct core_call call;
    char boot[ULID_SIZE], reason[ROOM_REASON_MAX + 1];
    uint8_t *options; /* owned */
};

struct node {
    struct node_config config;
    const struct alloc *alloc;
    struct bus *bus;
    struct node_out out;
    struct core *core;
    struct host *host;
    struct rng rng;
    struct mono now, next_tick, next_beat;
    struct wall wall, started;
    struct queued *queue_first, **queue_last;
    bool stepping, bus_up, listening, stopping, over, retry_buckets, lobby_stale;
    int buckets_ready;
    uint64_t last_serial, last_who, last_request, marker;
    struct umap conns;    /* conn -> session */
    struct umap sessions; /* serial -> session */
    struct umap members;  /* who -> member */
    struct umap requests; /* -> request */
    struct map remotes;   /* "session room" -> member */
    struct map relayed;   /* room -> relayed */
    struct map by_session; /* session id -> session */
    struct map links;     /* server -> link */
    struct buf scratch, frame, frame_out, tail_json, state_out;
    struct node_stats stats;
    int64_t cpu_at;
    struct mono cpu_since;
    double load;
};

/* node.c */
/* Ticks if that is due: after a stop of the whole process the core must hear of the lost time before anything else. */
bool node_catch_up(struct node *n);

/* step.c */
struct queued *step_event(struct node *n, enum core_event_kind kind); /* NULL: no memory; queued at the end */
void step_run(struct node *n); /* until the queue is empty */
void step_answer(struct node *n, uint64_t req, const struct core_answer *answer);

/* registry.c */
bool registry_server(struct server_info *out, const char *id, const uint8_t *data, size_t len, struct buf *scratch);
/* `metadata` may be NULL; it is borrowed from `scratch`. */
bool registry_room(struct room_info *out, const char *id, const uint8_t *data, size_t len, struct buf *scratch,
                   struct wire_raw *metadata);
int registry_put_server(struct node *n, uint64_t token, uint64_t expected, const struct server_info *info);
int registry_put_room(struct node *n, uint64_t token, uint64_t expected, const struct room_info *info);
void registry_room_event(struct node *n, enum core_fx_kind kind, const struct room_info *info, const char *reason);
void registry_server_event(struct node *n, bool online, const struct server_info *info, const char *reason);
void registry_player_event(struct node *n, bool joined, const char *player, const struct room *room,
                           const char *reason);
/* A session begins or ends on this node, its gateway. */
void registry_presence_event(struct node *n, bool online, const struct id *player, const char *reason);
void registry_room_info(struct room_info *out, const struct room *room);
void registry_beat(struct node *n);

/* call.c */
void call_out(struct node *n, uint64_t token, const char *server, const struct core_call *call, int timeout_ms);
void call_in(struct node *n, const struct bus_event *ev);
void call_done(struct node *n, const struct bus_event *ev);
void call_reply(struct node *n, const char *reply, const struct core_answer *answer);
void call_reserve(struct node *n, const struct core_call *call, struct core_answer *out);
void call_free(struct node *n, struct request *r);

/* session.c */
void session_send(struct node *n, struct session *s, int op, const void *message);
void session_error(struct node *n, struct session *s, int64_t id, int code, const char *text);
void session_join_result(struct node *n, uint64_t req, struct request *r, const struct core_answer *a);
struct place *session_place_add(struct node *n, struct session *s, const char *room, const char *type);
void session_place_drop(struct node *n, struct place *p, const char *reason, bool tell);
void session_joined(struct node *n, struct place *p, int64_t request, uint32_t players, uint32_t max,
                    struct wire_raw state);
void session_message(struct node *n, struct place *p, const char *from, struct wire_raw data, struct buf *json_tail);
void session_end(struct node *n, struct session *s, const char *reason);
void session_tick(struct node *n);

/* seat.c */
extern const struct host_out seat_host_out;
struct member *seat_add(struct node *n, struct place *p, const char *server, const char *session, const char *room);
void seat_drop(struct node *n, uint64_t who);
struct member *seat_remote(struct node *n, const char *session, const char *room);
/* A player of another node leaves, and is told of. The room may end for it, and take seats of any node along. */
void seat_gone(struct node *n, const struct member *m, const char *reason);
void seat_gateway_gone(struct node *n, const char *server, const char *reason);

/* link.c */
void link_send(struct node *n, const char *server, int op, const void *message);
void link_in(struct node *n, const uint8_t *data, size_t len);
void link_flush(struct node *n);
void link_tick(struct node *n);
/* The registry says something new of a server: its old boot, and what was linked to it, may be over. */
void link_entry(struct node *n, const struct server_info *info);
void link_lost(struct node *n, const char *server); /* the other side is gone: nothing more to it */
void link_deinit(struct node *n);

/* relay.c */
void relay_frame(struct node *n, const char *server, const uint8_t *data, size_t len);
void relay_join(struct node *n, struct place *p, const char *ticket, struct wire_raw options);
void relay_server_gone(struct node *n, const char *server, const char *reason);
void relay_room_gone(struct node *n, const char *room, const char *server, const char *reason);
struct place *relay_place(struct node *n, const char *server, const struct id *session, const struct id *room);
bool relay_track(struct node *n, struct place *p);
void relay_untrack(struct node *n, struct place *p);

/* ctl.c */
void ctl_in(struct node *n, const struct bus_event *ev);

#endif
