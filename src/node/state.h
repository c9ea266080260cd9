/*
 * Inside of the node: its state and the calls between its parts. Only files of node/ include this.
 *
 * node.c     life, the turn of the loop
 * events.c   what each event of the bus means
 * step.c     the queue of events into the core, and its effects performed
 * registry.c entries of the registries <-> structs, listing events
 * call.c     requests between nodes
 * admit.c    who is let in, and for how long: tokens
 * revoked.c  tokens and players that were revoked
 * hello.c    who comes in
 * session.c  players connected here, and what is said to them
 * resume.c   sessions whose connection is gone, until their player is back
 * presence.c whose gateway this node is: one session per player in the whole cluster
 * settle.c   the end of a login: into the tables, and welcome
 * policy.c   whether a second login is refused
 * handover.c sessions from one gateway to another, and what is written down for when it is dead
 * frames.c   what a client's frame leads to: join, leave, send
 * seat.c     who sits in the rooms here (players of this node and of others), and what rooms say to them
 * link.c     ordered, repeated delivery between two nodes
 * relay.c    what travels on a link
 * sends.c    messages of players here that no room has answered yet
 * attach.c   players here whose room has lost its owner, until it is found again
 * append.c   batches of rooms here, to the journal's stream
 * keep.c     snapshots of rooms here, to this node's disk
 * carry.c    snapshots from there to the bucket that all nodes read
 * revive.c   rooms won from another owner, from all of these
 * locks.c    locks of the whole cluster
 * matching.c matchmaking, with ticket.c, pair.c and mend.c (see matching.h)
 * talk.c     what comes to rooms here from elsewhere than players, and what they tell others
 * push.c     pushes to players, wherever they are: into the inbox, and to the gateway; the inbox itself is inbox.h
 * collect.c  the inboxes of players of this node: read, said, and done with what they acknowledged
 * shout.c    pushes to all in a room, or on this node
 * outside.c  what comes to the node from its own process, as if from the bus
 * hear.c     what is published, to the rooms here that have subscribed to it
 * reach.c    what rooms here tell players anywhere
 * shared.c   data that rooms and backends share (see shared_entry.h)
 * consult.c  what rooms here ask services
 * cluster.c  buckets and streams, which incarnation of them this is, and rooms of an earlier one
 * leave.c    leaving: rooms first, then players
 * ctl.c      control requests; people.c those about one player
 * route.c    requests of players to services; with asks.c, backend.c and the table of routes.c (see route.h)
 */
#ifndef NODE_STATE_H
#define NODE_STATE_H

#include "base/fault.h"
#include "base/log.h"
#include "base/umap.h"
#include "core/lock.h"
#include "node/inbox.h"
#include "node/node.h"
#include "node/session.h"
#include "port/store.h"
#include "room/host.h"
#include "wire/codec.h"
#include "wire/json_read.h"
#include "wire/json_write.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/subject.h"
#include "wire/wire_gen.h"

enum { NODE_TICK_MS = 50, NODE_BUS_BUDGET = 256, NODE_FRAME_MAX = 2 * 1024 * 1024, JOIN_WAIT_MS = 3000 };
enum { SUB_BEATS = 1, SUB_PING, SUB_RPC, SUB_RELAY, SUB_CTL, SUB_SVC, SUB_BROADCAST, SUB_BROADCAST_ALL,
       SUB_PUSH, SUB_ROOMS = 1024 /* and up */ };
#define SUB_TOPICS (UINT32_C(1) << 31) /* and up */

/* What a token on the bus stands for: in its top six bits; the rest is the core's own token. */
enum { TOKEN_PING = 1, TOKEN_CALL, TOKEN_SERVER, TOKEN_ROOM, TOKEN_BUCKET, TOKEN_CLUSTER, TOKEN_JOURNAL, TOKEN_RESTORE,
       TOKEN_CARRY, TOKEN_PURGE, TOKEN_PRESENCE, TOKEN_ROSTER, TOKEN_SERVICE, TOKEN_LOCK,
       TOKEN_TELL, TOKEN_INBOX, TOKEN_POST, TOKEN_OUTSIDE, TOKEN_MATCH, TOKEN_REACH, TOKEN_SHARED };
