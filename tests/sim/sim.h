/*
 * The simulator: many nodes in one process on virtual time.
 *
 * world.c       virtual time: a heap of timed calls, the trace and its hash, the verdict
 * proc.c        nodes as processes: start, turn, kill, stop and continue
 * sim_bus.c     the bus of a node: connections, messages, requests
 * sim_lead.c    the leader of a bucket or stream: what it answers, loses, or does seconds later
 * sim_kv.c      the registries: revisions, compare-and-set, watches that lag
 * sim_log.c     the logs: streams of messages behind a fence, reads that may be stale
 * sim_disk.c    the disk of a process: what it keeps over a kill
 * faults.c      what goes wrong, drawn from the seed, and how it is healed
 * operator.c    what people ask of the nodes meanwhile: move rooms, drain, undrain, save
 * clients.c     players; client_frames.c reads what they are told, client_session.c keeps what outlives a connection (G4),
 *               logins.c sees that of several logins one is left (G5)
 * invariants.c  G1, G6, G10 after each step
 * ledger.c      G2, G3: what was acknowledged of rooms that outlive their owners
 * settle.c      G9 after the faults
 * replayed.c    is a room that runs what its snapshot and its journal say?
 *
 * One thread; everything that happens is drawn from the seed, so that a seed is a whole story. Invariant: no more than
 * NATS promises is ever promised to a node.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "base/map.h"
#include "base/rng.h"
#include "node/node.h"
#include "port/bus.h"
#include "port/store.h"
#include "room/host.h"
#include "room/types.h"

enum { SIM_OPERATOR = 5 /* in the place of a node's index */, SIM_NODES_MAX = SIM_OPERATOR };
enum { SIM_CLIENTS_MAX = 24, SIM_RIVALS_MAX = 4, SIM_BUCKETS_MAX = 16, SIM_STREAMS_MAX = 8, SIM_CREATE_IDS = 6 };
enum { SIM_MESSAGE_MAX = 1048576, SIM_HEADERS_MAX = 128 };

#define SIM_MS 1000
#define SIM_S 1000000
/* What this seed's nodes call snapshot_interval. */
#define SIM_SNAPSHOT_MS(w) (1000 + (int64_t)((w)->seed % 5) * 1000)

struct world;
typedef void sim_fn(struct world *w, void *arg);

struct timed {
    int64_t at_us;
    uint64_t order;
    sim_fn *fn;
    void *arg; /* freed with free() after the call, or with the world */
};

/* How long a node may take to leave in order, and a room to move: short ones are cut off by it. */
#define SIM_DRAIN_MS(w) (2000 + (int64_t)((w)->seed % 5) * 4000)
#define SIM_MOVE_MS(w) ((w)->seed % 3 ? 10000 : 2500)

/* What goes wrong: each seed knows some of it. */
enum sim_fault {
    SIM_KILL, SIM_FREEZE, SIM_CUT, SIM_ONE_WAY, SIM_DROP, SIM_ELECTION, SIM_LOSS, SIM_STOP, SIM_KILL_ALL, SIM_FULL_DISK,
    SIM_DAMAGE, SIM_SLOW_DISKS, SIM_WIPE, SIM_FAULTS
};

/* What the simulator does wrong on purpose, so that the invariants can be seen to bite. */
enum sim_mutation { SIM_MUTATE_NONE, SIM_MUTATE_STALE_CAS, SIM_MUTATE_UNKNOWN_IS_CONFLICT };

struct sim_queued { /* one event that waits in a bus */
    struct sim_queued *next;
    struct bus_event event; /* its pointers lead into `bytes` */
    char bytes[];
};

struct sim_sub {
    uint32_t id;
    char subject[128];
    int64_t visible_us; /* a new subscription is not known everywhere at once */
};

struct sim_open { /* a request or registry operation that waits for its answer */
    struct sim_open *next;
    uint64_t token, number;
};

struct sim_watch {
    char bucket[32];
    uint64_t listing; /* number of the last listing asked for */
    bool live;        /* a listing was made for this connection: changes follow it */
    int64_t last_us;  /* order is kept */
    bool full;        /* the next listing was asked for: nothing is left out of it */
    struct map told;  /* key -> the revision handed out last, as a number */
};

struct sim_bus;

/* Something on its way to a node. Dropped if the process or its connection is another one by then. */
struct sim_inbound {
    struct sim_inbound *next;
    unsigned owner;
    uint64_t life, connection;
    void (*land)(struct sim_bus *b, const void *body, size_t len);
    size_t len;
    _Alignas(8) char body[];
};

