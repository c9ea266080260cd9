/*
 * The logs of the simulated cluster: streams with one sequence over all their subjects.
 *
 * Decides: the outcome of each operation, as sim_lead.c lets it be done, and which reads are stale. Must not know what is
 * in the messages. Invariant: an append is accepted only behind the last message its subject has at that moment; a purge
 * that comes late takes nothing that was appended since.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum log_kind { LOG_STREAM, LOG_APPEND, LOG_LAST, LOG_NEXT, LOG_PURGE };

struct log_op {
    struct sim_op op;
    enum log_kind kind;
    uint64_t number; /* expected, from, below */
    size_t len;
    char stream[32], subject[160]; /* append: no stream, it is found by the subject */
    uint8_t data[];
};

struct answer {
    enum bus_result result;
    uint64_t revision;
    const void *data;
    size_t len;
    int64_t delay_us; /* beside the way */
};

static struct sim_stream *stream_of(struct world *w, const struct log_op *op)
{
    for (size_t i = 0; i < w->stream_count; i++) {
        struct sim_stream *s = &w->streams[i];
        if (op->kind == LOG_APPEND ? sim_bus_matches(s->subjects, op->subject) : strcmp(s->name, op->stream) == 0)
            return s;
    }
    return NULL;
}

/* What the one who answers knows: now and then less than everything. */
static uint64_t known(struct world *w, const struct sim_stream *s)
{
    return w->now_us < s->stale_until_us && world_chance(w, 50) ? s->stale_sequence : s->sequence;
}

static const struct sim_log_message *last_known(const struct sim_log *log, uint64_t upto)
{
    const struct sim_log_message *last = NULL;
    for (const struct sim_log_message *m = log ? log->first : NULL; m && m->sequence <= upto; m = m->next)
        last = m;
    return last;
}

static struct answer read_message(struct world *w, const struct sim_stream *s, const struct log_op *op)
{
    const struct sim_log *log = map_get(&s->logs, op->subject);
    uint64_t upto = known(w, s);
    const struct sim_log_message *m = log ? log->first : NULL;
    if (op->kind == LOG_LAST)
        m = last_known(log, upto);
    while (op->kind == LOG_NEXT && m && m->sequence < op->number)
        m = m->next;
    if (!m || m->sequence > upto)
        return (struct answer){.result = BUS_NOT_FOUND};
    return (struct answer){.result = BUS_OK, .revision = m->sequence, .data = m->data, .len = m->len};
}

static struct answer append(struct world *w, struct sim_stream *s, const struct log_op *op)
{
    struct sim_log *log = map_get(&s->logs, op->subject);
    uint64_t last = log && log->last ? log->last->sequence : 0;
    if (op->number != last) /* at times the one who was refused hears of it when others have long gone on */
        return (struct answer){.result = BUS_CONFLICT, .revision = last,
                               .delay_us = world_chance(w, 3) && !w->healing ? world_between(w, 100, 2000) * SIM_MS : 0};
    if (!log) {
        log = world_alloc(sizeof(*log));
        if (!map_put(&s->logs, op->subject, log))
            exit(2);
    }
    struct sim_log_message *m = world_alloc(sizeof(*m) + op->len);
    m->sequence = ++s->sequence;
    m->len = op->len;
    memcpy(m->data, op->data, op->len);
    if (log->last)
        log->last->next = m;
    else
        log->first = m;
    log->last = m;
    world_note(w, "%s %s seq=%llu by %s len=%zu %016llx", s->name, op->subject, (unsigned long long)m->sequence,
               w->procs[op->op.owner].id, m->len, (unsigned long long)XXH3_64bits(m->data, m->len));
    invariants_log(w, s->name, op->subject, last, m->sequence, m->data, m->len);
    return (struct answer){.result = BUS_OK, .revision = m->sequence};
}

static void drop_below(struct sim_log *log, uint64_t below)
{
    while (log->first && log->first->sequence < below) {
        struct sim_log_message *m = log->first;
        log->first = m->next;
        if (!log->first)
            log->last = NULL;
        free(m);
    }
}

/* "All" is what the bus is shown when it looks, before it purges. */
static uint64_t purges_below(struct world *w, const struct log_op *op)
{
    struct sim_stream *s = stream_of(w, op);
    const struct sim_log *log = s ? map_get(&s->logs, op->subject) : NULL;
    if (op->number || !log)
        return op->number;
    const struct sim_log_message *last = last_known(log, known(w, s));
    return last ? last->sequence + 1 : 1;
}

static struct answer purge(struct world *w, struct sim_stream *s, const struct log_op *op)
{
    struct sim_log *log = map_get(&s->logs, op->subject);
    uint64_t below = purges_below(w, op);
    world_note(w, "%s %s purged below %llu by %s", s->name, op->subject, (unsigned long long)below,
               w->procs[op->op.owner].id);
    if (log)
        drop_below(log, below);
    return (struct answer){.result = BUS_OK};
}

