/*
 * Opening the database of lmdb_file.h: the directory, the lock, the check, the layout, the totals.
 *
 * Decides whether a file is used, moved aside or refused. Invariant: a file that was there is never deleted or overwritten,
 * and LMDB sees only files that lmdb_check() calls whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/lmdb_check.h"
#include "store/lmdb_file.h"

/* The directory and those above it; the store's own is private whatever it was. */
static int make_dir(const char *dir, struct err_detail *detail)
{
    char path[DB_DIR_MAX];
    snprintf(path, sizeof path, "%s", dir);
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return err_set(detail, ROOM_E_IO, "cannot make directory '%s': %s; choose another data directory", path,
                           strerror(errno));
        if (!slash)
            break;
        *slash = '/';
    }
    if (chmod(dir, 0700) != 0)
        return err_set(detail, ROOM_E_IO, "cannot make directory '%s' private: %s; choose another data directory", dir,
                       strerror(errno));
    return 0;
}

/* The kernel drops the lock when the process ends, however it ends. */
static int lock_dir(struct db *d, struct err_detail *detail)
{
    char path[DB_DIR_MAX + 8], pid[32] = "";
    snprintf(path, sizeof path, "%s/lock", d->dir);
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0)
        return err_set(detail, ROOM_E_IO, "cannot open '%s': %s", path, strerror(errno));
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int failed = errno;
        ssize_t n = pread(d->lock_fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
        if (failed != EWOULDBLOCK)
            return err_set(detail, ROOM_E_IO, "cannot lock '%s': %s", path, strerror(failed));
        return err_set(detail, ROOM_E_CONFLICT,
                       "data directory '%s' is in use by process %s: stop it or choose another data directory", d->dir,
                       *pid ? pid : "(unknown)");
    }
    /* For people; a full disk may leave it out. */
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(d->lock_fd, 0) == 0 && pwrite(d->lock_fd, pid, (size_t)n, 0) < 0)
        errno = 0;
    return 0;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int move_aside(struct db *d, const char *what, struct err_detail *detail)
{
    char from[DB_DIR_MAX + 16], to[DB_DIR_MAX + 80], when[TIME_RFC3339_SIZE];
    struct err_detail text;
    struct stat st;
    time_rfc3339(time_wall_now(), when);
    snprintf(from, sizeof from, "%s/data.mdb", d->dir);
    int i = 0;
    do {
        snprintf(to, sizeof to, i ? "%s.damaged-%s-%d" : "%s.damaged-%s", from, when, i);
    } while (++i < 1000 && lstat(to, &st) == 0);
    if (rename(from, to) != 0)
        return err_set(detail, ROOM_E_IO, "'%s' is damaged (%s) and cannot be moved aside: %s", from, what,
                       strerror(errno));
    sync_dir(d->dir);
    err_set(&text, 0, "'%s' is damaged: %s; it is now '%s', and a new one is begun", from, what, strrchr(to, '/') + 1);
    db_damaged(d, 0, NULL, NULL, text.text);
    return 0;
}

struct scan {
    struct db_totals totals;
    struct id last;
    bool layout, bad_outbox;
    uint32_t layout_number;
    uint64_t commit; /* that the last writer made */
    size_t strays, entries;
};

static int scan_entry(struct scan *s, MDB_txn *txn, MDB_dbi dbi, const MDB_val *k, MDB_val *v)
{
    struct id room;
    struct store_mark mark;
    struct record_key key;
    size_t len;
    uint8_t kind = *(const uint8_t *)k->mv_data;
    s->entries++;
    if (kind == RECORD_LAYOUT_KEY && k->mv_size == 1) {
        s->layout = true;
        s->layout_number = record_layout_read(v->mv_data, v->mv_size, &s->commit);
    } else if (kind == RECORD_SNAPSHOT && record_key_parse(k->mv_data, k->mv_size, RECORD_SNAPSHOT, &room, &mark)) {
        s->totals.rooms += strcmp(room.s, s->last.s) != 0;
        s->totals.bytes += v->mv_size;
        s->last = room;
    } else if (kind == RECORD_OUTBOX && db_outbox_parse(k, v, &room, &mark, &len)) {
        s->totals.outbox++;
        s->totals.outbox_bytes += len;
        record_key(&key, RECORD_SNAPSHOT, room.s, &mark);
        int rc = mdb_get(txn, dbi, &(MDB_val){key.len, key.bytes}, v);
        s->bad_outbox = s->bad_outbox || rc == MDB_NOTFOUND;
        return rc == MDB_NOTFOUND ? 0 : rc;
    } else {
        s->bad_outbox = s->bad_outbox || kind == RECORD_OUTBOX;
        s->strays++;
    }
    return 0;
}

