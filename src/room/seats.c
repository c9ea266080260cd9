/* See seats.h. */
#include "room/seats.h"

#include <string.h>

enum { FIRST_BUCKETS = 4 };

static void check(const struct seats *s)
{
    ASSERT(s->taken <= s->max && s->reserved <= s->max - s->taken);
}

static size_t seat_size(const char *player)
{
    return sizeof(struct seat) + strlen(player) + 1;
}

static size_t buckets_size(uint32_t n)
{
    return 2 * (size_t)n * sizeof(struct seat *);
}

void seats_init(struct seats *s, const struct alloc *alloc, const struct alloc *answers, unsigned max)
{
    *s = (struct seats){.alloc = alloc, .answers = answers, .max = max};
}

static void drop_buckets(struct seats *s)
{
    alloc_put(s->alloc, s->buckets, buckets_size(s->n_buckets));
    s->buckets = NULL;
    s->n_buckets = 0;
}

void seats_deinit(struct seats *s)
{
    while (s->head)
        seats_drop(s, s->head);
    while (s->gone)
        seats_bury(s, s->gone);
    drop_buckets(s);
}

static struct seat **player_bucket(const struct seats *s, uint32_t hash)
{
    return &s->buckets[hash & (s->n_buckets - 1)];
}

static struct seat **who_bucket(const struct seats *s, uint64_t who)
{
    uint64_t h = who * 0x9e3779b97f4a7c15u;
    return &s->buckets[s->n_buckets + ((h >> 32) & (s->n_buckets - 1))];
}

static void chain_player(struct seats *s, struct seat *seat)
{
    struct seat **b = player_bucket(s, seat->hash);
    seat->same_player = *b;
    *b = seat;
}

static void chain_who(struct seats *s, struct seat *seat)
{
    struct seat **b = who_bucket(s, seat->who);
    seat->same_who = *b;
    *b = seat;
}

static void unchain_player(struct seats *s, struct seat *seat)
{
    struct seat **at = player_bucket(s, seat->hash);
    while (*at != seat)
        at = &(*at)->same_player;
    *at = seat->same_player;
}

static void unchain_who(struct seats *s, struct seat *seat)
{
    struct seat **at = who_bucket(s, seat->who);
    while (*at != seat)
        at = &(*at)->same_who;
    *at = seat->same_who;
}

/* Keeps chains short. Only the very first table is needed; a bigger one that cannot be had only costs speed. */
static bool grow(struct seats *s)
{
    if (s->taken + s->reserved < s->n_buckets)
        return true;
    uint32_t n = s->n_buckets ? s->n_buckets * 2 : FIRST_BUCKETS;
    struct seat **buckets = alloc_get(s->alloc, buckets_size(n));
    if (!buckets)
        return s->n_buckets > 0;
    alloc_put(s->alloc, s->buckets, buckets_size(s->n_buckets));
    s->buckets = buckets;
    s->n_buckets = n;
    for (struct seat *seat = s->head; seat; seat = seat->next) {
        chain_player(s, seat);
        if (seat->who)
            chain_who(s, seat);
    }
    return true;
}

struct seat *seats_by_player(const struct seats *s, const char *player)
{
    if (!s->n_buckets)
        return NULL;
    uint32_t hash = (uint32_t)id_hash(player, 0);
    struct seat *seat = *player_bucket(s, hash);
    while (seat && (seat->hash != hash || strcmp(seat->player, player) != 0))
        seat = seat->same_player;
    return seat;
}

struct seat *seats_by_who(const struct seats *s, uint64_t who)
{
    if (!s->n_buckets || !who)
        return NULL;
    struct seat *seat = *who_bucket(s, who);
    while (seat && seat->who != who)
        seat = seat->same_who;
    return seat;
}

void seats_void(struct seats *s, struct seat *seat)
{
    if (!seat->has_ticket)
        return;
    *(seat->ticket_prev ? &seat->ticket_prev->ticket_next : &s->ticket_head) = seat->ticket_next;
    *(seat->ticket_next ? &seat->ticket_next->ticket_prev : &s->ticket_tail) = seat->ticket_prev;
    seat->ticket_prev = seat->ticket_next = NULL;
    seat->has_ticket = false;
}

