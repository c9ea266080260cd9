/*
 * The store of port/store.h in memory, on virtual time: for the simulator.
 *
 * Decides the same as store_lmdb about order, merging, what is kept and what waits. A **disk** outlives the stores on it: what
 * was committed is there after a crash, a commit under way at the crash is there whole or not at all (drawn from the seed),
 * and nothing else is. Knows no clock: time is what store_mem_tick() is told. One thread. All memory comes from the
 * allocator given.
 */
#ifndef STORE_STORE_MEM_H
#define STORE_STORE_MEM_H

#include "base/alloc.h"
#include "port/store.h"

struct store_disk;

/* `alloc` is borrowed for the disk's life. Returns owned, or NULL: no memory. */
struct store_disk *store_disk_create(const struct alloc *alloc);
/* After the stores on it. NULL is allowed. */
void store_disk_destroy(struct store_disk *d);
/* Everything on it is gone. No store is on it. */
void store_disk_wipe(struct store_disk *d);
/* From now on nothing can be written, or it can again. */
void store_disk_full(struct store_disk *d, bool full);
/* The snapshot of the room that is `back` from the newest is not whole any more. False: there is none. */
bool store_disk_damage(struct store_disk *d, const char *room, size_t back);

/* Zero means the default. */
struct store_mem_config {
    const struct alloc *alloc; /* borrowed for the store's life */
    struct store_disk *disk;   /* borrowed; one store at a time */
    uint64_t seed;
    int64_t min_us, max_us;    /* what a commit or a read takes; 0: done at the next tick */
    unsigned fail_per_mille;   /* commits that fail with STORE_IO */
    size_t max_snapshot_bytes; /* 32 MiB */
    size_t max_queue_count;    /* 65536 */
    size_t max_queue_bytes;    /* 128 MiB */
    int retry_ms;              /* 1000 */
    void (*wake)(void *arg);
    void *wake_arg;
};

/* Returns owned, or NULL: no memory. */
struct store *store_mem_create(const struct store_mem_config *config);
/* Time passes. Call it each turn of the loop, before the drain. */
void store_mem_tick(struct store *s, struct mono now);
/* When the next tick does something: true and the time, or false: nothing is to be done. */
bool store_mem_due(const struct store *s, struct mono *at);
/* As kill -9 of the process: no event comes any more, the disk has what it has. Frees. */
void store_mem_crash(struct store *s);
/* An orderly end: what waits is written if it can be. Frees; events not drained are dropped. NULL is allowed. */
void store_mem_destroy(struct store *s);

#endif