/* Something a node said while it was cut off: in its kernel. */
struct sim_held {
    struct sim_held *next;
    sim_fn *fn;
    void *arg;
};

struct sim_bus {
    struct bus base;
    struct world *w;
    unsigned owner; /* index of the node */
    uint64_t life;  /* of the process */
    bool up;        /* what the node was told */
    bool attached;  /* the server still has the connection */
    uint64_t connection;
    bool cut_in, cut_out;
    struct sim_queued *first, **last;
    size_t queued;
    struct sim_open *open;
    struct sim_sub subs[512];
    size_t sub_count;
    struct sim_watch watches[SIM_BUCKETS_MAX];
    size_t watch_count;
    struct sim_held *held_out, **held_out_last; /* said while cut, kept by the kernel */
    struct sim_inbound *held_in, **held_in_last;
    uint64_t cut_number;
    int64_t out_us; /* what was said last arrives then: one connection keeps its order */
};

struct store_disk;

struct sim_proc {
    struct world *w;
    unsigned index;
    char id[16];
    struct node *node; /* NULL: not running */
    struct sim_bus *bus;
    struct store *store; /* of this life */
    struct store_disk *disk;
    uint64_t life; /* +1 at each start */
    bool frozen, stopping, over, ready, disk_full;
    int64_t frozen_until_us, skew_us, turn_at_us;
    int64_t wall_skew_ms;
    uint64_t turn_number;
    struct rng secret;
    uint64_t drain_life;   /* operator.c: the life that was asked to drain; 0: none, or it was told to go on */
    uint64_t drain_asked;  /* the number of the last such order */
    uint64_t drain_over;   /* the last number there was when it was answered or given up; UINT64_MAX: it is open */
    bool drains, drains_rooms; /* as it was seen last */
    uint64_t rolled_back;      /* moves, likewise */
};

struct sim_kv_entry {
    uint64_t revision;
    bool deleted;
    int64_t written_us;
    size_t len;
    uint8_t *data;
    struct sim_kv_entry *before; /* what it was when the last leader was lost, if it changed soon after */
};

struct sim_bucket {
    char name[32];
    bool made;
    int64_t ttl_us;
    uint64_t sequence;
    int64_t leaderless_until_us;
    int64_t stale_until_us; /* as of a stream */
    uint64_t stale_sequence;
    struct map entries;
};

struct sim_log_message {
    struct sim_log_message *next;
    uint64_t sequence;
    size_t len;
    uint8_t data[];
};

struct sim_log { /* of one subject */
    struct sim_log_message *first, *last;
};

struct sim_stream {
    char name[32], subjects[160];
    uint64_t sequence;
    int64_t leaderless_until_us;
    /* Who led before the election is back and answers reads with what it had then. */
    int64_t stale_until_us;
    uint64_t stale_sequence;
    struct map logs;
};

/* Something asked of the leader of a bucket or stream; first member of what each of them asks. */
struct sim_op;
struct sim_op_kind {
    void (*perform)(struct world *w, const struct sim_op *op, bool answer);
    int64_t (*leaderless_until)(struct world *w, const struct sim_op *op);
    /* It is lost now and will be done later. */
    void (*put_off)(struct world *w, struct sim_op *op);
};
struct sim_op {
    const struct sim_op_kind *kind;
    size_t size; /* of the whole */
    unsigned owner;
    uint64_t life, number;
    bool late; /* it was lost, and arrives after all */
};

struct sim_client;
struct sim_order;

struct sim_moves { /* what became of moves and drains */
    unsigned asked, committed, rolled_back, drains, drained;
};

struct world {
    uint64_t seed;
    struct rng rng;
    int64_t now_us;
    struct timed *heap;
    size_t heap_count, heap_cap;
    uint64_t order;
    bool trace;
    enum sim_mutation mutation;
    struct XXH3_state_s *hash;
    uint64_t numbers; /* requests, connections, listings */
    uint64_t steps;

