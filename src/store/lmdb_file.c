/* See lmdb_file.h; opening is in lmdb_open.c. */
#include "store/lmdb_file.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <xxhash.h>

enum { KEPT = 2, SEEN_MAX = 16, FEW_BYTES = 1 << 20 };

void db_damaged(struct db *d, uint64_t token, const char *room, const struct store_mark *mark, const char *text)
{
    struct queued *q = queued_new(d->out->alloc, STORE_EV_DAMAGED, token);
    if (room)
        d->damaged++;
    if (!q)
        return;
    if (room)
        queued_room(q, room, mark);
    queued_detail(d->out->alloc, q, text);
    events_push(d->out, q);
}

static unsigned long long free_bytes(const struct db *d)
{
    struct statvfs fs;
    return statvfs(d->dir, &fs) == 0 ? (unsigned long long)fs.f_bavail * fs.f_frsize : UINT64_MAX;
}

enum store_result db_error(const struct db *d, int rc, struct err_detail *why)
{
    if (rc == MDB_MAP_FULL && d->map_bytes < d->max_map_bytes)
        err_set(why, 0, "no address space for '%s' beyond %zu MiB", d->dir, d->map_bytes >> 20);
    else if (rc == MDB_MAP_FULL)
        err_set(why, 0, "the store '%s' is at its limit of %zu MiB: raise the limit or remove rooms", d->dir,
                d->max_map_bytes >> 20);
    else if (rc == EFBIG)
        err_set(why, 0, "'%s/data.mdb' may not grow: the file size limit of this process is reached", d->dir);
    /* LMDB says EIO also where only a part of a write fitted. */
    else if (rc == ENOSPC || rc == EDQUOT || (rc == EIO && free_bytes(d) < FEW_BYTES))
        err_set(why, 0, "no space for '%s/data.mdb' (%llu KiB free): make room on that file system", d->dir,
                free_bytes(d) >> 10);
    else {
        err_set(why, 0, "'%s/data.mdb': %s", d->dir, mdb_strerror(rc));
        return STORE_IO;
    }
    return STORE_NO_SPACE;
}

/* LMDB has lost its way (a page that is none, a failed write of a meta page): what it says from now on is worth nothing
 * before the file was checked and opened again. Its own codes are all below those of the system and ours. */
static bool lost(int rc)
{
    return rc <= MDB_LAST_ERRCODE && rc != MDB_MAP_FULL && rc != MDB_TXN_FULL && rc != MDB_NOTFOUND;
}

bool db_grow(struct db *d)
{
    size_t bytes = d->map_bytes > d->max_map_bytes / 2 ? d->max_map_bytes : d->map_bytes * 2;
    if (bytes <= d->map_bytes)
        return false;
    if (mdb_env_set_mapsize(d->env, bytes) != 0) {
        /* The old map is gone by now; the next call opens everything again. */
        db_close_env(d);
        return false;
    }
    d->map_bytes = bytes;
    return true;
}

size_t db_used_bytes(const struct db *d)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (!d->env || mdb_env_info(d->env, &info) != 0 || mdb_env_stat(d->env, &stat) != 0)
        return 0;
    return (info.me_last_pgno + 1) * stat.ms_psize;
}

/* ---- Keys ---- */

static bool of_room(const MDB_val *k, enum record_kind kind, const char *room, struct store_mark *mark)
{
    struct id id;
    return record_key_parse(k->mv_data, k->mv_size, kind, &id, mark) && strcmp(id.s, room) == 0;
}

int db_before(MDB_cursor *c, enum record_kind kind, const char *room, MDB_val *k, MDB_val *v, struct store_mark *mark)
{
    int rc = mdb_cursor_get(c, k, v, MDB_PREV);
    return rc ? rc : of_room(k, kind, room, mark) ? 0 : MDB_NOTFOUND;
}

