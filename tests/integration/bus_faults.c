/*
 * The NATS bus while things break: killed and frozen servers, a loop that does not drain, an old server.
 *
 * Decides what port/bus.h promises in foul weather: bounded answers, unknown that is read back, watches that heal, calls
 * that never block. Invariant: faults are made on servers this test started.
 */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "support/bus_driver.h"
#include "support/forward.h"
#include "support/nats_harness.h"
#include "support/proc.h"

static const int T = 5000;

static struct driver *open_with(struct bus_nats_config config)
{
    struct driver *d = calloc(1, sizeof *d);
    struct err_detail detail = {""};
    config.name = "test";
    cr_assert_eq(driver_open(d, &config, &detail), 0, "%s", detail.text);
    cr_assert(driver_until(d, &d->up, 1, T));
    return d;
}

static void shut(struct driver *d)
{
    driver_close(d);
    free(d);
}

static enum bus_result ends(struct driver *d, uint64_t token)
{
    cr_assert(driver_wait(d, token, 20000), "token %" PRIu64 " ended %d times", token, d->done[token].count);
    return d->done[token].result;
}

static void make_bucket(struct driver *d, uint64_t token, const char *name)
{
    struct bus_bucket bucket = {.name = name, .watched = true};
    cr_assert_eq(bus_kv_bucket(d->bus, token, &bucket, 2 * T), 0);
    cr_assert_eq(ends(d, token), BUS_OK, "%s", d->done[token].data);
}

/* The bucket's leader hangs: writes are unknown in time, calls do not block, and what became of them can be read. False: it
 * did not lead any more. */
static bool leader_hangs(struct nats_harness *h)
{
    int leader = nats_harness_leader(h, "KV_frozen");
    cr_assert_geq(leader, 0);
    struct driver *victim = open_with((struct bus_nats_config){.urls = nats_harness_url(h, leader), .ignore_discovered = true});
    struct driver *other = open_with((struct bus_nats_config){.urls = nats_harness_url(h, (leader + 1) % 3),
                                                              .ignore_discovered = true});
    nats_harness_freeze(h, leader);
    int64_t start = time_mono_now().us, worst = 0;
    cr_assert_eq(bus_kv_put(other->bus, 2, "frozen", "k1", 0, "nonce", 5, 1000), 0);
    cr_assert_eq(bus_kv_put(victim->bus, 2, "frozen", "k2", 0, "nonce", 5, 1000), 0);
    bus_flush(other->bus);
    for (int i = 0; time_mono_now().us - start < 4000000; i++) {
        int64_t before = time_mono_now().us;
        (void)!bus_publish(victim->bus, "some.subject", NULL, h->dir, 200);
        (void)!bus_kv_put(victim->bus, 3000 + (uint64_t)i % 10000, "frozen", "k3", 0, "x", 1, 100);
        bus_flush(victim->bus);
        int64_t took = time_mono_now().us - before;
        worst = took > worst ? took : worst;
        driver_turn(victim, 2);
        driver_turn(other, 1);
    }
    printf("worst call with a frozen server: %" PRId64 " us\n", worst);
    cr_assert_lt(worst, 50000);
    if (ends(other, 2) != BUS_UNKNOWN) { /* on a busy machine the servers may have chosen another leader just before */
        nats_harness_thaw(h, leader);
        cr_assert(nats_harness_healthy(h, 20000));
        shut(victim);
        shut(other);
        return false;
    }
    cr_assert_eq(ends(victim, 2), BUS_UNKNOWN);
    cr_assert_lt(other->done[2].at_us - start, 1200000);
    cr_assert_lt(victim->done[2].at_us - start, 1600000);
    cr_assert_geq(victim->down, 1, "a frozen server was noticed");
    nats_harness_thaw(h, leader);
    cr_assert(nats_harness_healthy(h, 20000));
    cr_assert_eq(bus_kv_get(other->bus, 4, "frozen", "k1", 15000), 0);
    enum bus_result after = ends(other, 4);
    cr_assert(after == BUS_NOT_FOUND || (after == BUS_OK && strcmp(other->done[4].data, "nonce") == 0));
    cr_assert(driver_until(victim, &victim->up, 2, 10000));
    shut(victim);
    shut(other);
    return true;
}

