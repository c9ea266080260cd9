/*
 * See journal.h. Writing records and cutting batches.
 *
 * The pending records lie in one buffer behind a head of fixed size, so that cutting a batch needs no memory: it can always
 * be done. Weakness: what stays behind is moved down at each cut.
 */
#include "room/journal.h"

#include <string.h>

#include "wire/mp_write.h"

/* What a record takes beside its bytes: the heads, three ids, numbers. */
enum { RECORD_FIXED = 512 };

struct group {
    uint32_t len, records;
};

static void init_buffers(struct journal *j, const struct alloc *alloc)
{
    buf_deinit(&j->pending);
    buf_deinit(&j->marks);
    buf_init(&j->pending, alloc, JOURNAL_HEAD + JOURNAL_BYTES + JOURNAL_HELD_MAX);
    buf_init(&j->marks, alloc, SIZE_MAX);
}

bool journal_begin(struct room *r)
{
    const struct alloc *a = r->host->config.alloc;
    struct journal *j = alloc_get(a, sizeof(*j));
    if (!j)
        return false;
    init_buffers(j, a);
    buf_init(&j->image, a, SIZE_MAX);
    r->journal = j;
    return true;
}

void journal_drop(struct room *r)
{
    struct journal *j = r->journal;
    if (!j)
        return;
    out_drop_held(r);
    buf_deinit(&j->pending);
    buf_deinit(&j->marks);
    buf_deinit(&j->image);
    alloc_put(r->host->config.alloc, j, sizeof(*j));
    r->journal = NULL;
}

void journal_known(struct room *r)
{
    struct journal *j = r->journal;
    if (!j)
        return;
    j->locked = r->locked;
    j->metadata_version = r->metadata_version;
    j->topics_version = r->topics_version;
    j->rng = r->rng;
}

bool journal_busy(const struct room *r)
{
    const struct journal *j = r->journal;
    return j && (j->groups - j->acked >= JOURNAL_COMMANDS ||
                 j->pending.len + j->flight_bytes + j->held_bytes >= JOURNAL_BYTES);
}

bool journal_holds(const struct room *r)
{
    const struct journal *j = r->journal;
    return j && (j->open || j->groups > j->acked);
}

static bool reserve(struct journal *j, size_t len)
{
    static const uint8_t head[JOURNAL_HEAD] = {0};
    bool ok = buf_space(&j->pending, JOURNAL_HEAD + len + RECORD_FIXED) && buf_space(&j->marks, sizeof(struct group));
    j->pending.failed = j->marks.failed = false;
    if (ok && !j->pending.len)
        buf_write(&j->pending, head, sizeof(head));
    return ok;
}

bool journal_reserve(struct room *r, size_t len)
{
    return !r->journal || reserve(r->journal, len);
}

void journal_open(struct room *r)
{
    struct journal *j = r->journal;
    if (!j || !r->running || j->open)
        return;
    if (!reserve(j, 0)) {
        r->over_memory = true;
        return;
    }
    j->open = true;
    j->open_at = j->pending.len;
    j->open_records = 0;
    j->open_changes = 0;
}

/* The head of a record of `fields` more fields; NULL: nothing is to be recorded. */
static struct buf *record(struct room *r, enum journal_kind kind, uint32_t fields, size_t len)
{
    struct journal *j = r->journal;
    if (!j || !r->running)
        return NULL;
    journal_open(r);
    if (!j->open || !reserve(j, len)) {
        r->over_memory = true;
        return NULL;
    }
    mp_write_array(&j->pending, fields + 2);
    mp_write_uint(&j->pending, kind);
    mp_write_int(&j->pending, room_now_ms(r));
    j->open_records++;
    return &j->pending;
}

static void write_rng(struct buf *b, const struct rng *rng)
{
    mp_write_array(b, 4);
    for (int i = 0; i < 4; i++)
        mp_write_uint(b, rng->s[i]);
}

/* A topic, too. */
static void write_id(struct buf *b, const char *id)
{
    if (id && *id)
        mp_write_text(b, id);
    else
        mp_write_nil(b);
}

