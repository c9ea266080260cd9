/*
 * See store_mem.h.
 *
 * Must not be kinder than a disk: nothing is there before its commit ended. Invariant: what a crash leaves is the state
 * after some whole number of commits, and covers every one whose result was handed out.
 */
#include "store/store_mem.h"

#include <string.h>

#include "base/rng.h"
#include "store/mem_disk.h"

enum job { JOB_NONE, JOB_COMMIT, JOB_READ };

struct want {
    struct want *next;
    bool list;
    enum store_which which;
    struct id room; /* list: after; "" is before all */
    size_t max;
    struct queued *done;
};

struct store_mem {
    struct store base;
    struct store_mem_config config;
    const struct alloc *alloc;
    struct rng rng;
    struct mono now, job_end, retry_at;
    enum job job, last;
    struct op *writing; /* JOB_COMMIT */
    struct pending pending;
    struct want *wants, **wants_tail;
    size_t want_count;
    struct events ready;
    struct store_stats shown;
    bool closed;
};

static struct store_mem *self(struct store *s)
{
    return (struct store_mem *)(void *)s;
}

/* ---- Calls ---- */

static void wake(struct store_mem *s, bool first)
{
    if (first && s->config.wake)
        s->config.wake(s->config.wake_arg);
}

static int add(struct store_mem *s, enum op_kind kind, uint64_t token, const struct store_snapshot *snapshot)
{
    struct op *op;
    int err = op_new(s->alloc, kind, token, snapshot, &op);
    if (err)
        return err;
    if (s->closed) {
        op_free(s->alloc, op);
        return ROOM_E_CANCELLED;
    }
    size_t before = s->ready.count;
    err = pending_add(&s->pending, op, s->want_count, &s->ready);
    wake(s, before == 0 && s->ready.count > 0);
    return err;
}

static int mem_save(struct store *store, uint64_t token, const struct store_snapshot *snapshot)
{
    struct store_mem *s = self(store);
    return snapshot->len > s->config.max_snapshot_bytes ? ROOM_E_TOO_BIG : add(s, OP_SAVE, token, snapshot);
}

static int mem_sent(struct store *store, uint64_t token, const char *room, uint64_t epoch, uint64_t version)
{
    struct store_snapshot named = {.room = room, .mark = {.epoch = epoch, .version = version}};
    return add(self(store), OP_SENT, token, &named);
}

static int mem_forget(struct store *store, uint64_t token, const char *room)
{
    return add(self(store), OP_FORGET, token, &(struct store_snapshot){.room = room});
}

static int add_want(struct store_mem *s, uint64_t token, const struct want *as)
{
    if (s->closed || s->pending.count + s->want_count >= s->config.max_queue_count)
        return s->closed ? ROOM_E_CANCELLED : ROOM_E_FULL;
    struct want *w = alloc_get(s->alloc, sizeof *w);
    if (w)
        *w = *as;
    if (w && !(w->done = queued_new(s->alloc, STORE_EV_DONE, token))) {
        alloc_put(s->alloc, w, sizeof *w);
        w = NULL;
    }
    if (!w)
        return ROOM_E_NO_MEMORY;
    *s->wants_tail = w;
    s->wants_tail = &w->next;
    s->want_count++;
    return 0;
}

static int mem_load(struct store *store, uint64_t token, enum store_which which, const char *room)
{
    struct want w = {.which = which};
    return room && id_set(&w.room, room) ? add_want(self(store), token, &w) : ROOM_E_INVALID;
}

static int mem_list(struct store *store, uint64_t token, enum store_which which, const char *after, size_t max)
{
    struct want w = {.list = true, .which = which, .max = max};
    bool valid = max > 0 && max <= STORE_LIST_MAX && (!after || id_set(&w.room, after));
    return valid ? add_want(self(store), token, &w) : ROOM_E_INVALID;
}

static size_t mem_drain(struct store *store, store_handler *handler, void *arg, size_t max_events)
{
    struct store_mem *s = self(store);
    size_t n = 0;
    for (struct queued *q; n < max_events && (q = events_pop(&s->ready)); n++) {
        handler(arg, &q->event);
        queued_free(s->alloc, q);
    }
    return n;
}

static void mem_stats(struct store *store, struct store_stats *out)
{
    struct store_mem *s = self(store);
    disk_totals(s->config.disk, &s->shown);
    *out = s->shown;
    out->queue = s->pending.count + s->want_count;
    out->queue_bytes = s->pending.bytes;
    out->merged = s->pending.merged;
}

/* ---- What a job does at its end ---- */

