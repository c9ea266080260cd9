/*
 * What the files of bus_nats share: records of the queues and the state of the bus thread.
 *
 * Invariant: fields under "bus thread" are touched by that thread only (and by create/destroy while it does not run);
 * everything between threads is a queue or an atomic.
 */
#ifndef BUS_NATS_ENGINE_H
#define BUS_NATS_ENGINE_H

#include <nats/nats.h>
#include <uthash.h>
#include <uv.h>

#include "base/buf.h"
#include "base/rng.h"
#include "bus/bus_nats.h"
#include "bus/queue.h"
#include "bus/subject.h"
#include "bus/wake.h"

enum {
    NATS_TIMEOUT_MS = 500,
    NATS_SUBJECT_SIZE = SUBJECT_MAX + SUBJECT_PREFIX_MAX + SUBJECT_BUCKET_MAX + 64,
    NATS_BUCKET_SIZE = SUBJECT_BUCKET_MAX + SUBJECT_PREFIX_MAX + 2,
    NATS_NO_HEAP = -1,
    NATS_SPENT_MAX = 64
};

enum cmd_kind {
    CMD_PUBLISH,
    CMD_SUBSCRIBE,
    CMD_UNSUBSCRIBE,
    CMD_WATCH,
    CMD_CLOSE,
    CMD_REQUEST, /* this one and those below have a token */
    CMD_BUCKET,
    CMD_GET,
    CMD_PUT,
    CMD_DELETE,
    CMD_STREAM,
    CMD_APPEND,
    CMD_LAST,
    CMD_NEXT,
    CMD_PURGE
};

/* Loop thread to bus thread; names carry the prefix already. */
struct cmd {
    struct queue_item item;
    enum cmd_kind kind;
    uint64_t token;
    uint64_t expected; /* next, purge: from, below */
    int64_t deadline_us;
    int64_t ttl_ms, max_per_subject;
    int replicas;
    bool watched;
    uint32_t sub;
    const char *a; /* subject, bucket or stream */
    const char *b; /* reply, key, or the subject in a stream; or NULL */
    const uint8_t *data;
    size_t len;
};

/* To the loop. `log` >= 0: a line for the operator in ev.subject. */
struct event_item {
    struct queue_item item;
    struct bus_event ev;
    int log;
};

/* nats.c's delivery thread to bus thread. */
struct inbound {
    struct queue_item item;
    uint32_t watch;   /* 0: the reply inbox */
    uint32_t listing; /* of a watch; 0: its live messages */
    natsMsg *msg;
};

struct bus_nats;

/* A subscription on the loop's behalf (watch 0), or of a watch (number 0: live, else of that listing). */
struct nats_sub {
    struct bus_nats *bus;
    uint32_t number;
    uint32_t watch;
    natsSubscription *handle;
    atomic_size_t lost;
    int64_t dead_us;  /* unsubscribed: free when reached */
    struct nats_sub *next_dead;
    UT_hash_handle hh;
};

struct op {
    uint64_t id;
    struct cmd *cmd;
    int64_t due_us;
    int64_t wait_us;   /* back-off of the next retry */
    int64_t resend_us; /* patience with the next answer that does not come */
    long heap;         /* place in the heap */
    unsigned round;    /* +1 at each step, part of the reply subject */
    unsigned steps;    /* looks taken by a create */
    uint64_t expected; /* purge: below */
    bool looking;      /* a create reads what is in its way; a purge, what is there */
    bool in_doubt;     /* a write is under way */
    bool absent;       /* the last answer was: nobody there */
    int replicas;
    UT_hash_handle hh;
};

struct watch_key {
    uint64_t revision;
    int64_t gone_us;   /* a deletion's marker, first seen at this time; 0: there is a value */
    uint32_t seen; /* number of the listing in which it was seen last */
    UT_hash_handle hh;
    char key[];
};

struct watch {
    struct watch *next;
    uint32_t number;
    char bucket[NATS_BUCKET_SIZE]; /* with the prefix */
    struct nats_sub *live;
    struct watch_key *keys;
    bool listing;
    bool full;           /* the next listing is asked for: it hands out every entry */
    bool settled;        /* the second listing after a disturbance has been made */
    struct nats_sub *list;
    uint32_t list_no;
    uint64_t newest;     /* highest revision heard of or written */
    uint64_t floor;      /* `newest` when the listing began */
    uint64_t listed;     /* highest revision in the listing */
    unsigned stale_tries;
    int64_t due_us;      /* next listing, or the end of patience with this one */
};

