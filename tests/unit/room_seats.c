/* Seats: the table of who may take what, and a random walk against a simple model (G6: never more seats than max). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "room/seats.h"

enum { MAX = 5, PLAYERS = 9, TTL_MS = 50 };

static int reserve(struct seats *s, const char *player, bool locked, uint8_t secret, int64_t expires_us, char *ticket)
{
    uint8_t bytes[SEATS_TICKET_BYTES] = {secret};
    return seats_reserve(s, player, locked, bytes, (struct mono){expires_us}, ticket);
}

static int claim(struct seats *s, const char *player, const char *ticket, bool locked, int64_t now_us, struct seat **out)
{
    return seats_claim(s, player, ticket, locked, (struct mono){now_us}, out);
}

Test(room_seats, table)
{
    struct alloc_budget b;
    struct seats s;
    struct seat *seat;
    char t1[SEATS_TICKET_SIZE], t2[SEATS_TICKET_SIZE], t3[SEATS_TICKET_SIZE];
    alloc_budget_init(&b, &alloc_libc, SIZE_MAX);
    seats_init(&s, &b.alloc, &b.alloc, 2);
    cr_assert_eq(b.used_bytes, 0);
    cr_assert_eq(reserve(&s, "ann", true, 1, 100, t1), ROOM_E_ROOM_LOCKED);
    cr_assert_eq(reserve(&s, "ann", false, 1, 100, t1), 0);
    cr_assert_eq(reserve(&s, "ann", true, 2, 100, t2), 0, "a fresh ticket for the same seat");
    cr_assert_eq(s.reserved, 1);
    cr_assert_eq(claim(&s, "ann", t1, false, 1, &seat), ROOM_E_BAD_TICKET, "the old one is void");
    cr_assert_eq(claim(&s, "bob", t2, false, 1, &seat), ROOM_E_BAD_TICKET, "it is not his");
    cr_assert_eq(claim(&s, "ann", "", false, 1, &seat), ROOM_E_BAD_TICKET);
    cr_assert_eq(claim(&s, "ann", t2, false, 100, &seat), ROOM_E_BAD_TICKET, "expired");
    cr_assert_eq(claim(&s, "ann", t2, true, 99, &seat), 0, "a locked room honours tickets");
    cr_assert_eq(seats_seat(&s, seat, 7, "s1"), 0);
    cr_assert_eq(claim(&s, "ann", t2, false, 1, &seat), ROOM_E_BAD_TICKET, "single use");
    cr_assert_eq(claim(&s, "ann", NULL, false, 1, &seat), ROOM_E_ALREADY);
    cr_assert_eq(claim(&s, "bob", NULL, true, 1, &seat), ROOM_E_ROOM_LOCKED);
    cr_assert_eq(reserve(&s, "bob", false, 3, 200, t1), 0);
    cr_assert_eq(reserve(&s, "cid", false, 4, 200, t2), ROOM_E_ROOM_FULL);
    cr_assert_eq(reserve(&s, "ann", true, 5, 200, t3), 0, "who is seated needs no further seat");
    cr_assert_eq(s.reserved + s.taken, 2);
    cr_assert_eq(claim(&s, "ann", t3, true, 1, &seat), 0);
    cr_assert_eq(seats_seat(&s, seat, 8, "s2"), 7, "the former holder");
    cr_assert_null(seats_by_who(&s, 7));
    cr_assert_eq(seats_by_who(&s, 8), seat);
    seats_expire(&s, (struct mono){199});
    cr_assert_eq(s.reserved, 1);
    seats_expire(&s, (struct mono){200});
    cr_assert_eq(s.reserved, 0);
    cr_assert_eq(s.taken, 1);
    seats_deinit(&s);
    cr_assert_eq(b.used_bytes, 0);
}

struct model {
    uint64_t who;       /* taken by */
    int64_t expires_us; /* of the ticket, 0: none */
    char ticket[SEATS_TICKET_SIZE];
};

static unsigned model_used(const struct model *m)
{
    unsigned n = 0;
    for (int i = 0; i < PLAYERS; i++)
        n += m[i].who || m[i].expires_us;
    return n;
}

