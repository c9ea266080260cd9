/*
 * A loop thread in miniature for tests of a bus: drains, remembers what came, waits for conditions.
 *
 * Decides nothing about the bus. Invariant: every DONE is counted, so that a test can demand exactly one per token.
 */
#ifndef SUPPORT_BUS_DRIVER_H
#define SUPPORT_BUS_DRIVER_H

#include "bus/bus_nats.h"

enum { DRIVER_TOKENS = 16384, DRIVER_KEYS = 16384 };

struct driver_done {
    int count;
    enum bus_result result;
    uint64_t revision;
    char data[256]; /* its beginning */
    size_t len;
    uint64_t sum; /* XXH3 of all data */
    int64_t at_us;
};

struct driver {
    struct bus *bus;
    int wake_fd; /* eventfd */
    struct driver_done done[DRIVER_TOKENS];
    size_t messages;
    uint64_t lost;
    char last_subject[128];
    char last_reply[256];
    char last_data[256];
    size_t up, down, syncs, synced, entries, in_sync, synced_entries;
    size_t kept, wrongly_kept; /* in listings: as told before, or not told before */
    uint64_t revision[DRIVER_KEYS]; /* by the number at the end of the key; 0: not there */
    bool echo;                      /* answer every message that has a reply subject with its own data */
    size_t logs;
    char last_log[320];
};

/* `d` is zeroed. Takes over wake and log of `config`. */
int driver_open(struct driver *d, struct bus_nats_config *config, struct err_detail *detail);
/* The same around a bus that exists already and needs no wake. */
void driver_wrap(struct driver *d, struct bus *bus);
void driver_close(struct driver *d);
/* One turn: drains all, then waits up to `wait_ms` for a wake. */
void driver_turn(struct driver *d, int wait_ms);
/* Turns until token is done; false at the deadline. */
bool driver_wait(struct driver *d, uint64_t token, int timeout_ms);
/* Turns until *counter >= want. */
bool driver_until(struct driver *d, const size_t *counter, size_t want, int timeout_ms);

#endif
