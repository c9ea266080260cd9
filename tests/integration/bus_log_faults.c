/*
 * Logs of the NATS bus while the server that leads their stream is killed or hangs.
 *
 * Decides what a writer may rely on: what was acknowledged is there, once and in order; what is unknown is settled by
 * reading back, and a read that lacks what is known to be there is repeated: a server that hung believes for a moment
 * that it leads yet. Invariant: faults are made on servers this test started.
 */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "support/bus_driver.h"
#include "support/nats_harness.h"

enum { CHAINS = 64, CHAIN_LENGTH = 200, APPEND_MS = 400, READ_MS = 20000, TOKENS = 100 };
static const int T = 5000;

/* One writer of one subject, as a room writes its journal: one append under way, each after the one before. */
struct chain {
    char subject[32];
    uint64_t token;
    unsigned number; /* of the message under way: 1, 2, 3 … */
    uint64_t expected;
    bool reading; /* an unknown append is being read back */
    unsigned unknown, applied, conflicts;
};

struct chains {
    struct driver *d;
    struct chain chain[CHAINS];
    unsigned acknowledged, over, stale;
};

static struct driver *open_at(const char *url)
{
    struct driver *d = calloc(1, sizeof *d);
    struct err_detail detail = {""};
    struct bus_nats_config config = {.urls = url, .name = "test", .ignore_discovered = true};
    cr_assert_eq(driver_open(d, &config, &detail), 0, "%s", detail.text);
    cr_assert(driver_until(d, &d->up, 1, T));
    return d;
}

static void shut(struct driver *d)
{
    driver_close(d);
    free(d);
}

static struct driver_done *ended(struct driver *d, int err, uint64_t token)
{
    cr_assert_eq(err, 0);
    cr_assert(driver_wait(d, token, 30000), "token %" PRIu64 " ended %d times", token, d->done[token].count);
    return &d->done[token];
}

static void write_next(struct chains *all, struct chain *c)
{
    char text[16];
    snprintf(text, sizeof text, "%u", c->number);
    all->d->done[c->token].count = 0;
    cr_assert_eq(bus_log_append(all->d->bus, c->token, c->subject, c->expected, text, strlen(text), APPEND_MS), 0);
    c->reading = false;
}

static void read_back(struct chains *all, struct chain *c)
{
    all->d->done[c->token].count = 0;
    cr_assert_eq(bus_log_last(all->d->bus, c->token, "CHAINS", c->subject, READ_MS), 0);
    c->reading = true;
}

static void go_on(struct chains *all, struct chain *c, uint64_t revision)
{
    cr_assert_gt(revision, c->expected);
    c->expected = revision;
    if (c->number++ == CHAIN_LENGTH)
        all->over++;
    else
        write_next(all, c);
}

static void was_read(struct chains *all, struct chain *c, const struct driver_done *done)
{
    bool there = done->result == BUS_OK && strtoul(done->data, NULL, 10) == c->number;
    cr_assert(done->result == BUS_OK || done->result == BUS_NOT_FOUND, "%d", (int)done->result);
    if (there) {
        c->applied++;
        go_on(all, c, done->revision);
    } else if (done->revision < c->expected) {
        all->stale++;
        read_back(all, c);
    } else {
        cr_assert_eq(done->revision, c->expected, "nobody else writes here");
        write_next(all, c);
    }
}

static void was_written(struct chains *all, struct chain *c, const struct driver_done *done)
{
    switch (done->result) {
    case BUS_OK:
        all->acknowledged++;
        go_on(all, c, done->revision);
        return;
    case BUS_NO_RESPONDERS:
        write_next(all, c);
        return;
    case BUS_CONFLICT: /* with the copy that was unknown and not there yet when we looked */
        c->conflicts++;
        read_back(all, c);
        return;
    default:
        cr_assert_eq(done->result, BUS_UNKNOWN, "%d %s", (int)done->result, done->data);
        c->unknown++;
        read_back(all, c);
    }
}

/* Until so many are acknowledged, or all chains are over. */
static void run(struct chains *all, unsigned acknowledged)
{
    struct mono deadline = mono_add_ms(time_mono_now(), 60000);
    while (all->acknowledged < acknowledged && all->over < CHAINS) {
        cr_assert(!mono_reached(time_mono_now(), deadline));
        driver_turn(all->d, 10);
        for (size_t i = 0; i < CHAINS; i++) {
            struct chain *c = &all->chain[i];
            const struct driver_done *done = &all->d->done[c->token];
            if (c->number > CHAIN_LENGTH || done->count == 0)
                continue;
            cr_assert_eq(done->count, 1);
            if (c->reading)
                was_read(all, c, done);
            else
                was_written(all, c, done);
        }
        bus_flush(all->d->bus);
    }
}

