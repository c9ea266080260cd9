/*
 * See stream.h.
 *
 * Weak spot: whoever asks for the subjects of a stream gets them in pages; what comes and goes between two pages may be
 * missing or old.
 */
#include "roomctl/stream.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW = 32, PUT_TRIES = 5, PAGES = 1000 };

enum what { GET, PUT, DELETE, LAST, PURGE };

struct op {
    enum what what;
    const char *where, *key; /* bucket or log; key or subject */
    uint64_t expected;
    const void *data;
    size_t len;
};

static int start_op(struct conn *c, uint64_t token, const void *arg)
{
    const struct op *o = arg;
    switch (o->what) {
    case GET:
        return bus_kv_get(c->bus, token, o->where, o->key, c->timeout_ms);
    case PUT:
        return bus_kv_put(c->bus, token, o->where, o->key, o->expected, o->data, o->len, c->timeout_ms);
    case DELETE:
        return bus_kv_delete(c->bus, token, o->where, o->key, o->expected, c->timeout_ms);
    case LAST:
        return bus_log_last(c->bus, token, o->where, o->key, c->timeout_ms);
    case PURGE:
        return bus_log_purge(c->bus, token, o->where, o->key, 0, c->timeout_ms);
    }
    return ROOM_E_INTERNAL;
}

static int meaning(const struct conn_answer *a, const char *name, struct err_detail *detail)
{
    switch (a->result) {
    case BUS_OK:
        return 0;
    case BUS_NOT_FOUND:
        return ROOM_E_NOT_FOUND;
    case BUS_CONFLICT:
        return err_set(detail, ROOM_E_CONFLICT, "somebody else has written '%s' meanwhile: look again", name);
    case BUS_REFUSED:
        return err_set(detail, ROOM_E_IO, "JetStream refused '%s': %.200s", name, a->data);
    case BUS_UNKNOWN:
    case BUS_NO_RESPONDERS:
    case BUS_CLOSED:
        break;
    }
    return err_set(detail, ROOM_E_UNAVAILABLE, "JetStream does not answer for '%s': see roomctl doctor", name);
}

static int run(struct conn *c, const struct op *o, struct conn_answer *a, struct err_detail *detail)
{
    int err = conn_begin(c, a, start_op, o, o->key, detail);
    return err ? err : conn_end(c, a, detail);
}

/* The answer is the caller's if this returns 0. */
static int read_op(struct conn *c, const struct op *o, struct conn_answer *out, struct err_detail *detail)
{
    int err = run(c, o, out, detail);
    if (err == 0)
        err = meaning(out, o->key, detail);
    if (err)
        conn_answer_free(out);
    return err;
}

int stream_value(struct conn *c, const char *bucket, const char *key, struct conn_answer *out, struct err_detail *detail)
{
    return read_op(c, &(struct op){.what = GET, .where = bucket, .key = key}, out, detail);
}

int stream_last(struct conn *c, const char *log, const char *subject, struct conn_answer *out, struct err_detail *detail)
{
    return read_op(c, &(struct op){.what = LAST, .where = log, .key = subject}, out, detail);
}

/* After an unknown write: 0 (it is there), CONFLICT, or AGAIN through `again`. */
static int settle(struct conn *c, const struct op *o, uint64_t *revision, bool *again, struct err_detail *detail)
{
    struct conn_answer now;
    int err = stream_value(c, o->where, o->key, &now, detail);
    if (err && err != ROOM_E_NOT_FOUND)
        return err;
    bool there = err == 0 && now.len == o->len && memcmp(now.data, o->data, o->len) == 0;
    uint64_t have = err == 0 ? now.revision : 0;
    if (err == 0)
        conn_answer_free(&now);
    *again = !there && (o->expected == BUS_ANY_REVISION || have == o->expected);
    *revision = have;
    return there || *again ? 0 : err_set(detail, ROOM_E_CONFLICT, "somebody else has written '%s' meanwhile: look again", o->key);
}

int stream_put(struct conn *c, const char *bucket, const char *key, uint64_t expected, const void *data, size_t len,
               uint64_t *revision, struct err_detail *detail)
{
    struct op o = {.what = PUT, .where = bucket, .key = key, .expected = expected, .data = data, .len = len};
    uint64_t at = 0;
    int err = ROOM_E_UNAVAILABLE;
    bool again = true;
    for (int i = 0; i < PUT_TRIES && again; i++) {
        struct conn_answer a;
        again = false;
        err = run(c, &o, &a, detail);
        if (err)
            return err;
        if (a.result == BUS_UNKNOWN || (i > 0 && a.result == BUS_CONFLICT)) {
            err = settle(c, &o, &at, &again, detail);
        } else {
            err = meaning(&a, key, detail);
            at = a.revision;
        }
        conn_answer_free(&a);
    }
    if (again)
        return err_set(detail, ROOM_E_UNAVAILABLE, "JetStream does not say whether it wrote '%s': see roomctl doctor", key);
    if (err == 0 && revision)
        *revision = at;
    return err;
}

