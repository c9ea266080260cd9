/*
 * What every bus must do alike, checked on a driver around any of them.
 *
 * Decides the words and outcomes of logs in fair weather, and that big values pass. Must not know which bus it is.
 * Invariant: streams and buckets are made by the check, so that each runs once on one bus or cluster.
 */
#ifndef SUPPORT_BUS_CHECKS_H
#define SUPPORT_BUS_CHECKS_H

#include "support/bus_driver.h"

/* Append, conflict, last, next, purge, refusals. */
void bus_check_log(struct driver *d);
/* `pass` lets time go by. */
void bus_check_log_age(struct driver *d, void (*pass)(int64_t ms));
/* `count` writers with the same expectation: one wins. The drivers may be one and the same. */
void bus_check_log_race(struct driver **d, int count);
/* Messages and values up to the limit of 1 MiB less 128 bytes. */
void bus_check_big(struct driver *d);

#endif