static void check_frozen_leader(struct nats_harness *h)
{
    struct driver *d = open_with((struct bus_nats_config){.urls = h->urls});
    bool hung = false;
    make_bucket(d, 1, "frozen");
    for (int tries = 0; tries < 3 && !hung; tries++)
        hung = leader_hangs(h);
    cr_assert(hung);
    shut(d);
}

/* The server a watcher is connected to dies; what happened meanwhile is in the listing after the reconnect. */
static void check_killed_server(struct nats_harness *h)
{
    struct driver *writer = open_with((struct bus_nats_config){.urls = nats_harness_url(h, 1)});
    make_bucket(writer, 1, "killed");
    int leader = nats_harness_leader(h, "KV_killed"), victim = (leader + 1) % 3, third = (leader + 2) % 3;
    shut(writer);
    writer = open_with((struct bus_nats_config){.urls = nats_harness_url(h, third), .ignore_discovered = true});
    struct driver *watcher = open_with((struct bus_nats_config){.urls = nats_harness_url(h, victim)});
    cr_assert_eq(bus_kv_watch(watcher->bus, "killed"), 0);
    cr_assert(driver_until(watcher, &watcher->synced, 1, T));
    size_t synced = watcher->synced;
    nats_harness_kill(h, victim);
    for (uint64_t i = 1; i <= 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%" PRIu64, i);
        cr_assert_eq(bus_kv_put(writer->bus, 10 + i, "killed", key, 0, "x", 1, 15000), 0);
        cr_assert_eq(ends(writer, 10 + i), BUS_OK);
    }
    cr_assert(driver_until(watcher, &watcher->synced, synced + 2, 45000));
    cr_assert_eq(watcher->down, 1);
    cr_assert_eq(watcher->up, 2);
    for (uint64_t i = 1; i <= 50; i++)
        cr_assert_eq(watcher->revision[i], writer->done[10 + i].revision);
    cr_assert(nats_harness_restart(h, victim));
    shut(writer);
    shut(watcher);
}

Test(bus_faults, cluster, .timeout = 180)
{
    struct nats_harness h;
    cr_assert(nats_harness_start(&h, 3, NULL));
    check_frozen_leader(&h);
    check_killed_server(&h);
    nats_harness_stop(&h);
}

/* The sender goes on while the receiver does not drain. */
Test(bus_faults, slow_loop_is_bounded_and_told, .timeout = 60)
{
    struct nats_harness h;
    cr_assert(nats_harness_start(&h, 1, NULL));
    struct driver *s = open_with((struct bus_nats_config){.urls = h.urls});
    struct driver *r = open_with((struct bus_nats_config){.urls = h.urls, .max_queue_count = 1000, .max_queue_bytes = 1 << 20});
    make_bucket(s, 1, "slow");
    cr_assert_eq(bus_subscribe(r->bus, 3, "flood"), 0);
    cr_assert_eq(bus_kv_watch(r->bus, "slow"), 0);
    cr_assert(driver_until(r, &r->synced, 2, 10000));
    char payload[1000] = {0};
    struct bus_nats_stats stats;
    for (int i = 0; i < 20000; i++) {
        cr_assert_eq(bus_publish(s->bus, "flood", NULL, payload, sizeof payload), 0);
        if (i % 200 == 0) {
            cr_assert_eq(bus_kv_put(s->bus, 10 + (uint64_t)i / 200, "slow", i ? "k2" : "k1", BUS_ANY_REVISION, "x", 1, T), 0);
            cr_assert_eq(ends(s, 10 + (uint64_t)i / 200), BUS_OK);
            bus_nats_stats(r->bus, &stats);
            cr_assert_leq(stats.event_bytes, 1 << 20);
            cr_assert_leq(stats.events, 1000);
        }
    }
    cr_assert_eq(bus_request(s->bus, 500, "nobody", "", 0, T), 0); /* all sent before it has left */
    cr_assert_eq(ends(s, 500), BUS_NO_RESPONDERS);
    size_t synced = r->synced;
    struct mono deadline = mono_add_ms(time_mono_now(), 10000);
    while (r->messages + r->lost < 20000 && !mono_reached(time_mono_now(), deadline))
        driver_turn(r, 10);
    cr_assert_gt(r->lost, 0);
    cr_assert_eq(r->messages + r->lost, 20000);
    cr_assert(driver_until(r, &r->synced, synced + 1, T));
    cr_assert_eq(r->revision[1], s->done[10].revision);
    cr_assert_eq(r->revision[2], s->done[109].revision);
    shut(s);
    shut(r);
    nats_harness_stop(&h);
}

