/*
 * A room's own entry in the registry, for the few verbs that write it: nobody runs the room then, so no owner can be asked.
 *
 * Decides: how an entry is changed (compare-and-set only), and what is listed of a room that has no entry. One thread.
 * Invariant: an entry is written at the revision that was read.
 */
#ifndef ROOMCTL_LISTING_H
#define ROOMCTL_LISTING_H

#include "roomctl/snap.h"

/* Below every boot there ever was: any node may take the room. */
#define LISTING_NO_BOOT "0"

struct listing {
    struct wire_room_entry e; /* points into `scratch` */
    struct buf scratch;
    uint64_t revision; /* 0: not listed */
};

/* Not listed is no error: revision 0, and `e` is empty. INVALID: the entry is not readable. Freed with listing_free(). */
MUST_USE int listing_read(struct conn *c, const char *room, struct listing *out, struct err_detail *detail);
void listing_free(struct listing *l);

bool listing_runs(const struct listing *l);

/* Writes `e`, with a new nonce, over `revision`, which becomes the new one. CONFLICT: somebody else has written. */
MUST_USE int listing_write(struct conn *c, const char *room, struct wire_room_entry *e, uint64_t *revision,
                           struct err_detail *detail);

/* What can be known of a room from its snapshot and the rooms of its type; borrows from `s`. */
MUST_USE int listing_guess(struct conn *c, const struct wire_snapshot_entry *s, struct wire_room_entry *out,
                           struct err_detail *detail);

/* Raises `epoch` to the registry's last revision, if that is higher: no room that is not listed has had a higher epoch. */
MUST_USE int listing_above(struct conn *c, int64_t *epoch, struct err_detail *detail);

/* The incarnation of the registries; "" if there is none yet. A position in the journal counts only together with it. */
MUST_USE int listing_cluster(struct conn *c, char out[ID_SIZE], struct err_detail *detail);

#endif
