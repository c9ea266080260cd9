/*
 * Who is matched: by number, by age, by party, by team, by what must be equal or near. Each match found is checked against the
 * rules themselves, by an arithmetic of its own.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "core/match.h"

enum { MATCHES_MAX = 6000 };

struct field {
    struct queues queues;
    struct match book;
    struct mono now;
    unsigned matches, tickets, limit;
    struct {
        unsigned count;
        struct id ids[QUEUE_MATCH_MAX];
        uint8_t teams[QUEUE_MATCH_MAX];
    } found[MATCHES_MAX];
};

static struct field *open_field(const char *spec)
{
    struct field *f = calloc(1, sizeof(*f));
    cr_assert_eq(queues_add(&f->queues, spec, NULL), 0, "%s", spec);
    match_init(&f->book, &alloc_libc, &f->queues);
    f->now.us = 1000000000;
    f->limit = MATCHES_MAX;
    return f;
}

static void close_field(struct field *f)
{
    match_deinit(&f->book);
    free(f);
}

/* `players` of them, who has waited for so long. */
static struct match_ticket *wait_sized(struct field *f, unsigned players, const char *equal, double value, int64_t age_ms)
{
    struct match_info info = {.state = MATCH_WAITING, .revision = 1, .age_ms = age_ms, .player_count = players,
                              .values = {value}};
    snprintf(info.id.s, sizeof(info.id.s), "t%05u", f->tickets);
    for (unsigned i = 0; i < players; i++)
        snprintf(info.players[i].s, sizeof(info.players[i].s), "p%05u-%u", f->tickets, i);
    snprintf(info.equal, sizeof(info.equal), "%s", equal);
    f->tickets++;
    struct match_ticket *t = match_put(&f->book, f->queues.items[0].name.s, &info, f->now);
    cr_assert_not_null(t);
    return t;
}

static struct match_ticket *wait_one(struct field *f, double value, int64_t age_ms)
{
    return wait_sized(f, 1, "", value, age_ms);
}

/* Whole, nobody twice, each team full, all equal and near enough to the first of the search. */
static bool found(void *arg, struct match_ticket *const *tickets, const uint8_t *teams, unsigned count)
{
    struct field *f = arg;
    const struct queue *q = &f->queues.items[0];
    unsigned filled[QUEUE_MATCH_MAX] = {0};
    if (f->matches == f->limit)
        return false;
    for (unsigned i = 0; i < count; i++) {
        cr_assert_not(tickets[i]->busy);
        cr_assert_eq(tickets[i]->state, MATCH_WAITING);
        cr_assert_str_eq(tickets[i]->equal, tickets[0]->equal);
        for (unsigned r = 0; r < q->range_count; r++)
            cr_assert_leq(abs((int)(tickets[i]->values[r] - tickets[0]->values[r])),
                          (int)queue_tolerance(q, r, match_age_ms(tickets[0], f->now)));
        for (unsigned k = 0; k < i; k++)
            cr_assert_neq(tickets[i], tickets[k]);
        filled[teams[i]] += tickets[i]->player_count;
        f->found[f->matches].ids[i] = tickets[i]->id;
        f->found[f->matches].teams[i] = teams[i];
    }
    for (unsigned i = 0; i < q->teams && !tickets[0]->seats; i++)
        cr_assert_eq(filled[i], q->team_size);
    f->found[f->matches++].count = count;
    return true;
}

static unsigned find(struct field *f)
{
    f->matches = 0;
    for (int i = 0; match_find(&f->book, &f->book.queues[0], f->now, found, f) && f->matches < f->limit; i++)
        cr_assert_lt(i, 1000, "it never ends");
    return f->matches;
}