int db_last(MDB_cursor *c, enum record_kind kind, const char *room, MDB_val *k, MDB_val *v, struct store_mark *mark)
{
    struct record_key behind;
    record_key_behind(&behind, kind, room);
    *k = (MDB_val){behind.len, behind.bytes};
    int rc = mdb_cursor_get(c, k, v, MDB_SET_RANGE);
    if (rc == 0)
        return db_before(c, kind, room, k, v, mark);
    if (rc != MDB_NOTFOUND)
        return rc;
    rc = mdb_cursor_get(c, k, v, MDB_LAST);
    return rc ? rc : of_room(k, kind, room, mark) ? 0 : MDB_NOTFOUND;
}

/* ---- The outbox: length of the data, then the hash of key and length ---- */

static uint64_t outbox_hash(const void *key, size_t key_len, uint64_t len)
{
    return XXH3_64bits_withSeed(key, key_len, len);
}

bool db_outbox_parse(const MDB_val *k, const MDB_val *v, struct id *room, struct store_mark *mark, size_t *len)
{
    uint64_t value[2];
    if (!record_key_parse(k->mv_data, k->mv_size, RECORD_OUTBOX, room, mark) || v->mv_size != sizeof value)
        return false;
    memcpy(value, v->mv_data, sizeof value);
    *len = value[0];
    return value[1] == outbox_hash(k->mv_data, k->mv_size, value[0]);
}

/* Takes the entry out; 0 also if it is not there. */
static int outbox_drop(MDB_txn *txn, MDB_dbi dbi, struct db_totals *t, const char *room, const struct store_mark *mark)
{
    struct record_key key;
    MDB_val v;
    struct id id;
    struct store_mark parsed;
    size_t len = 0;
    record_key(&key, RECORD_OUTBOX, room, mark);
    MDB_val k = {key.len, key.bytes};
    int rc = mdb_get(txn, dbi, &k, &v);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (db_outbox_parse(&k, &v, &id, &parsed, &len)) {
        t->outbox--;
        t->outbox_bytes -= len;
    }
    return mdb_del(txn, dbi, &k, NULL);
}

static int outbox_find(MDB_txn *txn, MDB_dbi dbi, const char *room, struct store_mark *mark)
{
    MDB_cursor *c;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn, dbi, &c);
    if (rc)
        return rc;
    rc = db_last(c, RECORD_OUTBOX, room, &k, &v, mark);
    mdb_cursor_close(c);
    return rc;
}

int db_outbox_put(MDB_txn *txn, MDB_dbi dbi, struct db_totals *t, const char *room, const struct store_mark *mark,
                  size_t len)
{
    struct store_mark old;
    struct record_key key;
    int rc = outbox_find(txn, dbi, room, &old);
    if (!rc)
        rc = outbox_drop(txn, dbi, t, room, &old);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    record_key(&key, RECORD_OUTBOX, room, mark);
    uint64_t value[2] = {len, outbox_hash(key.bytes, key.len, len)};
    rc = mdb_put(txn, dbi, &(MDB_val){key.len, key.bytes}, &(MDB_val){sizeof value, value}, 0);
    if (!rc) {
        t->outbox++;
        t->outbox_bytes += len;
    }
    return rc;
}

/* ---- Writing ---- */

int db_put_layout(MDB_txn *txn, MDB_dbi dbi)
{
    uint8_t layout[RECORD_LAYOUT_SIZE];
    record_layout_write(layout, RECORD_LAYOUT, mdb_txn_id(txn));
    return mdb_put(txn, dbi, &(MDB_val){1, (uint8_t[]){RECORD_LAYOUT_KEY}}, &(MDB_val){sizeof layout, layout}, 0);
}

struct write {
    struct db *d;
    MDB_txn *txn;
    MDB_cursor *c;
    struct db_totals t; /* as they will be */
    uint64_t saves;
};

