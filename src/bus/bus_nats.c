/*
 * The loop's side of the NATS bus: checks the arguments, copies them into a command, hands out events.
 *
 * Decides what is refused at once (disconnected, full, too big, invalid). Must not call nats.c. Invariant: nothing here
 * waits: a call is a bounds check, one allocation and a list append.
 */
#include "bus/bus_nats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/nats_engine.h"

enum {
    DEFAULT_QUEUE_COUNT = 262144,
    DEFAULT_QUEUE_BYTES = 64 << 20,
    DEFAULT_OPS = 16384,
    DEFAULT_WAIT_MS = 5000,
    DEFAULT_LIST_MS = 60000,
    MAX_TIMEOUT_MS = 3600000,
    HEADERS_MAX = 128 /* of a write; the server counts them as payload */
};

static struct bus_nats *self(struct bus *b)
{
    return (struct bus_nats *)(void *)b;
}

/* `prefix.` in front, but not before inboxes and not before what a tab marks as complete. */
static int full_subject(const struct bus_nats *b, const char *s, bool wildcards, char out[NATS_SUBJECT_SIZE])
{
    bool complete = s && *s == '\t' && b->prefix_len;
    if (complete)
        s++;
    if (!subject_valid(s, wildcards))
        return ROOM_E_INVALID;
    complete = complete || !b->prefix_len || strncmp(s, "_INBOX.", 7) == 0;
    if (complete)
        snprintf(out, NATS_SUBJECT_SIZE, "%s", s);
    else
        snprintf(out, NATS_SUBJECT_SIZE, "%.*s.%s", (int)b->prefix_len - 1, b->config.prefix, s);
    return 0;
}

static int full_bucket(const struct bus_nats *b, const char *bucket, char out[NATS_SUBJECT_SIZE])
{
    if (!subject_bucket_valid(bucket))
        return ROOM_E_INVALID;
    snprintf(out, NATS_SUBJECT_SIZE, "%s%s", b->config.prefix, bucket);
    return 0;
}

static int ready(const struct bus_nats *b, size_t len)
{
    if (b->closed || !(atomic_load(&b->epoch) & 1))
        return ROOM_E_DISCONNECTED;
    return (long long)len > atomic_load(&b->max_payload) ? ROOM_E_TOO_BIG : 0;
}

static struct cmd *cmd_new(enum cmd_kind kind, const char *a, const char *b, const void *data, size_t len)
{
    size_t a_size = a ? strlen(a) + 1 : 0, b_size = b ? strlen(b) + 1 : 0;
    struct cmd *cmd = calloc(1, sizeof *cmd + a_size + b_size + len);
    if (!cmd)
        return NULL;
    char *at = (char *)(cmd + 1);
    cmd->item.size = sizeof *cmd + a_size + b_size + len;
    cmd->kind = kind;
    cmd->a = a ? memcpy(at, a, a_size) : NULL;
    cmd->b = b ? memcpy(at + a_size, b, b_size) : NULL;
    cmd->data = (uint8_t *)at + a_size + b_size;
    cmd->len = len;
    if (len)
        memcpy(at + a_size + b_size, data, len);
    return cmd;
}

/* Takes `cmd`. */
static int submit(struct bus_nats *b, struct cmd *cmd, bool always)
{
    if (!cmd)
        return ROOM_E_NO_MEMORY;
    if (queue_push(&b->commands, &cmd->item, always) == QUEUE_FULL) {
        free(cmd);
        return ROOM_E_FULL;
    }
    b->dirty = true;
    return 0;
}

static int submit_op(struct bus_nats *b, struct cmd *cmd, uint64_t token, int timeout_ms)
{
    if (!cmd)
        return ROOM_E_NO_MEMORY;
    if (timeout_ms <= 0 || timeout_ms > MAX_TIMEOUT_MS || b->open_ops >= b->config.max_ops) {
        free(cmd);
        return timeout_ms <= 0 || timeout_ms > MAX_TIMEOUT_MS ? ROOM_E_INVALID : ROOM_E_FULL;
    }
    cmd->token = token;
    cmd->deadline_us = nats_now_us() + (int64_t)timeout_ms * 1000;
    int err = submit(b, cmd, false);
    if (err == 0)
        b->open_ops++;
    return err;
}

