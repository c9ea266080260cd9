/*
 * What port/store.h promises, held against both stores by the same text.
 *
 * Decides nothing about files. Invariant: each test here runs once per store; what only one of them can show is elsewhere.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/store_driver.h"

static void run(enum sd_kind kind, void (*test)(struct sd *d))
{
    struct sd d;
    sd_init(&d, kind);
    cr_assert_eq(sd_open(&d, NULL), 0);
    test(&d);
    for (uint64_t t = 1; t <= d.next_token && t < SD_TOKENS; t++)
        cr_assert_leq(d.done[t].count, 1, "token %lu has %d results", (unsigned long)t, d.done[t].count);
    sd_deinit(&d);
}

#define CONTRACT(name)                                                                                               \
    static void name(struct sd *d);                                                                                  \
    Test(store_lmdb, name, .timeout = 60)                                                                            \
    {                                                                                                                \
        run(SD_LMDB, name);                                                                                          \
    }                                                                                                                \
    Test(store_mem, name, .timeout = 60)                                                                             \
    {                                                                                                                \
        run(SD_MEM, name);                                                                                           \
    }                                                                                                                \
    static void name(struct sd *d)

static struct store_mark mark(uint64_t epoch, uint64_t position, uint64_t version)
{
    return (struct store_mark){epoch, position, version};
}

CONTRACT(what_is_saved_comes_back_whole)
{
    uint64_t token = sd_save(d, "r", mark(3, UINT64_MAX, 9), "a\0b", 3);
    cr_assert_eq(d->done[token].count, 0, "no event inside a call");
    cr_assert(sd_wait(d, token));
    cr_assert_eq(d->done[token].result, STORE_OK);
    sd_reopen(d);
    cr_assert_eq(sd_loaded(d, STORE_HELD, "r"), STORE_OK);
    cr_assert_eq(d->snapshots, 1);
    cr_assert_str_eq(d->found.room, "r");
    cr_assert_str_eq(d->found.type, "chess");
    cr_assert_eq(d->found.mark.epoch, 3);
    cr_assert_eq(d->found.mark.position, UINT64_MAX);
    cr_assert_eq(d->found.mark.version, 9);
    cr_assert_eq(d->found.saved.ms, 9000);
    cr_assert_eq(d->found.codec, 7);
    cr_assert_eq(d->found.len, 3);
    cr_assert_arr_eq(d->found.data, "a\0b", 3);
    cr_assert_eq(sd_loaded(d, STORE_HELD, "r2"), STORE_NOT_FOUND);
    cr_assert_eq(d->snapshots, 0);
    cr_assert_eq(sd_saved(d, "empty", mark(1, 1, 1), ""), STORE_OK);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "empty"), "");
}

CONTRACT(the_newest_is_by_epoch_then_position_then_version)
{
    sd_saved(d, "r", mark(2, 5, 1), "2-5-1");
    sd_saved(d, "r", mark(1, 9, 9), "1-9-9");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "2-5-1");
    sd_saved(d, "r", mark(2, 4, 9), "2-4-9");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "2-5-1");
    sd_saved(d, "r", mark(2, 5, 2), "2-5-2");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "2-5-2");
    sd_saved(d, "r", mark(2, 256, 0), "2-256-0");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "2-256-0");
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "r"), "2-256-0");
}

CONTRACT(a_damaged_one_is_named_and_the_one_before_is_given)
{
    struct store_stats stats;
    sd_saved(d, "r", mark(1, 1, 1), "the first state");
    sd_saved(d, "r", mark(1, 2, 2), "the second state");
    sd_saved(d, "r", mark(1, 3, 3), "the third state");
    sd_saved(d, "other", mark(1, 1, 1), "another room's state");
    sd_damage(d, "r", 0, "the third state");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "the second state", "two are kept");
    cr_assert_eq(d->damaged, 1);
    cr_assert_str_eq(d->damaged_room.s, "r");
    cr_assert(strstr(d->detail, "checksum"), "%s", d->detail);
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "r"), "(damaged)");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "other"), "another room's state");
    sd_damage(d, "r", 1, "the second state");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "(damaged)", "the first one is long gone");
    store_stats(d->store, &stats);
    cr_assert_gt(stats.damaged, 0);
}

CONTRACT(a_damaged_one_does_not_push_out_a_whole_one)
{
    sd_saved(d, "r", mark(1, 1, 1), "the first state");
    sd_saved(d, "r", mark(1, 2, 2), "the second state");
    sd_damage(d, "r", 0, "the second state");
    cr_assert_eq(sd_saved(d, "r", mark(1, 3, 3), "the third state"), STORE_OK);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "the third state");
    sd_damage(d, "r", 0, "the third state");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "the first state");
    sd_saved(d, "r", mark(1, 4, 4), "the fourth state");
    sd_saved(d, "r", mark(1, 5, 5), "the fifth state");
    d->damaged = 0;
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "the fifth state");
    cr_assert_eq(d->damaged, 0);
    /* A damaged one newer than what is saved hides neither it nor its place in the outbox. */
    sd_damage(d, "r", 0, "the fifth state");
    cr_assert_eq(sd_saved(d, "r", mark(1, 4, 9), "a state from before"), STORE_OK);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "a state from before");
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "r"), "a state from before");
}

