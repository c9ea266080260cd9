/*
 * What only the store in memory can show: crashes on virtual time, drawn from a seed.
 *
 * Decides nothing that both stores share (store_contract.c). Invariant: a result that was handed out before the crash is
 * true after it.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "support/store_driver.h"

enum { ROOMS = 6, STEPS = 60, SEEDS = 300 };

/* The versions of one room: saved for sure, and the newest one asked for. 0: none, or forgotten. */
struct ledger {
    uint64_t token, sure, asked, sent;
};

static struct store_mark mark(uint64_t version)
{
    return (struct store_mark){1, version, version};
}

static void take_results(struct sd *d, struct ledger *rooms)
{
    for (int i = 0; i < ROOMS; i++) {
        struct ledger *l = &rooms[i];
        if (l->token && d->done[l->token].count && d->done[l->token].result == STORE_OK)
            l->sure = l->asked;
    }
}

static void play(struct sd *d, struct rng *rng, struct ledger *rooms)
{
    char name[8], text[16];
    for (int step = 0; step < STEPS; step++) {
        size_t i = rng_below(rng, ROOMS);
        struct ledger *l = &rooms[i];
        snprintf(name, sizeof name, "c%zu", i);
        snprintf(text, sizeof text, "%lu", (unsigned long)(l->asked + 1));
        if (rng_below(rng, 2)) {
            take_results(d, rooms);
            l->asked++;
            l->token = sd_save(d, name, mark(l->asked), text, strlen(text));
        } else if (l->sure && rng_below(rng, 3) == 0) {
            uint64_t sent = sd_sent(d, name, 1, l->sure);
            sd_turn(d, 0);
            l->sent = d->done[sent].count ? l->sure : l->sent;
        }
        sd_turn(d, 0);
        take_results(d, rooms);
    }
}

static void look(struct sd *d, const struct ledger *rooms, uint64_t seed)
{
    char name[8], text[16];
    for (int i = 0; i < ROOMS; i++) {
        const struct ledger *l = &rooms[i];
        snprintf(name, sizeof name, "c%d", i);
        enum store_result result = sd_loaded(d, STORE_HELD, name);
        if (result == STORE_NOT_FOUND) {
            cr_assert_eq(l->sure, 0, "seed %lu: %s is lost", (unsigned long)seed, name);
            continue;
        }
        cr_assert_eq(result, STORE_OK);
        cr_assert_geq(d->found.mark.version, l->sure, "seed %lu: %s fell back", (unsigned long)seed, name);
        cr_assert_leq(d->found.mark.version, l->asked);
        snprintf(text, sizeof text, "%lu", (unsigned long)d->found.mark.version);
        cr_assert_str_eq(d->found_data, text);
        if (sd_loaded(d, STORE_WAITING, name) == STORE_OK)
            cr_assert_gt(d->found.mark.version, l->sent, "seed %lu: %s came back to the outbox", (unsigned long)seed, name);
    }
}

Test(store_mem_crash, what_was_told_is_there_and_nothing_else, .timeout = 60)
{
    size_t whole = 0, lost = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct ledger rooms[ROOMS] = {0};
        struct store_stats before, after;
        struct rng rng;
        struct sd d;
        rng_init(&rng, seed);
        sd_init(&d, SD_MEM);
        d.mem.seed = seed;
        d.mem.max_us = 500 + (int64_t)rng_below(&rng, 20000);
        d.mem.fail_per_mille = seed % 3 == 0 ? 200 : 0;
        cr_assert_eq(sd_open(&d, NULL), 0);
        play(&d, &rng, rooms);
        store_stats(d.store, &before);
        store_mem_crash(d.store);
        cr_assert_eq(sd_open(&d, NULL), 0);
        store_stats(d.store, &after);
        whole += before.queue && after.bytes != before.bytes;
        lost += before.queue && after.bytes == before.bytes;
        look(&d, rooms, seed);
        sd_deinit(&d);
    }
    cr_assert_gt(whole, SEEDS / 20, "no crash found a commit under way that got through");
    cr_assert_gt(lost, SEEDS / 20, "no crash lost what was under way");
}

Test(store_mem_crash, the_same_seed_is_the_same_story)
{
    int64_t ends[2];
    for (int run = 0; run < 2; run++) {
        struct ledger rooms[ROOMS] = {0};
        struct rng rng;
        struct sd d;
        rng_init(&rng, 5);
        sd_init(&d, SD_MEM);
        d.mem.seed = 5;
        d.mem.fail_per_mille = 100;
        cr_assert_eq(sd_open(&d, NULL), 0);
        play(&d, &rng, rooms);
        cr_assert(sd_settle(&d));
        ends[run] = d.now.us + (int64_t)d.results * 1000003 + (int64_t)d.troubles * 7919;
        sd_deinit(&d);
    }
    cr_assert_eq(ends[0], ends[1]);
}

Test(store_mem_crash, due_says_when_to_come_again)
{
    struct mono at;
    struct sd d;
    sd_init(&d, SD_MEM);
    d.mem.min_us = d.mem.max_us = 700000;
    cr_assert_eq(sd_open(&d, NULL), 0);
    cr_assert(!store_mem_due(d.store, &at));
    uint64_t token = sd_save(&d, "r", mark(1), "x", 1);
    cr_assert(store_mem_due(d.store, &at));
    store_mem_tick(d.store, d.now);
    cr_assert(store_mem_due(d.store, &at));
    cr_assert_eq(at.us, d.now.us + 700000);
    d.now.us += 699998 - 1000;
    sd_turn(&d, 0);
    cr_assert_eq(d.done[token].count, 0);
    d.now.us = at.us - 1000;
    sd_turn(&d, 0);
    cr_assert_eq(d.done[token].count, 1);
    cr_assert(!store_mem_due(d.store, &at));
    sd_deinit(&d);
}

/* A node short of memory gets errors, never a lost result. */
Test(store_mem_crash, every_lack_of_memory_has_an_answer)
{
    for (long after = 0; after < 60; after++) {
        struct sd d;
        sd_init(&d, SD_MEM);
        cr_assert_eq(sd_open(&d, NULL), 0);
        cr_assert_eq(sd_saved(&d, "held", mark(1), "held"), STORE_OK);
        d.budget.fail_after = after;
        size_t accepted = 0;
        struct store_snapshot s = {.room = "r", .type = "t", .mark = mark(1), .data = "abc", .len = 3};
        for (uint64_t t = 100; t < 103; t++, s.mark = mark(t)) {
            accepted += store_save(d.store, t, &s) == 0;
            accepted += store_load(d.store, t + 100, STORE_HELD, "held") == 0;
            accepted += store_list(d.store, t + 200, STORE_HELD, NULL, 5) == 0;
        }
        for (int i = 0; i < 20; i++)
            sd_turn(&d, 0);
        d.budget.fail_after = -1;
        cr_assert(sd_settle(&d));
        cr_assert_eq(d.results, accepted + 1, "after %ld allocations", after);
        cr_assert_eq(sd_loaded(&d, STORE_HELD, "held"), STORE_OK);
        sd_deinit(&d);
    }
}
