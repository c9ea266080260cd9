/*
 * Is a room that runs what its snapshot and its journal make of it?
 *
 * Decides: takes an image of each room that outlives its owner, and makes the same room again on a host that nobody plays on,
 * from what all nodes can read: the newest snapshot in the bucket and the journal behind it. Both images must be the same but
 * for what time and ownership put in. Asked once everything is quiet. Must not use a node's own copies.
 */
#include "ledger.h"

#include <stdio.h>
#include <string.h>

#include "wire/mp_read.h"
#include "wire/subject.h"

#define NO(...) (snprintf(why, size, __VA_ARGS__), false)

enum { CLUSTER_BYTES = ULID_SIZE - 1, FIELDS = 13, FIELD_STATE = 12 };

/* ---- the host that nobody plays on ---- */

struct scratch {
    struct host *host;
    struct buf image;
};

static void on_image(void *arg, const struct room *room, uint64_t version, uint64_t position, const void *data, size_t len)
{
    struct scratch *s = arg;
    buf_reset(&s->image);
    buf_write(&s->image, data, len);
}

static void on_said(void *arg, const struct room *room, uint64_t who, const char *player, const void *data, size_t len)
{
}

static void on_broadcast(void *arg, const struct room *room, uint64_t except, const char *from, const void *data, size_t len)
{
}

static void on_sent(void *arg, const struct room *room, uint64_t who, const char *player, int64_t n, int code,
                    const void *result, size_t len)
{
}

static void on_left(void *arg, const struct room *room, uint64_t who, const char *player, const char *reason)
{
}

static void on_changed(void *arg, const struct room *room)
{
}

static void on_ended(void *arg, const char *room_id, const char *reason)
{
}

static void on_append(void *arg, const struct room *room, uint64_t number, const void *data, size_t len)
{
}

static void on_answered(void *arg, const struct room *room, const char *reply, int code, const void *result, size_t len)
{
}

static void on_tell(void *arg, const struct room *room, const char *other, uint64_t request, const void *data, size_t len)
{
}

static void on_ask(void *arg, const struct room *room, const struct host_ask *ask)
{
}

static void on_topics(void *arg, const struct room *room)
{
}

static void on_lock(void *arg, const struct room *room, const struct host_lock_ask *ask)
{
}

static const struct host_out out = {.message = on_said, .broadcast = on_broadcast, .joined = on_said, .sent = on_sent,
                                    .attached = on_said, .left = on_left, .changed = on_changed, .ended = on_ended,
                                    .image = on_image, .append = on_append, .answered = on_answered,
                                    .tell = on_tell, .lock = on_lock, .ask = on_ask, .topics = on_topics};

/* ---- from what all nodes can read ---- */

struct saved {
    struct store_mark mark;
    struct mp_token bytes;
};

/* False: there is no snapshot yet. `scratch` keeps the bytes. */
static bool find_saved(const struct world *w, const char *id, struct buf *scratch, struct saved *found)
{
    const struct sim_bucket *b = sim_kv_find((struct world *)w, "snapshots");
    const struct sim_kv_entry *e = sim_kv_look(w, b, id);
    struct wire_snapshot_entry s;
    struct mp_read r;
    if (!e || wire_snapshot_entry_from_json(&s, (const char *)e->data, e->len, scratch, NULL) || s.chunks)
        return false;
    found->mark = (struct store_mark){(uint64_t)s.epoch, (uint64_t)s.position, (uint64_t)s.version};
    mp_read_init(&r, s.data.data, s.data.len);
    return mp_next(&r, &found->bytes, NULL) == 0 && found->bytes.type == MP_BIN;
}

static const struct sim_log *journal_of(const struct world *w, const char *id)
{
    char subject[SUBJECT_SIZE];
    subject_journal(subject, id);
    for (size_t i = 0; i < w->stream_count; i++) {
        const struct sim_log *log = map_get(&w->streams[i].logs, subject);
        if (log)
            return log;
    }
    return NULL;
}

static bool replay(const struct world *w, struct scratch *s, const char *id, uint64_t at, char *why, size_t size)
{
    const struct sim_log *log = journal_of(w, id);
    for (const struct sim_log_message *m = log ? log->first : NULL; m; m = m->next) {
        struct mp_read r;
        struct mp_token two, before;
        if (m->sequence <= at)
            continue;
        mp_read_init(&r, m->data, m->len);
        if (mp_next(&r, &two, NULL) || mp_next(&r, &before, NULL) || (uint64_t)before.i != at)
            return NO("the journal of room %s has a gap before %llu", id, (unsigned long long)m->sequence);
        int rc = host_replay(s->host, id, m->sequence, r.at, (size_t)(r.end - r.at));
        if (rc)
            return NO("message %llu of room %s cannot be done again: %s", (unsigned long long)m->sequence, id,
                      room_error_name(rc));
        at = m->sequence;
    }
    return true;
}

