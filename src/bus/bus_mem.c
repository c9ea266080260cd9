/*
 * Subjects, requests and key-value buckets in memory.
 *
 * Must not read a clock or touch the network. Invariant: nothing is handed out inside a call; every event waits in one
 * list until drain, and every accepted request or key-value operation puts exactly one BUS_EV_DONE there.
 */
#include "bus/bus_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "bus/subject.h"

enum { MAX_EVENTS = 65536, MAX_PAYLOAD = 1 << 20, MAX_OPS = 16384, MINUTE_MS = 60000 };

struct mem_event {
    struct mem_event *next;
    size_t size;
    struct bus_event ev;
};

struct mem_sub {
    struct mem_sub *next;
    uint32_t number;
    uint64_t lost;
    char subject[SUBJECT_MAX + 1];
};

struct mem_request {
    struct mem_request *next;
    uint64_t id;
    uint64_t token;
    struct mono deadline;
};

struct mem_entry {
    size_t size;
    uint64_t revision;
    struct mono written;
    bool deleted;
    size_t len;
    uint8_t data[];
};

struct mem_bucket {
    struct mem_bucket *next;
    char name[SUBJECT_BUCKET_MAX + 1];
    bool made; /* false: only watched so far */
    bool watched;
    bool stale; /* an event did not fit: list again */
    int64_t ttl_ms;
    uint64_t revision;
    struct mono next_list;
    struct map entries;
};

struct bus_mem {
    struct bus bus;
    const struct alloc *alloc;
    struct mono now;
    struct mem_event *head, *tail;
    size_t count, max_events;
    struct mem_sub *subs;
    struct mem_request *requests;
    size_t request_count;
    uint64_t next_id;
    struct mem_bucket *buckets;
    bool closed;
};

static struct bus_mem *self(struct bus *b)
{
    return (struct bus_mem *)(void *)b;
}

static const char *put_text(char **at, const char *s)
{
    if (!s)
        return NULL;
    char *start = *at;
    size_t n = strlen(s) + 1;
    memcpy(start, s, n);
    *at += n;
    return start;
}

