/*
 * A loop in miniature around bus_nats: poll on an eventfd, drain, wait for the one answer asked for.
 *
 * Must not know what is asked. Invariant: every wait has a deadline, and a lost connection is waited for within it.
 */
#include "roomctl/connect.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/time.h"
#include "bus/bus_nats.h"
#include "roomctl/settings.h"

enum { BATCH = 256, SUBJECT_SIZE = 320, GRACE_MS = 500, LIST_MS = 10000 };

static void wake(void *arg)
{
    struct conn *c = arg;
    eventfd_write(c->wake_fd, 1);
}

static void keep_log(void *arg, enum bus_log_level level, const char *text)
{
    struct conn *c = arg;
    if (c->log_count < CONN_LOGS)
        snprintf(c->logs[c->log_count++], sizeof c->logs[0], "%s", text);
}

static json_t *entry_of(const char *key, const uint8_t *data, size_t len)
{
    json_t *value = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL), *entry;
    if (json_is_object(value)) {
        entry = json_pack("{s:s}", "id", key);
        json_object_del(value, "id");
        if (entry)
            json_object_update(entry, value);
    } else {
        entry = json_pack("{s:s,s:b}", "id", key, "broken", 1);
    }
    json_decref(value);
    return entry;
}

static void on_entry(struct conn *c, const struct bus_event *ev)
{
    if (!ev->data) {
        json_object_del(c->listing, ev->key);
        return;
    }
    json_t *entry = entry_of(ev->key, ev->data, ev->len);
    if (c->with_revisions && entry)
        json_object_set_new(entry, "revision", json_integer((json_int_t)ev->revision));
    if (json_object_set_new(c->listing, ev->key, entry) != 0)
        c->out_of_memory = true;
}

static void on_done(struct conn *c, const struct bus_event *ev)
{
    struct conn_answer *a = c->waiting;
    while (a && a->token != ev->token)
        a = a->next;
    if (!a)
        return;
    a->data = malloc(ev->len + 1);
    if (!a->data) {
        c->out_of_memory = true;
    } else {
        if (ev->len)
            memcpy(a->data, ev->data, ev->len);
        a->data[ev->len] = 0;
        a->len = ev->len;
    }
    a->result = ev->result;
    a->revision = ev->revision;
    a->done = true;
}

static void on_event(void *arg, const struct bus_event *ev)
{
    struct conn *c = arg;
    bool ours = c->listing && ev->bucket && strcmp(ev->bucket, c->listed_bucket) == 0;
    switch (ev->kind) {
    case BUS_EV_UP:
        c->up = true;
        break;
    case BUS_EV_DOWN:
        c->up = false;
        break;
    case BUS_EV_DONE:
        on_done(c, ev);
        return;
    case BUS_EV_SYNC:
        if (ours) {
            json_object_clear(c->listing);
            c->listed = c->partial = false;
        }
        return;
    case BUS_EV_KEPT: /* a listing of the bus's own, not ours: that one follows */
        c->partial |= ours;
        return;
    case BUS_EV_ENTRY:
        if (ours)
            on_entry(c, ev);
        return;
    case BUS_EV_SYNCED:
        c->listed = c->listed || (ours && !c->partial);
        return;
    case BUS_EV_MESSAGE:
    case BUS_EV_LOST:
        break;
    }
    if (c->on_other)
        c->on_other(c->other_arg, ev);
}

void conn_turn(struct conn *c, int wait_ms)
{
    eventfd_t value;
    struct pollfd p = {.fd = c->wake_fd, .events = POLLIN};
    bus_flush(c->bus);
    if (poll(&p, 1, wait_ms) == 1)
        eventfd_read(c->wake_fd, &value);
    /* One drain takes all: a listing must end with the batch that completes it, before a second one begins. */
    while (!c->listed && bus_drain(c->bus, on_event, c, c->listing ? 1 : BATCH) > 0)
        ;
    bus_flush(c->bus);
}

