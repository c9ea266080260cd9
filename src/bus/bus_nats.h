/*
 * The bus of port/bus.h on a NATS cluster.
 *
 * Decides: how words become NATS messages and what an answer, or its absence, means. Knows nothing of rooms.
 *
 * Drive: one bus thread calls nats.c, which reads with a thread of its own and writes on the bus thread. Its event loop
 * mode would save a system call per message (journalled adds in bursts are 15% faster with it), but in that mode nats.c
 * (3.4.1 to 3.13) keeps its parser over a reconnect: a connection that breaks in the middle of a message, as it does when
 * the process stood still for seconds, reads all that follows wrongly and reconnects for ever. All subscriptions are
 * asynchronous with one delivery thread: polling synchronous ones is a hop faster for a handful, but a node has one
 * subscription for each of its 10,000 rooms. Messages go from the delivery thread straight into the loop's queue; replies
 * go through the bus thread, which owns the table of open requests.
 *
 * Weak spots: a publish on the bus thread can wait for a hung server, up to the write deadline of 1 s, and then for
 * nats.c's reconnect (time-out 500 ms); an answer or a deadline can be that late, the loop thread never. A reply over the
 * limits of the inbound queue is dropped and becomes unknown. The server's version is read at the first connect only. nats.c
 * forgets to free the message in which a connection breaks: one at most for each reconnect.
 */
#ifndef BUS_BUS_NATS_H
#define BUS_BUS_NATS_H

#include "port/bus.h"

enum bus_log_level { BUS_LOG_INFO, BUS_LOG_WARN, BUS_LOG_ERROR };

/* Zero means the default. Strings are copied. */
struct bus_nats_config {
    const char *urls;   /* comma separated; default nats://127.0.0.1:4222 */
    const char *name;   /* of the connection, as operators see it */
    const char *prefix; /* without the dot; `[A-Za-z0-9_-]{1,32}` or NULL */
    const char *creds;  /* credentials file */
    const char *tls_ca; /* any of the three turns TLS on */
    const char *tls_cert;
    const char *tls_key;
    bool tls;
    int replicas;              /* 0: 3 in a cluster, 1 on a single server; or 1, 3, 5 */
    bool ignore_discovered;    /* stay with `urls` */
    int connect_wait_ms;       /* how long create may try; 5000 */
    size_t max_queue_count;    /* messages waiting for the loop; 262144 */
    size_t max_queue_bytes;    /* the same in bytes, in each direction; 64 MiB */
    size_t max_ops;            /* requests open at once; 16384 */
    int64_t list_ms;           /* a followed bucket is listed anew at least this often; 60000 */
    int64_t keep_deleted_ms;   /* a followed bucket forgets deletions after this; BUS_KEEP_DELETED_MS */
    void (*wake)(void *arg);   /* events wait: called from the bus's threads, must only signal (wake_send) */
    void *wake_arg;
    /* Something an operator should know (permission violation, slow consumer). On the loop thread, in bus_drain(). */
    void (*log)(void *arg, enum bus_log_level level, const char *text);
    void *log_arg;
};

/* Connects (blocks for connect_wait_ms at the most), then returns an owned bus. Fails with UNAVAILABLE (cannot reach it),
 * UNSUPPORTED (this NATS is not safe with these replicas), INVALID or NO_MEMORY and says why in `detail`.
 * A drain that returned `max_events` must be repeated: there is no second wake for what it left. */
MUST_USE int bus_nats_create(const struct bus_nats_config *config, struct bus **out, struct err_detail *detail);

/* Closes if need be, waits for the bus thread (about 1 s at the most) and frees. NULL is allowed. */
void bus_nats_destroy(struct bus *b);

/* "2.10.27": borrowed for the bus's life. */
const char *bus_nats_server_version(const struct bus *b);

/* 0, or UNSUPPORTED with the reason if `version` must not be used with that many replicas. *warn is set if the version
 * is old but can be used. */
MUST_USE int bus_nats_check_version(const char *version, int replicas, bool *warn, struct err_detail *detail);

/* Figures for /metrics. */
struct bus_nats_stats {
    size_t events;      /* waiting for the loop */
    size_t event_bytes;
    size_t commands;    /* waiting for the bus thread or for an answer */
    size_t command_bytes;
    size_t open_ops;
};
/* Loop thread. */
void bus_nats_stats(const struct bus *b, struct bus_nats_stats *out);

/* Stops nats.c's own threads; once, at the end of the process, after all buses are destroyed. */
void bus_nats_library_close(void);

#endif