static size_t text_size(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

/* False: no memory, or over the limit and not `always`. */
static bool emit(struct bus_mem *m, const struct bus_event *ev, bool always)
{
    size_t size = sizeof(struct mem_event) + text_size(ev->subject) + text_size(ev->reply) + text_size(ev->bucket) +
                  text_size(ev->key) + (ev->data ? ev->len + 1 : 0);
    struct mem_event *e = always || m->count < m->max_events ? alloc_get(m->alloc, size) : NULL;
    if (!e)
        return false;
    char *at = (char *)(e + 1);
    e->size = size;
    e->ev = *ev;
    e->ev.subject = put_text(&at, ev->subject);
    e->ev.reply = put_text(&at, ev->reply);
    e->ev.bucket = put_text(&at, ev->bucket);
    e->ev.key = put_text(&at, ev->key);
    if (ev->data) {
        e->ev.data = (uint8_t *)at;
        if (ev->len)
            memcpy(at, ev->data, ev->len);
    }
    if (m->tail)
        m->tail->next = e;
    else
        m->head = e;
    m->tail = e;
    m->count++;
    return true;
}

static int done(struct bus_mem *m, uint64_t token, enum bus_result result, uint64_t revision, const void *data,
                size_t len)
{
    struct bus_event ev = {.kind = BUS_EV_DONE, .token = token, .result = result, .revision = revision, .data = data,
                           .len = len};
    return emit(m, &ev, true) ? 0 : ROOM_E_NO_MEMORY;
}

static int check_op(const struct bus_mem *m, size_t len, int timeout_ms)
{
    if (m->closed)
        return ROOM_E_DISCONNECTED;
    if (len > MAX_PAYLOAD)
        return ROOM_E_TOO_BIG;
    return timeout_ms > 0 ? m->count >= m->max_events ? ROOM_E_FULL : 0 : ROOM_E_INVALID;
}

/* ---- messages ---- */

static size_t deliver(struct bus_mem *m, const char *subject, const char *reply, const void *data, size_t len)
{
    size_t n = 0;
    for (struct mem_sub *s = m->subs; s; s = s->next) {
        if (!subject_match(s->subject, subject))
            continue;
        struct bus_event ev = {.kind = BUS_EV_MESSAGE, .sub = s->number, .subject = subject, .reply = reply,
                               .data = len ? data : (const uint8_t *)"", .len = len};
        n++;
        if (!emit(m, &ev, false))
            s->lost++;
    }
    return n;
}

static bool answer(struct bus_mem *m, const char *subject, const void *data, size_t len)
{
    uint64_t id = strncmp(subject, "_INBOX.mem.", 11) == 0 ? strtoull(subject + 11, NULL, 10) : 0;
    for (struct mem_request **at = &m->requests; id && *at; at = &(*at)->next) {
        struct mem_request *r = *at;
        if (r->id != id)
            continue;
        if (done(m, r->token, BUS_OK, 0, len ? data : "", len) != 0)
            return false; /* the deadline will end it */
        *at = r->next;
        alloc_put(m->alloc, r, sizeof *r);
        m->request_count--;
        return true;
    }
    return id != 0;
}

static int mem_publish(struct bus *b, const char *subject, const char *reply, const void *data, size_t len)
{
    struct bus_mem *m = self(b);
    int err = check_op(m, len, 1);
    if (err)
        return err;
    if (!subject_valid(subject, false) || (reply && !subject_valid(reply, false)))
        return ROOM_E_INVALID;
    if (!answer(m, subject, data, len))
        deliver(m, subject, reply, data, len);
    return 0;
}

static int mem_request(struct bus *b, uint64_t token, const char *subject, const void *data, size_t len, int timeout_ms)
{
    struct bus_mem *m = self(b);
    char reply[40];
    int err = check_op(m, len, timeout_ms);
    if (err)
        return err;
    if (!subject_valid(subject, false))
        return ROOM_E_INVALID;
    if (m->request_count >= MAX_OPS)
        return ROOM_E_FULL;
    struct mem_request *r = alloc_get(m->alloc, sizeof *r);
    if (!r)
        return ROOM_E_NO_MEMORY;
    r->id = ++m->next_id;
    r->token = token;
    r->deadline = mono_add_ms(m->now, timeout_ms);
    snprintf(reply, sizeof reply, "_INBOX.mem.%llu", (unsigned long long)r->id);
    if (deliver(m, subject, reply, data, len) == 0) {
        alloc_put(m->alloc, r, sizeof *r);
        return done(m, token, BUS_NO_RESPONDERS, 0, NULL, 0);
    }
    r->next = m->requests;
    m->requests = r;
    m->request_count++;
    return 0;
}

static int mem_unsubscribe(struct bus *b, uint32_t number)
{
    struct bus_mem *m = self(b);
    for (struct mem_sub **at = &m->subs; *at; at = &(*at)->next) {
        struct mem_sub *s = *at;
        if (s->number != number)
            continue;
        *at = s->next;
        alloc_put(m->alloc, s, sizeof *s);
        break;
    }
    return m->closed ? ROOM_E_DISCONNECTED : 0;
}

static int mem_subscribe(struct bus *b, uint32_t number, const char *subject)
{
    struct bus_mem *m = self(b);
    if (m->closed)
        return ROOM_E_DISCONNECTED;
    if (!subject_valid(subject, true))
        return ROOM_E_INVALID;
    struct mem_sub *s = alloc_get(m->alloc, sizeof *s);
    if (!s)
        return ROOM_E_NO_MEMORY;
    (void)mem_unsubscribe(b, number);
    s->number = number;
    snprintf(s->subject, sizeof s->subject, "%s", subject);
    s->next = m->subs;
    m->subs = s;
    return 0;
}

/* ---- key-value ---- */

static struct mem_bucket *find_bucket(struct bus_mem *m, const char *name)
{
    struct mem_bucket *k = m->buckets;
    while (k && strcmp(k->name, name) != 0)
        k = k->next;
    return k;
}

static int want_bucket(struct bus_mem *m, const char *name, struct mem_bucket **out)
{
    if (m->closed)
        return ROOM_E_DISCONNECTED;
    if (!subject_bucket_valid(name))
        return ROOM_E_INVALID;
    struct mem_bucket *k = find_bucket(m, name);
    if (!k) {
        k = alloc_get(m->alloc, sizeof *k);
        if (!k)
            return ROOM_E_NO_MEMORY;
        snprintf(k->name, sizeof k->name, "%s", name);
        map_init(&k->entries, m->alloc);
        k->next = m->buckets;
        m->buckets = k;
    }
    *out = k;
    return 0;
}

static bool emit_entry(struct bus_mem *m, struct mem_bucket *k, const char *key, const struct mem_entry *e)
{
    struct bus_event ev = {.kind = BUS_EV_ENTRY, .bucket = k->name, .key = key, .revision = e->revision,
                           .data = e->deleted ? NULL : e->data, .len = e->len};
    return emit(m, &ev, false);
}

static void forget_deleted(struct bus_mem *m, struct mem_bucket *k)
{
    for (struct map_iter it = map_first(&k->entries); it.value; map_next(&it)) {
        struct mem_entry *e = it.value;
        if (!e->deleted || !mono_reached(m->now, mono_add_ms(e->written, BUS_KEEP_DELETED_MS)))
            continue;
        (void)map_del(&k->entries, it.key);
        alloc_put(m->alloc, e, e->size);
    }
}

static void list(struct bus_mem *m, struct mem_bucket *k)
{
    forget_deleted(m, k);
    bool fits = emit(m, &(struct bus_event){.kind = BUS_EV_SYNC, .bucket = k->name}, false);
    for (struct map_iter it = map_first(&k->entries); fits && it.value; map_next(&it))
        fits = emit_entry(m, k, it.key, it.value);
    fits = fits && emit(m, &(struct bus_event){.kind = BUS_EV_SYNCED, .bucket = k->name}, false);
    k->stale = !fits;
    k->next_list = mono_add_ms(m->now, MINUTE_MS);
}

static int mem_kv_bucket(struct bus *b, uint64_t token, const struct bus_bucket *bucket, int timeout_ms)
{
    struct bus_mem *m = self(b);
    struct mem_bucket *k;
    int err = check_op(m, 0, timeout_ms);
    if (err == 0)
        err = bucket->ttl_ms < 0 ? ROOM_E_INVALID : want_bucket(m, bucket->name, &k);
    if (err)
        return err;
    if (!k->made)
        k->ttl_ms = bucket->ttl_ms;
    k->made = true;
    return done(m, token, BUS_OK, 0, NULL, 0);
}

static int mem_kv_watch(struct bus *b, const char *name)
{
    struct bus_mem *m = self(b);
    struct mem_bucket *k;
    int err = want_bucket(m, name, &k);
    if (err)
        return err;
    k->watched = true;
    list(m, k);
    return 0;
}

static int find_key(struct bus_mem *m, const char *name, const char *key, int timeout_ms, size_t len,
                    struct mem_bucket **bucket, struct mem_entry **entry)
{
    int err = check_op(m, len, timeout_ms);
    if (err)
        return err;
    if (!subject_bucket_valid(name) || !subject_key_valid(key))
        return ROOM_E_INVALID;
    struct mem_bucket *k = find_bucket(m, name);
    *bucket = k && k->made ? k : NULL;
    *entry = *bucket ? map_get(&k->entries, key) : NULL;
    return 0;
}

static int mem_kv_get(struct bus *b, uint64_t token, const char *name, const char *key, int timeout_ms)
{
    struct bus_mem *m = self(b);
    struct mem_bucket *k;
    struct mem_entry *e;
    int err = find_key(m, name, key, timeout_ms, 0, &k, &e);
    if (err)
        return err;
    if (!k)
        return done(m, token, BUS_REFUSED, 0, "no such bucket", 14);
    if (!e || e->deleted)
        return done(m, token, BUS_NOT_FOUND, e ? e->revision : 0, NULL, 0);
    return done(m, token, BUS_OK, e->revision, e->data, e->len);
}

static int store(struct bus_mem *m, uint64_t token, struct mem_bucket *k, const char *key, struct mem_entry *old,
                 const void *data, size_t len)
{
    size_t size = sizeof(struct mem_entry) + len + 1;
    struct mem_entry *e = alloc_get(m->alloc, size);
    if (!e)
        return ROOM_E_NO_MEMORY;
    e->size = size;
    e->revision = k->revision + 1;
    e->written = m->now;
    e->deleted = data == NULL;
    e->len = len;
    if (len)
        memcpy(e->data, data, len);
    int err = map_put(&k->entries, key, e) ? done(m, token, BUS_OK, e->revision, NULL, 0) : ROOM_E_NO_MEMORY;
    if (err) {
        if (old)
            (void)map_put(&k->entries, key, old); /* replaces a value: needs no memory */
        else
            (void)map_del(&k->entries, key);
        alloc_put(m->alloc, e, size);
        return err;
    }
    k->revision++;
    if (old)
        alloc_put(m->alloc, old, old->size);
    if (k->watched && !emit_entry(m, k, key, e))
        k->stale = true;
    return 0;
}

static int write_key(struct bus_mem *m, uint64_t token, const char *name, const char *key, uint64_t expected,
                     const void *data, size_t len, int timeout_ms)
{
    struct mem_bucket *k;
    struct mem_entry *e;
    int err = find_key(m, name, key, timeout_ms, len, &k, &e);
    if (err)
        return err;
    if (!k)
        return done(m, token, BUS_NO_RESPONDERS, 0, NULL, 0);
    uint64_t last = e ? e->revision : 0;
    bool creates = expected == 0 && (!e || (e->deleted && data));
    if (expected != BUS_ANY_REVISION && expected != last && !creates)
        return done(m, token, BUS_CONFLICT, last, NULL, 0);
    return store(m, token, k, key, e, data, len);
}

static int mem_kv_put(struct bus *b, uint64_t token, const char *name, const char *key, uint64_t expected,
                      const void *data, size_t len, int timeout_ms)
{
    return write_key(self(b), token, name, key, expected, len ? data : "", len, timeout_ms);
}

static int mem_kv_delete(struct bus *b, uint64_t token, const char *name, const char *key, uint64_t expected,
                         int timeout_ms)
{
    return write_key(self(b), token, name, key, expected, NULL, 0, timeout_ms);
}

/* ---- turns ---- */

static void report_lost(struct bus_mem *m)
{
    for (struct mem_sub *s = m->subs; s; s = s->next)
        if (s->lost &&
            emit(m, &(struct bus_event){.kind = BUS_EV_LOST, .sub = s->number, .revision = s->lost}, false))
            s->lost = 0;
}

static size_t mem_drain(struct bus *b, bus_handler *handler, void *arg, size_t max_events)
{
    struct bus_mem *m = self(b);
    size_t n = 0;
    for (; n < max_events && m->head; n++) {
        struct mem_event *e = m->head;
        m->head = e->next;
        if (!m->head)
            m->tail = NULL;
        m->count--;
        handler(arg, &e->ev);
        alloc_put(m->alloc, e, e->size);
    }
    report_lost(m);
    return n;
}

static void mem_flush(struct bus *b)
{
}

/* Ends the requests for which `deadline` has come, or all. */
static void end_requests(struct bus_mem *m, bool all, enum bus_result result)
{
    struct mem_request **at = &m->requests;
    while (*at) {
        struct mem_request *r = *at;
        bool ends = all || mono_reached(m->now, r->deadline);
        if (!ends || done(m, r->token, result, 0, NULL, 0) != 0) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        alloc_put(m->alloc, r, sizeof *r);
        m->request_count--;
    }
}

static void mem_close(struct bus *b)
{
    self(b)->closed = true;
    end_requests(self(b), true, BUS_CLOSED);
}

static void expire(struct bus_mem *m, struct mem_bucket *k)
{
    for (struct map_iter it = map_first(&k->entries); it.value; map_next(&it)) {
        struct mem_entry *e = it.value;
        if (!mono_reached(m->now, mono_add_ms(e->written, k->ttl_ms)))
            continue;
        (void)map_del(&k->entries, it.key);
        alloc_put(m->alloc, e, e->size);
    }
}

void bus_mem_tick(struct bus *b, struct mono now)
{
    struct bus_mem *m = self(b);
    m->now = now;
    end_requests(m, m->closed, m->closed ? BUS_CLOSED : BUS_UNKNOWN);
    report_lost(m);
    for (struct mem_bucket *k = m->buckets; k && !m->closed; k = k->next) {
        if (k->ttl_ms > 0)
            expire(m, k);
        if (k->watched && ((k->stale && m->count < m->max_events / 2) || mono_reached(now, k->next_list)))
            list(m, k);
    }
}

static const struct bus_ops OPS = {mem_publish, mem_request, mem_subscribe, mem_unsubscribe, mem_kv_bucket,
                                   mem_kv_watch, mem_kv_get, mem_kv_put, mem_kv_delete, mem_drain, mem_flush,
                                   mem_close};

struct bus *bus_mem_create(const struct alloc *alloc, struct mono now, size_t max_events)
{
    struct bus_mem *m = alloc_get(alloc, sizeof *m);
    if (!m)
        return NULL;
    m->bus.ops = &OPS;
    m->alloc = alloc;
    m->now = now;
    m->max_events = max_events ? max_events : MAX_EVENTS;
    if (!emit(m, &(struct bus_event){.kind = BUS_EV_UP}, true)) {
        alloc_put(alloc, m, sizeof *m);
        return NULL;
    }
    return &m->bus;
}

static void destroy_bucket(struct bus_mem *m, struct mem_bucket *k)
{
    for (struct map_iter it = map_first(&k->entries); it.value; map_next(&it))
        alloc_put(m->alloc, it.value, ((struct mem_entry *)it.value)->size);
    map_deinit(&k->entries);
    alloc_put(m->alloc, k, sizeof *k);
}

void bus_mem_destroy(struct bus *b)
{
    struct bus_mem *m = b ? self(b) : NULL;
    if (!m)
        return;
    for (struct mem_event *e = m->head, *next; e; e = next) {
        next = e->next;
        alloc_put(m->alloc, e, e->size);
    }
    for (struct mem_sub *s = m->subs, *next; s; s = next) {
        next = s->next;
        alloc_put(m->alloc, s, sizeof *s);
    }
    for (struct mem_request *r = m->requests, *next; r; r = next) {
        next = r->next;
        alloc_put(m->alloc, r, sizeof *r);
    }
    for (struct mem_bucket *k = m->buckets, *next; k; k = next) {
        next = k->next;
        destroy_bucket(m, k);
    }
    alloc_put(m->alloc, m, sizeof *m);
}