    struct types *types;
    struct sim_proc procs[SIM_NODES_MAX];
    unsigned proc_count;
    int64_t sent_us[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* last arrival on each path: order is kept per path */
    struct sim_bucket buckets[SIM_BUCKETS_MAX];
    size_t bucket_count;
    struct sim_stream streams[SIM_STREAMS_MAX];
    size_t stream_count;

    struct sim_client *clients;
    unsigned client_count;
    unsigned player_count; /* the clients after them are second ones of some of them */
    uint64_t conns, seats;
    unsigned joins, messages, resumes, replaced;
    uint64_t login_order; /* counts hellos, welcomes and entries of players */
    struct map logins;    /* logins.c: session -> struct login */

    struct sim_order *orders; /* operator.c: without an answer yet */
    int64_t order_gap_ms;
    struct sim_moves moves;

    unsigned faults;      /* bits of enum sim_fault: what this seed knows */
    bool healing;         /* no new faults */
    int64_t calm_since_us; /* nothing is wrong any more; 0: something is */
    bool quiet;           /* players do nothing any more */
    int64_t loss_until_us;
    struct map epochs;    /* invariants.c: room -> struct accepted */
    struct map fenced;    /* boots that were superseded */
    struct map boots;     /* server -> its last accepted boot */
    struct map appended;  /* stream -> the last accepted sequence, as a number */
    struct map logged;    /* journal -> struct logged */
    struct map marked;    /* room -> struct marked */
    struct map ledger;    /* ledger.c: room -> struct account */
    char created[SIM_CREATE_IDS][64]; /* create id -> the room it gave */

    bool failed;
    char failure[512];
};

/* world.c */
void world_init(struct world *w, uint64_t seed, bool trace, enum sim_mutation mutation);
void world_deinit(struct world *w);
/* Calls `fn` at a moment not before now. `arg` is taken: one malloc() block or NULL. */
void world_at(struct world *w, int64_t at_us, sim_fn *fn, void *arg);
/* False: nothing is left to happen. */
bool world_step(struct world *w);
/* Part of the hash; printed with --trace. */
void world_note(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t world_hash(const struct world *w);
void *world_alloc(size_t size); /* zeroed; ends the program when there is none */
/* Uniform in [low, high]. */
int64_t world_between(struct world *w, int64_t low, int64_t high);
bool world_chance(struct world *w, unsigned percent);

/* proc.c */
void proc_init(struct world *w);
void proc_start(struct sim_proc *p);
void proc_kill(struct sim_proc *p, const char *why);
void proc_freeze(struct sim_proc *p, int64_t us);
void proc_stop(struct sim_proc *p);
void proc_wake(struct sim_proc *p, int64_t at_us);
struct mono proc_mono(const struct sim_proc *p);
struct wall proc_wall(const struct sim_proc *p);
struct sim_proc *proc_by_id(struct world *w, const char *id);
/* Runs and is not frozen. */
bool proc_active(const struct sim_proc *p);
void proc_deinit(struct world *w);

/* sim_disk.c */
struct store *sim_disk_open(struct sim_proc *p);
void sim_disk_close(struct store *store, bool orderly);
bool sim_disk_due(const struct store *store, struct mono *at);
bool sim_disk_is_full(const struct store *store);
/* The newest image of the room in this life of the process; NULL: none. */
const struct store_mark *sim_disk_saved(const struct store *store, const char *room);
/* What is saved of `room` from now on goes to `out`, too; both NULL: no more. */
void sim_disk_catch(struct store *store, const char *room, struct buf *out);

/* sim_bus.c */
struct sim_bus *sim_bus_create(struct world *w, unsigned owner, uint64_t life);
void sim_bus_destroy(struct sim_bus *b);
/* The connection goes; it is back after `back_us`. */
void sim_bus_drop(struct sim_bus *b, int64_t back_us);
void sim_bus_attach(struct sim_bus *b);
void sim_bus_cut(struct sim_bus *b, bool in, bool out, int64_t us);
/* The bus of a node, if it is still the same process and connection; else NULL. connection 0: any. */
struct sim_bus *sim_bus_find(struct world *w, unsigned owner, uint64_t life, uint64_t connection);
/* Puts an event into the queue; copies. */
void sim_bus_queue(struct sim_bus *b, const struct bus_event *event);
/* Ends one open operation; false if it has ended before. */
bool sim_bus_done(struct sim_bus *b, uint64_t number, enum bus_result result, uint64_t revision, const void *data,
                  size_t len);
uint64_t sim_bus_open(struct sim_bus *b, uint64_t token, int timeout_ms);
/* One way from a client to the servers, with spikes. */
int64_t sim_bus_delay(struct world *w);
/* Calls `fn` when something said by `b` arrives at the servers; holds or loses it while the connection is cut. */
void sim_bus_outward(struct sim_bus *b, int64_t at_us, sim_fn *fn, void *arg);
/* On its way to `b`; takes nothing: copies `body`. */
void sim_bus_inward(struct sim_bus *b, int64_t at_us, void (*land)(struct sim_bus *, const void *, size_t),
                    const void *body, size_t len);
/* An answer on its way to the one who asked. */
void sim_bus_answer(struct world *w, unsigned owner, uint64_t life, uint64_t number, int64_t at_us, enum bus_result result,
                    uint64_t revision, const void *data, size_t len);

/* A request of somebody who is no node; its answer, or that nobody is there, goes to operator_answered(). */
void sim_bus_ask(struct world *w, const char *subject, uint64_t number, const void *data, size_t len);

/* Does `subject` match? */
bool sim_bus_matches(const char *pattern, const char *subject);

/* sim_lead.c: takes `op`, on one malloc() block. Returns 0. */
int sim_lead_begin(struct sim_bus *b, uint64_t token, struct sim_op *op, int timeout_ms);

/* sim_log.c */
int sim_stream(struct bus *b, uint64_t token, const struct bus_stream *stream, int timeout_ms);
int sim_log_append(struct bus *b, uint64_t token, const char *subject, uint64_t expected, const void *data, size_t len,
                   int timeout_ms);
int sim_log_last(struct bus *b, uint64_t token, const char *stream, const char *subject, int timeout_ms);
int sim_log_next(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t from, int timeout_ms);
int sim_log_purge(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t below, int timeout_ms);
/* The stream has no leader for so long; after that the old one may answer reads for a moment. */
void sim_log_election(struct world *w, struct sim_stream *s, int64_t us);
void sim_log_deinit(struct world *w);

/* sim_kv.c */
int sim_kv_bucket(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms);
int sim_kv_watch(struct bus *b, const char *bucket);
int sim_kv_get(struct bus *b, uint64_t token, const char *bucket, const char *key, int timeout_ms);
int sim_kv_put(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected, const void *data,
               size_t len, int timeout_ms);
int sim_kv_delete(struct bus *b, uint64_t token, const char *bucket, const char *key, uint64_t expected, int timeout_ms);
/* After a reconnect: all watches list again. */
void sim_kv_resync(struct sim_bus *b);
/* Frees what the watches of a bus remember. */
void sim_kv_forget(struct sim_bus *b);
void sim_kv_election(struct world *w, struct sim_bucket *b, int64_t us);
struct sim_bucket *sim_kv_find(struct world *w, const char *name);
/* NULL: no such key now, or deleted. */
const struct sim_kv_entry *sim_kv_look(const struct world *w, const struct sim_bucket *bucket, const char *key);
void sim_kv_deinit(struct world *w);

/* operator.c */
void operator_init(struct world *w);
void operator_heal(struct world *w);
void operator_deinit(struct world *w);
/* `data` NULL: nobody is there. */
void operator_answered(struct world *w, uint64_t number, const void *data, size_t len);
/* After a turn of the node. */
void operator_look(struct world *w, struct sim_proc *p);

/* faults.c */
void faults_init(struct world *w);
void faults_heal(struct world *w);
/* Looks whether everything is in order by now: world.calm_since_us. */
void faults_look(struct world *w);
/* It was so from that moment on. */
bool faults_calm_since(const struct world *w, int64_t us);

/* clients.c */
void clients_init(struct world *w);
void clients_deinit(struct world *w);
void clients_frame(struct world *w, unsigned node, uint64_t conn, const void *data, size_t len);
/* The node or its connection is gone. */
void clients_closed(struct world *w, unsigned node, uint64_t conn);
/* Has every player got a seat by join_or_create since the healing? Says who has not. */
bool clients_proved(const struct world *w, char *why, size_t size);
/* Is what players believe what the rooms say? */
bool clients_agree(const struct world *w, char *why, size_t size);

/* logins.c */
void logins_init(struct world *w);
void logins_deinit(struct world *w);
/* An accepted write of a player's entry. */
void logins_written(struct world *w, unsigned writer, const char *player, const void *data, size_t len, bool deleted);

/* invariants.c */
void invariants_init(struct world *w);
void invariants_deinit(struct world *w);
void invariants_node(struct world *w, const struct sim_proc *p);
/* `writer` is the index of a node. */
void invariants_written(struct world *w, unsigned writer, const char *bucket, const char *key, const void *data, size_t len,
                        bool deleted);
/* Called for each append that is accepted; `before` is the subject's last message until now, 0: none. */
void invariants_log(struct world *w, const char *stream, const char *subject, uint64_t before, uint64_t sequence,
                    const void *data, size_t len);
void invariants_created(struct world *w, unsigned create_id, const char *room);
/* Somebody was told that the room is on that server at that epoch. */
void invariants_moved(struct world *w, const char *room, const char *server, int64_t epoch);

/* replayed.c: takes images of rooms, which their nodes then save. */
bool replayed_holds(struct world *w, char *why, size_t size);

/* settle.c */
bool settle_holds(const struct world *w, char *why, size_t size);
/* Nobody has a place for the room, and so it is listed as pending. */
bool settle_room_waits(const struct world *w, const char *room);

#endif