/* The same on the store; 0: nobody waits. */
enum { STORE_TOKEN_SAVE = 1, STORE_TOKEN_RESTORE, STORE_TOKEN_CARRY, STORE_TOKEN_SCAN, STORE_TOKEN_HELD, STORE_TOKEN_HELD_LOAD };
#define TOKEN_SHIFT 58
#define TOKEN_MASK ((UINT64_C(1) << TOKEN_SHIFT) - 1)

enum {
    KEEP_CODEC = 1,                     /* a stored snapshot: the incarnation, then an image of the room host */
    KEEP_IMAGE_MAX = 32 * 1024 * 1024,  /* bytes */
    CARRY_CHUNK = 512 * 1024,           /* bytes of an image in one message of the bucket */
    CARRY_CHUNKS_MAX = KEEP_IMAGE_MAX / CARRY_CHUNK,
};

/* Somebody seated in a room here. */
struct member {
    uint64_t who;
    struct place *place; /* a player of this node, or NULL */
    struct id server;    /* the gateway otherwise */
    struct id session, room;
    int64_t number; /* what the gateway calls the place: its request when it joined, the room's number since */
    uint64_t claim; /* by which the gateway has the player; 0: not known */
    bool resumes;   /* he may come back over another one */
    bool refused;   /* a message of its gateway, until that one attaches anew */
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

struct journal { /* of a room that runs here */
    struct id room;
    uint64_t serial, epoch, number;
    uint64_t last; /* sequence of the subject's last message: the fence */
    uint64_t held; /* sequence of the batch under way, which is durable; 0: it is not, for all that is known */
    uint8_t *batch; /* under way, NULL: none */
    size_t batch_len;
    bool fresh; /* nothing of it is in the stream yet, nor may anything be */
    bool empty; /* nothing is there of what was, since empty_since */
    struct mono empty_since;
    bool reading, asking, waits; /* asking: whose the room is */
    int pause_ms;
    struct mono retry_at;
    unsigned tail_count; /* messages since the last image, and their bytes */
    size_t tail_bytes, image_len;
    bool image_asked;
};

struct purge {
    uint64_t below, asked; /* asked: of what the stream was asked for last */
    bool waits; /* of a room that has ended, but may be listed yet */
};

struct append_message { /* borrowed from what was read */
    uint64_t before, epoch, number;
    const uint8_t *batch;
    size_t batch_len;
};

struct kept { /* a room that runs here and must outlive this node */
    struct id room;
    uint64_t serial, epoch;
    bool again, releasing;
    bool still;   /* from the release on, until it is called off or the room is gone */
    char *saver;  /* control request to answer when all of it is in the bucket */
    bool passing; /* a room that nobody keeps, on its way to another node */
    uint64_t token; /* releasing for a move */
    uint64_t version; /* of the newest image */
    unsigned saving;
    struct mono due, again_at;
    int64_t age_ms, took_ms; /* of its restore */
};

struct carry { /* a snapshot on its way to the bucket */
    struct id room, type;
    uint64_t serial, expected;
    enum store_which which;
    int step;
    bool active, again, forgotten;
    uint64_t last_epoch; /* forgotten: of the room that has ended; a higher one is of another room */
    char cluster[ULID_SIZE];
    struct store_mark mark, old; /* old: what the bucket had */
    struct wall saved;
    uint8_t *data;
    size_t len;
    uint32_t chunk, chunks, old_chunks;
    struct mono retry_at;
};

struct restoring {
    struct room_info info;
    uint64_t serial;
    int step, looks;
    unsigned replayed; /* batches */
    bool built, waits;
    bool damaged; /* a copy was met that is not whole */
    bool any; /* the journal had something before our mark */
    bool no_image; /* all there are belong to an earlier room of this name */
    uint8_t *image; /* the best so far */
    size_t len;
    char cluster[ULID_SIZE];
    struct store_mark mark;
    struct wall saved;
    uint8_t *incoming; /* being read from the bucket */
    size_t incoming_len;
    char incoming_cluster[ULID_SIZE];
    struct store_mark incoming_mark;
    struct wall incoming_saved;
    uint64_t incoming_sum;
    uint32_t chunk, chunks;
    uint64_t last, at; /* journal: the fence, then our mark; what was replayed */
    struct mono began, retry_at;
};

struct request { /* something the core will answer */
    uint64_t session; /* serial; 0: a call */
    int64_t frame_id;
    struct id player;
    char *reply;          /* call from another node: where the answer goes */
    bool ctl;             /* it is a control request: JSON */
    uint64_t local_token; /* call of this node to itself */
    struct id match;      /* a seat for a match; empty: none */
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

struct asker { /* a room that has asked, and the open ask of it */
    struct id room;
    uint64_t epoch; /* of the room, here */
    uint64_t number;
    bool again;     /* perhaps it has been done before: what is not done now is not known not to be */
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
    struct umap arrivals;    /* serial -> arrival */
    struct umap arriving;    /* conn -> arrival */
    unsigned arrivals_waiting;
    bool rechecks;           /* sessions are to be looked up again */
    struct mono next_renewal;
    bool rosters_due;
    unsigned away; /* sessions without a connection */
    struct mono next_away_look;
    struct umap requests; /* -> request */
    struct map remotes;   /* "session room" -> member */
    struct map relayed;   /* room -> relayed */
    struct map by_session; /* session id -> session */
    struct map links;     /* server -> link */
    struct buf scratch, frame, frame_out, tail_json, image;
    struct store *store; /* NULL: no room outlives this node */
    char cluster[ULID_SIZE]; /* incarnation of the registries; empty: not known yet */
    bool cluster_busy;
    uint64_t last_errand;
    struct map journals; /* room -> journal */
    struct umap journal_serials;
    unsigned journals_waiting;
    struct map purges; /* room -> purge, not begun */
    struct id purging[JOURNAL_STREAMS]; /* the room whose purge is under way; "": none */
    struct map kept; /* room -> kept */
    struct umap kept_serials;
    struct id kept_at;
    struct map carries; /* room -> carry */
    struct umap carry_serials;
    unsigned carrying;
    bool scanning;
    struct id scan_after;
    struct mono next_scan;
    struct map restores; /* room -> restoring */
    struct umap restore_serials;
    struct locks *locks;
    struct umap lock_askers; /* request -> lock_asker */
    bool locks_watched;
    struct matching *matching; /* NULL: no queues */
    struct map talk_rooms; /* room -> listening */
    uint32_t talk_subs;
    struct umap tells; /* -> tell */
    struct map heard;  /* pattern -> heard */
    struct umap heard_subs;
    uint32_t heard_last;
    bool heard_again;  /* one could not be subscribed to */
    struct umap reaches; /* -> reach */
    struct room_ask *talk_first, **talk_last;
    unsigned talk_count;
    size_t talk_bytes;
    struct waiting_event *talk_events, **talk_events_last;
    unsigned talk_waiting;
    bool talk_unsaid; /* open asks of rooms here are to be said again */
    struct map shared_keys;    /* key -> key */
    struct umap shared_serials;
    struct map shared_purges;  /* key -> purge_key */
    unsigned shared_count;
    size_t shared_bytes;
    bool shared_watched;
    struct mono shared_next_purge;
    struct held_scan {
        bool done, busy;
        struct id after;
        unsigned loading;
        bool last;
    } held;
    struct admission {
        struct mono next_look;
        struct wall first_expiry; /* of all sessions here, or earlier; 0: none expires */
    } admission;
    struct revocations {
        struct map entries; /* key of the bucket -> struct revoked */
        uint64_t listing;
        bool known;           /* it was listed once */
        bool missing, missed; /* this listing, the last one: there are more than this node holds */
        bool announce;        /* `ready` waits for the first listing */
        bool changed;         /* sessions here are to be looked at */
    } revoked;
    struct umap collects; /* serial -> collecting */
    struct map posts;     /* player -> post */
    struct umap post_serials;
    size_t post_bytes;
    unsigned post_count;
    bool inbox_purging;
    struct mono inbox_purge_at;
    struct shout *shouts; /* the last ones, a ring */
    unsigned next_shout;
    struct umap outside;  /* -> what its own process has asked */
    bool draining;         /* by request, or on the way to the end */
    bool stop_after;       /* the end follows */
    bool drained_rooms;    /* said already */
    struct mono drain_deadline, next_progress, drain_began;
    bool pump_due, attach_due, carry_due;
    bool stray_joins; /* a room went from here: joins that waited for it are to be answered */
    struct router *router;
    struct node_stats stats;
    int64_t cpu_at;
    struct mono cpu_since;
    double load;
};

/* events.c */
/* A bus_handler; `node` is the node. */
void events_bus(void *node, const struct bus_event *ev);

/* node.c */
/* Ticks if that is due: after a stop of the whole process the core must hear of the lost time before anything else. */
bool node_catch_up(struct node *n);

/* Leaves now: what is here is saved for others. */
void node_end(struct node *n);
/* The core should look whether the room is still ours. */
void node_doubt(struct node *n, const char *room);
/* The room leaves this node without a word from the room: its players here wait for its next owner. */
void node_unhost(struct node *n, const char *room, bool moved);

/* append.c */
const char *append_stream(char out[JOURNAL_NAME_SIZE], const char *room);
void append_wrap(struct buf *out, uint64_t before, const void *batch, size_t len);
bool append_unwrap(const uint8_t *data, size_t len, struct append_message *out);
bool append_open(struct node *n, const char *room, uint64_t epoch, uint64_t last);
void append_close(struct node *n, const char *room);
void append_batch(struct node *n, const char *room, uint64_t epoch, uint64_t number, const void *data, size_t len);
void append_done(struct node *n, const struct bus_event *ev);
void append_tick(struct node *n);
void append_bus_up(struct node *n);
void append_purged(struct node *n, const struct bus_event *ev);
void append_purge(struct node *n, const char *room, uint64_t below);
/* The room has ended, and `last` is its journal's last message: all of it goes with append_forget(). */
void append_ended(struct node *n, const char *room, uint64_t last);
void append_forget(struct node *n, const char *room);
void append_deinit(struct node *n);

/* keep.c */
struct kept *keep_room(struct node *n, const char *room);
bool keep_add(struct node *n, const struct room *room);
void keep_remove(struct node *n, const char *room);
void keep_forget(struct node *n, const char *room, uint64_t epoch);
void keep_image(struct node *n, const struct room *room, uint64_t version, uint64_t position, const void *data, size_t len);
/* What was on its way of the room has arrived, or is no more. */
void keep_carried(struct node *n, const char *room);
void keep_saved(struct node *n, const struct store_event *ev);
/* The images there are do not suffice any more. */
void keep_anew(struct node *n, const char *room);
void keep_grown(struct node *n, struct journal *j);
/* With a token the room stands still then, until it is dropped or stays. */
void keep_release(struct node *n, const char *room, uint64_t token, const char *reason);
void keep_stay(struct node *n, const char *room);
/* An image now; `reply` is answered when it is in the bucket. UNSUPPORTED (nobody keeps it), NOT_FOUND, ALREADY, NO_MEMORY. */
int keep_save(struct node *n, const char *room, const char *reply);
void keep_tick(struct node *n);
bool keep_unwrap(const struct store_snapshot *s, char cluster[ULID_SIZE], const uint8_t **image, size_t *len);
void keep_deinit(struct node *n);

/* carry.c */
const char *carry_key(char out[ID_SIZE + 64], const char *room, const struct store_mark *mark, uint32_t chunk);
void carry_add(struct node *n, const char *room, enum store_which which);
bool carry_has(const struct node *n, const char *room);
void carry_forget(struct node *n, const char *room, uint64_t epoch);
void carry_done(struct node *n, const struct bus_event *ev);
void carry_store(struct node *n, const struct store_event *ev);
void carry_scanned(struct node *n, const struct store_event *ev);
void carry_tick(struct node *n);
/* Places that became free in this turn are taken at once: at the next tick, ten thousand rooms would take half a minute. */
void carry_turn(struct node *n);
void carry_deinit(struct node *n);

/* revive.c */
void revive_start(struct node *n, const struct room_info *info);
void revive_drop(struct node *n, const char *room);
void revive_done(struct node *n, const struct bus_event *ev);
void revive_store(struct node *n, const struct store_event *ev);
void revive_tick(struct node *n);
void revive_deinit(struct node *n);

/* cluster.c */
void cluster_bus_up(struct node *n);
void cluster_bucket_done(struct node *n, const struct bus_event *ev);
void cluster_done(struct node *n, const struct bus_event *ev);
void cluster_tick(struct node *n);
/* The bucket of locks is there, for all that is known. */
bool cluster_has_locks(const struct node *n);
bool cluster_has_matchmaking(const struct node *n);
bool cluster_has_shared(const struct node *n);
void cluster_held(struct node *n, const struct store_event *ev);
void cluster_held_loaded(struct node *n, const struct store_event *ev);

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
/* A player of this node was told of a match. */
void registry_matched_event(struct node *n, const struct id *player, const char *queue, const struct id *match,
                            const struct id *room, const struct id *type, int64_t waited_ms);
/* The bit of a queue in struct server_info. */
uint64_t registry_queue_bit(const char *queue);
void registry_kicked_event(struct node *n, const struct id *player, const char *reason);
void registry_draining_event(struct node *n, const struct server_info *info);
/* A room runs here that another node, or another boot, owned before. */
void registry_room_migrated(struct node *n, const struct room_info *info, const char *from, const char *reason);
void registry_room_info(struct room_info *out, const struct room *room);
void registry_beat(struct node *n);

/* call.c */
void call_out(struct node *n, uint64_t token, const char *server, const struct core_call *call, int timeout_ms);
void call_in(struct node *n, const struct bus_event *ev);
void call_done(struct node *n, const struct bus_event *ev);
void call_reply(struct node *n, const char *reply, const struct core_answer *answer);
void call_reserve(struct node *n, const struct core_call *call, struct core_answer *out);
void call_free(struct node *n, struct request *r);

/* admit.c */
/* Whose token the hello bears; false: it was refused, and the connection is being closed. */
bool admit(struct node *n, uint64_t conn, const struct wire_frame_hello *m, struct login_claims *out);
/* The session lasts as long as its token. */
void admit_session(struct node *n, struct session *s, const struct login_claims *claims);
void admit_tick(struct node *n);

/* revoked.c */
/* Of the bucket `revoked`. */
void revoked_event(struct node *n, const struct bus_event *ev);
/* `jti` may be empty. */
bool revoked_has(const struct node *n, const struct id *player, const struct id *jti);
/* May `ready` be said? If not, it will be once the list is known. */
bool revoked_ready(struct node *n);
void revoked_deinit(struct node *n);

/* seat.c */
extern const struct host_out seat_host_out;
struct member *seat_add(struct node *n, struct place *p, const char *server, const char *session, const char *room);
void seat_drop(struct node *n, uint64_t who);
/* To all in the room, without the room's knowledge; to how many. */
unsigned seat_push(struct node *n, const struct room *room, const void *data, size_t len);
struct member *seat_remote(struct node *n, const char *session, const char *room);
/* A player of another node leaves, and is told of. The room may end for it, and take seats of any node along. */
void seat_gone(struct node *n, const struct member *m, const char *reason);
/* Whoever is at the seat is unknown for a while: it is held. */
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
/* To the gateway of a member: its message `number` was not applied. */
void relay_send_refused(struct node *n, const char *server, const struct id *session, const struct id *room, int64_t number,
                        int code);
void relay_tick(struct node *n);
void relay_server_gone(struct node *n, const char *server, const char *reason);
void relay_room_gone(struct node *n, const char *room, const char *server, const char *reason);
struct place *relay_place(struct node *n, const char *server, const struct id *session, const struct id *room);
bool relay_track(struct node *n, struct place *p);
void relay_untrack(struct node *n, struct place *p);

/* leave.c */
void leave_set(struct node *n, bool on);
/* Is there another node that could take rooms and players? */
bool leave_possible(const struct node *n);
/* Where a player is to go; false: nowhere. What `out` points to is borrowed until the view changes. */
bool leave_to(const struct node *n, const char *session, struct wire_frame_reconnect *out);
void leave_tick(struct node *n);

#include "node/world.h"

#endif
