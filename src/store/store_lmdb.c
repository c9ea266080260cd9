/*
 * See store_lmdb.h: the queue, the thread, and what trouble means.
 *
 * Must not know the file's format. Invariant: the lock is held for list work only, never over a call of the database, so
 * the loop waits for a few instructions at the most.
 */
#include "store/store_lmdb.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/lmdb_file.h"

enum {
    COMMIT_OPS = 1024,
    SLICE_OPS = 64, /* handled under the lock at a time */
    COMMIT_BYTES = 16 << 20,
    READS_PER_COMMIT = 32, /* so that a flood of loads cannot hold up saves */
    SINGLES = 8,           /* calls that fail alone before a pause */
};

struct want {
    struct want *next;
    bool list, whole; /* whole: a list from the start */
    uint64_t token;
    enum store_which which;
    struct id room;
    size_t max;
    struct queued *done;
};

struct store_lmdb {
    struct store base;
    struct store_lmdb_config config;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    /* Under the lock. */
    struct pending pending;
    struct want *wants, **wants_tail;
    size_t want_count;
    struct events ready;
    bool closing;
    struct store_stats shown; /* what the thread last said */
    /* The thread's. */
    struct db db;
    struct events out;
    size_t attempt; /* calls in the next commit: halves on failure, doubles on success */
    unsigned singles;
    struct mono retry_at;
};

static struct store_lmdb *self(struct store *s)
{
    return (struct store_lmdb *)(void *)s;
}

/* ---- The loop's side ---- */

static void wake(struct store_lmdb *s, bool first)
{
    if (first && s->config.wake)
        s->config.wake(s->config.wake_arg);
}

static int add(struct store_lmdb *s, enum op_kind kind, uint64_t token, const struct store_snapshot *snapshot)
{
    struct op *op;
    int err = op_new(&alloc_libc, kind, token, snapshot, &op);
    if (err)
        return err;
    pthread_mutex_lock(&s->lock);
    size_t before = s->ready.count;
    if (s->closing) {
        err = ROOM_E_CANCELLED;
        op_free(&alloc_libc, op);
    } else {
        err = pending_add(&s->pending, op, s->want_count, &s->ready);
    }
    bool first = before == 0 && s->ready.count > 0;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    wake(s, first);
    return err;
}

static int lmdb_save(struct store *store, uint64_t token, const struct store_snapshot *snapshot)
{
    struct store_lmdb *s = self(store);
    return snapshot->len > s->config.max_snapshot_bytes ? ROOM_E_TOO_BIG : add(s, OP_SAVE, token, snapshot);
}

static int lmdb_sent(struct store *store, uint64_t token, const char *room, uint64_t epoch, uint64_t version)
{
    struct store_snapshot named = {.room = room, .mark = {.epoch = epoch, .version = version}};
    return add(self(store), OP_SENT, token, &named);
}

static int lmdb_forget(struct store *store, uint64_t token, const char *room)
{
    return add(self(store), OP_FORGET, token, &(struct store_snapshot){.room = room});
}

static void want_free(struct want *w)
{
    queued_free(&alloc_libc, w->done);
    free(w);
}

