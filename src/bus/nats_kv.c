/*
 * JetStream's JSON for nats_kv.h.
 *
 * Must not know connections or retries. Invariant: nothing from an answer is used before its type and bounds were checked.
 */
#include "bus/nats_kv.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"

static const int64_t DUPLICATE_WINDOW_MS = 120000;

void nats_kv_bucket_body(struct buf *out, const struct nats_kv_bucket *k)
{
    int64_t window = k->ttl_ms > 0 && k->ttl_ms < DUPLICATE_WINDOW_MS ? k->ttl_ms : DUPLICATE_WINDOW_MS;
    buf_printf(out,
               "{\"name\":\"KV_%s\",\"subjects\":[\"$KV.%s.>\"],\"retention\":\"limits\",\"max_consumers\":-1,"
               "\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":%" PRId64 ",\"max_msgs_per_subject\":1,"
               "\"max_msg_size\":-1,\"storage\":\"file\",\"discard\":\"new\",\"num_replicas\":%d,"
               "\"duplicate_window\":%" PRId64 ",\"allow_rollup_hdrs\":true,\"deny_delete\":true,"
               "\"allow_direct\":true",
               k->name, k->name, k->ttl_ms * 1000000, k->replicas, window * 1000000);
    if (k->republish)
        buf_printf(out, ",\"republish\":{\"src\":\"$KV.%s.>\",\"dest\":\"%s.>\"}", k->name, k->republish);
    buf_text(out, "}");
}

void nats_kv_list_body(struct buf *out, const char *bucket, const char *deliver)
{
    buf_printf(out,
               "{\"stream_name\":\"KV_%s\",\"config\":{\"deliver_subject\":\"%s\","
               "\"deliver_policy\":\"last_per_subject\",\"ack_policy\":\"none\",\"filter_subject\":\"$KV.%s.>\","
               "\"replay_policy\":\"instant\",\"inactive_threshold\":5000000000,\"mem_storage\":true,"
               "\"num_replicas\":1}}",
               bucket, deliver, bucket);
}

void nats_kv_get_body(struct buf *out, const char *bucket, const char *key)
{
    buf_printf(out, "{\"last_by_subj\":\"$KV.%s.%s\"}", bucket, key);
}

/* Owned, NUL-terminated beyond `len`; NULL: no memory or not base64. */
static uint8_t *decoded(const char *text, size_t n, size_t *len)
{
    uint8_t *out = malloc(n / 4 * 3 + 1);
    *len = 0;
    if (out && base64_decode(text, n, out, len)) {
        out[*len] = 0;
        return out;
    }
    free(out);
    return NULL;
}

static bool is_marker(json_t *message)
{
    json_t *field = json_object_get(message, "hdrs");
    size_t len;
    if (!json_is_string(field))
        return false;
    char *headers = (char *)decoded(json_string_value(field), json_string_length(field), &len);
    bool marker = headers && (strstr(headers, "KV-Operation: DEL") || strstr(headers, "KV-Operation:DEL") ||
                              strstr(headers, "KV-Operation: PURGE") || strstr(headers, "KV-Operation:PURGE") ||
                              strstr(headers, "Nats-Marker-Reason:"));
    free(headers);
    return marker;
}

static void parse_message(json_t *message, struct nats_kv_answer *a)
{
    json_t *field = json_object_get(message, "data");
    a->seq = (uint64_t)json_integer_value(json_object_get(message, "seq"));
    a->valid = a->seq > 0;
    a->deleted = is_marker(message);
    a->data = decoded(json_is_string(field) ? json_string_value(field) : "", json_string_length(field), &a->len);
    if (!a->data)
        a->valid = false;
}

static void parse_error(json_t *error, struct nats_kv_answer *a)
{
    const char *text = json_string_value(json_object_get(error, "description"));
    a->valid = true;
    a->code = (int)json_integer_value(json_object_get(error, "code"));
    a->err_code = (int)json_integer_value(json_object_get(error, "err_code"));
    if (a->code == 0)
        a->code = 500;
    snprintf(a->text, sizeof a->text, "%s", text ? text : "no reason given");
    const char *colon = a->err_code == NATS_KV_WRONG_SEQUENCE ? strrchr(a->text, ':') : NULL;
    if (colon)
        a->seq = strtoull(colon + 1, NULL, 10);
}

void nats_kv_parse(const char *data, size_t len, struct nats_kv_answer *a)
{
    memset(a, 0, sizeof *a);
    snprintf(a->text, sizeof a->text, "not an answer of JetStream");
    json_t *root = len ? json_loadb(data, len, 0, NULL) : NULL;
    json_t *error = json_object_get(root, "error");
    json_t *message = json_object_get(root, "message");
    if (json_is_object(error)) {
        parse_error(error, a);
    } else if (json_is_object(message)) {
        parse_message(message, a);
    } else if (json_is_object(root)) {
        a->seq = (uint64_t)json_integer_value(json_object_get(root, "seq"));
        a->pending = (uint64_t)json_integer_value(json_object_get(root, "num_pending"));
        a->given = (uint64_t)json_integer_value(json_object_get(json_object_get(root, "delivered"), "consumer_seq"));
        a->valid = true;
    }
    json_decref(root);
}

/* $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, and with <domain>.<account> after
 * ACK and possibly more at the end. */
bool nats_kv_ack_parse(const char *reply, uint64_t *stream_seq, uint64_t *pending)
{
    const char *token[16];
    int count = 0;
    if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0)
        return false;
    for (const char *at = reply; at && count < 16; count++) {
        token[count] = at;
        at = strchr(at, '.');
        at = at ? at + 1 : NULL;
    }
    if (count != 9 && count < 11)
        return false;
    int shift = count == 9 ? 0 : 2;
    *stream_seq = strtoull(token[5 + shift], NULL, 10);
    *pending = strtoull(token[8 + shift], NULL, 10);
    return *stream_seq > 0;
}