static int nats_publish(struct bus *bus, const char *subject, const char *reply, const void *data, size_t len)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE], full_reply[NATS_SUBJECT_SIZE];
    int err = ready(b, len);
    if (err == 0)
        err = full_subject(b, subject, false, full);
    if (err == 0 && reply)
        err = full_subject(b, reply, false, full_reply);
    if (err == 0 && atomic_load(&b->commands.bytes) + len > b->commands.max_bytes)
        err = ROOM_E_FULL;
    return err ? err : submit(b, cmd_new(CMD_PUBLISH, full, reply ? full_reply : NULL, data, len), false);
}

static int nats_request(struct bus *bus, uint64_t token, const char *subject, const void *data, size_t len,
                        int timeout_ms)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE];
    int err = ready(b, len);
    if (err == 0)
        err = full_subject(b, subject, false, full);
    return err ? err : submit_op(b, cmd_new(CMD_REQUEST, full, NULL, data, len), token, timeout_ms);
}

static int nats_subscribe(struct bus *bus, uint32_t sub, const char *subject)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE];
    int err = b->closed ? ROOM_E_DISCONNECTED : full_subject(b, subject, true, full);
    struct cmd *cmd = err ? NULL : cmd_new(CMD_SUBSCRIBE, full, NULL, NULL, 0);
    if (cmd)
        cmd->sub = sub;
    return err ? err : submit(b, cmd, false);
}

static int nats_unsubscribe(struct bus *bus, uint32_t sub)
{
    struct bus_nats *b = self(bus);
    struct cmd *cmd = b->closed ? NULL : cmd_new(CMD_UNSUBSCRIBE, NULL, NULL, NULL, 0);
    if (cmd)
        cmd->sub = sub;
    return b->closed ? ROOM_E_DISCONNECTED : submit(b, cmd, false);
}

static int nats_kv_bucket(struct bus *bus, uint64_t token, const struct bus_bucket *bucket, int timeout_ms)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE];
    int err = ready(b, 0);
    if (err == 0)
        err = full_bucket(b, bucket->name, full);
    if (err == 0 && (bucket->ttl_ms < 0 || bucket->ttl_ms > INT64_MAX / 1000000 || bucket->replicas < 0 ||
                     bucket->replicas > 5))
        err = ROOM_E_INVALID;
    struct cmd *cmd = err ? NULL : cmd_new(CMD_BUCKET, full, NULL, NULL, 0);
    if (cmd) {
        cmd->ttl_ms = bucket->ttl_ms;
        cmd->replicas = bucket->replicas;
        cmd->watched = bucket->watched;
    }
    return err ? err : submit_op(b, cmd, token, timeout_ms);
}

static int nats_kv_watch(struct bus *bus, const char *bucket)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE];
    int err = b->closed ? ROOM_E_DISCONNECTED : full_bucket(b, bucket, full);
    return err ? err : submit(b, cmd_new(CMD_WATCH, full, NULL, NULL, 0), false);
}

struct write {
    enum cmd_kind kind;
    uint64_t token, expected;
    const char *bucket, *key;
    const void *data;
    size_t len;
    int timeout_ms;
};

static int key_op(struct bus *bus, const struct write *w)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE];
    int err = ready(b, w->len + HEADERS_MAX);
    if (err == 0)
        err = full_bucket(b, w->bucket, full);
    if (err == 0 && !subject_key_valid(w->key))
        err = ROOM_E_INVALID;
    struct cmd *cmd = err ? NULL : cmd_new(w->kind, full, w->key, w->data, w->len);
    if (cmd)
        cmd->expected = w->expected;
    return err ? err : submit_op(b, cmd, w->token, w->timeout_ms);
}

static int nats_kv_get(struct bus *bus, uint64_t token, const char *bucket, const char *key, int timeout_ms)
{
    return key_op(bus, &(struct write){CMD_GET, token, 0, bucket, key, NULL, 0, timeout_ms});
}

static int nats_kv_put(struct bus *bus, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                       const void *data, size_t len, int timeout_ms)
{
    return key_op(bus, &(struct write){CMD_PUT, token, expected, bucket, key, data, len, timeout_ms});
}

static int nats_kv_delete(struct bus *bus, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                          int timeout_ms)
{
    return key_op(bus, &(struct write){CMD_DELETE, token, expected, bucket, key, NULL, 0, timeout_ms});
}

