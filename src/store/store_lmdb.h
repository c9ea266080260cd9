/*
 * The store of port/store.h on disk.
 *
 * Decides when what is written: one thread of its own takes all that waits into one commit of LMDB (up to 1024 calls or
 * 16 MiB), serves loads and lists between commits, and tries again what met trouble. Files, in a directory of its own with
 * mode 0700: `data.mdb`, `lock`, and `data.mdb.damaged-<time>` for each that was moved aside (never deleted).
 *
 * A damaged file is found at the start, and when LMDB stumbles over it; a damaged snapshot when it is read, or when its
 * room is saved. Weak spots: who cuts the file under a running node kills that node; a commit is as slow as the disk's sync
 * (FACTS: 0.4 ms, seen 46 ms); a snapshot over half a page (2 KB) takes pages of its own, so the disk sees about twice what
 * is kept. While a full disk has no free page at all even `forget` waits.
 */
#ifndef STORE_STORE_LMDB_H
#define STORE_STORE_LMDB_H

#include "port/store.h"

/* Zero means the default. Strings are copied. */
struct store_lmdb_config {
    const char *dir;           /* the store's own; made if need be */
    size_t map_bytes;          /* address space to begin with, no memory; 1 GiB. Doubles as needed (page faults of the whole
                                  process wait some ms then), up to */
    size_t max_map_bytes;      /* 64 GiB; saves that do not fit are STORE_NO_SPACE trouble */
    size_t max_snapshot_bytes; /* of data; 32 MiB. Larger: TOO_BIG */
    size_t max_queue_count;    /* calls without a result; 65536 */
    size_t max_queue_bytes;    /* the same in bytes, and what loads may leave undrained; 128 MiB */
    int retry_ms;              /* pause after trouble; 1000 */
    void (*wake)(void *arg);   /* events wait: called from the store's thread or within a call, must only signal */
    void *wake_arg;
};

/* Opens or makes the store and returns it owned. Blocks: the file is checked page by page. Fails with CONFLICT (another
 * process has the directory: the text names it), UNSUPPORTED (written by a newer roomd), IO, INVALID or NO_MEMORY and says
 * why in `detail`. Damage that was found is the first event, not an error. */
MUST_USE int store_lmdb_create(const struct store_lmdb_config *config, struct store **out, struct err_detail *detail);

/* Closes if need be, waits for the thread (that is for the last commit) and frees; events not drained are dropped. An
 * orderly end is store_close(), draining until store_stats() says that the queue is empty, then this. NULL is allowed. */
void store_lmdb_destroy(struct store *s);

#endif
