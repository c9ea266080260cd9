/*
 * Reads an LMDB data file (format 1: LMDB 0.9) page by page and says whether it is whole, before LMDB is let near it.
 *
 * Why: LMDB has no checksums and trusts its pages: on a cut file it dies of SIGBUS, on a flipped bit of SIGSEGV or of an
 * assertion, and the node with it. This reader trusts nothing. It checks what LMDB follows (both meta pages, page numbers,
 * kinds and bounds, node sizes, order of keys, depth and counts of both trees, overflow pages, the free list, and that no
 * page has two users), not what is inside the values: their checksums do (record.h).
 *
 * Costs one read per page of the trees and one per large value. No LMDB, no threads, no state. Weak: it sees the file as it
 * is at the start; who cuts the file under a running node still kills that node.
 */
#ifndef STORE_LMDB_CHECK_H
#define STORE_LMDB_CHECK_H

#include "base/err.h"

enum lmdb_check {
    LMDB_CHECK_NEW,     /* no such file */
    LMDB_CHECK_WHOLE,
    LMDB_CHECK_DAMAGED, /* `why` names the page and what is wrong with it */
    LMDB_CHECK_ERROR    /* it could not be read: `why` */
};

enum lmdb_check lmdb_check(const char *path, struct err_detail *why);

#endif