static int scan_all(MDB_txn *txn, MDB_dbi dbi, struct scan *s)
{
    MDB_cursor *c;
    MDB_val k, v;
    *s = (struct scan){0};
    int rc = mdb_cursor_open(txn, dbi, &c);
    if (rc)
        return rc;
    while (!rc && (rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0)
        rc = scan_entry(s, txn, dbi, &k, &v);
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* A damaged entry of the outbox hides what it stood for, so everything newest waits again: sending twice does no harm. */
static int refill_outbox(MDB_txn *txn, MDB_dbi dbi, struct db_totals *t)
{
    MDB_cursor *c;
    MDB_val k = {1, (uint8_t[]){RECORD_OUTBOX}}, v;
    struct id room, last = {""};
    struct store_mark mark, newest;
    int rc = mdb_cursor_open(txn, dbi, &c);
    if (rc)
        return rc;
    for (rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE); !rc && *(uint8_t *)k.mv_data == RECORD_OUTBOX;) {
        rc = mdb_cursor_del(c, 0);
        if (!rc)
            rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    t->outbox = t->outbox_bytes = 0;
    while (!rc || rc == MDB_NOTFOUND) {
        struct record_key behind;
        record_key_behind(&behind, RECORD_SNAPSHOT, last.s);
        k = (MDB_val){behind.len, behind.bytes};
        rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
        while (!rc && *(uint8_t *)k.mv_data == RECORD_SNAPSHOT &&
               !record_key_parse(k.mv_data, k.mv_size, RECORD_SNAPSHOT, &room, &mark))
            rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
        if (rc || *(uint8_t *)k.mv_data != RECORD_SNAPSHOT)
            break;
        last = room;
        rc = db_last(c, RECORD_SNAPSHOT, last.s, &k, &v, &newest);
        size_t len = 0;
        struct wall saved;
        if (!rc && record_peek(v.mv_data, v.mv_size, &len, &saved))
            rc = db_outbox_put(txn, dbi, t, last.s, &newest, len);
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* What the layout record says of the rest. 0 or a ROOM_E_* code; NOT_FOUND: these are not our entries. */
static int judge_layout(const struct db *d, const struct scan *s, struct err_detail *detail)
{
    if (s->entries == 0)
        return 0;
    if (!s->layout || s->layout_number == 0)
        return err_set(detail, ROOM_E_NOT_FOUND, "it has no layout number");
    if (s->layout_number != RECORD_LAYOUT)
        return err_set(detail, ROOM_E_UNSUPPORTED,
                       "'%s/data.mdb' has layout %u and this roomd knows %d: use the roomd that wrote it or choose another "
                       "data directory", d->dir, s->layout_number, RECORD_LAYOUT);
    return 0;
}

static void name_oddities(struct db *d, const struct scan *s, uint64_t commit)
{
    char text[200];
    /* LMDB's two meta pages can be damaged such that the one before the last counts again. */
    snprintf(text, sizeof text, "the last commits are lost (%llu is found where %llu should be): some rooms have older states",
             (unsigned long long)s->commit, (unsigned long long)commit);
    if (s->entries && s->commit != commit)
        db_damaged(d, 0, NULL, NULL, text);
    if (s->bad_outbox)
        db_damaged(d, 0, NULL, NULL, "the outbox was damaged: the newest snapshot of every room is sent again");
    else if (s->strays)
        db_damaged(d, 0, NULL, NULL, "there are keys in the database that nothing wrote; they are passed over");
}

/* Looks at everything but the values. 0 and d->totals, an error of LMDB, or one of judge_layout() with the reason. */
static int read_all(struct db *d, struct err_detail *detail)
{
    MDB_txn *txn;
    struct scan s;
    int rc = mdb_txn_begin(d->env, NULL, 0, &txn);
    if (rc)
        return rc;
    uint64_t commit = mdb_txn_id(txn) - 1;
    rc = mdb_dbi_open(txn, NULL, 0, &d->dbi);
    if (!rc)
        rc = scan_all(txn, d->dbi, &s);
    if (!rc)
        rc = judge_layout(d, &s, detail);
    bool write = !rc && (s.entries == 0 || s.bad_outbox || s.commit != commit);
    if (write)
        rc = db_put_layout(txn, d->dbi);
    if (!rc && s.bad_outbox)
        rc = refill_outbox(txn, d->dbi, &s.totals);
    if (rc || !write)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn);
    if (rc)
        return rc;
    d->totals = s.totals;
    name_oddities(d, &s, commit);
    return 0;
}

static int open_lmdb(struct db *d)
{
    int rc = mdb_env_create(&d->env);
    if (rc)
        return rc;
    rc = mdb_env_set_mapsize(d->env, d->map_bytes);
    if (!rc)
        rc = mdb_env_open(d->env, d->dir, MDB_NOLOCK, 0600);
    MDB_envinfo info;
    if (!rc)
        rc = mdb_env_info(d->env, &info);
    if (!rc)
        d->map_bytes = info.me_mapsize;
    return rc;
}

void db_close_env(struct db *d)
{
    if (d->env)
        mdb_env_close(d->env);
    d->env = NULL;
}

int db_open_env(struct db *d, struct err_detail *detail)
{
    char path[DB_DIR_MAX + 16];
    struct err_detail why = {""};
    snprintf(path, sizeof path, "%s/data.mdb", d->dir);
    for (int attempt = 0;; attempt++) {
        enum lmdb_check found = lmdb_check(path, &why);
        if (found == LMDB_CHECK_ERROR)
            return err_set(detail, ROOM_E_IO, "%s", why.text);
        if (found == LMDB_CHECK_DAMAGED) {
            int err = move_aside(d, why.text, detail);
            if (err)
                return err;
        }
        int rc = open_lmdb(d);
        if (!rc)
            rc = read_all(d, &why);
        while (rc == MDB_MAP_FULL && db_grow(d))
            rc = read_all(d, &why);
        if (!rc) {
            if (found != LMDB_CHECK_WHOLE)
                sync_dir(d->dir);
            return 0;
        }
        db_close_env(d);
        if (rc == ROOM_E_NOT_FOUND && attempt == 0) {
            int err = move_aside(d, why.text, detail);
            if (err)
                return err;
        } else if (rc == ROOM_E_UNSUPPORTED) {
            *detail = why;
            return rc;
        } else {
            db_error(d, rc, &why);
            return err_set(detail, rc == ENOMEM ? ROOM_E_NO_MEMORY : ROOM_E_IO, "cannot open the store: %.300s", why.text);
        }
    }
}

int db_open(struct db *d, const char *dir, size_t map_bytes, size_t max_map_bytes, struct events *out,
            struct err_detail *detail)
{
    struct err_detail why = {""};
    *d = (struct db){.map_bytes = map_bytes, .max_map_bytes = max_map_bytes, .lock_fd = -1, .out = out};
    if (!dir || !*dir || strlen(dir) >= sizeof d->dir)
        return err_set(detail, ROOM_E_INVALID, "the data directory must have 1 to %d characters", DB_DIR_MAX - 1);
    snprintf(d->dir, sizeof d->dir, "%s", dir);
    int err = make_dir(d->dir, &why);
    if (!err)
        err = lock_dir(d, &why);
    if (!err)
        err = db_open_env(d, &why);
    if (err) {
        db_close(d);
        if (detail)
            *detail = why;
    }
    return err;
}

void db_close(struct db *d)
{
    db_close_env(d);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    d->lock_fd = -1;
}