static bool make_again(const struct world *w, struct scratch *s, const struct room *live, char *why, size_t size)
{
    const char *id = host_room_id(live);
    struct saved saved = {0};
    struct buf text;
    struct err_detail detail = {{0}};
    struct mono now = {(int64_t)1000000 * SIM_S};
    buf_init(&text, &alloc_libc, 1 << 24);
    bool journal = host_room_type(live)->durability == ROOM_DURABILITY_JOURNAL, found = find_saved(w, id, &text, &saved);
    struct host_restore in = {.id = id, .epoch = host_room_epoch(live) + 1, .image = found ? saved.bytes.data : NULL,
                              .image_len = saved.bytes.len, .position = saved.mark.position};
    bool ok = found || journal || NO("room %s is saved nowhere", id);
    if (ok && host_restore(s->host, &in, now, &detail))
        ok = NO("room %s: %s", id, detail.text);
    ok = ok && (!journal || replay(w, s, id, saved.mark.position, why, size));
    int rc = ok ? host_resume(s->host, id, now) : 0;
    if (rc || (ok && (rc = host_snapshot(s->host, id, now))))
        ok = NO("room %s does not run again: %s", id, room_error_name(rc));
    buf_deinit(&text);
    return ok;
}

/* ---- the comparison ---- */

static bool fields_of(const uint8_t *image, size_t len, struct wire_raw fields[FIELDS])
{
    struct mp_read r;
    struct mp_token head;
    mp_read_init(&r, image, len);
    if (mp_next(&r, &head, NULL) || head.type != MP_ARRAY || head.count != FIELDS)
        return false;
    for (int i = 0; i < FIELDS; i++)
        if (mp_skip(&r, WIRE_DEPTH_MAX, &fields[i], NULL))
            return false;
    return true;
}

static bool same(const char *id, const struct wire_raw *a, const struct wire_raw *b, char *why, size_t size)
{
    static const char *const names[FIELDS] = {"format",  "type",   NULL,       NULL,  "created", NULL,   NULL,
                                              "private", "locked", "metadata", "rng", "seats",   "state"};
    for (int i = 0; i < FIELDS; i++)
        if (names[i] && (a[i].len != b[i].len || memcmp(a[i].data, b[i].data, a[i].len) != 0))
            return NO("room %s made again has other %s", id, names[i]);
    return true;
}

/* {"value": n}, of a counter */
static bool value_of(struct wire_raw state, int64_t *value)
{
    struct mp_read r;
    struct mp_token map, key, n;
    mp_read_init(&r, state.data, state.len);
    if (mp_next(&r, &map, NULL) || map.type != MP_MAP || mp_next(&r, &key, NULL) || mp_next(&r, &n, NULL) || n.type != MP_INT)
        return false;
    *value = n.i;
    return true;
}

/* Of a room without a journal the snapshot that all can read must be the newest there is, before it is asked for another. */
static bool is_saved(const struct world *w, const struct sim_proc *p, const struct room *live, char *why, size_t size)
{
    const char *id = host_room_id(live);
    const struct store_mark *newest = sim_disk_saved(p->store, id);
    struct saved saved;
    struct buf text;
    if (host_room_type(live)->durability == ROOM_DURABILITY_JOURNAL)
        return true;
    if (host_room_unsaved(live) || !newest)
        return NO("room %s has not been saved", id);
    buf_init(&text, &alloc_libc, 1 << 24);
    bool ok = (find_saved(w, id, &text, &saved) && store_mark_cmp(&saved.mark, newest) == 0) ||
              NO("the newest snapshot of room %s is on the disk of %s only", id, p->id);
    buf_deinit(&text);
    return ok;
}

static bool compare(struct world *w, struct sim_proc *p, struct scratch *s, const struct room *live, char *why, size_t size)
{
    const char *id = host_room_id(live);
    struct wire_raw now[FIELDS], again[FIELDS];
    struct buf caught;
    int64_t value;
    if (!is_saved(w, p, live, why, size))
        return false;
    buf_init(&caught, &alloc_libc, 1 << 24);
    sim_disk_catch(p->store, id, &caught);
    (void)host_snapshot(node_host(p->node), id, proc_mono(p)); /* nothing is caught if its journal is at work yet */
    sim_disk_catch(p->store, NULL, NULL);
    proc_wake(p, w->now_us + 20);
    bool ok = caught.len > CLUSTER_BYTES || NO("room %s has something under way", id);
    ok = ok && make_again(w, s, live, why, size);
    if (ok && (!fields_of(caught.data + CLUSTER_BYTES, caught.len - CLUSTER_BYTES, now) ||
               !fields_of(s->image.data, s->image.len, again) || !value_of(now[FIELD_STATE], &value)))
        ok = NO("the image of room %s cannot be read", id);
    ok = ok && same(id, now, again, why, size) && ledger_final(w, id, value);
    buf_deinit(&caught);
    return ok;
}

bool replayed_holds(struct world *w, char *why, size_t size)
{
    bool ok = true;
    struct scratch s;
    buf_init(&s.image, &alloc_libc, 1 << 24);
    struct host_config config = {.alloc = &alloc_libc, .types = w->types, .out = &out, .out_arg = &s, .journal = true,
                                 .snapshots = true};
    s.host = host_create(&config);
    ASSERT(s.host);
    for (unsigned i = 0; i < w->proc_count && ok; i++) {
        struct sim_proc *p = &w->procs[i];
        struct host *h = p->node ? node_host(p->node) : NULL;
        for (const struct room *r = h ? host_room_next(h, NULL) : NULL; r && ok; r = host_room_next(h, r))
            if (host_room_type(r)->durability != ROOM_DURABILITY_NONE)
                ok = compare(w, p, &s, r, why, size);
    }
    host_destroy(s.host);
    buf_deinit(&s.image);
    return ok;
}
