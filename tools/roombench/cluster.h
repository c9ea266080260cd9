/*
 * Processes the benchmark starts: NATS servers and nodes.
 *
 * Decides: their command lines, and when they are ready. Must not measure. Invariant: whatever was started ends with
 * cluster_stop(), by its pid, or with this process, and its folder goes too.
 */
#ifndef ROOMBENCH_CLUSTER_H
#define ROOMBENCH_CLUSTER_H

#include <stdbool.h>
#include <sys/types.h>

enum { CLUSTER_NODES = 2, CLUSTER_NATS = 3, CLUSTER_ADDRESS = 64, CLUSTER_ID = 32, CLUSTER_OPTIONS = 8 };

struct cluster {
    unsigned count; /* of nodes */
    pid_t nats[CLUSTER_NATS], nodes[CLUSTER_NODES];
    char nats_url[CLUSTER_ADDRESS]; /* of the first, which everybody uses: floors are as far from a stream's leader as nodes */
    char id[CLUSTER_NODES][CLUSTER_ID];
    char address[CLUSTER_NODES][CLUSTER_ADDRESS]; /* host:port */
    char folder[64];
};

struct cluster_plan {
    const char *roomd, *nats_server;
    unsigned nats, nodes;       /* 1 or CLUSTER_NATS; CLUSTER_NODES at most */
    const char *const *options; /* of the nodes, CLUSTER_OPTIONS words at most, then NULL; NULL: none */
};

/* NATS servers, and nodes whose rooms stay when they are empty, and who know two types more: `tally`, a counter without a
 * journal, and `board`, a state without snapshots. 0, or -1 with the reason on standard error; nothing runs then. Waits until
 * all are ready, 30 s at most. */
int cluster_start(struct cluster *c, const struct cluster_plan *plan);
void cluster_stop(struct cluster *c);
/* kill -9; returns when the process is gone. */
void cluster_kill(struct cluster *c, unsigned node);
/* Puts this process, `other` and everything of the cluster on one processor, or lets them go where they like again. */
void cluster_pin(const struct cluster *c, pid_t other, bool on);
/* Processor time used by the process so far, in microseconds; 0 if it cannot be read. */
double cluster_cpu_us(pid_t pid);
/* Processor time of a node's loop thread in microseconds; 0 if it cannot be read. */
double cluster_loop_us(pid_t pid);
/* Resident memory in bytes; 0 if it cannot be read. */
double cluster_rss(pid_t pid);

#endif