CONTRACT(the_outbox_has_the_newest_of_each_room_until_it_was_sent)
{
    struct store_stats stats;
    sd_saved(d, "a", mark(1, 1, 1), "a1");
    sd_saved(d, "b", mark(1, 1, 1), "b1");
    sd_saved(d, "a", mark(1, 2, 2), "a2");
    cr_assert(sd_wait(d, sd_list(d, STORE_WAITING, NULL, 10)));
    cr_assert_eq(d->room_count, 2);
    cr_assert_str_eq(d->rooms[0].id.s, "a");
    cr_assert_eq(d->rooms[0].mark.version, 2);
    cr_assert_eq(d->rooms[0].len, 2);
    cr_assert(sd_wait(d, sd_sent(d, "a", 1, 1)));
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "a"), "a2", "only the older one was sent");
    sd_reopen(d);
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "a"), "a2");
    store_stats(d->store, &stats);
    cr_assert_eq(stats.rooms, 2);
    cr_assert_eq(stats.outbox, 2);
    cr_assert_eq(stats.outbox_bytes, 4);
    cr_assert(sd_wait(d, sd_sent(d, "a", 1, 2)));
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "a"), "(none)");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "a"), "a2", "sent is not forgotten");
    sd_saved(d, "a", mark(1, 1, 1), "a1 again");
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "a"), "(none)", "what is not the newest need not be sent");
    sd_reopen(d);
    cr_assert(sd_wait(d, sd_list(d, STORE_WAITING, NULL, 10)));
    cr_assert_eq(d->room_count, 1);
    cr_assert_str_eq(d->rooms[0].id.s, "b");
    cr_assert(sd_wait(d, sd_sent(d, "b", 2, 0)));
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "b"), "(none)", "of an older epoch than what was sent");
    sd_saved(d, "c", mark(2, 1, 1), "c of epoch 2");
    cr_assert(sd_wait(d, sd_sent(d, "c", 1, 99)));
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "c"), "c of epoch 2", "what an older epoch sent does not count");
    uint64_t nothing = sd_sent(d, "nobody", 1, 1);
    cr_assert(sd_wait(d, nothing));
    cr_assert_eq(d->done[nothing].result, STORE_OK);
}

CONTRACT(calls_on_one_room_take_effect_in_order)
{
    uint64_t t[6];
    t[0] = sd_save(d, "r", mark(5, 5, 5), "old life", 8);
    t[1] = sd_forget(d, "r");
    t[2] = sd_save(d, "r", mark(1, 1, 1), "new life", 8);
    t[3] = sd_save(d, "gone", mark(1, 1, 1), "x", 1);
    t[4] = sd_forget(d, "gone");
    t[5] = sd_forget(d, "never");
    cr_assert(sd_settle(d));
    for (int i = 0; i < 6; i++) {
        enum store_result result = d->done[t[i]].result;
        cr_assert_eq(d->done[t[i]].count, 1);
        cr_assert(result == STORE_OK || (result == STORE_SUPERSEDED && i != 2 && i != 4 && i != 5), "%d: %d", i, result);
    }
    sd_reopen(d);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "new life");
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "r"), "new life");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "gone"), "(none)");
    cr_assert(sd_wait(d, sd_list(d, STORE_HELD, NULL, 10)));
    cr_assert_eq(d->room_count, 1);
    cr_assert(sd_wait(d, sd_forget(d, "r")));
    cr_assert_str_eq(sd_text(d, STORE_WAITING, "r"), "(none)");
    cr_assert(sd_wait(d, sd_list(d, STORE_HELD, NULL, 10)));
    cr_assert_eq(d->room_count, 0);
}