/* ---- logs ---- */

static int nats_stream(struct bus *bus, uint64_t token, const struct bus_stream *stream, int timeout_ms)
{
    struct bus_nats *b = self(bus);
    char name[NATS_SUBJECT_SIZE], subjects[NATS_SUBJECT_SIZE];
    int err = ready(b, 0);
    if (err == 0 && (!subject_pattern_valid(stream->subjects) || stream->replicas < 0 || stream->replicas > 5 ||
                     stream->ttl_ms < 0 || stream->ttl_ms > INT64_MAX / 1000000 || stream->max_per_subject < 0))
        err = ROOM_E_INVALID;
    if (err == 0)
        err = full_bucket(b, stream->name, name);
    if (err == 0)
        err = full_subject(b, stream->subjects, true, subjects);
    struct cmd *cmd = err ? NULL : cmd_new(CMD_STREAM, name, subjects, NULL, 0);
    if (cmd) {
        cmd->replicas = stream->replicas;
        cmd->ttl_ms = stream->ttl_ms;
        cmd->max_per_subject = stream->max_per_subject;
    }
    return err ? err : submit_op(b, cmd, token, timeout_ms);
}

static int nats_log_append(struct bus *bus, uint64_t token, const char *subject, uint64_t expected, const void *data,
                           size_t len, int timeout_ms)
{
    struct bus_nats *b = self(bus);
    char full[NATS_SUBJECT_SIZE];
    int err = ready(b, len + HEADERS_MAX);
    if (err == 0)
        err = subject_key_valid(subject) && expected != BUS_ANY_REVISION ? full_subject(b, subject, false, full)
                                                                         : ROOM_E_INVALID;
    struct cmd *cmd = err ? NULL : cmd_new(CMD_APPEND, full, NULL, data, len);
    if (cmd)
        cmd->expected = expected;
    return err ? err : submit_op(b, cmd, token, timeout_ms);
}

/* `number`: from, below */
static int log_op(struct bus *bus, enum cmd_kind kind, uint64_t token, const char *stream, const char *subject,
                  uint64_t number, int timeout_ms)
{
    struct bus_nats *b = self(bus);
    char name[NATS_SUBJECT_SIZE], full[NATS_SUBJECT_SIZE];
    int err = ready(b, 0);
    if (err == 0)
        err = full_bucket(b, stream, name);
    if (err == 0)
        err = subject_key_valid(subject) ? full_subject(b, subject, false, full) : ROOM_E_INVALID;
    struct cmd *cmd = err ? NULL : cmd_new(kind, name, full, NULL, 0);
    if (cmd)
        cmd->expected = number;
    return err ? err : submit_op(b, cmd, token, timeout_ms);
}

static int nats_log_last(struct bus *bus, uint64_t token, const char *stream, const char *subject, int timeout_ms)
{
    return log_op(bus, CMD_LAST, token, stream, subject, 0, timeout_ms);
}

static int nats_log_next(struct bus *bus, uint64_t token, const char *stream, const char *subject, uint64_t from,
                         int timeout_ms)
{
    return log_op(bus, CMD_NEXT, token, stream, subject, from, timeout_ms);
}

static int nats_log_purge(struct bus *bus, uint64_t token, const char *stream, const char *subject, uint64_t below,
                          int timeout_ms)
{
    return log_op(bus, CMD_PURGE, token, stream, subject, below, timeout_ms);
}

static void nats_flush(struct bus *bus)
{
    struct bus_nats *b = self(bus);
    if (b->dirty)
        wake_send(&b->wake);
    b->dirty = false;
}

/* Up and down are read from a counter and not queued, so that a flapping connection cannot fill the queue. */
static size_t drain_state(struct bus_nats *b, bus_handler *handler, void *arg)
{
    unsigned epoch = atomic_load(&b->epoch);
    size_t n = 0;
    if (epoch == b->seen_epoch)
        return 0;
    b->seen_epoch = epoch;
    if (b->seen_up) {
        b->seen_up = false;
        handler(arg, &(struct bus_event){.kind = BUS_EV_DOWN});
        n++;
    }
    if (epoch & 1) {
        b->seen_up = true;
        handler(arg, &(struct bus_event){.kind = BUS_EV_UP});
        n++;
    }
    return n;
}