Test(match, n_tickets_of_size_k_give_n_over_k_matches)
{
    static const unsigned sizes[] = {1, 2, 3, 5, 8, 64}, counts[] = {0, 1, 2, 7, 63, 64, 65, 1000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
            char spec[64];
            snprintf(spec, sizeof(spec), "q=chess,size=%u", sizes[i]);
            struct field *f = open_field(spec);
            for (unsigned n = 0; n < counts[k]; n++)
                wait_one(f, 0, (int64_t)(n * 7919 % 1009));
            cr_assert_eq(find(f), counts[k] / sizes[i], "%u of %u: %u", counts[k], sizes[i], f->matches);
            cr_assert_eq(find(f), 0, "who is busy was matched again");
            close_field(f);
        }
}

Test(match, the_oldest_first)
{
    struct field *f = open_field("q=chess,size=2");
    static const int64_t ages[] = {10, 50, 30, 70, 20, 60};
    for (int i = 0; i < 6; i++)
        wait_one(f, 0, ages[i]);
    cr_assert_eq(find(f), 3);
    static const char *const order[] = {"t00003", "t00005", "t00001", "t00002", "t00004", "t00000"};
    for (int i = 0; i < 6; i++)
        cr_assert_str_eq(f->found[i / 2].ids[i % 2].s, order[i]);
    close_field(f);
}

Test(match, of_the_same_age_the_first_id)
{
    struct field *f = open_field("q=chess,size=2");
    for (int i = 0; i < 5; i++)
        wait_one(f, 0, 0);
    cr_assert_eq(find(f), 2);
    cr_assert_str_eq(f->found[0].ids[0].s, "t00000");
    cr_assert_str_eq(f->found[1].ids[1].s, "t00003");
    close_field(f);
}

Test(match, parties_stay_together_and_fill_teams)
{
    struct field *f = open_field("q=chess,teams=2x3");
    wait_sized(f, 2, "", 0, 90);
    wait_sized(f, 2, "", 0, 80);
    wait_sized(f, 3, "", 0, 70); /* fits neither team any more */
    wait_sized(f, 1, "", 0, 60);
    wait_sized(f, 1, "", 0, 50);
    wait_sized(f, 3, "", 0, 40);
    cr_assert_eq(find(f), 2);
    cr_assert_eq(f->found[0].count, 4);
    cr_assert_neq(f->found[0].teams[0], f->found[0].teams[1]);
    cr_assert_str_eq(f->found[1].ids[0].s, "t00002");
    cr_assert_str_eq(f->found[1].ids[1].s, "t00005");
    close_field(f);
}

Test(match, a_party_as_big_as_the_match)
{
    struct field *f = open_field("q=chess,size=4");
    wait_sized(f, 4, "", 0, 0);
    wait_sized(f, 3, "", 0, 0);
    cr_assert_eq(find(f), 1);
    cr_assert_eq(f->found[0].count, 1);
    close_field(f);
}

Test(match, what_must_be_equal_is)
{
    struct field *f = open_field("q=chess,size=2,equal=region");
    static const char *const regions[] = {"eu", "us", "eu", "asia", "us", "eu"};
    for (int i = 0; i < 6; i++)
        wait_sized(f, 1, regions[i], 0, 100 - i);
    cr_assert_eq(find(f), 2); /* checked in found() */
    cr_assert_str_eq(f->found[0].ids[1].s, "t00002");
    cr_assert_str_eq(f->found[1].ids[1].s, "t00004");
    close_field(f);
}

Test(match, ranges_widen_with_the_wait)
{
    struct field *f = open_field("q=chess,size=2,range=rank:100:50:300");
    wait_one(f, 1000, 0);
    wait_one(f, 1250, 0);
    cr_assert_eq(find(f), 0);
    f->now = mono_add_ms(f->now, 2900);
    cr_assert_eq(find(f), 0);
    f->now = mono_add_ms(f->now, 100); /* 100 + 3 * 50 = 250 */
    cr_assert_eq(find(f), 1);
    wait_one(f, 5000, 0);
    wait_one(f, 5301, 0);
    f->now = mono_add_ms(f->now, 3600000);
    cr_assert_eq(find(f), 0, "beyond the most");
    close_field(f);
}