int conn_open(struct conn *c, const struct options *o, struct err_detail *detail)
{
    struct settings s;
    int err = settings_load(o, &s, detail);
    memset(c, 0, sizeof *c);
    c->wake_fd = -1;
    if (err)
        return err;
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    c->timeout_ms = o->timeout_ms;
    c->prefixed = s.prefix != NULL;
    snprintf(c->prefix, sizeof c->prefix, "%s%s", s.prefix ? s.prefix : "", s.prefix ? "_" : "");
    struct bus_nats_config config = {
        .urls = s.urls, .name = "roomctl", .prefix = s.prefix, .creds = s.creds, .tls_ca = s.tls_ca,
        .tls_cert = s.tls_cert, .tls_key = s.tls_key,
        .replicas = 1, /* we create nothing: doctor must get to see an unsafe NATS too */
        .connect_wait_ms = o->timeout_ms, .wake = wake, .wake_arg = c, .log = keep_log, .log_arg = c,
    };
    err = c->wake_fd < 0 ? err_set(detail, ROOM_E_IO, "cannot make an eventfd")
                         : bus_nats_create(&config, &c->bus, detail);
    if (err)
        settings_redact(detail->text, sizeof detail->text);
    settings_free(&s);
    if (err == 0)
        conn_turn(c, 0);
    return err;
}

void conn_close(struct conn *c)
{
    bus_nats_destroy(c->bus);
    bus_nats_library_close();
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    json_decref(c->listing);
    c->bus = NULL;
    c->listing = NULL;
    c->wake_fd = -1;
}

void conn_answer_free(struct conn_answer *answer)
{
    free(answer->data);
    answer->data = NULL;
}

int conn_begin(struct conn *c, struct conn_answer *a, conn_start *start, const void *arg, const char *name,
               struct err_detail *detail)
{
    struct mono deadline = mono_add_ms(time_mono_now(), c->timeout_ms);
    int err;
    memset(a, 0, sizeof *a);
    a->token = ++c->tokens;
    for (;;) { /* a lost connection is waited for */
        err = start(c, a->token, arg);
        if (err != ROOM_E_DISCONNECTED || mono_reached(time_mono_now(), deadline))
            break;
        conn_turn(c, 20);
    }
    if (err == ROOM_E_DISCONNECTED)
        return err_set(detail, ROOM_E_UNAVAILABLE, "the connection to NATS is lost");
    if (err)
        return err_set(detail, err, "cannot ask '%s': %s", name, room_error_text(err));
    a->due_us = mono_add_ms(time_mono_now(), c->timeout_ms + GRACE_MS).us;
    a->next = c->waiting;
    c->waiting = a;
    return 0;
}

void conn_drop(struct conn *c, struct conn_answer *a)
{
    struct conn_answer **at = &c->waiting;
    while (*at && *at != a)
        at = &(*at)->next;
    if (*at)
        *at = a->next;
    conn_answer_free(a);
}

int conn_end(struct conn *c, struct conn_answer *a, struct err_detail *detail)
{
    while (!a->done && !mono_reached(time_mono_now(), (struct mono){a->due_us}))
        conn_turn(c, 20);
    struct conn_answer answer = *a;
    a->data = NULL;
    conn_drop(c, a);
    *a = answer;
    if (a->done && a->data)
        return 0;
    return a->done ? err_set(detail, ROOM_E_NO_MEMORY, "out of memory")
                   : err_set(detail, ROOM_E_UNAVAILABLE, "no answer from the NATS connection");
}

struct question {
    const char *subject, *bucket, *text; /* bucket NULL: a request */
};

static int start_question(struct conn *c, uint64_t token, const void *arg)
{
    const struct question *q = arg;
    return q->bucket ? bus_kv_get(c->bus, token, q->bucket, q->subject, c->timeout_ms)
                     : bus_request(c->bus, token, q->subject, q->text, strlen(q->text), c->timeout_ms);
}

static int ask(struct conn *c, struct conn_answer *a, const struct question *q, struct err_detail *detail)
{
    int err = conn_begin(c, a, start_question, q, q->subject, detail);
    return err ? err : conn_end(c, a, detail);
}

int conn_request(struct conn *c, const char *subject, const char *text, struct conn_answer *out,
                 struct err_detail *detail)
{
    return ask(c, out, &(struct question){subject, NULL, text}, detail);
}

int conn_jetstream(struct conn *c, const char *what, const char *body, json_t **out, struct err_detail *detail)
{
    char subject[SUBJECT_SIZE];
    struct conn_answer a;
    /* a leading tab tells the bus that the subject is complete, also with a prefix */
    snprintf(subject, sizeof subject, "%s$JS.API.%s", c->prefixed ? "\t" : "", what);
    int err = conn_request(c, subject, body, &a, detail);
    if (err == 0 && a.result == BUS_NO_RESPONDERS)
        err = err_set(detail, ROOM_E_UNAVAILABLE, "JetStream is off: start the nats-servers with -js");
    else if (err == 0 && a.result != BUS_OK)
        err = err_set(detail, ROOM_E_UNAVAILABLE,
                      "JetStream does not answer '%s': it has no leader now, or this user may not ask: see roomctl doctor",
                      what);
    /* nats-server writes -1 as 2^64-1 in places, which is no integer for jansson: all numbers are read as reals */
    json_t *root = err ? NULL : json_loadb(a.data, a.len, JSON_DECODE_INT_AS_REAL, NULL);
    conn_answer_free(&a);
    if (err)
        return err;
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(detail, ROOM_E_IO, "JetStream's answer to '%s' is not JSON", what);
    }
    *out = root;
    return 0;
}