static void trouble(struct store_mem *s, struct op *ops, enum store_result result, const char *text)
{
    err_set(&s->shown.error, 0, "%s", text);
    if (s->shown.trouble != result)
        events_say(&s->ready, STORE_EV_TROUBLE, result, text);
    s->shown.trouble = result;
    s->retry_at = mono_add_ms(s->now, s->config.retry_ms);
    if (s->closed)
        pending_finish(&s->pending, ops, result, text, &s->ready);
    else
        pending_return(&s->pending, ops, false, &s->ready);
}

static void end_commit(struct store_mem *s)
{
    struct op *ops = s->writing;
    size_t saves = 0;
    s->writing = NULL;
    for (const struct op *op = ops; op; op = op->next)
        saves += op->kind == OP_SAVE;
    if (s->config.disk->full) {
        trouble(s, ops, STORE_NO_SPACE, "the disk is full");
    } else if (rng_below(&s->rng, 1000) < s->config.fail_per_mille) {
        trouble(s, ops, STORE_IO, "the disk failed");
    } else if (!disk_commit(s->config.disk, ops, &s->pending)) {
        trouble(s, ops, STORE_IO, "out of memory");
    } else {
        s->shown.commits++;
        s->shown.saves += saves;
        pending_finish(&s->pending, ops, STORE_OK, NULL, &s->ready);
        if (s->shown.trouble != STORE_OK && s->pending.failed == 0) {
            s->shown.trouble = STORE_OK;
            events_say(&s->ready, STORE_EV_WELL, STORE_OK, "saves are written again");
        }
    }
}

static void name_damage(struct store_mem *s, const struct want *w, const struct store_mark *mark)
{
    struct queued *q = queued_new(s->alloc, STORE_EV_DAMAGED, w->done->event.token);
    s->shown.damaged++;
    if (!q)
        return;
    queued_room(q, w->room.s, mark);
    queued_detail(s->alloc, q, "checksum mismatch");
    events_push(&s->ready, q);
}

static enum store_result load(struct store_mem *s, const struct want *w)
{
    const struct disk_room *r = map_get(&s->config.disk->rooms, w->room.s);
    bool bad = false;
    for (const struct copy *c = r ? r->newest : NULL; c; c = c->next) {
        if (w->which == STORE_WAITING && !(r->waits && store_mark_cmp(&c->mark, &r->waiting) == 0))
            continue;
        queued_room(w->done, w->room.s, &c->mark);
        if (c->damaged) {
            bad = true;
            name_damage(s, w, &c->mark);
            continue;
        }
        struct store_snapshot found = {w->room.s, c->type.s, c->mark, c->saved, c->codec, c->data, c->len};
        struct queued *q = queued_new(s->alloc, STORE_EV_SNAPSHOT, w->done->event.token);
        if (!q || !queued_snapshot(s->alloc, q, &found)) {
            queued_free(s->alloc, q);
            return STORE_IO;
        }
        events_push(&s->ready, q);
        return STORE_OK;
    }
    return bad ? STORE_DAMAGED : STORE_NOT_FOUND;
}

/* The first room behind `after` that is held or waits. */
static const struct disk_room *next_room(const struct store_disk *d, const char *after, enum store_which which)
{
    const struct disk_room *best = NULL;
    for (struct map_iter it = map_first(&d->rooms); it.value; map_next(&it)) {
        const struct disk_room *r = it.value;
        if ((which == STORE_HELD ? r->newest != NULL : r->waits) && strcmp(r->id.s, after) > 0 &&
            (!best || strcmp(r->id.s, best->id.s) < 0))
            best = r;
    }
    return best;
}

static enum store_result list(struct store_mem *s, const struct want *w)
{
    const struct disk_room *r;
    const char *after = w->room.s;
    for (size_t n = 0; n < w->max && (r = next_room(s->config.disk, after, w->which)); n++, after = r->id.s) {
        const struct copy *c = r->newest;
        while (w->which == STORE_WAITING && c->next && store_mark_cmp(&c->mark, &r->waiting) != 0)
            c = c->next;
        struct queued *q = queued_new(s->alloc, STORE_EV_ROOM, w->done->event.token);
        if (!q)
            return STORE_IO;
        queued_room(q, r->id.s, &c->mark);
        q->event.snapshot.len = c->len;
        q->event.snapshot.saved = c->saved;
        events_push(&s->ready, q);
        w->done->event.count++;
    }
    return STORE_OK;
}

