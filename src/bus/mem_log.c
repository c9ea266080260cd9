/*
 * Logs in memory: streams of messages, each appended to one subject.
 *
 * Must not read a clock. Invariant: the sequence of a stream only grows, over all its subjects and over purges; an append
 * is decided against the last message its subject has now.
 */
#include "bus/mem_state.h"

#include <stdio.h>
#include <string.h>

struct mem_message {
    struct mem_message *next;
    size_t size;
    uint64_t sequence;
    struct mono written;
    size_t len;
    uint8_t data[];
};

struct mem_subject {
    struct mem_message *first, *last;
    int64_t count;
};

struct mem_stream {
    struct mem_stream *next;
    char name[SUBJECT_BUCKET_MAX + 1];
    char subjects[SUBJECT_MAX + 1];
    uint64_t sequence;
    int64_t ttl_ms, max_per_subject; /* 0: no limit */
    struct map logs; /* subject -> struct mem_subject, only while it has messages */
};

static struct mem_stream *find_stream(struct bus_mem *m, const char *name)
{
    struct mem_stream *s = m->streams;
    while (s && strcmp(s->name, name) != 0)
        s = s->next;
    return s;
}

static struct mem_stream *stream_of(struct bus_mem *m, const char *subject)
{
    struct mem_stream *s = m->streams;
    while (s && !subject_match(s->subjects, subject))
        s = s->next;
    return s;
}

int mem_stream(struct bus *b, uint64_t token, const struct bus_stream *stream, int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    int err = mem_check(m, 0, timeout_ms);
    if (err)
        return err;
    if (!subject_pattern_valid(stream->subjects) || !subject_bucket_valid(stream->name) || stream->replicas < 0 ||
        stream->replicas > 5 || stream->ttl_ms < 0 || stream->max_per_subject < 0)
        return ROOM_E_INVALID;
    if (find_stream(m, stream->name))
        return mem_done(m, token, BUS_OK, 0, NULL, 0);
    struct mem_stream *s = alloc_get(m->alloc, sizeof *s);
    if (!s)
        return ROOM_E_NO_MEMORY;
    err = mem_done(m, token, BUS_OK, 0, NULL, 0);
    if (err) {
        alloc_put(m->alloc, s, sizeof *s);
        return err;
    }
    snprintf(s->name, sizeof s->name, "%s", stream->name);
    snprintf(s->subjects, sizeof s->subjects, "%s", stream->subjects);
    s->ttl_ms = stream->ttl_ms;
    s->max_per_subject = stream->max_per_subject;
    map_init(&s->logs, m->alloc);
    s->next = m->streams;
    m->streams = s;
    return 0;
}

static struct mem_subject *want_log(struct bus_mem *m, struct mem_stream *s, const char *subject)
{
    struct mem_subject *log = map_get(&s->logs, subject);
    if (log)
        return log;
    log = alloc_get(m->alloc, sizeof *log);
    if (log && !map_put(&s->logs, subject, log)) {
        alloc_put(m->alloc, log, sizeof *log);
        return NULL;
    }
    return log;
}

static void drop_empty(struct bus_mem *m, struct mem_stream *s, const char *subject)
{
    struct mem_subject *log = map_get(&s->logs, subject);
    if (!log || log->first)
        return;
    (void)map_del(&s->logs, subject);
    alloc_put(m->alloc, log, sizeof *log);
}

static void drop_first(struct bus_mem *m, struct mem_subject *log)
{
    struct mem_message *e = log->first;
    log->first = e->next;
    log->count--;
    if (!log->first)
        log->last = NULL;
    alloc_put(m->alloc, e, e->size);
}

static int append(struct bus_mem *m, uint64_t token, struct mem_stream *s, const char *subject, const void *data,
                  size_t len)
{
    size_t size = sizeof(struct mem_message) + len;
    struct mem_message *e = alloc_get(m->alloc, size);
    struct mem_subject *log = e ? want_log(m, s, subject) : NULL;
    if (!log || mem_done(m, token, BUS_OK, s->sequence + 1, NULL, 0) != 0) {
        if (e)
            alloc_put(m->alloc, e, size);
        drop_empty(m, s, subject);
        return ROOM_E_NO_MEMORY;
    }
    e->size = size;
    e->sequence = ++s->sequence;
    e->written = m->now;
    e->len = len;
    if (len)
        memcpy(e->data, data, len);
    if (log->last)
        log->last->next = e;
    else
        log->first = e;
    log->last = e;
    if (++log->count > s->max_per_subject && s->max_per_subject > 0)
        drop_first(m, log);
    return 0;
}

