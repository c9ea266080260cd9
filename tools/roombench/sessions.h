/*
 * What it costs that players keep their session: to log in, to come back, to be pushed to, to be kept.
 *
 * Decides: the scenarios of sessions, and their targets. Each function measures on the cluster of two nodes that it is given
 * and adds its rows. 0, or -1 with the reason on standard error: a figure of a run that lost a session or a seat is none.
 */
#ifndef ROOMBENCH_SESSIONS_H
#define ROOMBENCH_SESSIONS_H

#include <stdbool.h>

#include "tools/roombench/cluster.h"
#include "tools/roombench/floors.h"
#include "tools/roombench/table.h"

struct sessions {
    struct cluster *cluster;
    struct floors *floors;
    struct table *table;
    unsigned rounds, trips;
    bool quick;
};

/* What the nodes are started with: where memory is measured, and for the others. */
extern const char *const sessions_memory_options[], *const sessions_options[];

/* Fresh nodes. */
int sessions_memory(const struct sessions *s);
int sessions_logins(const struct sessions *s);
int sessions_pushes(const struct sessions *s);
/* The second node is killed. */
int sessions_resumes(const struct sessions *s);

#endif
