/*
 * Subjects and requests in memory, the list of events, and the passing of time.
 *
 * Must not read a clock or touch the network. Invariant: nothing is handed out inside a call; every event waits in one
 * list until drain, and every accepted request or operation puts exactly one BUS_EV_DONE there.
 */
#include "bus/bus_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/mem_state.h"

enum { MAX_EVENTS = 65536, MAX_OPS = 16384 };

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

bool mem_emit(struct bus_mem *m, const struct bus_event *ev, bool always)
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

int mem_done(struct bus_mem *m, uint64_t token, enum bus_result result, uint64_t revision, const void *data, size_t len)
{
    struct bus_event ev = {.kind = BUS_EV_DONE, .token = token, .result = result, .revision = revision, .data = data,
                           .len = len};
    return mem_emit(m, &ev, true) ? 0 : ROOM_E_NO_MEMORY;
}

int mem_check(const struct bus_mem *m, size_t len, int timeout_ms)
{
    if (m->closed)
        return ROOM_E_DISCONNECTED;
    if (len > MEM_MAX_PAYLOAD)
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
        if (!mem_emit(m, &ev, false))
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
        if (mem_done(m, r->token, BUS_OK, 0, len ? data : "", len) != 0)
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
    struct bus_mem *m = mem_self(b);
    int err = mem_check(m, len, 1);
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
    struct bus_mem *m = mem_self(b);
    char reply[40];
    int err = mem_check(m, len, timeout_ms);
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
        return mem_done(m, token, BUS_NO_RESPONDERS, 0, NULL, 0);
    }
    r->next = m->requests;
    m->requests = r;
    m->request_count++;
    return 0;
}

static int mem_unsubscribe(struct bus *b, uint32_t number)
{
    struct bus_mem *m = mem_self(b);
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
    struct bus_mem *m = mem_self(b);
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

/* ---- turns ---- */

static void report_lost(struct bus_mem *m)
{
    for (struct mem_sub *s = m->subs; s; s = s->next)
        if (s->lost &&
            mem_emit(m, &(struct bus_event){.kind = BUS_EV_LOST, .sub = s->number, .revision = s->lost}, false))
            s->lost = 0;
}

static size_t mem_drain(struct bus *b, bus_handler *handler, void *arg, size_t max_events)
{
    struct bus_mem *m = mem_self(b);
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
        if (!ends || mem_done(m, r->token, result, 0, NULL, 0) != 0) {
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
    mem_self(b)->closed = true;
    end_requests(mem_self(b), true, BUS_CLOSED);
}

void bus_mem_tick(struct bus *b, struct mono now)
{
    struct bus_mem *m = mem_self(b);
    m->now = now;
    end_requests(m, m->closed, m->closed ? BUS_CLOSED : BUS_UNKNOWN);
    report_lost(m);
    if (m->closed)
        return;
    mem_kv_tick(m);
    mem_log_tick(m);
}

static const struct bus_ops OPS = {mem_publish, mem_request, mem_subscribe, mem_unsubscribe, mem_kv_bucket,
                                   mem_kv_watch, mem_kv_get, mem_kv_put, mem_kv_delete, mem_stream, mem_log_append,
                                   mem_log_last, mem_log_next, mem_log_purge, mem_drain, mem_flush, mem_close};

struct bus *bus_mem_create(const struct alloc *alloc, struct mono now, size_t max_events)
{
    struct bus_mem *m = alloc_get(alloc, sizeof *m);
    if (!m)
        return NULL;
    m->bus.ops = &OPS;
    m->alloc = alloc;
    m->now = now;
    m->max_events = max_events ? max_events : MAX_EVENTS;
    if (!mem_emit(m, &(struct bus_event){.kind = BUS_EV_UP}, true)) {
        alloc_put(alloc, m, sizeof *m);
        return NULL;
    }
    return &m->bus;
}

void bus_mem_destroy(struct bus *b)
{
    struct bus_mem *m = b ? mem_self(b) : NULL;
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
    mem_kv_destroy(m);
    mem_log_destroy(m);
    alloc_put(m->alloc, m, sizeof *m);
}
