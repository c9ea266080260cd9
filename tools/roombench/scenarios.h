/*
 * What is measured, in which order, and beside which floor.
 *
 * Decides: the scenarios and their targets. Must not know sockets.
 */
#ifndef ROOMBENCH_SCENARIOS_H
#define ROOMBENCH_SCENARIOS_H

#include <stdbool.h>

struct scenarios_options {
    const char *roomd, *nats_server; /* paths or names on PATH */
    unsigned rooms;                  /* most other rooms listed while joins are measured; 0: 50,000, quick: 5,000 */
    const char *only;                /* one scenario: memory, speed, journal, replicas, snapshots, lost, sessions, queue; NULL:
                                      * all */
    bool quick, json;
};

/* True if there is a scenario of that name. */
bool scenarios_has(const char *name);
/* Starts the clusters, measures, prints, stops them. 0, or 1 with the reason on standard error. */
int scenarios_run(const struct scenarios_options *options);

#endif
