/*
 * JetStream's JSON for nats_log.h.
 *
 * Must not know connections or retries. Invariant: a stream made here drops nothing by itself but what its limits say.
 */
#include "bus/nats_log.h"

#include <inttypes.h>

/* The least that NATS allows; 0 would mean two minutes. Appends bear no message id: their fence is the sequence. */
static const int64_t DUPLICATE_WINDOW_NS = 100000000;

/* No direct reads: a replica that lags would answer them. */
void nats_log_stream_body(struct buf *out, const struct nats_log_stream *s)
{
    int64_t per_subject = s->max_per_subject ? s->max_per_subject : -1;
    buf_printf(out,
               "{\"name\":\"%s\",\"subjects\":[\"%s\"],\"retention\":\"limits\",\"max_consumers\":-1,\"max_msgs\":-1,"
               "\"max_bytes\":-1,\"max_age\":%" PRId64 ",\"max_msgs_per_subject\":%" PRId64 ",\"max_msg_size\":-1,"
               "\"storage\":\"file\",\"discard\":\"old\",\"num_replicas\":%d,\"duplicate_window\":%" PRId64
               ",\"allow_direct\":false}",
               s->name, s->subjects, s->ttl_ms * 1000000, per_subject, s->replicas, DUPLICATE_WINDOW_NS);
}

void nats_log_last_body(struct buf *out, const char *subject)
{
    buf_printf(out, "{\"last_by_subj\":\"%s\"}", subject);
}

void nats_log_next_body(struct buf *out, const char *subject, uint64_t from)
{
    buf_printf(out, "{\"seq\":%" PRIu64 ",\"next_by_subj\":\"%s\"}", from > 0 ? from : 1, subject);
}

void nats_log_purge_body(struct buf *out, const char *subject, uint64_t below)
{
    buf_printf(out, "{\"filter\":\"%s\",\"seq\":%" PRIu64 "}", subject, below);
}