static int drop_snapshot(struct write *w, const char *room, const struct store_mark *mark)
{
    struct record_key key;
    MDB_val v;
    record_key(&key, RECORD_SNAPSHOT, room, mark);
    MDB_val k = {key.len, key.bytes};
    int rc = mdb_get(w->txn, w->d->dbi, &k, &v);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    w->t.bytes -= v.mv_size;
    rc = mdb_del(w->txn, w->d->dbi, &k, NULL);
    return rc ? rc : outbox_drop(w->txn, w->d->dbi, &w->t, room, mark);
}

static int forget(struct write *w, const char *room)
{
    struct store_mark mark;
    MDB_val k, v;
    bool any = false;
    int rc;
    while ((rc = db_last(w->c, RECORD_SNAPSHOT, room, &k, &v, &mark)) == 0) {
        any = true;
        rc = drop_snapshot(w, room, &mark);
        if (rc)
            return rc;
    }
    w->t.rooms -= any;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* What is there of a room when one was just written. */
struct kept {
    struct store_mark drop[SEEN_MAX], bad[SEEN_MAX];
    size_t drops, bads, whole;
    bool newest; /* no whole one is newer */
};

/* From the newest on: two whole ones stay. One that is not whole stays as long as there are not two. */
static int look_at_room(struct write *w, const struct op *op, struct kept *kept)
{
    struct store_mark mark;
    struct record_names names;
    struct store_snapshot s;
    struct err_detail why;
    MDB_val k, v;
    int rc = db_last(w->c, RECORD_SNAPSHOT, op->room.s, &k, &v, &mark);
    for (; !rc && kept->drops < SEEN_MAX && kept->bads < SEEN_MAX;
         rc = db_before(w->c, RECORD_SNAPSHOT, op->room.s, &k, &v, &mark)) {
        bool own = store_mark_cmp(&mark, &op->mark) == 0;
        if (kept->whole == KEPT) {
            kept->drop[kept->drops++] = mark;
        } else if (own || record_read(v.mv_data, v.mv_size, op->room.s, &mark, &names, &s, &why)) {
            kept->newest = kept->newest || (own && kept->whole == 0);
            kept->whole++;
        } else {
            kept->bad[kept->bads++] = mark;
            db_damaged(w->d, 0, op->room.s, &mark, why.text);
        }
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int save(struct write *w, const struct op *op)
{
    struct store_snapshot s = op_snapshot(op);
    struct store_mark mark;
    struct record_key key;
    struct kept kept = {0};
    MDB_val k, v;
    int rc = op->clear_first ? forget(w, op->room.s) : 0;
    if (!rc)
        rc = db_last(w->c, RECORD_SNAPSHOT, op->room.s, &k, &v, &mark);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    w->t.rooms += rc == MDB_NOTFOUND;
    record_key(&key, RECORD_SNAPSHOT, op->room.s, &op->mark);
    k = (MDB_val){key.len, key.bytes};
    if (mdb_get(w->txn, w->d->dbi, &k, &v) == 0)
        w->t.bytes -= v.mv_size;
    v = (MDB_val){record_size(&s), NULL};
    rc = mdb_put(w->txn, w->d->dbi, &k, &v, MDB_RESERVE);
    if (rc)
        return rc;
    record_write(v.mv_data, &s);
    w->t.bytes += v.mv_size;
    w->saves++;
    rc = look_at_room(w, op, &kept);
    if (!rc && kept.newest)
        rc = db_outbox_put(w->txn, w->d->dbi, &w->t, op->room.s, &op->mark, op->len);
    for (size_t i = 0; !rc && i < kept.drops; i++)
        rc = drop_snapshot(w, op->room.s, &kept.drop[i]);
    for (size_t i = 0; !rc && kept.whole == KEPT && i < kept.bads; i++)
        rc = drop_snapshot(w, op->room.s, &kept.bad[i]);
    return rc;
}

static int sent(struct write *w, const struct op *op)
{
    struct store_mark waits;
    int rc = outbox_find(w->txn, w->d->dbi, op->room.s, &waits);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (waits.epoch > op->mark.epoch || (waits.epoch == op->mark.epoch && waits.version > op->mark.version))
        return 0;
    return outbox_drop(w->txn, w->d->dbi, &w->t, op->room.s, &waits);
}

static int write_ops(struct db *d, const struct op *ops)
{
    struct write w = {.d = d, .t = d->totals};
    int rc = mdb_txn_begin(d->env, NULL, 0, &w.txn);
    if (rc)
        return rc;
    rc = mdb_cursor_open(w.txn, d->dbi, &w.c);
    for (const struct op *op = ops; !rc && op; op = op->next)
        rc = op->kind == OP_SAVE ? save(&w, op) : op->kind == OP_SENT ? sent(&w, op) : forget(&w, op->room.s);
    if (!rc)
        rc = db_put_layout(w.txn, d->dbi);
    if (w.c)
        mdb_cursor_close(w.c);
    if (rc) {
        mdb_txn_abort(w.txn);
        return rc;
    }
    rc = mdb_txn_commit(w.txn);
    if (!rc) {
        d->totals = w.t;
        d->saves += w.saves;
    }
    return rc;
}

enum store_result db_commit(struct db *d, const struct op *ops, struct err_detail *why)
{
    for (int attempt = 0;;) {
        if (!d->env && db_open_env(d, why) != 0)
            return STORE_IO;
        int rc = write_ops(d, ops);
        if (!rc)
            return STORE_OK;
        if (rc == MDB_MAP_FULL && db_grow(d))
            continue;
        if (lost(rc))
            db_close_env(d);
        if (!lost(rc) || attempt++ > 0)
            return db_error(d, rc, why);
    }
}

/* ---- Reading ---- */

static int push_snapshot(struct db *d, uint64_t token, const struct store_snapshot *s)
{
    struct queued *q = queued_new(d->out->alloc, STORE_EV_SNAPSHOT, token);
    if (!q || !queued_snapshot(d->out->alloc, q, s)) {
        queued_free(d->out->alloc, q);
        return ENOMEM;
    }
    events_push(d->out, q);
    return 0;
}

static int load_held(struct db *d, MDB_cursor *c, uint64_t token, const char *room, struct store_mark *mark, bool *bad)
{
    struct record_names names;
    struct store_snapshot s;
    struct err_detail text;
    MDB_val k, v;
    int rc = db_last(c, RECORD_SNAPSHOT, room, &k, &v, mark);
    for (; !rc; rc = db_before(c, RECORD_SNAPSHOT, room, &k, &v, mark)) {
        if (record_read(v.mv_data, v.mv_size, room, mark, &names, &s, &text))
            return push_snapshot(d, token, &s);
        *bad = true;
        db_damaged(d, token, room, mark, text.text);
    }
    return rc;
}

static int load_waiting(struct db *d, MDB_cursor *c, uint64_t token, const char *room, struct store_mark *mark, bool *bad)
{
    struct record_names names;
    struct store_snapshot s;
    struct record_key key;
    struct err_detail text = {"it is not there"};
    MDB_val k, v;
    int rc = db_last(c, RECORD_OUTBOX, room, &k, &v, mark);
    if (rc)
        return rc;
    record_key(&key, RECORD_SNAPSHOT, room, mark);
    k = (MDB_val){key.len, key.bytes};
    rc = mdb_cursor_get(c, &k, &v, MDB_SET);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    if (!rc && record_read(v.mv_data, v.mv_size, room, mark, &names, &s, &text))
        return push_snapshot(d, token, &s);
    *bad = true;
    db_damaged(d, token, room, mark, text.text);
    return MDB_NOTFOUND;
}

static int push_room(struct db *d, uint64_t token, const char *room, const struct store_mark *mark, const MDB_val *v)
{
    struct queued *q = queued_new(d->out->alloc, STORE_EV_ROOM, token);
    if (!q)
        return ENOMEM;
    queued_room(q, room, mark);
    record_peek(v->mv_data, v->mv_size, &q->event.snapshot.len, &q->event.snapshot.saved);
    events_push(d->out, q);
    return 0;
}

/* The room behind `room`, which becomes that one. */
static int next_room(MDB_cursor *c, enum record_kind kind, struct id *room)
{
    struct record_key behind;
    struct store_mark mark;
    MDB_val v;
    record_key_behind(&behind, kind, room->s);
    MDB_val k = {behind.len, behind.bytes};
    int rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
    while (!rc && *(uint8_t *)k.mv_data == kind && !record_key_parse(k.mv_data, k.mv_size, kind, room, &mark))
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    return rc ? rc : *(uint8_t *)k.mv_data == kind ? 0 : MDB_NOTFOUND;
}

static int list(struct db *d, MDB_cursor *c, uint64_t token, enum store_which which, const char *after, size_t max,
                size_t *count)
{
    enum record_kind kind = which == STORE_HELD ? RECORD_SNAPSHOT : RECORD_OUTBOX;
    struct store_mark mark;
    struct record_key key;
    struct id room = {""};
    MDB_val k, v;
    int rc = 0;
    if (after)
        id_set(&room, after);
    for (*count = 0; *count < max; ++*count) {
        rc = next_room(c, kind, &room);
        if (!rc)
            rc = db_last(c, kind, room.s, &k, &v, &mark);
        if (!rc && which == STORE_WAITING) {
            record_key(&key, RECORD_SNAPSHOT, room.s, &mark);
            k = (MDB_val){key.len, key.bytes};
            rc = mdb_cursor_get(c, &k, &v, MDB_SET);
            if (rc == MDB_NOTFOUND) {
                v.mv_size = 0;
                rc = 0;
            }
        }
        if (!rc)
            rc = push_room(d, token, room.s, &mark, &v);
        if (rc)
            break;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

struct read {
    bool list;
    uint64_t token;
    enum store_which which;
    const char *room; /* list: after */
    size_t max, count;
    struct store_mark mark;
    bool bad;
};

static int read_once(struct db *d, struct read *r)
{
    MDB_txn *txn;
    MDB_cursor *c = NULL;
    int rc = mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return rc;
    rc = mdb_cursor_open(txn, d->dbi, &c);
    if (!rc)
        rc = r->list                   ? list(d, c, r->token, r->which, r->room, r->max, &r->count)
             : r->which == STORE_HELD ? load_held(d, c, r->token, r->room, &r->mark, &r->bad)
                                       : load_waiting(d, c, r->token, r->room, &r->mark, &r->bad);
    if (c)
        mdb_cursor_close(c);
    mdb_txn_abort(txn);
    return rc;
}

static enum store_result read_any(struct db *d, struct read *r, struct err_detail *why)
{
    if (!d->env && db_open_env(d, why) != 0)
        return STORE_IO;
    int rc = read_once(d, r);
    if (lost(rc))
        db_close_env(d); /* the next call checks the file */
    if (!rc)
        return STORE_OK;
    if (rc != MDB_NOTFOUND)
        return db_error(d, rc, why);
    err_set(why, 0, r->bad ? "no snapshot of room '%s' is whole" : "no snapshot of room '%s' is here", r->room);
    return r->bad ? STORE_DAMAGED : STORE_NOT_FOUND;
}

enum store_result db_load(struct db *d, uint64_t token, enum store_which which, const char *room, struct store_mark *mark,
                          struct err_detail *why)
{
    struct read r = {.token = token, .which = which, .room = room};
    enum store_result result = read_any(d, &r, why);
    *mark = r.mark;
    return result;
}

enum store_result db_list(struct db *d, uint64_t token, enum store_which which, const char *after, size_t max,
                          size_t *count, struct err_detail *why)
{
    struct read r = {.list = true, .token = token, .which = which, .room = after, .max = max};
    enum store_result result = read_any(d, &r, why);
    *count = r.count;
    return result;
}