static void end_reads(struct store_mem *s, bool closed)
{
    static const char *const texts[] = {[STORE_NOT_FOUND] = "no snapshot of the room is here",
                                        [STORE_DAMAGED] = "no snapshot of the room is whole",
                                        [STORE_IO] = "out of memory",
                                        [STORE_CLOSED] = "the store was closed"};
    for (struct want *w; (w = s->wants);) {
        enum store_result result = closed ? STORE_CLOSED : w->list ? list(s, w) : load(s, w);
        s->wants = w->next;
        w->done->event.result = result;
        if (result != STORE_OK)
            queued_detail(s->alloc, w->done, texts[result]);
        events_push(&s->ready, w->done);
        alloc_put(s->alloc, w, sizeof *w);
        s->want_count--;
    }
    s->wants_tail = &s->wants;
}

/* ---- Time ---- */

static bool begin_job(struct store_mem *s)
{
    bool write = s->pending.head && mono_reached(s->now, s->retry_at);
    if (s->wants && !(write && s->last == JOB_READ)) {
        s->job = JOB_READ;
    } else if (write) {
        s->job = JOB_COMMIT;
        s->writing = pending_take(&s->pending, SIZE_MAX, SIZE_MAX);
    } else {
        return false;
    }
    int64_t span = s->config.max_us - s->config.min_us;
    s->job_end = s->now;
    s->job_end.us += s->config.min_us + (span > 0 ? (int64_t)rng_below(&s->rng, (uint64_t)span + 1) : 0);
    return true;
}

static void end_job(struct store_mem *s)
{
    enum job job = s->job;
    s->job = JOB_NONE;
    s->last = job;
    if (job == JOB_COMMIT)
        end_commit(s);
    else if (job == JOB_READ)
        end_reads(s, false);
}

void store_mem_tick(struct store *store, struct mono now)
{
    struct store_mem *s = self(store);
    size_t before = s->ready.count;
    s->now = now;
    while ((s->job != JOB_NONE || begin_job(s)) && mono_reached(s->now, s->job_end))
        end_job(s);
    wake(s, before == 0 && s->ready.count > 0);
}

bool store_mem_due(const struct store *store, struct mono *at)
{
    const struct store_mem *s = (const struct store_mem *)(const void *)store;
    if (s->job != JOB_NONE)
        *at = s->job_end;
    else if (s->wants || s->pending.head)
        *at = !s->wants && !mono_reached(s->now, s->retry_at) ? s->retry_at : s->now;
    else
        return false;
    return true;
}

static void mem_close(struct store *store)
{
    struct store_mem *s = self(store);
    size_t before = s->ready.count;
    if (s->closed)
        return;
    s->closed = true;
    if (s->writing)
        end_commit(s);
    s->job = JOB_NONE;
    end_reads(s, true);
    s->writing = pending_take(&s->pending, SIZE_MAX, SIZE_MAX);
    if (s->writing)
        end_commit(s);
    wake(s, before == 0 && s->ready.count > 0);
}

/* ---- Life ---- */

static const struct store_ops ops = {
    .save = mem_save,
    .load = mem_load,
    .list = mem_list,
    .sent = mem_sent,
    .forget = mem_forget,
    .drain = mem_drain,
    .stats = mem_stats,
    .close = mem_close,
};

struct store *store_mem_create(const struct store_mem_config *config)
{
    struct store_mem *s = alloc_get(config->alloc, sizeof *s);
    if (!s)
        return NULL;
    s->base.ops = &ops;
    s->config = *config;
    s->alloc = config->alloc;
    if (!s->config.max_snapshot_bytes)
        s->config.max_snapshot_bytes = 32 << 20;
    if (!s->config.max_queue_count)
        s->config.max_queue_count = 65536;
    if (!s->config.max_queue_bytes)
        s->config.max_queue_bytes = 128 << 20;
    if (s->config.retry_ms <= 0)
        s->config.retry_ms = 1000;
    rng_init(&s->rng, config->seed);
    s->now = s->retry_at = (struct mono){INT64_MIN};
    pending_init(&s->pending, s->alloc, s->config.max_queue_count, s->config.max_queue_bytes);
    s->wants_tail = &s->wants;
    events_init(&s->ready, s->alloc);
    return &s->base;
}

static void free_all(struct store_mem *s)
{
    struct events dropped;
    events_init(&dropped, s->alloc);
    pending_finish(&s->pending, s->writing, STORE_CLOSED, NULL, &dropped);
    events_deinit(&dropped);
    end_reads(s, true);
    pending_deinit(&s->pending);
    events_deinit(&s->ready);
    alloc_put(s->alloc, s, sizeof *s);
}

void store_mem_crash(struct store *store)
{
    struct store_mem *s = self(store);
    if (s->writing && !s->config.disk->full && rng_below(&s->rng, 2) == 0)
        (void)!disk_commit(s->config.disk, s->writing, &s->pending);
    free_all(s);
}

void store_mem_destroy(struct store *store)
{
    if (!store)
        return;
    mem_close(store);
    free_all(self(store));
}