Test(match, the_age_that_an_entry_tells_counts)
{
    struct field *f = open_field("q=chess,size=2,range=rank:100:50:300");
    wait_one(f, 1000, 3000);
    wait_one(f, 1250, 0);
    cr_assert_eq(find(f), 1);
    close_field(f);
}

/* Both ways to look for fellows give the same. The second is the plain definition. */
static unsigned plainly(struct field *f, struct id out[])
{
    unsigned n = 0, count = f->tickets;
    const struct queue *q = &f->queues.items[0];
    struct match_ticket **all = calloc(count, sizeof(*all));
    bool *used = calloc(count, sizeof(*used));
    unsigned at = 0;
    for (struct match_ticket *t = f->book.queues[0].first; t; t = t->next)
        all[at++] = t;
    for (unsigned i = 0; i < count; i++) /* ages fall with the number */
        for (unsigned k = 0; k < count && !used[i]; k++) {
            double far = all[k]->values[0] - all[i]->values[0];
            if (k == i || used[k] || (far < 0 ? -far : far) > queue_tolerance(q, 0, match_age_ms(all[i], f->now)))
                continue;
            used[i] = used[k] = true;
            out[n++] = all[i]->id;
            out[n++] = all[k]->id;
        }
    free(all);
    free(used);
    return n / 2;
}

Test(match, near_and_oldest_find_the_same)
{
    static const char *const widths[] = {"1", "10", "100", "1000", "5000"};
    struct rng rng;
    rng_init(&rng, 7);
    for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
        char spec[64];
        struct id expected[1200];
        snprintf(spec, sizeof(spec), "q=chess,size=2,range=rank:%s", widths[w]);
        struct field *f = open_field(spec);
        for (int i = 0; i < 600; i++)
            wait_one(f, (double)(rng_next(&rng) % 3000), 600 - i);
        unsigned n = plainly(f, expected);
        cr_assert_eq(find(f), n, "width %s: %u, %u expected", widths[w], f->matches, n);
        for (unsigned i = 0; i < n; i++)
            for (unsigned k = 0; k < 2; k++)
                cr_assert_str_eq(f->found[i].ids[k].s, expected[2 * i + k].s);
        close_field(f);
    }
}

Test(match, a_room_takes_as_many_as_there_are)
{
    struct field *f = open_field("q=chess,teams=2x2");
    struct match_info info = {.state = MATCH_WAITING, .revision = 1, .age_ms = 500, .seats = 3};
    id_set(&info.id, "backfill");
    id_set(&info.room, "room-1");
    cr_assert_not_null(match_put(&f->book, "q", &info, f->now));
    cr_assert_eq(find(f), 0, "nobody is there to be taken");
    wait_one(f, 0, 10);
    wait_sized(f, 2, "", 0, 5);
    wait_one(f, 0, 1);
    cr_assert_eq(find(f), 1);
    cr_assert_eq(f->found[0].count, 3);
    cr_assert_str_eq(f->found[0].ids[0].s, "backfill");
    close_field(f);
}

Test(match, who_cannot_be_matched_now_is_left_out)
{
    struct field *f = open_field("q=chess,size=2");
    wait_one(f, 0, 30)->busy = true;
    wait_one(f, 0, 20)->not_before = mono_add_ms(f->now, 1000);
    struct match_info held = {.state = MATCH_MATCHED, .revision = 1, .player_count = 1};
    id_set(&held.id, "held");
    cr_assert_not_null(match_put(&f->book, "q", &held, f->now));
    wait_one(f, 0, 10);
    cr_assert_eq(find(f), 0);
    f->now = mono_add_ms(f->now, 1000);
    cr_assert_eq(find(f), 1);
    close_field(f);
}

Test(match, the_caller_may_have_enough)
{
    struct field *f = open_field("q=chess,size=2");
    for (int i = 0; i < 10; i++)
        wait_one(f, 0, 0);
    f->limit = 2;
    cr_assert(match_find(&f->book, &f->book.queues[0], f->now, found, f));
    cr_assert_eq(f->matches, 2);
    f->limit = 10;
    cr_assert_not(match_find(&f->book, &f->book.queues[0], f->now, found, f));
    cr_assert_eq(f->matches, 5, "those refused are free still");
    close_field(f);
}

