/*
 * Floors: what this machine, libuv and NATS give without roomd, measured in the same run.
 *
 * Decides: how each floor is measured. Knows nothing of roomd. Each function runs one round and returns its median, or a
 * rate per second; negative: it could not be measured.
 */
#ifndef ROOMBENCH_FLOORS_H
#define ROOMBENCH_FLOORS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tools/roombench/stats.h"

struct floors;

/* Starts an echo server on libuv in a process of its own, and connects to it and to NATS. NULL with the reason on standard
 * error. Returns owned. */
struct floors *floors_create(const char *nats_url);
void floors_destroy(struct floors *f);
/* The echo server's process. */
pid_t floors_echo_pid(const struct floors *f);

/* Microseconds of one round trip of 64 bytes with a 4-byte length through the echo server. */
double floors_echo_us(struct floors *f, unsigned rounds);
/* Connections that are opened at once, and each had 64 bytes echoed, per second; 1000 at most. */
double floors_connect_rate(struct floors *f, unsigned count);
/* Microseconds of a request and its reply; both ends are this process on two connections. Each is added to `all`, too; may be
 * NULL. */
double floors_request_us(struct floors *f, unsigned rounds, struct stats *all);
/* Published messages of 64 bytes per second, flushed at the end. */
double floors_publish_rate(struct floors *f, unsigned count);
/* Deliveries per second of a bare loop: one write per client and message to `clients` TCP connections, read by another
 * process. */
double floors_fanout_rate(unsigned clients, unsigned messages);
/* Nanoseconds of finding a room by its id in a node's own copy of the listing, with so many listed. Negative: no memory. */
double floors_lookup_ns(unsigned rooms, unsigned rounds);
/* Microseconds of a publish of `bytes` bytes to a stream and its acknowledgement, each with the sequence expected on the
 * subject. `subject` must be bound to a stream, and nobody else may write to it, nor may it change from call to call. `all`:
 * as above. */
double floors_append_us(struct floors *f, const char *subject, unsigned bytes, unsigned rounds, struct stats *all);
/* Entries of `bytes` bytes made in the bucket per second, all asked for at once: under names of their own, each on condition
 * that there is none yet. */
double floors_put_rate(struct floors *f, const char *bucket, unsigned bytes, unsigned count);
/* Bytes of the last message on that subject; 0: there is none. */
unsigned floors_last_bytes(struct floors *f, const char *stream, const char *subject);
/* The sequence number of a stream's last message; 0: no answer, or none. */
unsigned long long floors_last_change(struct floors *f, const char *stream);
/* Waits until the bucket has not changed for half a second; false with the reason on standard error after 60 s. What was
 * still being listed would be measured, too. */
bool floors_settled(struct floors *f, const char *bucket);

#endif