CONTRACT(waiting_saves_of_one_room_merge)
{
    enum { MANY = 500 };
    struct store_stats stats;
    char text[32];
    size_t ok = 0;
    for (uint64_t i = 1; i <= MANY; i++) {
        snprintf(text, sizeof text, "state %lu", (unsigned long)i);
        sd_save(d, "r", mark(1, i, i), text, strlen(text));
    }
    cr_assert(sd_settle(d));
    for (uint64_t t = 1; t <= MANY; t++)
        ok += d->done[t].count == 1 && d->done[t].result == STORE_OK;
    store_stats(d->store, &stats);
    cr_assert_eq(stats.saves, ok);
    cr_assert_eq(stats.saves + stats.merged, MANY);
    cr_assert_lt(stats.saves, MANY / 2);
    cr_assert_eq(d->done[MANY].result, STORE_OK, "the newest is written");
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "state 500");
    /* An older one that comes later does not win. */
    uint64_t newer = sd_save(d, "r", mark(1, 900, 900), "newer", 5), older = sd_save(d, "r", mark(1, 800, 800), "older", 5);
    cr_assert(sd_wait(d, newer) && sd_wait(d, older));
    cr_assert_eq(d->done[newer].result, STORE_OK);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r"), "newer");
}

CONTRACT(rooms_are_listed_in_order_page_by_page)
{
    enum { MANY = 2500 };
    char name[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "room-%04d", (i * 7919) % MANY);
        sd_save(d, name, mark(1, 1, (uint64_t)i), name, 9);
    }
    cr_assert(sd_settle(d));
    sd_reopen(d);
    const char *after = NULL;
    char last[ID_SIZE] = "";
    size_t total = 0;
    for (size_t page = 1000; page == 1000; after = last) {
        uint64_t token = sd_list(d, STORE_HELD, after, 1000);
        cr_assert(sd_wait(d, token));
        cr_assert_eq(d->done[token].rooms, d->room_count);
        page = d->room_count;
        for (size_t i = 0; i < page; i++, total++) {
            snprintf(name, sizeof name, "room-%04zu", total);
            cr_assert_str_eq(d->rooms[i].id.s, name);
            cr_assert_eq(d->rooms[i].len, 9);
            cr_assert_eq(d->rooms[i].saved.ms, (int64_t)d->rooms[i].mark.version * 1000);
        }
        snprintf(last, sizeof last, "%s", name);
    }
    cr_assert_eq(total, MANY);
    cr_assert(sd_wait(d, sd_list(d, STORE_WAITING, "room-2498", 5)));
    cr_assert_eq(d->room_count, 1);
}

CONTRACT(bad_arguments_are_refused)
{
    struct store_snapshot s = {.room = "r", .type = "t", .data = "x", .len = 1};
    cr_assert_eq(store_list(d->store, 1, STORE_HELD, NULL, 0), ROOM_E_INVALID);
    cr_assert_eq(store_list(d->store, 1, STORE_HELD, NULL, STORE_LIST_MAX + 1), ROOM_E_INVALID);
    cr_assert_eq(store_list(d->store, 1, STORE_HELD, "no.id", 1), ROOM_E_INVALID);
    cr_assert_eq(store_load(d->store, 1, STORE_HELD, ""), ROOM_E_INVALID);
    cr_assert_eq(store_forget(d->store, 1, "all"), ROOM_E_INVALID);
    cr_assert_eq(store_sent(d->store, 1, "a b", 1, 1), ROOM_E_INVALID);
    s.type = "";
    cr_assert_eq(store_save(d->store, 1, &s), ROOM_E_INVALID);
    s.type = "t";
    s.room = NULL;
    cr_assert_eq(store_save(d->store, 1, &s), ROOM_E_INVALID);
    cr_assert(sd_settle(d));
    cr_assert_eq(d->results, 0, "a refused call has no event");
}