/* A connection breaks in the middle of a message, again and again: what comes over the next one is read from its start. */
Test(bus_faults, a_break_within_a_message_is_forgotten, .timeout = 60)
{
    static char payload[60000];
    enum { BREAKS = 10, AHEAD = 100 };
    struct nats_harness h;
    struct forward wire;
    cr_assert(nats_harness_start(&h, 1, NULL));
    cr_assert(forward_start(&wire, h.port[0]));
    char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", wire.port);
    struct driver *s = open_with((struct bus_nats_config){.urls = h.urls});
    struct driver *r = open_with((struct bus_nats_config){.urls = url, .ignore_discovered = true});
    cr_assert_eq(bus_subscribe(r->bus, 3, "flood"), 0);
    for (uint64_t i = 1; i <= BREAKS; i++) {
        cr_assert_eq(bus_request(r->bus, i, "nobody", "", 0, T), 0);
        cr_assert_eq(ends(r, i), BUS_NO_RESPONDERS, "after %" PRIu64 " breaks", i - 1);
        size_t heard = r->messages;
        for (int m = 0; m < AHEAD; m++)
            cr_assert_eq(bus_publish(s->bus, "flood", NULL, payload, sizeof payload), 0);
        bus_flush(s->bus);
        cr_assert(driver_until(r, &r->messages, heard + 1, T), "after %" PRIu64 " breaks", i - 1);
        forward_cut(&wire);
        cr_assert(driver_until(r, &r->up, i + 1, T));
    }
    cr_assert_eq(r->down, BREAKS);
    cr_assert_gt(r->messages, BREAKS);
    shut(s);
    shut(r);
    forward_stop(&wire);
    nats_harness_stop(&h);
}

Test(bus_faults, nothing_there_is_said_in_time)
{
    char url[64];
    struct driver *d = calloc(1, sizeof *d);
    struct err_detail detail = {""};
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", free_port());
    struct bus_nats_config config = {.urls = url, .connect_wait_ms = 300};
    int64_t start = time_mono_now().us;
    cr_assert_eq(driver_open(d, &config, &detail), ROOM_E_UNAVAILABLE);
    cr_assert_lt(time_mono_now().us - start, 2000000);
    cr_assert(strstr(detail.text, url) && strstr(detail.text, "--nats"), "%s", detail.text);
    free(d);
}

/* Needs a nats-server before 2.10.23 in ROOMD_NATS_SERVER_OLD. */
Test(bus_faults, old_server_is_refused_with_replicas, .timeout = 60)
{
    const char *old = getenv("ROOMD_NATS_SERVER_OLD");
    struct nats_harness h;
    struct err_detail detail = {""};
    if (!old || !*old)
        cr_skip_test("ROOMD_NATS_SERVER_OLD is not set");
    cr_assert(nats_harness_start(&h, 1, old));
    struct driver *d = calloc(1, sizeof *d);
    struct bus_nats_config config = {.urls = h.urls, .replicas = 3};
    cr_assert_eq(driver_open(d, &config, &detail), ROOM_E_UNSUPPORTED);
    cr_assert(strstr(detail.text, "2.10.23"), "%s", detail.text);
    free(d);
    d = open_with((struct bus_nats_config){.urls = h.urls});
    cr_assert_geq(d->logs, 1, "one replica works, with a warning");
    make_bucket(d, 1, "old");
    shut(d);
    nats_harness_stop(&h);
}