static void give_ticket(struct seats *s, struct seat *seat, const uint8_t *secret, struct mono expires)
{
    static const char digits[] = "0123456789abcdef";
    seats_void(s, seat);
    for (int i = 0; i < SEATS_TICKET_BYTES; i++) {
        seat->ticket[2 * i] = digits[secret[i] >> 4];
        seat->ticket[2 * i + 1] = digits[secret[i] & 15];
    }
    seat->ticket[SEATS_TICKET_SIZE - 1] = '\0';
    seat->expires = expires;
    seat->has_ticket = true;
    seat->ticket_prev = s->ticket_tail;
    *(s->ticket_tail ? &s->ticket_tail->ticket_next : &s->ticket_head) = seat;
    s->ticket_tail = seat;
}

static void append(struct seats *s, struct seat *seat)
{
    seat->prev = s->tail;
    seat->next = NULL;
    *(s->tail ? &s->tail->next : &s->head) = seat;
    s->tail = seat;
}

static void unlink_seat(struct seats *s, struct seat *seat)
{
    *(seat->prev ? &seat->prev->next : &s->head) = seat->next;
    *(seat->next ? &seat->next->prev : &s->tail) = seat->prev;
}

static struct seat *make(struct seats *s, const char *player)
{
    struct seat *seat = alloc_get(s->alloc, seat_size(player));
    if (seat)
        memcpy(seat->player, player, strlen(player) + 1);
    return seat;
}

/* A new reserved seat without a ticket. */
static int add(struct seats *s, const char *player, bool locked, struct seat **out)
{
    if (locked)
        return ROOM_E_ROOM_LOCKED;
    if (s->taken + s->reserved >= s->max)
        return ROOM_E_ROOM_FULL;
    if (!grow(s))
        return ROOM_E_NO_MEMORY;
    struct seat *seat = make(s, player);
    if (!seat)
        return ROOM_E_NO_MEMORY;
    seat->hash = (uint32_t)id_hash(player, 0);
    append(s, seat);
    chain_player(s, seat);
    s->reserved++;
    s->version++;
    check(s);
    *out = seat;
    return 0;
}

int seats_reserve(struct seats *s, const char *player, bool locked, const uint8_t secret[SEATS_TICKET_BYTES],
                  struct mono expires, char ticket[SEATS_TICKET_SIZE])
{
    struct seat *seat = seats_by_player(s, player);
    if (!seat) {
        int rc = add(s, player, locked, &seat);
        if (rc)
            return rc;
    }
    give_ticket(s, seat, secret, expires);
    memcpy(ticket, seat->ticket, SEATS_TICKET_SIZE);
    return 0;
}

bool seats_ticket_is(const struct seat *seat, const char *ticket)
{
    unsigned char differs = 0;
    if (!seat->has_ticket || strlen(ticket) != SEATS_TICKET_SIZE - 1)
        return false;
    for (int i = 0; i < SEATS_TICKET_SIZE - 1; i++)
        differs |= (unsigned char)(seat->ticket[i] ^ ticket[i]);
    return differs == 0;
}

int seats_claim(struct seats *s, const char *player, const char *ticket, bool locked, struct mono now, struct seat **out)
{
    struct seat *seat = seats_by_player(s, player);
    if (ticket) {
        if (!seat || !seats_ticket_is(seat, ticket) || mono_reached(now, seat->expires))
            return ROOM_E_BAD_TICKET;
    } else if (!seat) {
        return add(s, player, locked, out);
    } else if (seat->who) {
        return ROOM_E_ALREADY;
    } else if (locked && !seat->taken) {
        return ROOM_E_ROOM_LOCKED;
    }
    if (!seat->taken)
        seats_void(s, seat);
    *out = seat;
    return 0;
}

/* A seat becomes taken, and the last of those that are. */
static void take(struct seats *s, struct seat *seat)
{
    unlink_seat(s, seat);
    append(s, seat);
    seat->taken = true;
    s->reserved--;
    s->taken++;
}

static void unhold(struct seats *s, struct seat *seat)
{
    if (!seat->ends)
        return;
    *(seat->held_prev ? &seat->held_prev->held_next : &s->held_head) = seat->held_next;
    *(seat->held_next ? &seat->held_next->held_prev : &s->held_tail) = seat->held_prev;
    seat->held_prev = seat->held_next = NULL;
    seat->ends = false;
}