CONTRACT(the_queue_has_a_limit)
{
    char name[16], bytes[5000] = "";
    struct store_snapshot s = {.room = name, .type = "t", .data = bytes, .len = 10};
    int err = 0;
    sd_shut(d);
    d->lmdb.max_queue_count = d->mem.max_queue_count = 8;
    d->lmdb.max_queue_bytes = d->mem.max_queue_bytes = 8000;
    d->lmdb.max_snapshot_bytes = d->mem.max_snapshot_bytes = 5000;
    sd_reopen(d);
    uint64_t t = 1;
    for (; !err && t < 60000; t++) {
        snprintf(name, sizeof name, "r%lu", (unsigned long)t);
        err = store_save(d->store, t, &s);
    }
    cr_assert_eq(err, ROOM_E_FULL);
    while (store_load(d->store, 60001, STORE_HELD, "r1") != ROOM_E_FULL)
        ;
    cr_assert(sd_settle(d));
    cr_assert_geq(d->results, t - 2);
    sd_shut(d);
    d->lmdb.max_queue_count = d->mem.max_queue_count = 0;
    sd_reopen(d);
    s.len = 5000;
    for (err = 0; !err && t < 60000; t++) {
        snprintf(name, sizeof name, "r%lu", (unsigned long)t);
        err = store_save(d->store, t, &s);
    }
    cr_assert_eq(err, ROOM_E_FULL, "bytes count too");
    s.len = 5001;
    cr_assert_eq(store_save(d->store, t, &s), ROOM_E_TOO_BIG);
    cr_assert(sd_settle(d));
    memset(d->done, 0, SD_TOKENS * sizeof *d->done); /* tokens were used again */
}

CONTRACT(a_full_disk_is_said_once_and_ends_by_itself)
{
    enum { ROOMS = 20, BYTES = 20000 };
    static char big[BYTES];
    struct store_stats stats;
    char name[16];
    sd_shut(d);
    d->lmdb.max_queue_count = d->mem.max_queue_count = 100;
    sd_reopen(d);
    sd_saved(d, "small", mark(1, 1, 1), "from before");
    sd_full(d, true);
    for (uint64_t i = 0; i < ROOMS; i++) {
        snprintf(name, sizeof name, "r%lu", (unsigned long)i);
        memset(big, 'a' + (int)i, sizeof big);
        sd_save(d, name, mark(1, 1, 1), big, sizeof big);
    }
    while (d->troubles == 0)
        sd_turn(d, 100);
    cr_assert_eq(d->trouble, STORE_NO_SPACE);
    cr_assert_neq(d->detail[0], 0);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "small"), "from before", "reading goes on");
    /* Rooms play on and are saved again and again: what waits stays bounded. */
    for (uint64_t round = 2; round < 30; round++) {
        for (uint64_t i = 0; i < ROOMS; i++) {
            snprintf(name, sizeof name, "r%lu", (unsigned long)i);
            memset(big, 'a' + (int)i, sizeof big);
            sd_save(d, name, mark(1, round, round), big, sizeof big);
        }
        sd_turn(d, 10);
    }
    store_stats(d->store, &stats);
    cr_assert_eq(stats.trouble, STORE_NO_SPACE);
    cr_assert_leq(stats.queue, 2 * ROOMS);
    cr_assert_str_eq(stats.error.text, d->detail);
    cr_assert_eq(d->wells, 0);
    /* At the limit a newer state still takes the place of an older one; another room is refused. */
    int err = 0;
    struct store_snapshot s = {.room = name, .type = "t", .mark = mark(1, 1, 1)};
    for (uint64_t t = SD_TOKENS - 1; !err; t--) {
        snprintf(name, sizeof name, "n%lu", (unsigned long)t);
        err = store_save(d->store, t, &s);
    }
    cr_assert_eq(err, ROOM_E_FULL);
    sd_save(d, "r0", mark(1, 30, 30), "newest", 6);
    sd_full(d, false);
    cr_assert(sd_settle(d));
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r0"), "newest");
    cr_assert_eq(d->troubles, 1, "once, not per save");
    cr_assert_eq(d->wells, 1);
    store_stats(d->store, &stats);
    cr_assert_eq(stats.trouble, STORE_OK);
    sd_reopen(d);
    for (uint64_t i = 1; i < ROOMS; i++) {
        snprintf(name, sizeof name, "r%lu", (unsigned long)i);
        cr_assert_eq(sd_text(d, STORE_HELD, name)[BYTES - 1], 'a' + (int)i);
        cr_assert_eq(d->found.mark.version, 29);
    }
}

