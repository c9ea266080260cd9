/*
 * The simulator: many nodes in one process on virtual time.
 *
 * world.c       virtual time: a heap of timed calls, the trace and its hash, the verdict
 * proc.c        nodes as processes: start, turn, kill, stop and continue
 * sim_bus.c     the bus of a node: connections, messages, requests
 * sim_kv.c      the registries: revisions, compare-and-set, leaders that go away, watches that lag
 * faults.c      what goes wrong, drawn from the seed, and how it is healed
 * clients.c     players; client_frames.c reads what they are told
 * invariants.c  G1, G6, G10 after each step
 * settle.c      G9 after the faults
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
#include "room/host.h"
#include "room/types.h"

enum { SIM_NODES_MAX = 5, SIM_CLIENTS_MAX = 24, SIM_BUCKETS_MAX = 16, SIM_CREATE_IDS = 6 };

#define SIM_MS 1000
#define SIM_S 1000000

struct world;
typedef void sim_fn(struct world *w, void *arg);

struct timed {
    int64_t at_us;
    uint64_t order;
    sim_fn *fn;
    void *arg; /* freed with free() after the call, or with the world */
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
    struct sim_sub subs[64];
    size_t sub_count;
    struct sim_watch watches[SIM_BUCKETS_MAX];
    size_t watch_count;
    struct sim_held *held_out, **held_out_last; /* said while cut, kept by the kernel */
    struct sim_inbound *held_in, **held_in_last;
    uint64_t cut_number;
    int64_t out_us; /* what was said last arrives then: one connection keeps its order */
};

struct sim_proc {
    struct world *w;
    unsigned index;
    char id[16];
    struct node *node; /* NULL: not running */
    struct sim_bus *bus;
    uint64_t life; /* +1 at each start */
    bool frozen, stopping, over, ready;
    int64_t frozen_until_us, skew_us, turn_at_us;
    int64_t wall_skew_ms;
    uint64_t turn_number;
    struct rng secret;
};

struct sim_kv_entry {
    uint64_t revision;
    bool deleted;
    int64_t written_us;
    size_t len;
    uint8_t *data;
};

struct sim_bucket {
    char name[32];
    bool made;
    int64_t ttl_us;
    uint64_t sequence;
    int64_t leaderless_until_us;
    struct map entries;
};

struct sim_client;

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
    int64_t sent_us[SIM_NODES_MAX][SIM_NODES_MAX]; /* last arrival on each path: order is kept per path */
    struct sim_bucket buckets[SIM_BUCKETS_MAX];
    size_t bucket_count;

    struct sim_client *clients;
    unsigned client_count;
    uint64_t conns;
    unsigned joins, messages;

    unsigned faults;      /* bits of the kinds that this seed knows */
    bool healing;         /* no new faults */
    bool quiet;           /* players do nothing any more */
    int64_t loss_until_us;
    struct map epochs;    /* invariants.c: room -> struct accepted */
    struct map fenced;    /* boots that were superseded */
    struct map boots;     /* server -> its last accepted boot */
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
struct sim_bucket *sim_kv_find(struct world *w, const char *name);
/* NULL: no such key now, or deleted. */
const struct sim_kv_entry *sim_kv_look(const struct world *w, const struct sim_bucket *bucket, const char *key);
void sim_kv_deinit(struct world *w);

/* faults.c */
void faults_init(struct world *w);
void faults_heal(struct world *w);

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

/* invariants.c */
void invariants_init(struct world *w);
void invariants_deinit(struct world *w);
void invariants_node(struct world *w, const struct sim_proc *p);
void invariants_written(struct world *w, const char *bucket, const char *key, const void *data, size_t len, bool deleted);
void invariants_created(struct world *w, unsigned create_id, const char *room);

/* settle.c */
bool settle_holds(const struct world *w, char *why, size_t size);

#endif