void seats_rename(struct seats *s, struct seat *seat, const char *session)
{
    if (*session && strcmp(seat->session.s, session) == 0)
        return;
    replies_clear(&seat->replies, s->answers);
    id_set(&seat->session, session);
}

uint64_t seats_seat(struct seats *s, struct seat *seat, uint64_t who, const char *session)
{
    uint64_t former = seat->who;
    ASSERT(who && !seats_by_who(s, who));
    if (former)
        unchain_who(s, seat);
    if (!seat->taken)
        take(s, seat);
    unhold(s, seat);
    seats_void(s, seat);
    seat->who = who;
    chain_who(s, seat);
    seats_rename(s, seat, session ? session : "");
    s->version++;
    check(s);
    return former;
}

int seats_restore(struct seats *s, const char *player, const char *session, struct seat **out)
{
    struct seat *seat;
    int rc = seats_by_player(s, player) ? ROOM_E_ALREADY : add(s, player, false, &seat);
    if (rc)
        return rc;
    take(s, seat);
    id_set(&seat->session, session);
    *out = seat;
    return 0;
}

void seats_hold(struct seats *s, struct seat *seat, struct mono until)
{
    ASSERT(seat->taken && !seat->ends);
    if (seat->who)
        unchain_who(s, seat);
    seat->who = 0;
    seat->held_until = until;
    seat->ends = true;
    seat->held_prev = s->held_tail;
    *(s->held_tail ? &s->held_tail->held_next : &s->held_head) = seat;
    s->held_tail = seat;
    s->version++;
}

struct seat *seats_due_held(const struct seats *s, struct mono now)
{
    return s->held_head && mono_reached(now, s->held_head->held_until) ? s->held_head : NULL;
}

/* Out of all tables but `gone`. */
static void end(struct seats *s, struct seat *seat)
{
    seats_void(s, seat);
    unhold(s, seat);
    unchain_player(s, seat);
    if (seat->who)
        unchain_who(s, seat);
    if (seat->taken)
        s->taken--;
    else
        s->reserved--;
    unlink_seat(s, seat);
    s->version++;
    check(s);
    replies_clear(&seat->replies, s->answers);
    alloc_put_str(s->alloc, seat->kick);
    seat->kick = NULL;
    if (!s->head)
        drop_buckets(s);
}

void seats_drop(struct seats *s, struct seat *seat)
{
    end(s, seat);
    alloc_put(s->alloc, seat, seat_size(seat->player));
}

static void to_gone(struct seats *s, struct seat *seat)
{
    seat->gone = true;
    seat->prev = NULL;
    seat->next = s->gone;
    if (s->gone)
        s->gone->prev = seat;
    s->gone = seat;
}

void seats_retire(struct seats *s, struct seat *seat)
{
    end(s, seat);
    to_gone(s, seat);
}

bool seats_ghost(struct seats *s, const struct seat *of)
{
    struct seat *ghost = make(s, of->player);
    if (!ghost)
        return false;
    ghost->who = of->who;
    ghost->told = of->told;
    to_gone(s, ghost);
    return true;
}

struct seat *seats_gone_by_who(const struct seats *s, uint64_t who)
{
    struct seat *seat = s->gone;
    while (seat && seat->who != who)
        seat = seat->next;
    return seat;
}

void seats_bury(struct seats *s, struct seat *gone)
{
    *(gone->prev ? &gone->prev->next : &s->gone) = gone->next;
    if (gone->next)
        gone->next->prev = gone->prev;
    alloc_put(s->alloc, gone, seat_size(gone->player));
}

void seats_expire(struct seats *s, struct mono now)
{
    struct seat *seat;
    while ((seat = s->ticket_head) && mono_reached(now, seat->expires)) {
        if (seat->taken)
            seats_void(s, seat);
        else
            seats_drop(s, seat);
    }
}

bool seats_next_expiry(const struct seats *s, struct mono *out)
{
    const struct seat *ticket = s->ticket_head, *held = s->held_head;
    if (ticket)
        *out = ticket->expires;
    if (held && (!ticket || held->held_until.us < ticket->expires.us))
        *out = held->held_until;
    return ticket || held;
}
