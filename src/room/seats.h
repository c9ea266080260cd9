/*
 * The seats of one room.
 *
 * Decides: who has a seat, who has a ticket for one, and when a ticket has expired. Knows nothing of room types or of the
 * host. Invariant, asserted after each change: taken + reserved <= max. A seat is reserved first and taken by seats_seat();
 * a taken seat may have an outstanding ticket too, which moves it to whoever presents it and needs no further seat. A taken
 * seat is *held* while nobody sits at it (who 0). The order of the taken seats is the order of their taking, on every run.
 *
 * Weakness: tickets and held seats are kept in the order of their making, so all tickets of one room must live equally long,
 * all held seats too, and `now` must not fall.
 */
#ifndef ROOM_SEATS_H
#define ROOM_SEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/id.h"
#include "base/time.h"
#include "room/replies.h"

enum { SEATS_TICKET_BYTES = 16, SEATS_TICKET_SIZE = 2 * SEATS_TICKET_BYTES + 1 };

struct seat {
    struct seat *prev, *next;           /* all seats, oldest first */
    struct seat *ticket_prev, *ticket_next; /* those with a ticket, first to expire first */
    struct seat *held_prev, *held_next;     /* held ones with an end, first to end first */
    struct seat *same_player, *same_who;    /* hash chains */
    uint64_t who;                           /* 0: reserved or held */
    struct mono expires, held_until;
    char *kick; /* reason of a pending kick, an alloc_str() freed with the seat; NULL: none given */
    uint32_t hash;
    bool has_ticket, taken, ends; /* `ends`: in the list of held ones */
    bool kicked;
    bool told; /* the node knows that `who` sits here */
    bool gone; /* no seat any more, only in the list `gone` */
    struct id session; /* empty: none */
    struct replies replies;
    char ticket[SEATS_TICKET_SIZE];
    char player[]; /* NUL-terminated */
};

struct seats {
    const struct alloc *alloc, *answers; /* of the seats; of what they remember of their answers */
    struct seat *head, *tail, *ticket_head, *ticket_tail, *held_head, *held_tail;
    struct seat *gone;     /* the node believes that they are taken */
    struct seat **buckets; /* 2 * n: by player, by who */
    uint32_t n_buckets;    /* power of two, 0 without seats */
    unsigned max, taken, reserved;
    uint64_t version; /* +1 at each change of taken or reserved or of who holds a seat */
};

/* No memory is taken while there is no seat. `alloc` and `answers` (for struct replies) are borrowed. */
void seats_init(struct seats *s, const struct alloc *alloc, const struct alloc *answers, unsigned max);
void seats_deinit(struct seats *s);

struct seat *seats_by_player(const struct seats *s, const char *player);
/* Those with somebody at them only. */
struct seat *seats_by_who(const struct seats *s, uint64_t who);

/* Gives `player` a ticket made of `secret`: on its seat, on its reservation (whose older ticket is void), or on a new
 * reservation. ROOM_FULL, ROOM_LOCKED (both only for a new one), NO_MEMORY. `player` is a valid id. */
MUST_USE int seats_reserve(struct seats *s, const char *player, bool locked, const uint8_t secret[SEATS_TICKET_BYTES],
                           struct mono expires, char ticket[SEATS_TICKET_SIZE]);

/* The seat that `player` may take now: with a ticket its reserved or taken seat; without, its held one, its reservation or a
 * new one. A reserved seat loses its ticket and stays reserved, without expiry, until seats_seat() or seats_drop(), which the
 * caller owes. A taken seat is not changed. BAD_TICKET, ALREADY (taken, not held, no ticket), ROOM_FULL, ROOM_LOCKED, NO_MEMORY. */
MUST_USE int seats_claim(struct seats *s, const char *player, const char *ticket, bool locked, struct mono now,
                         struct seat **out);

/* Makes a claimed seat taken by `who` (not 0, not seated here), or moves a taken one to it, which uses up its ticket. The
 * answers are those of a session: with another one, or none (NULL), the seat begins anew. Returns the former holder, 0 if
 * there was none. */
uint64_t seats_seat(struct seats *s, struct seat *seat, uint64_t who, const char *session);

/* A taken seat with nobody at it and no end yet, from what was saved. ALREADY (the player has one), ROOM_FULL, NO_MEMORY.
 * `session` may be empty. */
MUST_USE int seats_restore(struct seats *s, const char *player, const char *session, struct seat **out);
/* A taken seat is another session's: its answers are forgotten, unless it is the same and not empty. */
void seats_rename(struct seats *s, struct seat *seat, const char *session);
/* Nobody sits at a taken seat from now on, and it is to end then. */
void seats_hold(struct seats *s, struct seat *seat, struct mono until);
/* The held seat that ends first, if that is due. */
struct seat *seats_due_held(const struct seats *s, struct mono now);

/* Ends a seat, reserved or taken, and frees it. */
void seats_drop(struct seats *s, struct seat *seat);
/* Ends a taken seat, but keeps it in `gone` until seats_bury(). */
void seats_retire(struct seats *s, struct seat *seat);
/* Puts somebody into `gone` who has no seat of its own any more. False: no memory. */
bool seats_ghost(struct seats *s, const struct seat *of);
struct seat *seats_gone_by_who(const struct seats *s, uint64_t who);
void seats_bury(struct seats *s, struct seat *gone);

/* Takes the ticket of a seat away; the seat stays what it is. */
void seats_void(struct seats *s, struct seat *seat);

/* True if `ticket` is the seat's, compared in constant time. */
bool seats_ticket_is(const struct seat *seat, const char *ticket);

/* Ends reservations whose ticket has expired, voids expired tickets of taken seats. */
void seats_expire(struct seats *s, struct mono now);
/* When the first ticket or held seat ends. False: never. */
bool seats_next_expiry(const struct seats *s, struct mono *out);

#endif
