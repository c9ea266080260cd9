/*
 * What `check` says of snapshots and journals: could a new owner bring each room back, and does each belong to a room.
 *
 * Decides: what can be restored from (as src/node/revive.c does it). Must not write. One thread. Invariant: a room is passed only
 * if a whole snapshot, or its journal from the first message on, was seen.
 */
#ifndef ROOMCTL_STORED_H
#define ROOMCTL_STORED_H

#include "roomctl/connect.h"

struct stored_counts {
    size_t snapshots, journals; /* of listed rooms or not */
};

/* Adds findings to `found`. `rooms`: id -> valid entry; `named`: every id that is listed, also with an entry nobody can read. */
MUST_USE int stored_check(struct conn *c, json_t *rooms, json_t *named, json_t *found, struct stored_counts *counts,
                          struct err_detail *detail);

#endif