Test(match, one_that_costs_too_much_goes_on_next_time)
{
    struct field *f = open_field("q=chess,size=2,range=rank:1,range=ping:0");
    for (int i = 0; i < 2000; i++) /* all as near in the first, none in the second */
        wait_one(f, 0, 5000 - i)->values[1] = i;
    wait_one(f, 0, 1)->values[1] = 7777;
    wait_one(f, 0, 0)->values[1] = 7777; /* the youngest two fit */
    unsigned calls = 1;
    while (match_find(&f->book, &f->book.queues[0], f->now, found, f))
        cr_assert_lt(++calls, 100);
    cr_assert_gt(calls, 1, "it was all done in one call");
    cr_assert_eq(f->matches, 1);
    cr_assert_leq(f->book.looked, (uint64_t)calls * MATCH_BUDGET);
    close_field(f);
}

Test(match, entries_come_change_and_go)
{
    struct field *f = open_field("q=chess,size=2");
    struct match_info info = {.state = MATCH_WAITING, .revision = 5, .player_count = 1};
    id_set(&info.id, "one");
    id_set(&info.players[0], "ann");
    struct match_ticket *t = match_put(&f->book, "q", &info, f->now);
    cr_assert_eq(match_of_leader(&f->book, "ann"), t);
    cr_assert_null(match_put(&f->book, "other", &info, f->now));
    info.revision = 4;
    info.state = MATCH_MATCHED;
    match_put(&f->book, "q", &info, f->now);
    cr_assert_eq(t->state, MATCH_WAITING, "an older entry counted");
    info.revision = 6;
    match_put(&f->book, "q", &info, f->now);
    cr_assert_eq(t->state, MATCH_MATCHED);
    cr_assert_eq(f->book.queues[0].waiting, 0);
    match_sync_begin(&f->book);
    cr_assert(match_keep(&f->book, "one"));
    match_sync_end(&f->book);
    cr_assert_not_null(match_get(&f->book, "one"));
    match_sync_begin(&f->book);
    match_sync_end(&f->book);
    cr_assert_null(match_get(&f->book, "one"));
    cr_assert_null(match_of_leader(&f->book, "ann"));
    cr_assert_eq(f->book.queues[0].count, 0);
    close_field(f);
}

Test(match, without_memory_nothing_is_there_and_nothing_lost)
{
    for (long after = 0; after < 12; after++) {
        struct alloc_budget budget;
        struct queues queues = {0};
        struct match book;
        struct mono now = {1000000};
        cr_assert_eq(queues_add(&queues, "q=chess,size=2", NULL), 0);
        alloc_budget_init(&budget, &alloc_libc, SIZE_MAX);
        match_init(&book, &budget.alloc, &queues);
        struct match_info info = {.state = MATCH_WAITING, .revision = 5, .player_count = 2,
                                  .properties = (const uint8_t *)"\x80", .properties_len = 1};
        id_set(&info.id, "one");
        budget.fail_after = after;
        const struct match_ticket *t = match_put(&book, "q", &info, now);
        cr_assert_eq(t != NULL, book.queues[0].count == 1);
        budget.fail_after = -1;
        cr_assert_not_null(match_put(&book, "q", &info, now));
        match_deinit(&book);
        cr_assert_eq(budget.used_bytes, 0);
    }
}

Test(match, nobody_is_matched_with_himself)
{
    struct field *f = open_field("q=chess,size=2");
    struct match_info info = {.state = MATCH_WAITING, .revision = 1, .player_count = 1};
    id_set(&info.players[0], "ann");
    for (int i = 0; i < 3; i++) {
        snprintf(info.id.s, sizeof(info.id.s), "ann-%d", i);
        match_put(&f->book, "q", &info, f->now);
    }
    cr_assert_eq(find(f), 0);
    wait_one(f, 0, 0);
    cr_assert_eq(find(f), 1);
    close_field(f);
}
