/*
 * Requests about logs as JetStream wants them. Answers are read by nats_kv_parse(): JetStream has one form for both.
 *
 * Pure functions, any thread. Decides how a log's stream is configured; must not know who asks, or retries. Invariant:
 * names and subjects come checked (subject_pattern_valid), so that they stand in JSON as they are.
 */
#ifndef BUS_NATS_LOG_H
#define BUS_NATS_LOG_H

#include <stdint.h>

#include "base/buf.h"

struct nats_log_stream {
    const char *name, *subjects; /* they bear the prefix */
    int replicas;
    int64_t ttl_ms, max_per_subject; /* 0: no limit */
};

/* `out` is an initialised buffer; check out->failed. */
void nats_log_stream_body(struct buf *out, const struct nats_log_stream *s);
void nats_log_last_body(struct buf *out, const char *subject);
void nats_log_next_body(struct buf *out, const char *subject, uint64_t from);
/* `below` must be 2 or more: the server takes 0 and 1 for "all" (seen on 2.10.27). */
void nats_log_purge_body(struct buf *out, const char *subject, uint64_t below);

#endif