/* Takes `w`. */
static int submit_want(struct store_lmdb *s, struct want *w)
{
    w->done = queued_new(&alloc_libc, STORE_EV_DONE, w->token);
    int err = w->done ? 0 : ROOM_E_NO_MEMORY;
    pthread_mutex_lock(&s->lock);
    if (!err && s->closing)
        err = ROOM_E_CANCELLED;
    if (!err && s->pending.count + s->want_count >= s->config.max_queue_count)
        err = ROOM_E_FULL;
    if (!err) {
        *s->wants_tail = w;
        s->wants_tail = &w->next;
        s->want_count++;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    if (err)
        want_free(w);
    return err;
}

static int lmdb_load(struct store *store, uint64_t token, enum store_which which, const char *room)
{
    struct want *w = calloc(1, sizeof *w);
    if (!w)
        return ROOM_E_NO_MEMORY;
    w->token = token;
    w->which = which;
    if (room && id_set(&w->room, room))
        return submit_want(self(store), w);
    free(w);
    return ROOM_E_INVALID;
}

static int lmdb_list(struct store *store, uint64_t token, enum store_which which, const char *after, size_t max)
{
    struct want *w = calloc(1, sizeof *w);
    if (!w)
        return ROOM_E_NO_MEMORY;
    w->list = true;
    w->whole = !after;
    w->token = token;
    w->which = which;
    w->max = max;
    if (max > 0 && max <= STORE_LIST_MAX && (!after || id_set(&w->room, after)))
        return submit_want(self(store), w);
    free(w);
    return ROOM_E_INVALID;
}

static size_t lmdb_drain(struct store *store, store_handler *handler, void *arg, size_t max_events)
{
    struct store_lmdb *s = self(store);
    size_t n = 0;
    for (; n < max_events; n++) {
        pthread_mutex_lock(&s->lock);
        struct queued *q = events_pop(&s->ready);
        if (q && q->extra_size && s->wants)
            pthread_cond_signal(&s->work); /* there may be room for what a load finds */
        pthread_mutex_unlock(&s->lock);
        if (!q)
            break;
        handler(arg, &q->event);
        queued_free(&alloc_libc, q);
    }
    return n;
}

static void lmdb_stats(struct store *store, struct store_stats *out)
{
    struct store_lmdb *s = self(store);
    pthread_mutex_lock(&s->lock);
    *out = s->shown;
    out->queue = s->pending.count + s->want_count;
    out->queue_bytes = s->pending.bytes;
    out->merged = s->pending.merged;
    pthread_mutex_unlock(&s->lock);
}

static void lmdb_close(struct store *store)
{
    struct store_lmdb *s = self(store);
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

/* ---- The thread; those named `locked_` hold the lock ---- */

/* Hands over what was found and said. True: wake the loop. */
static bool locked_publish(struct store_lmdb *s)
{
    struct store_stats *t = &s->shown;
    t->rooms = s->db.totals.rooms;
    t->bytes = s->db.totals.bytes;
    t->outbox = s->db.totals.outbox;
    t->outbox_bytes = s->db.totals.outbox_bytes;
    t->map_bytes = s->db.map_bytes;
    t->used_bytes = db_used_bytes(&s->db);
    t->saves = s->db.saves;
    t->damaged = s->db.damaged;
    return events_move(&s->ready, &s->out);
}

/* The chain behind the first SLICE_OPS calls, which end there. */
static struct op *cut(struct op *ops)
{
    for (int i = 1; i < SLICE_OPS && ops->next; i++)
        ops = ops->next;
    struct op *rest = ops->next;
    ops->next = NULL;
    return rest;
}

/* What the next commit writes; gives the lock away now and then. */
static struct op *locked_take(struct store_lmdb *s, size_t *count)
{
    struct op *first = NULL, *last = NULL;
    size_t bytes = 0;
    *count = 0;
    while (*count < s->attempt && bytes < COMMIT_BYTES && s->pending.head) {
        size_t left = s->attempt - *count;
        struct op *ops = pending_take(&s->pending, left < SLICE_OPS ? left : SLICE_OPS, COMMIT_BYTES - bytes);
        pthread_mutex_unlock(&s->lock);
        ops->prev = last;
        *(last ? &last->next : &first) = ops;
        for (; ops; ops = ops->next, ++*count) {
            bytes += ops->len;
            last = ops;
        }
        pthread_mutex_lock(&s->lock);
    }
    return first;
}

static void free_data(struct op *ops)
{
    for (; ops; ops = ops->next) {
        alloc_put(&alloc_libc, ops->data, ops->len);
        ops->data = NULL; /* the length stays, for the accounts */
    }
}

/* Gives the lock away now and then. */
static void locked_written(struct store_lmdb *s, struct op *ops)
{
    for (struct op *rest; ops; ops = rest) {
        rest = cut(ops);
        pending_finish(&s->pending, ops, STORE_OK, NULL, &s->out);
        pthread_mutex_unlock(&s->lock);
        pthread_mutex_lock(&s->lock);
    }
    s->attempt = s->attempt < COMMIT_OPS / 2 ? s->attempt * 2 : COMMIT_OPS;
    s->singles = 0;
    if (s->shown.trouble != STORE_OK && s->pending.failed == 0) {
        s->shown.trouble = STORE_OK;
        events_say(&s->out, STORE_EV_WELL, STORE_OK, "saves are written again");
    }
}

/* Smaller commits first, so that one call that cannot be written does not hold up the others; after a few that fail alone,
 * a pause. At the end nothing waits. */
static void locked_failed(struct store_lmdb *s, struct op *ops, size_t count, enum store_result result,
                          const struct err_detail *why)
{
    s->shown.error = *why;
    if (s->shown.trouble != result)
        events_say(&s->out, STORE_EV_TROUBLE, result, why->text);
    s->shown.trouble = result;
    if (count > 1) {
        pending_return(&s->pending, ops, false, &s->out);
        s->attempt = count / 2;
        return;
    }
    s->singles++;
    if (s->closing)
        pending_finish(&s->pending, ops, result, why->text, &s->out);
    else
        pending_return(&s->pending, ops, true, &s->out);
    if (s->closing && s->singles >= SINGLES)
        pending_finish(&s->pending, pending_take(&s->pending, SIZE_MAX, SIZE_MAX), result, why->text, &s->out);
    if (s->singles >= SINGLES || s->singles >= s->pending.waiting) {
        s->singles = 0;
        s->retry_at = mono_add_ms(time_mono_now(), s->config.retry_ms);
    }
}

/* One commit; gives the lock away meanwhile. */
static void locked_write(struct store_lmdb *s)
{
    struct err_detail why = {""};
    size_t count;
    struct op *ops = locked_take(s, &count);
    pthread_mutex_unlock(&s->lock);
    struct mono start = time_mono_now();
    enum store_result result = db_commit(&s->db, ops, &why);
    uint64_t took_us = (uint64_t)(time_mono_now().us - start.us);
    if (result == STORE_OK)
        free_data(ops);
    pthread_mutex_lock(&s->lock);
    if (result == STORE_OK) {
        s->shown.commits++;
        s->shown.commit_us += took_us;
        if (took_us > s->shown.commit_us_max)
            s->shown.commit_us_max = took_us;
        locked_written(s, ops);
    } else {
        locked_failed(s, ops, count, result, &why);
    }
}

/* One load or list; gives the lock away meanwhile. */
static void locked_read(struct store_lmdb *s)
{
    struct err_detail why = {""};
    struct want *w = s->wants;
    s->wants = w->next;
    if (!s->wants)
        s->wants_tail = &s->wants;
    struct store_event *done = &w->done->event;
    if (s->closing) {
        done->result = STORE_CLOSED;
    } else {
        pthread_mutex_unlock(&s->lock);
        struct store_mark mark = {0};
        if (w->list)
            done->result = db_list(&s->db, w->token, w->which, w->whole ? NULL : w->room.s, w->max, &done->count, &why);
        else
            done->result = db_load(&s->db, w->token, w->which, w->room.s, &mark, &why);
        if (!w->list)
            queued_room(w->done, w->room.s, &mark);
        if (done->result != STORE_OK)
            queued_detail(&alloc_libc, w->done, why.text);
        pthread_mutex_lock(&s->lock);
        if (done->result == STORE_IO)
            s->shown.error = why;
    }
    s->want_count--;
    events_push(&s->out, w->done);
    w->done = NULL;
    want_free(w);
}

static bool locked_read_due(const struct store_lmdb *s)
{
    return s->wants && (s->closing || s->ready.bytes + s->out.bytes < s->config.max_queue_bytes);
}

static bool locked_write_due(const struct store_lmdb *s)
{
    return s->pending.head && (s->closing || mono_reached(time_mono_now(), s->retry_at));
}

static void locked_wait(struct store_lmdb *s)
{
    if (!s->pending.head) {
        pthread_cond_wait(&s->work, &s->lock);
        return;
    }
    struct timespec at = {(time_t)(s->retry_at.us / 1000000), (long)(s->retry_at.us % 1000000) * 1000};
    pthread_cond_timedwait(&s->work, &s->lock, &at);
}

static void *run(void *arg)
{
    struct store_lmdb *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        bool worked = false;
        for (int i = 0; i < READS_PER_COMMIT && locked_read_due(s); i++, worked = true)
            locked_read(s);
        if (locked_write_due(s)) {
            locked_write(s);
            worked = true;
        }
        if (!worked && s->closing)
            break;
        bool first = locked_publish(s);
        if (first) {
            pthread_mutex_unlock(&s->lock);
            wake(s, true);
            pthread_mutex_lock(&s->lock);
        } else if (!worked) {
            locked_wait(s);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- Life ---- */

static const struct store_ops ops = {
    .save = lmdb_save,
    .load = lmdb_load,
    .list = lmdb_list,
    .sent = lmdb_sent,
    .forget = lmdb_forget,
    .drain = lmdb_drain,
    .stats = lmdb_stats,
    .close = lmdb_close,
};

static size_t or_default(size_t value, size_t otherwise)
{
    return value ? value : otherwise;
}

static void set_up(struct store_lmdb *s, const struct store_lmdb_config *config)
{
    pthread_condattr_t attr;
    s->base.ops = &ops;
    s->config = *config;
    s->config.dir = NULL; /* the database has its copy */
    s->config.max_snapshot_bytes = or_default(config->max_snapshot_bytes, 32 << 20);
    s->config.max_queue_count = or_default(config->max_queue_count, 65536);
    s->config.max_queue_bytes = or_default(config->max_queue_bytes, 128 << 20);
    s->config.retry_ms = config->retry_ms > 0 ? config->retry_ms : 1000;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_condattr_destroy(&attr);
    pending_init(&s->pending, &alloc_libc, s->config.max_queue_count, s->config.max_queue_bytes);
    s->wants_tail = &s->wants;
    events_init(&s->ready, &alloc_libc);
    events_init(&s->out, &alloc_libc);
    s->attempt = COMMIT_OPS;
}

static void tear_down(struct store_lmdb *s)
{
    pending_deinit(&s->pending);
    events_deinit(&s->ready);
    events_deinit(&s->out);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* No signal is for this thread; SIGXFSZ would kill the process where EFBIG is wanted. */
static int start_thread(struct store_lmdb *s, struct err_detail *detail)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? err_set(detail, ROOM_E_NO_MEMORY, "cannot start the store's thread: %s", strerror(rc)) : 0;
}

int store_lmdb_create(const struct store_lmdb_config *config, struct store **out, struct err_detail *detail)
{
    struct store_lmdb *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(detail, ROOM_E_NO_MEMORY, "no memory for the store");
    set_up(s, config);
    int err = db_open(&s->db, config->dir, or_default(config->map_bytes, (size_t)1 << 30),
                      or_default(config->max_map_bytes, (size_t)64 << 30), &s->out, detail);
    bool first = false;
    if (!err) {
        first = locked_publish(s);
        err = start_thread(s, detail);
        if (err)
            db_close(&s->db);
    }
    if (err) {
        tear_down(s);
        return err;
    }
    wake(s, first);
    *out = &s->base;
    return 0;
}

void store_lmdb_destroy(struct store *store)
{
    if (!store)
        return;
    struct store_lmdb *s = self(store);
    lmdb_close(store);
    pthread_join(s->thread, NULL);
    db_close(&s->db);
    tear_down(s);
}
