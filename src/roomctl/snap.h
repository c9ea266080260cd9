/*
 * Snapshots in the bucket `snapshots`: reading a whole one, writing one, and what makes it whole.
 *
 * Decides: what counts as damaged. Must not know what is in an image. One thread. Invariant: bytes handed out have the length
 * and the checksum their entry says; an entry is written after all its chunks.
 */
#ifndef ROOMCTL_SNAP_H
#define ROOMCTL_SNAP_H

#include "base/buf.h"
#include "roomctl/connect.h"
#include "wire/wire_gen.h"

/* As src/node has it; 512 KiB in one message of the bucket, and the longest image. */
enum { SNAP_CHUNK = 512 * 1024, SNAP_INLINE_MAX = 64 * 1024, SNAP_MAX = 32 * 1024 * 1024, SNAP_CODEC = 1 };

struct snap {
    struct wire_snapshot_entry e; /* points into `scratch` */
    struct buf scratch;
    uint64_t revision;
    uint8_t *bytes; /* owned; NULL: not read */
};

/* What a value of the bucket says; `bytes` is read too if they are in it. BAD_FRAME with a text if it is not whole. The caller frees with
 * snap_free(), on success only. */
MUST_USE int snap_parse(struct snap *s, const struct conn_answer *value, struct err_detail *detail);
/* Reads the chunks if there are any, and compares the checksum: BAD_FRAME with a text that names what is damaged. */
MUST_USE int snap_fetch(struct conn *c, struct snap *s, struct err_detail *detail);
/* Entry and bytes of a room's snapshot; reads again if it was replaced meanwhile. NOT_FOUND. */
MUST_USE int snap_read(struct conn *c, const char *room, struct snap *s, struct err_detail *detail);
void snap_free(struct snap *s);

/* Sum of the bytes as entries bear it. */
void snap_sum(const void *bytes, size_t len, char out[17]);

/* Puts chunks, then the entry over the one at `expected` (a revision, 0: none). Bytes, checksum and chunks of `e` are filled in.
 * CONFLICT: somebody else has written. Chunks of the entry before (`old`, or NULL) are deleted afterwards. */
MUST_USE int snap_write(struct conn *c, struct wire_snapshot_entry *e, const void *bytes, size_t len, uint64_t expected,
                        const struct wire_snapshot_entry *old, struct err_detail *detail);

#endif
