/*
 * A crowd: players who sit in thousands of rooms, in one thread.
 *
 * Decides: how rooms are dealt out to players (CROWD_EACH to each) and how long a step may take (WAIT_S). Must not know what
 * is measured with it. A failure is told on standard error once, by the function that returns it as -1 (or NULL).
 */
#ifndef ROOMBENCH_CROWD_H
#define ROOMBENCH_CROWD_H

#include <stddef.h>
#include <stdint.h>

enum { CROWD_EACH = 250 };

struct crowd;

/* Players for `rooms` rooms, connected to that server; they can only be relayed. Returns owned. */
struct crowd *crowd_open(const char *server, const char *name, unsigned rooms);
void crowd_close(struct crowd *c);
/* One of them joins each of the rooms `<prefix>-<i>`, or makes it. Microseconds. */
int64_t crowd_enter(struct crowd *c, const char *type, const char *prefix);
/* Into each room one message; until all are acknowledged. Microseconds. */
int64_t crowd_say(struct crowd *c, const void *data, size_t len);
/* Until all seats are lost. Microseconds since `since_us`. */
int64_t crowd_lost(struct crowd *c, int64_t since_us);
/* Handles what comes and what is due; waits for a millisecond at most. */
void crowd_turn(struct crowd *c);

#endif
