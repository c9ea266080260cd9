/*
 * How long one look over a matchmaking queue takes.
 *
 * Decides: the queues and tickets that are looked over. In this process, without NATS: it is the share of the loop that is
 * measured; what the writes cost is the bucket's.
 */
#ifndef ROOMBENCH_QUEUE_H
#define ROOMBENCH_QUEUE_H

#include "tools/roombench/table.h"

/* A row for each number of tickets; `rounds` of each, the middle one counts. 0, or -1 with the reason on standard error. */
int queue_cycles(struct table *t, unsigned rounds);

#endif
