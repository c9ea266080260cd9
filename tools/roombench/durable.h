/*
 * What it costs that rooms outlive their owner, and how fast they are back.
 *
 * Decides: the scenarios of journals, snapshots and recovery, and their targets. Each function measures on the cluster it is
 * given and adds its rows. 0, or -1 with the reason on standard error.
 */
#ifndef ROOMBENCH_DURABLE_H
#define ROOMBENCH_DURABLE_H

#include <stdbool.h>

#include "tools/roombench/cluster.h"
#include "tools/roombench/floors.h"
#include "tools/roombench/table.h"

struct durable {
    struct cluster *cluster;
    unsigned replicas; /* of the journals */
    struct floors *floors;
    struct table *table;
    unsigned rounds, trips;
    bool quick;
};

/* What the nodes are started with: for two nodes, and for one whose snapshots are measured. */
extern const char *const durable_options[], *const durable_snapshot_options[];

/* Two nodes. */
int durable_journal(const struct durable *d);
/* One node. */
int durable_snapshots(const struct durable *d);
/* Two nodes, of which the second is killed. */
int durable_recovery(const struct durable *d);
int durable_lost(const struct durable *d);

#endif