CONTRACT(closing_writes_what_waits_and_ends_every_call)
{
    struct store_snapshot s = {.room = "r", .type = "t", .data = "x", .len = 1};
    char name[16];
    for (uint64_t i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "r%lu", (unsigned long)i);
        sd_save(d, name, mark(1, 1, 1), "kept", 4);
    }
    uint64_t load = sd_load(d, STORE_HELD, "r0");
    store_close(d->store);
    cr_assert_eq(store_save(d->store, 9999, &s), ROOM_E_CANCELLED);
    cr_assert_eq(store_load(d->store, 9999, STORE_HELD, "r"), ROOM_E_CANCELLED);
    cr_assert(sd_settle(d));
    for (uint64_t t = 1; t <= 300; t++)
        cr_assert_eq(d->done[t].result, STORE_OK);
    cr_assert_eq(d->done[load].count, 1);
    sd_reopen(d);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r299"), "kept");
    /* With a full disk it ends too, and says why. */
    static char big[100000];
    sd_full(d, true);
    for (uint64_t i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "r%lu", (unsigned long)i);
        sd_save(d, name, mark(2, 2, 2), big, sizeof big);
    }
    store_close(d->store);
    cr_assert(sd_settle(d));
    cr_assert_eq(d->done[d->next_token].result, STORE_NO_SPACE);
    cr_assert_neq(d->done[d->next_token].detail[0], 0);
    sd_full(d, false);
    sd_reopen(d);
    cr_assert_str_eq(sd_text(d, STORE_HELD, "r49"), "kept");
}

/* ---- Any order of calls against a model ---- */

enum { MODEL_ROOMS = 12 };

struct model_room {
    bool held, waits;
    struct store_mark newest;
    char text[400];
};

static void model_check(struct sd *d, const struct model_room *rooms)
{
    struct store_stats stats;
    size_t held_count = 0, waits = 0;
    char name[8];
    for (int i = 0; i < MODEL_ROOMS; i++) {
        snprintf(name, sizeof name, "m%d", i);
        cr_assert_str_eq(sd_text(d, STORE_HELD, name), rooms[i].held ? rooms[i].text : "(none)");
        cr_assert_str_eq(sd_text(d, STORE_WAITING, name), rooms[i].waits ? rooms[i].text : "(none)");
        held_count += rooms[i].held;
        waits += rooms[i].waits;
    }
    store_stats(d->store, &stats);
    cr_assert_eq(stats.rooms, held_count);
    cr_assert_eq(stats.outbox, waits);
    cr_assert_eq(stats.bytes == 0, held_count == 0);
}

static void model_save(struct sd *d, struct rng *rng, struct model_room *m, const char *name)
{
    char text[sizeof m->text];
    size_t len = rng_below(rng, sizeof text - 20);
    struct store_mark to = m->newest;
    /* Mostly forward, sometimes a late one from before. */
    if (rng_below(rng, 4) > 0)
        to = rng_below(rng, 3) ? mark(to.epoch, to.position + 1, to.version + 1) : mark(to.epoch + 1, to.position, 0);
    else if (to.position > 5)
        to.position -= 1 + rng_below(rng, 5);
    memset(text, 'a' + (int)rng_below(rng, 26), sizeof text);
    snprintf(text + len, sizeof text - len, "%lu", (unsigned long)rng_below(rng, 1000000));
    sd_save(d, name, to, text, strlen(text));
    if (!m->held || store_mark_cmp(&to, &m->newest) >= 0) {
        *m = (struct model_room){.held = true, .waits = true, .newest = to};
        memcpy(m->text, text, sizeof text);
    }
}

CONTRACT(any_order_of_calls_does_what_a_simple_model_says)
{
    struct model_room rooms[MODEL_ROOMS] = {0};
    struct rng rng;
    char name[8];
    rng_init(&rng, 20240607);
    for (int step = 0; step < 1500; step++) {
        size_t i = rng_below(&rng, MODEL_ROOMS);
        struct model_room *m = &rooms[i];
        snprintf(name, sizeof name, "m%zu", i);
        switch (rng_below(&rng, 12)) {
        case 0:
            sd_forget(d, name);
            m->held = m->waits = false;
            break;
        case 1:
        case 2:
            cr_assert(sd_settle(d)); /* one says sent only of what was handed out */
            sd_sent(d, name, m->newest.epoch, m->newest.version);
            m->waits = false;
            break;
        case 3:
            if (rng_below(&rng, 10) == 0)
                sd_reopen(d);
            break;
        default:
            model_save(d, &rng, m, name);
        }
        if (rng_below(&rng, 50) == 0) {
            cr_assert(sd_settle(d));
            model_check(d, rooms);
        }
    }
    sd_reopen(d);
    model_check(d, rooms);
}