static uint64_t read_next(struct chains *all, const struct chain *c, uint64_t from, unsigned number)
{
    struct driver_done *done = &all->d->done[1];
    struct mono deadline = mono_add_ms(time_mono_now(), 20000);
    do {
        done->count = 0;
        ended(all->d, bus_log_next(all->d->bus, 1, "CHAINS", c->subject, from, READ_MS), 1);
        all->stale += done->result == BUS_NOT_FOUND;
    } while (done->result == BUS_NOT_FOUND && !mono_reached(time_mono_now(), deadline));
    cr_assert_eq(done->result, BUS_OK, "%s: %u: %d", c->subject, number, (int)done->result);
    cr_assert_eq(strtoul(done->data, NULL, 10), number, "%s: %s instead of %u", c->subject, done->data, number);
    return done->revision;
}

/* Everything is there once and in order, in each chain. */
static void check_whole(struct chains *all)
{
    for (size_t i = 0; i < CHAINS; i++) {
        struct chain *c = &all->chain[i];
        uint64_t from = 0;
        for (unsigned n = 1; n <= CHAIN_LENGTH; n++)
            from = read_next(all, c, from, n) + 1;
        cr_assert_eq(from - 1, c->expected);
    }
}

static void start(struct chains *all, struct driver *d)
{
    memset(all, 0, sizeof *all);
    all->d = d;
    for (size_t i = 0; i < CHAINS; i++) {
        struct chain *c = &all->chain[i];
        snprintf(c->subject, sizeof c->subject, "chain.%zu", i);
        c->token = TOKENS + i;
        c->number = 1;
        write_next(all, c);
    }
}

static unsigned unknown_of(const struct chains *all, unsigned *applied, unsigned *conflicts)
{
    unsigned unknown = *applied = *conflicts = 0;
    for (size_t i = 0; i < CHAINS; i++) {
        unknown += all->chain[i].unknown;
        *applied += all->chain[i].applied;
        *conflicts += all->chain[i].conflicts;
    }
    return unknown;
}

/* How many results were unknown: a fault can also fall between two of them. */
static unsigned check_leader(struct nats_harness *h, bool kill)
{
    static struct chains all;
    unsigned applied, conflicts;
    int leader = nats_harness_leader(h, "CHAINS");
    cr_assert_geq(leader, 0);
    struct driver *d = open_at(nats_harness_url(h, (leader + 1) % 3));
    for (size_t i = 0; i < CHAINS; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "chain.%zu", i);
        cr_assert_eq(ended(d, bus_log_purge(d->bus, 5000 + i, "CHAINS", subject, 0, T), 5000 + i)->result, BUS_OK);
    }
    start(&all, d);
    run(&all, CHAINS * CHAIN_LENGTH / 4);
    if (kill)
        nats_harness_kill(h, leader);
    else
        nats_harness_freeze(h, leader);
    run(&all, CHAINS * CHAIN_LENGTH);
    unsigned unknown = unknown_of(&all, &applied, &conflicts);
    if (kill)
        cr_assert(nats_harness_restart(h, leader));
    else
        nats_harness_thaw(h, leader);
    check_whole(&all);
    printf("leader %s: %u acknowledged, %u unknown, %u of them there, %u conflicts with an own late one, %u stale reads\n",
           kill ? "killed" : "frozen", all.acknowledged, unknown, applied, conflicts, all.stale);
    shut(d);
    return unknown;
}

Test(bus_log_faults, what_is_unknown_is_settled_by_reading_back, .timeout = 180)
{
    struct nats_harness h;
    cr_assert(nats_harness_start(&h, 3, NULL));
    struct driver *d = open_at(h.urls);
    struct bus_stream stream = {.name = "CHAINS", .subjects = "chain.*", .replicas = 3};
    cr_assert_eq(ended(d, bus_stream(d->bus, 1, &stream, 2 * T), 1)->result, BUS_OK, "%s", d->done[1].data);
    shut(d);
    unsigned killed = 0, frozen = 0;
    for (int tries = 0; tries < 3 && !(killed && frozen); tries++) {
        killed += killed ? 0 : check_leader(&h, true);
        frozen += frozen ? 0 : check_leader(&h, false);
    }
    cr_assert(killed && frozen);
    nats_harness_stop(&h);
}
