/*
 * Processes the benchmark starts: a NATS server and nodes.
 *
 * Decides: their command lines, and when they are ready. Must not measure. Invariant: whatever was started ends with
 * cluster_stop(), by its pid, or with this process, and its folder goes too.
 */
#ifndef ROOMBENCH_CLUSTER_H
#define ROOMBENCH_CLUSTER_H

#include <stdbool.h>
#include <sys/types.h>

enum { CLUSTER_NODES = 2, CLUSTER_ADDRESS = 64 };

struct cluster {
    unsigned count; /* of nodes */
    pid_t nats, nodes[CLUSTER_NODES];
    char nats_url[CLUSTER_ADDRESS];
    char address[CLUSTER_NODES][CLUSTER_ADDRESS]; /* host:port */
    char folder[64];
};

/* One NATS server and `nodes` nodes (CLUSTER_NODES at most), whose rooms stay when they are empty. 0, or -1 with the reason
 * on standard error; nothing runs then. Waits until all are ready, 30 s at most. */
int cluster_start(struct cluster *c, const char *roomd, const char *nats_server, unsigned nodes);
void cluster_stop(struct cluster *c);
/* Puts this process, `other` and everything of the cluster on one processor, or lets them go where they like again. */
void cluster_pin(const struct cluster *c, pid_t other, bool on);
/* Processor time used by the process so far, in microseconds; 0 if it cannot be read. */
double cluster_cpu_us(pid_t pid);
/* Resident memory in bytes; 0 if it cannot be read. */
double cluster_rss(pid_t pid);

#endif