static size_t nats_drain(struct bus *bus, bus_handler *handler, void *arg, size_t max_events)
{
    struct bus_nats *b = self(bus);
    struct queue_item *item;
    size_t n = drain_state(b, handler, arg);
    while (n < max_events && (item = queue_pop(&b->events))) {
        struct event_item *e = (struct event_item *)item;
        if (e->log >= 0) {
            if (b->config.log)
                b->config.log(b->config.log_arg, (enum bus_log_level)e->log, e->ev.subject);
        } else {
            if (e->ev.kind == BUS_EV_DONE)
                b->open_ops--;
            handler(arg, &e->ev);
            n++;
        }
        queue_done(&b->events, item);
    }
    nats_flush(bus);
    return n;
}

static void nats_close(struct bus *bus)
{
    struct bus_nats *b = self(bus);
    struct cmd *cmd = b->closed ? NULL : cmd_new(CMD_CLOSE, NULL, NULL, NULL, 0);
    if (!cmd)
        return;
    b->closed = submit(b, cmd, true) == 0;
    nats_flush(bus);
}

static const struct bus_ops OPS = {nats_publish, nats_request, nats_subscribe, nats_unsubscribe, nats_kv_bucket,
                                   nats_kv_watch, nats_kv_get, nats_kv_put, nats_kv_delete, nats_stream,
                                   nats_log_append, nats_log_last, nats_log_next, nats_log_purge, nats_drain,
                                   nats_flush, nats_close};

/* ---- lifecycle ---- */

static bool copy_text(struct bus_nats *b, size_t slot, const char **field, const char *otherwise)
{
    const char *s = *field ? *field : otherwise;
    *field = NULL;
    if (!s)
        return true;
    b->strings[slot] = strdup(s);
    *field = b->strings[slot];
    return *field != NULL;
}

/* The prefix is kept as it stands before bucket names: "p_", or "" without one. */
static int set_prefix(struct bus_nats *b, struct err_detail *detail)
{
    char prefix[SUBJECT_PREFIX_MAX + 2] = "";
    const char *p = b->config.prefix;
    if (p && *p) {
        if (strlen(p) > SUBJECT_PREFIX_MAX || !subject_bucket_valid(p))
            return err_set(detail, ROOM_E_INVALID, "invalid prefix '%.40s': use 1 to %d of A-Z a-z 0-9 _ -", p,
                           SUBJECT_PREFIX_MAX);
        snprintf(prefix, sizeof prefix, "%s_", p);
    }
    b->config.prefix = prefix;
    b->prefix_len = strlen(prefix);
    return copy_text(b, 2, &b->config.prefix, "") ? 0 : ROOM_E_NO_MEMORY;
}

static int set_config(struct bus_nats *b, const struct bus_nats_config *config, struct err_detail *detail)
{
    struct bus_nats_config *c = &b->config;
    *c = *config;
    int err = set_prefix(b, detail);
    if (err)
        return err;
    if (!copy_text(b, 0, &c->urls, "nats://127.0.0.1:4222") || !copy_text(b, 1, &c->name, "roomd") ||
        !copy_text(b, 3, &c->creds, NULL) || !copy_text(b, 4, &c->tls_ca, NULL) ||
        !copy_text(b, 5, &c->tls_cert, NULL) || !copy_text(b, 6, &c->tls_key, NULL))
        return ROOM_E_NO_MEMORY;
    if (c->replicas != 0 && c->replicas != 1 && c->replicas != 3 && c->replicas != 5)
        return err_set(detail, ROOM_E_INVALID, "invalid replicas '%d': use auto, 1, 3 or 5", c->replicas);
    c->connect_wait_ms = c->connect_wait_ms > 0 ? c->connect_wait_ms : DEFAULT_WAIT_MS;
    c->max_queue_count = c->max_queue_count ? c->max_queue_count : DEFAULT_QUEUE_COUNT;
    c->max_queue_bytes = c->max_queue_bytes ? c->max_queue_bytes : DEFAULT_QUEUE_BYTES;
    c->max_ops = c->max_ops ? c->max_ops : DEFAULT_OPS;
    c->list_ms = c->list_ms > 0 ? c->list_ms : DEFAULT_LIST_MS;
    c->keep_deleted_ms = c->keep_deleted_ms > 0 ? c->keep_deleted_ms : BUS_KEEP_DELETED_MS;
    return 0;
}

