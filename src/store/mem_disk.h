/*
 * The disk of store_mem.h from within: what a commit does to it.
 *
 * Decides the same as lmdb_file.h about what is kept and what waits. Knows no time and no queue. One thread.
 */
#ifndef STORE_MEM_DISK_H
#define STORE_MEM_DISK_H

#include "store/pending.h"
#include "store/store_mem.h"

struct copy {
    struct copy *next; /* the next older one */
    struct id type;
    struct store_mark mark;
    struct wall saved;
    uint16_t codec;
    bool damaged;
    void *data; /* owned */
    size_t len;
};

struct disk_room {
    struct id id;
    struct copy *newest; /* NULL: only an entry of the table */
    bool waits;          /* in the outbox */
    struct store_mark waiting;
};

struct store_disk {
    const struct alloc *alloc;
    struct map rooms;
    bool full;
};

/* All of `ops` or nothing. False: no memory. The data of the saves is the disk's afterwards, and off the accounts of `p`. */
bool disk_commit(struct store_disk *d, struct op *ops, struct pending *p);
/* Rooms, outbox and their bytes; the rest of `out` stays as it is. */
void disk_totals(const struct store_disk *d, struct store_stats *out);

#endif