/* Both may be repeated: deleting twice is deleting. */
static int wipe(struct conn *c, const struct op *o, struct err_detail *detail)
{
    struct conn_answer a;
    int err = run(c, o, &a, detail);
    if (err)
        return err;
    err = meaning(&a, o->key, detail);
    conn_answer_free(&a);
    return err == ROOM_E_NOT_FOUND ? 0 : err;
}

int stream_delete(struct conn *c, const char *bucket, const char *key, struct err_detail *detail)
{
    return wipe(c, &(struct op){.what = DELETE, .where = bucket, .key = key, .expected = BUS_ANY_REVISION}, detail);
}

int stream_delete_at(struct conn *c, const char *bucket, const char *key, uint64_t revision, struct err_detail *detail)
{
    int err = wipe(c, &(struct op){.what = DELETE, .where = bucket, .key = key, .expected = revision}, detail);
    return err == ROOM_E_CONFLICT ? 0 : err;
}

int stream_purge(struct conn *c, const char *log, const char *subject, struct err_detail *detail)
{
    return wipe(c, &(struct op){.what = PURGE, .where = log, .key = subject}, detail);
}

struct names {
    char stream[120], called[120], front[120]; /* what is cut off the subjects */
};

static void name_them(const struct conn *c, const char *bucket, const char *log, struct names *n)
{
    char p[sizeof c->prefix];
    snprintf(p, sizeof p, "%s", c->prefix);
    snprintf(n->stream, sizeof n->stream, bucket ? "KV_%s%s" : "%s%s", p, bucket ? bucket : log);
    snprintf(n->called, sizeof n->called, "%s '%s%s'", bucket ? "bucket" : "stream", p, bucket ? bucket : log);
    if (bucket) {
        snprintf(n->front, sizeof n->front, "$KV.%s%s.", p, bucket);
    } else {
        if (p[0])
            p[strlen(p) - 1] = '.'; /* "p_" in names, "p." in subjects */
        snprintf(n->front, sizeof n->front, "%s", p);
    }
}

int stream_subjects(struct conn *c, const char *bucket, const char *log, const char *pattern, json_t **out,
                    struct err_detail *detail)
{
    struct names n;
    json_t *all = json_object();
    int err = all ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    size_t seen = 0;
    name_them(c, bucket, log, &n);
    size_t cut = strlen(n.front);
    for (int page = 0; err == 0 && page < PAGES; page++) {
        char body[400];
        json_t *info = NULL, *count;
        const char *subject;
        snprintf(body, sizeof body, "{\"subjects_filter\":\"%s%s\",\"offset\":%zu}", n.front, pattern, seen);
        err = conn_stream_info(c, n.stream, n.called, body, &info, detail);
        if (err == ROOM_E_NOT_FOUND) {
            err = 0;
            break;
        }
        json_t *subjects = json_object_get(json_object_get(info, "state"), "subjects");
        size_t got = json_object_size(subjects);
        json_object_foreach(subjects, subject, count)
            if (strncmp(subject, n.front, cut) == 0 && json_object_set_new(all, subject + cut, json_true()) != 0)
                err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
        seen += got;
        bool more = got > 0 && (double)seen < json_number_value(json_object_get(info, "total"));
        json_decref(info);
        if (!more)
            break;
    }
    if (err)
        json_decref(all);
    else
        *out = all;
    return err;
}

struct walk_step {
    const struct stream_walk *walk;
    size_t i;
};

static int start_step(struct conn *c, uint64_t token, const void *arg)
{
    const struct walk_step *s = arg;
    return s->walk->start(c, token, s->walk->arg, s->i);
}

int stream_walk(struct conn *c, const struct stream_walk *walk, size_t count, struct err_detail *detail)
{
    static struct conn_answer window[WINDOW]; /* one walk at a time */
    size_t asked = 0, done = 0;
    int err = 0;
    while (err == 0 && done < count) {
        if (asked < count && asked < done + WINDOW) {
            struct walk_step step = {walk, asked};
            err = conn_begin(c, &window[asked % WINDOW], start_step, &step, "JetStream", detail);
            asked += err == 0;
            continue;
        }
        struct conn_answer *a = &window[done % WINDOW];
        err = conn_end(c, a, detail);
        int code = err ? err : meaning(a, "JetStream", detail);
        if (err == 0)
            err = code && code != ROOM_E_NOT_FOUND ? code : walk->each(walk->arg, done, code, a, detail);
        conn_answer_free(a);
        done++;
    }
    for (; done < asked; done++)
        conn_drop(c, &window[done % WINDOW]);
    return err;
}
