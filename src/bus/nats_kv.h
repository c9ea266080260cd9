/*
 * Key-value operations as JetStream sees them: request bodies, and the answers to them and to what logs ask.
 *
 * Pure functions, any thread. Decides what an answer means; must not know who asked. Invariant: every answer comes from
 * outside and is one of the outcomes below, however broken.
 */
#ifndef BUS_NATS_KV_H
#define BUS_NATS_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    NATS_KV_WRONG_SEQUENCE = 10071,
    NATS_KV_WRONG_SEQUENCE_BUSY = 10164, /* another write of that key is under way */
    NATS_KV_TOO_MANY = 10167,            /* the stream's queue was full (2.11 and later): not taken */
    NATS_KV_NO_MESSAGE = 10037,
    NATS_KV_EXISTS = 10058,
    NATS_KV_NOT_CLUSTERED = 10074,
    NATS_KV_NO_PEERS = 10005,
    NATS_KV_NO_RESOURCES = 10023
};

struct nats_kv_answer {
    bool valid;     /* it was JSON of the expected form */
    int code;       /* HTTP-like; 0: no error */
    int err_code;   /* JetStream's */
    uint64_t seq;   /* of the write or of the message read; of the last one if a wrong sequence was told */
    bool deleted;   /* read: the message is a bucket's delete marker */
    uint8_t *data;  /* read: owned, free() */
    size_t len;
    uint64_t pending; /* consumer: messages to come */
    uint64_t given;   /* consumer: messages already sent */
    char text[160];
};

struct nats_kv_bucket {
    const char *name;      /* with the prefix */
    const char *republish; /* destination up to the last dot, or NULL */
    int64_t ttl_ms;
    int replicas;
};

/* `out` is an initialised buffer; check out->failed. */
void nats_kv_bucket_body(struct buf *out, const struct nats_kv_bucket *bucket);
void nats_kv_list_body(struct buf *out, const char *bucket, const char *deliver);
void nats_kv_get_body(struct buf *out, const char *bucket, const char *key);
/* Caller frees answer->data. */
void nats_kv_parse(const char *data, size_t len, struct nats_kv_answer *answer);
/* Stream sequence and messages left from a `$JS.ACK` reply subject (9 or at least 11 tokens). */
bool nats_kv_ack_parse(const char *reply, uint64_t *stream_seq, uint64_t *pending);

#endif