static struct wire_raw raw(const void *data, size_t len)
{
    return (struct wire_raw){data, (uint32_t)len};
}

void journal_start(struct room *r, const struct rng *rng, const void *options, size_t len)
{
    struct buf *b = record(r, JOURNAL_START, 5, len);
    if (!b)
        return;
    mp_write_text(b, r->def->name.s);
    mp_write_int(b, r->created.ms);
    mp_write_bool(b, r->private_room);
    write_rng(b, rng);
    mp_write_raw(b, raw(options, len));
}

void journal_join(struct room *r, const struct host_join *join, int code)
{
    struct buf *b = record(r, JOURNAL_JOIN, 4, join->options_len);
    if (!b)
        return;
    mp_write_text(b, join->player);
    write_id(b, join->session);
    mp_write_raw(b, raw(join->options, join->options_len));
    mp_write_int(b, code);
}

void journal_leave(struct room *r, const char *player, const char *reason)
{
    struct buf *b = record(r, JOURNAL_LEAVE, 2, 0);
    if (!b)
        return;
    mp_write_text(b, player);
    mp_write_text(b, reason);
}

void journal_message(struct room *r, const char *player, int64_t n, int code, const void *data, size_t len)
{
    bool changes = r->def->impl->apply != NULL;
    const struct buf *result = &r->host->reply;
    struct buf *b = record(r, JOURNAL_MESSAGE, 5, changes ? result->len : len);
    if (!b)
        return;
    mp_write_text(b, player);
    mp_write_int(b, n);
    mp_write_int(b, code);
    mp_write_raw(b, changes ? raw(NULL, 0) : raw(data, len));
    mp_write_raw(b, changes ? raw(result->data, result->len) : raw(NULL, 0));
}

void journal_event(struct room *r, const struct room_event *event, uint64_t number, int rc)
{
    bool changes = r->def->impl->apply != NULL;
    struct buf *b = record(r, JOURNAL_EVENT, number ? 8 : 7, changes ? 0 : event->len);
    if (!b)
        return;
    mp_write_uint(b, event->kind);
    write_id(b, event->from);
    mp_write_uint(b, event->request);
    mp_write_int(b, event->code);
    mp_write_uint(b, event->token);
    mp_write_raw(b, changes ? raw(NULL, 0) : raw(event->data, event->len));
    mp_write_int(b, rc);
    if (number)
        mp_write_uint(b, number);
}

void journal_ask(struct room *r, const struct host_ask *ask)
{
    struct buf *b = r->def->impl->apply ? record(r, JOURNAL_ASK, 1, ask->len) : NULL;
    if (b)
        open_write_one(ask, b);
}

static void write_tick(struct room *r, int64_t dt_ms)
{
    struct buf *b = record(r, JOURNAL_TICK, 1, 0);
    if (b)
        mp_write_int(b, dt_ms);
}

void journal_lock(struct room *r)
{
    struct buf *b = record(r, JOURNAL_LOCK, 1, 0);
    if (!b)
        return;
    mp_write_bool(b, r->locked);
    r->journal->locked = r->locked;
}

void journal_end(struct room *r, const char *reason)
{
    struct buf *b = record(r, JOURNAL_END, 1, 0);
    if (b)
        mp_write_text(b, reason);
}

bool journal_change(struct room *r, const void *data, size_t len)
{
    struct buf *b = journal_reserve(r, len) ? record(r, JOURNAL_CHANGE, 1, len) : NULL;
    if (!b)
        return false;
    mp_write_raw(b, raw(data, len));
    r->journal->open_changes += len;
    return true;
}

/* What a type with apply() did through services, as records of its own: nobody calls its callbacks again. */
static void write_services(struct room *r)
{
    struct journal *j = r->journal;
    struct buf *b;
    if (!r->def->impl->apply)
        return;
    if (j->locked != r->locked)
        journal_lock(r);
    if (j->metadata_version != r->metadata_version && (b = record(r, JOURNAL_METADATA, 1, r->metadata_len)))
        mp_write_raw(b, raw(r->metadata, r->metadata_len));
    if (j->topics_version != r->topics_version && (b = record(r, JOURNAL_TOPICS, 1, ROOM_TOPICS_MAX * (ROOM_TOPIC_MAX + 4))))
        topics_write(r, b);
    if (memcmp(&j->rng, &r->rng, sizeof(j->rng)) != 0 && (b = record(r, JOURNAL_RANDOM, 1, 0)))
        write_rng(b, &r->rng);
    journal_known(r);
}