static void make(struct world *w, const struct log_op *op)
{
    if (stream_of(w, op))
        return;
    ASSERT(w->stream_count < SIM_STREAMS_MAX);
    struct sim_stream *s = &w->streams[w->stream_count++];
    memcpy(s->name, op->stream, sizeof(s->name));
    memcpy(s->subjects, op->subject, sizeof(s->subjects));
    map_init(&s->logs, &alloc_libc);
}

static void perform(struct world *w, const struct sim_op *base, bool answered)
{
    static const char missing[] = "no such stream";
    const struct log_op *op = (const void *)base;
    struct sim_stream *s = stream_of(w, op);
    struct answer a = {.result = BUS_OK};
    if (op->kind == LOG_STREAM)
        make(w, op);
    else if (!s && op->kind == LOG_APPEND)
        a.result = BUS_NO_RESPONDERS;
    else if (!s)
        a = (struct answer){.result = BUS_REFUSED, .data = missing, .len = sizeof(missing) - 1};
    else if (op->kind == LOG_APPEND)
        a = append(w, s, op);
    else if (op->kind == LOG_PURGE)
        a = purge(w, s, op);
    else
        a = read_message(w, s, op);
    if (answered)
        sim_bus_answer(w, base->owner, base->life, base->number, w->now_us + sim_bus_delay(w) + a.delay_us, a.result,
                       a.revision, a.data, a.len);
}

static int64_t leaderless_until(struct world *w, const struct sim_op *base)
{
    const struct sim_stream *s = stream_of(w, (const void *)base);
    return s ? s->leaderless_until_us : 0;
}

static void put_off(struct world *w, struct sim_op *base)
{
    struct log_op *op = (void *)base;
    if (op->kind == LOG_PURGE)
        op->number = purges_below(w, op);
}

static const struct sim_op_kind operation = {perform, leaderless_until, put_off};

static int start(struct bus *base, enum log_kind kind, uint64_t token, const char *stream, const char *subject,
                 uint64_t number, const void *data, size_t len, int timeout_ms)
{
    struct sim_bus *b = (struct sim_bus *)base;
    if (!b->up)
        return ROOM_E_DISCONNECTED;
    if (len > SIM_MESSAGE_MAX - SIM_HEADERS_MAX)
        return ROOM_E_TOO_BIG;
    struct log_op *op = world_alloc(sizeof(*op) + len);
    ASSERT(strlen(stream) < sizeof(op->stream) && strlen(subject) < sizeof(op->subject));
    *op = (struct log_op){.op = {.kind = &operation, .size = sizeof(*op) + len}, .kind = kind, .number = number, .len = len};
    snprintf(op->stream, sizeof(op->stream), "%s", stream);
    snprintf(op->subject, sizeof(op->subject), "%s", subject);
    if (len)
        memcpy(op->data, data, len);
    return sim_lead_begin(b, token, &op->op, timeout_ms);
}

int sim_stream(struct bus *b, uint64_t token, const struct bus_stream *stream, int timeout_ms)
{
    return start(b, LOG_STREAM, token, stream->name, stream->subjects, 0, NULL, 0, timeout_ms);
}

int sim_log_append(struct bus *b, uint64_t token, const char *subject, uint64_t expected, const void *data, size_t len,
                   int timeout_ms)
{
    return start(b, LOG_APPEND, token, "", subject, expected, data, len, timeout_ms);
}

int sim_log_last(struct bus *b, uint64_t token, const char *stream, const char *subject, int timeout_ms)
{
    return start(b, LOG_LAST, token, stream, subject, 0, NULL, 0, timeout_ms);
}

int sim_log_next(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t from, int timeout_ms)
{
    return start(b, LOG_NEXT, token, stream, subject, from, NULL, 0, timeout_ms);
}

int sim_log_purge(struct bus *b, uint64_t token, const char *stream, const char *subject, uint64_t below, int timeout_ms)
{
    return start(b, LOG_PURGE, token, stream, subject, below, NULL, 0, timeout_ms);
}

void sim_log_election(struct world *w, struct sim_stream *s, int64_t us)
{
    s->leaderless_until_us = s->stale_until_us = w->now_us + us;
    s->stale_sequence = s->sequence;
    if (world_chance(w, 50))
        s->stale_until_us += world_between(w, 1, 2000) * SIM_MS;
}

void sim_log_deinit(struct world *w)
{
    for (size_t i = 0; i < w->stream_count; i++) {
        struct map *logs = &w->streams[i].logs;
        for (struct map_iter it = map_first(logs); it.value; map_next(&it)) {
            drop_below(it.value, UINT64_MAX);
            free(it.value);
        }
        map_deinit(logs);
    }
}