int mem_log_append(struct bus *b, uint64_t token, const char *subject, uint64_t expected, const void *data, size_t len,
                   int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    int err = mem_check(m, len + MEM_HEADERS_MAX, timeout_ms);
    if (err)
        return err;
    if (!subject_key_valid(subject) || expected == BUS_ANY_REVISION)
        return ROOM_E_INVALID;
    struct mem_stream *s = stream_of(m, subject);
    if (!s)
        return mem_done(m, token, BUS_NO_RESPONDERS, 0, NULL, 0);
    const struct mem_subject *log = map_get(&s->logs, subject);
    uint64_t last = log ? log->last->sequence : 0;
    if (expected != last)
        return mem_done(m, token, BUS_CONFLICT, last, NULL, 0);
    return append(m, token, s, subject, data, len);
}

static int find_log(struct bus_mem *m, const char *name, const char *subject, int timeout_ms, struct mem_stream **stream,
                    struct mem_subject **log)
{
    int err = mem_check(m, 0, timeout_ms);
    if (err)
        return err;
    if (!subject_bucket_valid(name) || !subject_key_valid(subject))
        return ROOM_E_INVALID;
    *stream = find_stream(m, name);
    *log = *stream ? map_get(&(*stream)->logs, subject) : NULL;
    return 0;
}

static int tell(struct bus_mem *m, uint64_t token, const struct mem_stream *s, const struct mem_message *e)
{
    if (!s)
        return mem_done(m, token, BUS_REFUSED, 0, "no such stream", 14);
    if (!e)
        return mem_done(m, token, BUS_NOT_FOUND, 0, NULL, 0);
    return mem_done(m, token, BUS_OK, e->sequence, e->data, e->len);
}

int mem_log_last(struct bus *b, uint64_t token, const char *stream, const char *subject, int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    struct mem_stream *s;
    struct mem_subject *log;
    int err = find_log(m, stream, subject, timeout_ms, &s, &log);
    return err ? err : tell(m, token, s, log ? log->last : NULL);
}

int mem_log_next(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t from, int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    struct mem_stream *s;
    struct mem_subject *log;
    int err = find_log(m, stream, subject, timeout_ms, &s, &log);
    if (err)
        return err;
    const struct mem_message *e = log ? log->first : NULL;
    while (e && e->sequence < from)
        e = e->next;
    return tell(m, token, s, e);
}

static void purge(struct bus_mem *m, struct mem_subject *log, uint64_t below)
{
    while (log->first && (below == 0 || log->first->sequence < below))
        drop_first(m, log);
}

int mem_log_purge(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t below, int timeout_ms)
{
    struct bus_mem *m = mem_self(b);
    struct mem_stream *s;
    struct mem_subject *log;
    int err = find_log(m, stream, subject, timeout_ms, &s, &log);
    if (err == 0)
        err = s ? mem_done(m, token, BUS_OK, 0, NULL, 0) : tell(m, token, NULL, NULL);
    if (err || !log)
        return err;
    purge(m, log, below);
    drop_empty(m, s, subject);
    return 0;
}

static void expire(struct bus_mem *m, struct mem_stream *s)
{
    for (struct map_iter it = map_first(&s->logs); it.value;) {
        struct mem_subject *log = it.value;
        const char *subject = it.key;
        map_next(&it);
        while (log->first && mono_reached(m->now, mono_add_ms(log->first->written, s->ttl_ms)))
            drop_first(m, log);
        drop_empty(m, s, subject);
    }
}

void mem_log_tick(struct bus_mem *m)
{
    for (struct mem_stream *s = m->streams; s; s = s->next)
        if (s->ttl_ms > 0)
            expire(m, s);
}

void mem_log_destroy(struct bus_mem *m)
{
    for (struct mem_stream *s = m->streams, *next; s; s = next) {
        next = s->next;
        for (struct map_iter it = map_first(&s->logs); it.value; map_next(&it)) {
            purge(m, it.value, 0);
            alloc_put(m->alloc, it.value, sizeof(struct mem_subject));
        }
        map_deinit(&s->logs);
        alloc_put(m->alloc, s, sizeof *s);
    }
}
