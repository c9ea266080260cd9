/*
 * The store's database: opening it (or a new one where it is damaged), one commit, one read.
 *
 * Decides what a commit does to the rooms it names, which snapshots are kept, and what an error of LMDB means. Knows no
 * threads and no queue: whoever opened it is the only one that calls, from one thread at a time. Everything may block.
 *
 * LMDB runs without its lock file (MDB_NOLOCK): the directory's `lock` (flock, with the process id in it) admits one process,
 * and that has one thread here, so that no reader ever pins pages, and nothing is mapped for writing (a full disk would be a
 * SIGBUS). Tools of LMDB must not be used on it while a node runs. Invariant: totals are those of the last commit.
 */
#ifndef STORE_LMDB_FILE_H
#define STORE_LMDB_FILE_H

#include <lmdb.h>

#include "store/pending.h"
#include "store/record.h"

enum { DB_DIR_MAX = 1024 };

struct db_totals {
    size_t rooms, bytes, outbox, outbox_bytes;
};

struct db {
    char dir[DB_DIR_MAX];
    size_t map_bytes, max_map_bytes;
    int lock_fd;
    MDB_env *env; /* NULL: to be opened again */
    MDB_dbi dbi;
    struct db_totals totals;
    uint64_t saves;   /* snapshots written */
    uint64_t damaged; /* snapshots met that were not whole */
    struct events *out; /* borrowed: where damage is named */
};

/* Makes the directory if need be (0700), locks it, checks and opens the database; a damaged one is moved aside and a new one
 * begun. Fails with CONFLICT (another process has it), UNSUPPORTED (a newer layout), IO or NO_MEMORY. */
MUST_USE int db_open(struct db *d, const char *dir, size_t map_bytes, size_t max_map_bytes, struct events *out,
                     struct err_detail *detail);
void db_close(struct db *d);

/* All of `ops` or nothing, on disk. NO_SPACE or IO: nothing was changed, `why` says why. */
enum store_result db_commit(struct db *d, const struct op *ops, struct err_detail *why);

/* Pushes what it finds to `d->out`. `mark`: of what was found, or of what waits and is damaged. */
enum store_result db_load(struct db *d, uint64_t token, enum store_which which, const char *room, struct store_mark *mark,
                          struct err_detail *why);
enum store_result db_list(struct db *d, uint64_t token, enum store_which which, const char *after, size_t max,
                          size_t *count, struct err_detail *why);

/* How far the file reaches. */
size_t db_used_bytes(const struct db *d);

/* ---- Of lmdb_file.c, for lmdb_open.c and the other way round. */

/* (Re)opens d->env. 0 or a code. */
MUST_USE int db_open_env(struct db *d, struct err_detail *detail);
void db_close_env(struct db *d);
/* Twice the map, if that is allowed. */
bool db_grow(struct db *d);
/* What an error number of LMDB or of the system means for a call. */
enum store_result db_error(const struct db *d, int rc, struct err_detail *why);
/* Names damage to the loop; `room` NULL: the file. */
void db_damaged(struct db *d, uint64_t token, const char *room, const struct store_mark *mark, const char *text);

/* The last entry of the room, or the one before the cursor's. 0 or an error, MDB_NOTFOUND: there is none. */
int db_last(MDB_cursor *c, enum record_kind kind, const char *room, MDB_val *k, MDB_val *v, struct store_mark *mark);
int db_before(MDB_cursor *c, enum record_kind kind, const char *room, MDB_val *k, MDB_val *v, struct store_mark *mark);
/* Says which commit this is; part of every one. 0 or an error. */
int db_put_layout(MDB_txn *txn, MDB_dbi dbi);
/* Puts (room, mark) in the outbox, in the place of what is there. 0 or an error. */
int db_outbox_put(MDB_txn *txn, MDB_dbi dbi, struct db_totals *t, const char *room, const struct store_mark *mark,
                  size_t len);
/* False: not an entry of the outbox. */
bool db_outbox_parse(const MDB_val *k, const MDB_val *v, struct id *room, struct store_mark *mark, size_t *len);

#endif