struct bus_nats {
    struct bus bus;
    /* set at create, then constant */
    struct bus_nats_config config;
    char *strings[7];
    size_t prefix_len;
    char version[32];
    bool clustered;
    /* loop thread */
    size_t open_ops;
    unsigned seen_epoch;
    bool seen_up;
    bool dirty;
    bool closed;
    /* between threads */
    struct queue commands;
    struct queue inbound;
    struct queue events;
    atomic_uint epoch; /* odd: connected */
    atomic_llong max_payload;
    atomic_bool any_lost;
    atomic_bool inbound_lost;
    atomic_bool gone;      /* nats.c has said goodbye to the connection */
    atomic_int delivering; /* subscriptions the delivery thread may still touch */
    uv_sem_t started;
    int start_error;
    struct err_detail start_detail;
    /* bus thread */
    uv_thread_t thread;
    uv_loop_t loop;
    struct wake wake;
    uv_timer_t timer;
    natsConnection *nc;
    natsSubscription *inbox_sub;
    char inbox[80];
    unsigned handled_epoch;
    bool stopping;
    struct nats_sub inbox_owner;
    struct nats_sub *subs;
    struct nats_sub *dead;
    struct op *ops;
    struct op **heap;
    size_t heap_len;
    size_t heap_cap;
    uint64_t next_id;
    struct watch *watches;
    uint32_t next_watch;
    struct rng rng;
    natsMsg *spent[NATS_SPENT_MAX];
    unsigned spent_count;
};

/* nats_conn.c, nats_emit.c: any of our threads unless said otherwise */
int64_t nats_now_us(void);
bool nats_up(struct bus_nats *b);
void nats_thread(void *arg);
/* Before the thread starts. */
int nats_loop_init(struct bus_nats *b) MUST_USE;
void nats_log(struct bus_nats *b, enum bus_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void nats_wake_loop(struct bus_nats *b);
/* A subject as the loop knows it: in `name` or in `out`. One of another program need not bear our prefix: a leading tab
 * marks it as complete (see full_subject() in bus_nats.c). Inboxes are never prefixed. */
const char *nats_short_name(const struct bus_nats *b, const char *name, char out[NATS_SUBJECT_SIZE + 1]);
/* Copies the event; false if it did not fit. */
bool nats_emit(struct bus_nats *b, const struct bus_event *ev, bool always);
/* Bus thread. `reply` may be NULL. False: not sent, for certain. */
bool nats_send(struct bus_nats *b, const char *subject, const char *reply, const void *data, size_t len);
/* Bus thread. Subscribes for a watch or for the loop; NULL on failure (logged). */
struct nats_sub *nats_sub_open(struct bus_nats *b, uint32_t number, uint32_t watch, const char *subject);
void nats_sub_close(struct bus_nats *b, struct nats_sub *sub);
/* "p_b" -> "b" and "p.x" -> "x" */
const char *nats_strip(const struct bus_nats *b, const char *name);

/* nats_ops.c: bus thread */
void ops_begin(struct bus_nats *b, struct cmd *cmd);
void ops_reply(struct bus_nats *b, uint64_t id, unsigned round, natsMsg *msg);
void ops_down(struct bus_nats *b);
void ops_due(struct bus_nats *b, int64_t now_us);
int64_t ops_next_us(const struct bus_nats *b);
void ops_close(struct bus_nats *b);

/* nats_spent.c: bus thread */
/* Takes the message, which nobody needs any more; NULL is fine. */
void nats_spend(struct bus_nats *b, natsMsg *msg);
void nats_spent_free(struct bus_nats *b);

/* nats_watch.c: bus thread */
void watch_open(struct bus_nats *b, const char *bucket);
void watch_up(struct bus_nats *b);
void watch_spoil_all(struct bus_nats *b);
void watch_live(struct bus_nats *b, uint32_t number, natsMsg *msg);
void watch_listed(struct bus_nats *b, uint32_t number, uint32_t list_no, natsMsg *msg);
void watch_created(struct bus_nats *b, uint32_t number, uint32_t list_no, natsMsg *msg);
void watch_written(struct bus_nats *b, const char *bucket, uint64_t revision);
void watch_due(struct bus_nats *b, int64_t now_us);
int64_t watch_next_us(const struct bus_nats *b);
void watch_close(struct bus_nats *b);

#endif