int conn_stream_info(struct conn *c, const char *stream, const char *called, const char *body, json_t **out,
                     struct err_detail *detail)
{
    char what[160];
    json_t *root = NULL, *error;
    snprintf(what, sizeof what, "STREAM.INFO.%s", stream);
    int err = conn_jetstream(c, what, body, &root, detail);
    if (err)
        return err;
    error = json_object_get(root, "error");
    if (!error) {
        *out = root;
        return 0;
    }
    const char *text = json_string_value(json_object_get(error, "description"));
    if ((int)json_number_value(json_object_get(error, "code")) == 404)
        err = err_set(detail, ROOM_E_NOT_FOUND, "no %s on this NATS: no roomd ever ran here; check --server and --prefix",
                      called);
    else
        err = err_set(detail, ROOM_E_UNAVAILABLE, "cannot read %s: %s", called, text ? text : "error without a text");
    json_decref(root);
    return err;
}

int conn_bucket_info(struct conn *c, const char *bucket, json_t **out, struct err_detail *detail)
{
    char stream[120], called[120];
    snprintf(stream, sizeof stream, "KV_%s%s", c->prefix, bucket);
    snprintf(called, sizeof called, "bucket '%s%s'", c->prefix, bucket);
    return conn_stream_info(c, stream, called, "", out, detail);
}

int conn_entry(struct conn *c, const char *bucket, const char *key, json_t **out, struct err_detail *detail)
{
    struct conn_answer a;
    int err = ask(c, &a, &(struct question){key, bucket, NULL}, detail);
    if (err == 0 && a.result == BUS_NOT_FOUND)
        err = ROOM_E_NOT_FOUND;
    else if (err == 0 && a.result != BUS_OK) {
        json_t *info = NULL; /* says why: no bucket, no JetStream, no leader */
        err = conn_bucket_info(c, bucket, &info, detail);
        json_decref(info);
        if (err == 0)
            err = err_set(detail, ROOM_E_UNAVAILABLE, "cannot read '%s' from bucket '%s%s': no answer", key, c->prefix,
                          bucket);
    }
    json_t *entry = err ? NULL : entry_of(key, (const uint8_t *)a.data, a.len);
    conn_answer_free(&a);
    if (err)
        return err == ROOM_E_NOT_FOUND && !detail->text[0] ? err_set(detail, err, "no '%s' in bucket '%s'", key, bucket)
                                                           : err;
    if (!entry || json_object_get(entry, "broken")) {
        json_decref(entry);
        return err_set(detail, ROOM_E_INVALID, "the value of '%s' in bucket '%s%s' is not a JSON object", key, c->prefix,
                       bucket);
    }
    *out = entry;
    return 0;
}

int conn_list(struct conn *c, const char *bucket, json_t **out, struct err_detail *detail)
{
    json_t *info = NULL;
    int err = conn_bucket_info(c, bucket, &info, detail);
    json_decref(info);
    if (err)
        return err;
    c->listing = json_object();
    c->listed = c->out_of_memory = false;
    c->listed_bucket = bucket;
    err = c->listing ? bus_kv_watch(c->bus, bucket) : ROOM_E_NO_MEMORY;
    struct mono deadline = mono_add_ms(time_mono_now(), c->timeout_ms + LIST_MS);
    while (err == 0 && !c->listed && !mono_reached(time_mono_now(), deadline))
        conn_turn(c, 20);
    if (err)
        err_set(detail, err, "cannot list bucket '%s': %s", bucket, room_error_text(err));
    else if (!c->listed)
        err = err_set(detail, ROOM_E_UNAVAILABLE, "bucket '%s%s' cannot be listed now: try again, or see roomctl doctor", c->prefix,
                      bucket);
    else if (c->out_of_memory)
        err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    if (err)
        json_decref(c->listing);
    else
        *out = c->listing;
    c->listing = NULL;
    c->listed = false;
    return err;
}