static void close_group(struct room *r)
{
    struct journal *j = r->journal;
    if (!j->open)
        return;
    write_services(r);
    j->open = false;
    if (!j->open_records) {
        out_ungroup(r);
        return;
    }
    struct group g = {(uint32_t)(j->pending.len - j->open_at), j->open_records};
    ASSERT(buf_write(&j->marks, &g, sizeof(g))); /* reserved when it was opened */
    j->groups++;
}

void journal_tick(struct room *r, int64_t dt_ms)
{
    struct journal *j = r->journal;
    if (!j || !r->running)
        return;
    if (!r->def->impl->apply || j->open_records || out_has_new(r))
        write_tick(r, dt_ms);
}

void journal_split(struct room *r)
{
    struct journal *j = r->journal;
    if (j && j->open && j->pending.len - j->open_at > JOURNAL_GROUP)
        close_group(r);
}

static void put(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

/* [1, epoch, number, [of so many records: always in the longest form, so that the size is known. */
static void write_head(uint8_t *to, uint64_t epoch, uint64_t number, uint32_t records)
{
    to[0] = 0x94;
    to[1] = JOURNAL_FORMAT;
    to[2] = to[11] = 0xCF;
    put(to + 3, epoch, 8);
    put(to + 12, number, 8);
    to[20] = 0xDD;
    put(to + 21, records, 4);
}

int host_mark(struct buf *out, uint64_t epoch)
{
    uint8_t head[JOURNAL_HEAD];
    write_head(head, epoch, 0, 0);
    return buf_write(out, head, sizeof(head)) ? 0 : ROOM_E_NO_MEMORY;
}

void journal_flush(struct room *r)
{
    struct journal *j = r->journal;
    const struct host_config *c = &r->host->config;
    if (!j || !r->running)
        return;
    close_group(r);
    if (j->flight || !j->marks.len)
        return;
    const struct group *g = (const struct group *)j->marks.data;
    size_t waiting = j->marks.len / sizeof(*g), count = 0, bytes = 0;
    uint32_t records = 0;
    uint64_t at = j->groups - waiting;
    while (count < waiting && (count == 0 || (bytes + g[count].len <= JOURNAL_BATCH && at != j->barrier))) {
        bytes += g[count].len;
        records += g[count++].records;
        at++;
    }
    buf_consume(&j->marks, count * sizeof(*g));
    j->flight = at;
    j->flight_bytes = bytes;
    write_head(j->pending.data, r->epoch, ++j->number, records);
    c->out->append(c->out_arg, r, j->number, j->pending.data, JOURNAL_HEAD + bytes);
    j->pending.len -= bytes;
    if (count == waiting)
        init_buffers(j, c->alloc); /* an idle room holds none */
    else
        memmove(j->pending.data + JOURNAL_HEAD, j->pending.data + JOURNAL_HEAD + bytes, j->pending.len - JOURNAL_HEAD);
}

void host_appended(struct host *h, const char *id, uint64_t epoch, uint64_t number, uint64_t sequence, struct mono now)
{
    struct room *r = id ? map_get(&h->rooms, id) : NULL;
    struct journal *j = r ? r->journal : NULL;
    if (!j || r->epoch != epoch || !j->flight || j->number != number)
        return;
    h->now = now;
    j->acked = j->flight;
    j->flight = 0;
    j->flight_bytes = 0;
    j->sequence = sequence;
    if (!out_release(r))
        return;
    journal_flush(r);
    due_update(r);
    if (j->image_wanted && !j->imaging) {
        j->image_wanted = false;
        (void)host_snapshot(h, id, now); /* whoever asked sees by host_room_unsaved() that there was none, and asks again */
    }
}
