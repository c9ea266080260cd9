/*
 * The bus of port/bus.h inside one process: the standalone mode, and unit tests.
 *
 * Decides: the same words and outcomes as bus_nats, without a network: always connected, never unknown except at a
 * deadline. Knows no clock: time is what bus_mem_tick() is told. One thread. Like NATS it does not tell watchers of an
 * expired entry; the listing of every minute does.
 */
#ifndef BUS_BUS_MEM_H
#define BUS_BUS_MEM_H

#include "base/alloc.h"
#include "base/time.h"
#include "port/bus.h"

/* `alloc` is borrowed for the bus's life. At `max_events` waiting events (0: 65536) messages are dropped (BUS_EV_LOST) and
 * publish answers FULL. Returns owned, or NULL: no memory. */
struct bus *bus_mem_create(const struct alloc *alloc, struct mono now, size_t max_events);
void bus_mem_destroy(struct bus *b);

/* Time passes: deadlines, expiry of entries, the listing of every minute. Call it each turn of the loop, before the drain. */
void bus_mem_tick(struct bus *b, struct mono now);

#endif
