/*
 * The seats of one room.
 *
 * Decides: who has a seat, who has a ticket for one, and when a ticket has expired. Knows nothing of room types or of the
 * host. Invariant, asserted after each change: taken + reserved <= max. A seat is reserved first and taken by seats_seat();
 * a taken seat may have an outstanding ticket too, which moves it to whoever presents it and needs no further seat.
 *
 * Weakness: tickets are kept in the order of their making, so all tickets of one room must live equally long, and `now` must
 * not fall.
 */
#ifndef ROOM_SEATS_H
#define ROOM_SEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/time.h"

enum { SEATS_TICKET_BYTES = 16, SEATS_TICKET_SIZE = 2 * SEATS_TICKET_BYTES + 1 };

struct seat {
    struct seat *prev, *next;           /* all seats, oldest first */
    struct seat *ticket_prev, *ticket_next; /* those with a ticket, first to expire first */
    struct seat *same_player, *same_who; /* hash chains */
    uint64_t who;                        /* 0: reserved, else taken */
    struct mono expires;
    char *kick; /* reason of a pending kick, an alloc_str() freed with the seat; NULL: none given */
    uint32_t hash;
    bool has_ticket;
    bool kicked;
    char ticket[SEATS_TICKET_SIZE];
    char player[]; /* NUL-terminated */
};

struct seats {
    const struct alloc *alloc;
    struct seat *head, *tail, *ticket_head, *ticket_tail;
    struct seat **buckets; /* 2 * n: by player, by who */
    uint32_t n_buckets;    /* power of two, 0 without seats */
    unsigned max, taken, reserved;
    uint64_t version; /* +1 at each change of taken or reserved or of who holds a seat */
};

/* No memory is taken while there is no seat. `alloc` is borrowed. */
void seats_init(struct seats *s, const struct alloc *alloc, unsigned max);
void seats_deinit(struct seats *s);

struct seat *seats_by_player(const struct seats *s, const char *player);
/* Taken seats only. */
struct seat *seats_by_who(const struct seats *s, uint64_t who);

/* Gives `player` a ticket made of `secret`: on its seat, on its reservation (whose older ticket is void), or on a new
 * reservation. ROOM_FULL, ROOM_LOCKED (both only for a new one), NO_MEMORY. `player` is a valid id. */
MUST_USE int seats_reserve(struct seats *s, const char *player, bool locked, const uint8_t secret[SEATS_TICKET_BYTES],
                           struct mono expires, char ticket[SEATS_TICKET_SIZE]);

/* The seat that `player` may take now: with a ticket its reserved or taken seat; without, its reservation or a new one.
 * A reserved seat loses its ticket and stays reserved, without expiry, until seats_seat() or seats_drop(), which the
 * caller owes. A taken seat is not changed. BAD_TICKET, ALREADY (taken, no ticket), ROOM_FULL, ROOM_LOCKED, NO_MEMORY. */
MUST_USE int seats_claim(struct seats *s, const char *player, const char *ticket, bool locked, struct mono now,
                         struct seat **out);

/* Makes a claimed seat taken by `who` (not 0, not seated here), or moves a taken one to it, which uses up its ticket.
 * Returns the former holder, 0 if there was none. */
uint64_t seats_seat(struct seats *s, struct seat *seat, uint64_t who);

/* Ends a seat, reserved or taken, and frees it. */
void seats_drop(struct seats *s, struct seat *seat);

/* Takes the ticket of a seat away; the seat stays what it is. */
void seats_void(struct seats *s, struct seat *seat);

/* True if `ticket` is the seat's, compared in constant time. */
bool seats_ticket_is(const struct seat *seat, const char *ticket);

/* Ends reservations whose ticket has expired, voids expired tickets of taken seats. */
void seats_expire(struct seats *s, struct mono now);
/* False: no ticket is outstanding. */
bool seats_next_expiry(const struct seats *s, struct mono *out);

#endif