static void model_expire(struct model *m, int64_t now)
{
    for (int i = 0; i < PLAYERS; i++)
        if (m[i].expires_us && m[i].expires_us <= now)
            m[i].expires_us = 0;
}

static void agree(const struct seats *s, const struct model *m)
{
    unsigned taken = 0;
    for (int i = 0; i < PLAYERS; i++)
        taken += m[i].who != 0;
    cr_assert_eq(s->taken, taken);
    cr_assert_eq(s->taken + s->reserved, model_used(m));
    cr_assert(s->taken + s->reserved <= MAX);
}

static void walk(uint64_t seed)
{
    struct rng rng;
    struct seats s;
    struct alloc_budget b;
    struct model m[PLAYERS] = {0};
    uint64_t who = 0;
    int64_t now = 1;
    rng_init(&rng, seed);
    alloc_budget_init(&b, &alloc_libc, SIZE_MAX);
    seats_init(&s, &b.alloc, &b.alloc, MAX);
    for (int step = 0; step < 400; step++) {
        int p = (int)rng_below(&rng, PLAYERS);
        bool locked = rng_below(&rng, 4) == 0, ticket = rng_below(&rng, 2);
        char name[8], fresh[SEATS_TICKET_SIZE];
        struct seat *seat;
        uint64_t version = s.version;
        bool known = m[p].who || m[p].expires_us, room = model_used(m) < MAX;
        snprintf(name, sizeof(name), "p%d", p);
        int rc, expected;
        switch (rng_below(&rng, 4)) {
        case 0:
            expected = known ? 0 : locked ? ROOM_E_ROOM_LOCKED : room ? 0 : ROOM_E_ROOM_FULL;
            rc = reserve(&s, name, locked, (uint8_t)step, now + TTL_MS, fresh);
            cr_assert_eq(rc, expected);
            if (rc == 0) {
                memcpy(m[p].ticket, fresh, sizeof(fresh));
                m[p].expires_us = now + TTL_MS;
            }
            break;
        case 1:
            if (ticket)
                expected = m[p].expires_us ? 0 : ROOM_E_BAD_TICKET;
            else
                expected = m[p].who ? ROOM_E_ALREADY : locked ? ROOM_E_ROOM_LOCKED : known || room ? 0 : ROOM_E_ROOM_FULL;
            rc = claim(&s, name, ticket ? m[p].ticket : NULL, locked, now, &seat);
            cr_assert_eq(rc, expected, "seed %d step %d: %d, not %d", (int)seed, step, rc, expected);
            if (rc == 0 && rng_below(&rng, 5) == 0 && !m[p].who) {
                seats_drop(&s, seat); /* the type refused */
                m[p].expires_us = 0;
            } else if (rc == 0) {
                cr_assert_eq(seats_seat(&s, seat, ++who, NULL), m[p].who);
                m[p].who = who;
                m[p].expires_us = 0;
            }
            break;
        case 2:
            seat = seats_by_who(&s, m[p].who);
            cr_assert_eq(seat != NULL, m[p].who != 0);
            if (seat) {
                seats_drop(&s, seat);
                m[p] = (struct model){0};
            }
            break;
        default:
            now += (int64_t)rng_below(&rng, TTL_MS);
            seats_expire(&s, (struct mono){now});
            model_expire(m, now);
        }
        agree(&s, m);
        cr_assert(s.version >= version);
    }
    seats_deinit(&s);
    cr_assert_eq(b.used_bytes, 0);
}

Test(room_seats, model)
{
    for (uint64_t seed = 0; seed < 500; seed++)
        walk(seed);
}

Test(room_seats, many_players_stay_findable)
{
    struct seats s;
    struct seat *seat;
    char name[16];
    seats_init(&s, &alloc_libc, &alloc_libc, 3000);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        cr_assert_eq(claim(&s, name, NULL, false, 1, &seat), 0);
        seats_seat(&s, seat, (uint64_t)i + 1, NULL);
    }
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        cr_assert_eq(seats_by_player(&s, name), seats_by_who(&s, (uint64_t)i + 1));
        cr_assert_not_null(seats_by_player(&s, name));
    }
    seats_deinit(&s);
}