static void drop_all(struct queue *q)
{
    struct queue_item *item;
    while ((item = queue_pop(q)))
        queue_done(q, item);
    queue_deinit(q);
}

static void dispose(struct bus_nats *b)
{
    drop_all(&b->commands);
    drop_all(&b->inbound);
    drop_all(&b->events);
    for (size_t i = 0; i < sizeof b->strings / sizeof b->strings[0]; i++)
        free(b->strings[i]);
    uv_sem_destroy(&b->started);
    wake_deinit(&b->wake);
    uv_loop_close(&b->loop);
    free(b);
}

static int begin_thread(struct bus_nats *b, struct err_detail *detail)
{
    uint64_t seed[2];
    rng_secret(seed, sizeof seed);
    rng_init(&b->rng, seed[0]);
    snprintf(b->inbox, sizeof b->inbox, "_INBOX.%016llx%016llx", (unsigned long long)seed[0],
             (unsigned long long)seed[1]);
    if (nats_loop_init(b) != 0)
        return err_set(detail, ROOM_E_IO, "cannot watch sockets: no descriptor is free");
    if (uv_thread_create(&b->thread, nats_thread, b) != 0)
        return err_set(detail, ROOM_E_NO_MEMORY, "cannot start the bus thread");
    uv_sem_wait(&b->started);
    if (b->start_error == 0)
        return 0;
    int err = b->start_error;
    uv_thread_join(&b->thread);
    return err_set(detail, err, "%s", b->start_detail.text);
}

int bus_nats_create(const struct bus_nats_config *config, struct bus **out, struct err_detail *detail)
{
    struct bus_nats *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    b->bus.ops = &OPS;
    b->wake.fd = -1;
    uv_sem_init(&b->started, 0);
    uv_loop_init(&b->loop);
    int err = set_config(b, config, detail);
    queue_init(&b->commands, b->config.max_queue_count, b->config.max_queue_bytes);
    queue_init(&b->inbound, b->config.max_queue_count, b->config.max_queue_bytes);
    queue_init(&b->events, b->config.max_queue_count, b->config.max_queue_bytes);
    if (err == 0)
        err = begin_thread(b, detail);
    if (err) {
        dispose(b);
        return err;
    }
    *out = &b->bus;
    return 0;
}

void bus_nats_destroy(struct bus *bus)
{
    if (!bus)
        return;
    struct bus_nats *b = self(bus);
    while (!b->closed)
        nats_close(bus);
    uv_thread_join(&b->thread);
    dispose(b);
}

const char *bus_nats_server_version(const struct bus *bus)
{
    return ((const struct bus_nats *)(const void *)bus)->version;
}

void bus_nats_stats(const struct bus *bus, struct bus_nats_stats *out)
{
    const struct bus_nats *b = (const struct bus_nats *)(const void *)bus;
    out->events = atomic_load(&b->events.count);
    out->event_bytes = atomic_load(&b->events.bytes);
    out->commands = atomic_load(&b->commands.count);
    out->command_bytes = atomic_load(&b->commands.bytes);
    out->open_ops = b->open_ops;
}

int bus_nats_check_version(const char *version, int replicas, bool *warn, struct err_detail *detail)
{
    unsigned major = 0, minor = 0, patch = 0;
    *warn = false;
    if (sscanf(version, "%u.%u.%u", &major, &minor, &patch) != 3)
        return err_set(detail, ROOM_E_UNSUPPORTED, "cannot understand the version '%.30s' of nats-server", version);
    unsigned long number = major * 1000000UL + minor * 1000UL + (patch > 999 ? 999 : patch);
    if (number >= 2010023UL)
        return 0;
    *warn = true;
    if (replicas <= 1)
        return 0;
    return err_set(detail, ROOM_E_UNSUPPORTED,
                   "nats-server %.30s is not safe with %d replicas: compare-and-set has several winners up to 2.9.20 and "
                   "2.10.20 to 2.10.22 can lose a stream: use 2.10.23 or later, or --replicas 1",
                   version, replicas);
}

void bus_nats_library_close(void)
{
    nats_CloseAndWait(2000);
}
