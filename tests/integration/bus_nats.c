/*
 * The NATS bus against one real server and against a cluster of three: words and outcomes while nothing is broken.
 *
 * Decides what port/bus.h promises in fair weather; bus_faults.c has the rest. Invariant: each check uses buckets and
 * subjects of its own, so that all can share one cluster, whose start takes seconds.
 */
#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "support/bus_checks.h"
#include "support/nats_harness.h"

static const int T = 5000;

static struct driver *open_at(const struct nats_harness *h, const char *prefix)
{
    struct driver *d = calloc(1, sizeof *d);
    struct err_detail detail = {""};
    struct bus_nats_config config = {.urls = h->urls, .name = "test", .prefix = prefix};
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
    cr_assert(driver_wait(d, token, 2 * T), "token %" PRIu64 " ended %d times", token, d->done[token].count);
    return d->done[token].result;
}

static enum bus_result put(struct driver *d, uint64_t token, const char *bucket, const char *key, uint64_t expected,
                           const char *value)
{
    cr_assert_eq(bus_kv_put(d->bus, token, bucket, key, expected, value, strlen(value), T), 0);
    return ends(d, token);
}

static enum bus_result get(struct driver *d, uint64_t token, const char *bucket, const char *key)
{
    cr_assert_eq(bus_kv_get(d->bus, token, bucket, key, T), 0);
    return ends(d, token);
}

static void make_bucket(struct driver *d, uint64_t token, const char *name, int64_t ttl_ms)
{
    struct bus_bucket bucket = {.name = name, .ttl_ms = ttl_ms, .watched = true};
    cr_assert_eq(bus_kv_bucket(d->bus, token, &bucket, 2 * T), 0);
    cr_assert_eq(ends(d, token), BUS_OK, "%s", d->done[token].data);
}

static void check_messages(const struct nats_harness *h)
{
    static const char big[2 << 20];
    struct driver *a = open_at(h, NULL), *b = open_at(h, NULL);
    b->echo = true;
    cr_assert_eq(bus_subscribe(b->bus, 7, "room.*.send"), 0);
    cr_assert_eq(bus_subscribe(b->bus, 8, "ready"), 0);
    cr_assert_eq(bus_subscribe(a->bus, 9, "answer.>"), 0);
    bus_flush(a->bus);
    bus_flush(b->bus);
    for (uint64_t token = 100; token < 400; token++) { /* a subscription travels over a route for a moment */
        cr_assert_eq(bus_request(a->bus, token, "ready", "", 0, T), 0);
        bus_flush(a->bus);
        while (a->done[token].count == 0) {
            driver_turn(a, 1);
            driver_turn(b, 1);
        }
        if (a->done[token].result == BUS_OK)
            break;
        cr_assert_eq(a->done[token].result, BUS_NO_RESPONDERS);
    }
    b->echo = false;
    size_t had = b->messages;
    cr_assert_eq(bus_publish(a->bus, "room.r1.send", "answer.x.y", "hello", 5), 0);
    bus_flush(a->bus);
    cr_assert(driver_until(b, &b->messages, had + 1, T));
    cr_assert_str_eq(b->last_subject, "room.r1.send");
    cr_assert_str_eq(b->last_reply, "answer.x.y");
    cr_assert_str_eq(b->last_data, "hello");

    cr_assert_eq(bus_request(a->bus, 1, "nobody.there", "x", 1, T), 0);
    cr_assert_eq(ends(a, 1), BUS_NO_RESPONDERS);
    int64_t start = time_mono_now().us;
    cr_assert_eq(bus_request(a->bus, 2, "room.r2.send", "x", 1, 300), 0);
    cr_assert_eq(ends(a, 2), BUS_UNKNOWN); /* there is a subscriber, but it does not answer */
    int64_t took = a->done[2].at_us - start;
    cr_assert(took >= 300000 && took < 400000, "%" PRId64 " us", took);

    cr_assert_eq(bus_unsubscribe(b->bus, 7), 0);
    bus_flush(b->bus);
    for (uint64_t token = 400; token < 700 && a->done[3].count == 0; token++) {
        cr_assert_eq(bus_request(a->bus, token, "room.r2.send", "x", 1, 20), 0);
        if (ends(a, token) == BUS_NO_RESPONDERS)
            a->done[3].count = 1;
    }
    cr_assert_eq(a->done[3].count, 1, "an unsubscribed subject still has a responder");
    cr_assert_eq(bus_publish(a->bus, "two..dots", NULL, "", 0), ROOM_E_INVALID);
    cr_assert_eq(bus_publish(a->bus, "with blank", NULL, "", 0), ROOM_E_INVALID);
    cr_assert_eq(bus_publish(a->bus, "star.*", NULL, "", 0), ROOM_E_INVALID);
    cr_assert_eq(bus_publish(a->bus, "big", NULL, big, sizeof big), ROOM_E_TOO_BIG);
    cr_assert_eq(bus_request(a->bus, 4, "x", "", 0, 0), ROOM_E_INVALID);
    shut(a);
    shut(b);
}

static void check_kv(const struct nats_harness *h)
{
    struct driver *d = open_at(h, NULL);
    make_bucket(d, 1, "kv1", 0);
    make_bucket(d, 2, "kv1", 5000); /* there already, with another ttl: fine */
    cr_assert_eq(get(d, 3, "kv1", "a"), BUS_NOT_FOUND);
    cr_assert_eq(put(d, 4, "kv1", "a", 0, "one"), BUS_OK);
    uint64_t first = d->done[4].revision;
    cr_assert_gt(first, 0);
    cr_assert_eq(put(d, 5, "kv1", "a", 0, "twin"), BUS_CONFLICT);
    cr_assert_eq(put(d, 6, "kv1", "a", first + 7, "wrong"), BUS_CONFLICT);
    cr_assert_eq(put(d, 7, "kv1", "a", first, "two"), BUS_OK);
    cr_assert_eq(get(d, 8, "kv1", "a"), BUS_OK);
    cr_assert_str_eq(d->done[8].data, "two");
    cr_assert_eq(d->done[8].revision, d->done[7].revision);
    cr_assert_eq(bus_kv_delete(d->bus, 9, "kv1", "a", first, T), 0);
    cr_assert_eq(ends(d, 9), BUS_CONFLICT);
    cr_assert_eq(bus_kv_delete(d->bus, 10, "kv1", "a", d->done[7].revision, T), 0);
    cr_assert_eq(ends(d, 10), BUS_OK);
    cr_assert_eq(get(d, 11, "kv1", "a"), BUS_NOT_FOUND);
    cr_assert_eq(d->done[11].revision, d->done[10].revision);
    cr_assert_eq(put(d, 12, "kv1", "a", 0, "again"), BUS_OK, "create over a delete marker");
    cr_assert_eq(put(d, 13, "kv1", "a", 0, "twin"), BUS_CONFLICT);
    cr_assert_eq(put(d, 14, "kv1", "a", BUS_ANY_REVISION, "any"), BUS_OK);
    cr_assert_eq(put(d, 15, "kv1", "empty", 0, ""), BUS_OK);
    cr_assert_eq(get(d, 16, "kv1", "empty"), BUS_OK);
    cr_assert_eq(d->done[16].len, 0);
    cr_assert_eq(bus_kv_put(d->bus, 17, "kv1", "bad key", 0, "", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_kv_put(d->bus, 17, "bad.bucket", "a", 0, "", 0, T), ROOM_E_INVALID);
    cr_assert_eq(bus_kv_put(d->bus, 18, "missing", "a", 0, "", 0, 300), 0);
    cr_assert_eq(ends(d, 18), BUS_NO_RESPONDERS, "no such bucket: nothing was changed, and we know it");
    shut(d);
}

static void check_race(const struct nats_harness *h)
{
    struct driver *d[3];
    for (int i = 0; i < 3; i++)
        d[i] = open_at(h, NULL);
    make_bucket(d[0], 1, "race", 0);
    for (uint64_t round = 10; round < 210; round++) {
        char key[32];
        int winners = 0, conflicts = 0;
        snprintf(key, sizeof key, "k%" PRIu64, round);
        for (int i = 0; i < 3; i++) {
            cr_assert_eq(bus_kv_put(d[i]->bus, round, "race", key, 0, key, strlen(key), T), 0);
            bus_flush(d[i]->bus);
        }
        for (int i = 0; i < 3; i++) {
            enum bus_result result = ends(d[i], round);
            winners += result == BUS_OK;
            conflicts += result == BUS_CONFLICT;
        }
        cr_assert_eq(winners, 1);
        cr_assert_eq(conflicts, 2);
    }
    for (int i = 0; i < 3; i++)
        shut(d[i]);
}

static void pass(int64_t ms)
{
    usleep((useconds_t)ms * 1000);
}

static void check_logs(const struct nats_harness *h)
{
    struct driver *d[3];
    for (int i = 0; i < 3; i++)
        d[i] = open_at(h, NULL);
    bus_check_log(d[0]);
    bus_check_log_age(d[0], pass);
    bus_check_log_race(d, 3);
    bus_check_big(d[0]);
    for (int i = 0; i < 3; i++)
        shut(d[i]);
}

static enum bus_result append(struct driver *d, uint64_t token, const char *subject, uint64_t expected, const char *text)
{
    cr_assert_eq(bus_log_append(d->bus, token, subject, expected, text, strlen(text), T), 0);
    return ends(d, token);
}

static void check_log_prefix(const struct nats_harness *h)
{
    struct driver *a = open_at(h, "red"), *b = open_at(h, "blue"), *plain = open_at(h, NULL);
    struct bus_stream stream = {.name = "SAME", .subjects = "same.*"};
    for (int i = 0; i < 2; i++) {
        struct driver *d = i ? b : a;
        cr_assert_eq(bus_stream(d->bus, 1, &stream, 2 * T), 0);
        cr_assert_eq(ends(d, 1), BUS_OK, "%s", d->done[1].data);
        cr_assert_eq(append(d, 2, "same.x", 0, i ? "of blue" : "of red"), BUS_OK);
        cr_assert_eq(d->done[2].revision, 1, "a stream of its own");
    }
    cr_assert_eq(bus_log_last(plain->bus, 1, "red_SAME", "red.same.x", T), 0);
    cr_assert_eq(ends(plain, 1), BUS_OK);
    cr_assert_str_eq(plain->done[1].data, "of red");
    cr_assert_eq(bus_log_purge(a->bus, 3, "SAME", "same.x", 0, T), 0);
    cr_assert_eq(ends(a, 3), BUS_OK);
    cr_assert_eq(bus_log_next(b->bus, 3, "SAME", "same.x", 0, T), 0);
    cr_assert_eq(ends(b, 3), BUS_OK);
    cr_assert_str_eq(b->done[3].data, "of blue");
    shut(a);
    shut(b);
    shut(plain);
}

static void check_listing(const struct nats_harness *h)
{
    enum { KEYS = 10000 };
    struct driver *w = open_at(h, NULL), *r = open_at(h, NULL);
    make_bucket(w, 1, "many", 0);
    size_t open = 0;
    for (uint64_t i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "key.n%" PRIu64, i);
        cr_assert_eq(bus_kv_put(w->bus, 10 + i, "many", key, 0, key, strlen(key), 4 * T), 0);
        if (++open % 256 == 0)
            cr_assert_eq(ends(w, 10 + i), BUS_OK);
    }
    for (uint64_t i = 0; i < KEYS; i++)
        cr_assert_eq(ends(w, 10 + i), BUS_OK);
    int64_t start = time_mono_now().us;
    cr_assert_eq(bus_kv_watch(r->bus, "many"), 0);
    cr_assert(driver_until(r, &r->synced, 1, T));
    printf("listing of %d keys: %" PRId64 " us\n", KEYS, time_mono_now().us - start);
    cr_assert_eq(r->synced_entries, KEYS);
    for (uint64_t i = 0; i < KEYS; i++)
        cr_assert_eq(r->revision[i], w->done[10 + i].revision);

    size_t had = r->entries, syncs = r->syncs;
    cr_assert_eq(put(w, 11000, "many", "key.n5", BUS_ANY_REVISION, "new"), BUS_OK);
    cr_assert(driver_until(r, &r->entries, had + 1, T));
    cr_assert_eq(r->revision[5], w->done[11000].revision);
    cr_assert_eq(bus_kv_delete(w->bus, 11001, "many", "key.n6", BUS_ANY_REVISION, T), 0);
    cr_assert_eq(ends(w, 11001), BUS_OK);
    cr_assert(driver_until(r, &r->entries, had + 2, T));
    cr_assert_eq(r->revision[6], 0);
    cr_assert_eq(r->syncs, syncs, "changes came live, not by a listing");
    cr_assert(driver_until(r, &r->synced, 2, 10000)); /* the bus lists again soon: nothing new */
    cr_assert_eq(r->kept, KEYS - 1);
    cr_assert_eq(r->wrongly_kept, 0);
    cr_assert_eq(r->entries, had + 2);
    cr_assert_eq(bus_kv_watch(r->bus, "many"), 0); /* asked for: everything */
    cr_assert(driver_until(r, &r->synced, 3, T));
    cr_assert_eq(r->kept, KEYS - 1);
    cr_assert_eq(r->synced_entries, KEYS);
    shut(w);
    shut(r);
}

/* Deletions are forgotten after a while, or the stream would hold every key that ever was; nothing else is. */
static void check_forgetting(const struct nats_harness *h)
{
    struct driver *d = calloc(1, sizeof *d);
    struct err_detail detail = {""};
    struct bus_nats_config config = {.urls = h->urls, .name = "test", .list_ms = 300, .keep_deleted_ms = 400};
    cr_assert_eq(driver_open(d, &config, &detail), 0, "%s", detail.text);
    cr_assert(driver_until(d, &d->up, 1, T));
    make_bucket(d, 1, "gone", 0);
    cr_assert_eq(put(d, 2, "gone", "old", 0, "x"), BUS_OK);
    cr_assert_eq(put(d, 3, "gone", "reborn", 0, "x"), BUS_OK);
    for (uint64_t i = 0; i < 3; i++) {
        const char *key = i == 0 ? "old" : i == 1 ? "reborn" : "last";
        cr_assert_eq(bus_kv_delete(d->bus, 4 + i, "gone", key, BUS_ANY_REVISION, T), 0);
        cr_assert_eq(ends(d, 4 + i), BUS_OK);
        if (i == 1)
            cr_assert_eq(put(d, 8, "gone", "last", 0, "x"), BUS_OK);
    }
    cr_assert_eq(get(d, 9, "gone", "old"), BUS_NOT_FOUND);
    cr_assert_eq(d->done[9].revision, d->done[4].revision, "remembered at first");
    cr_assert_eq(bus_kv_watch(d->bus, "gone"), 0);
    cr_assert(driver_until(d, &d->synced, 1, T));
    cr_assert_eq(put(d, 10, "gone", "reborn", 0, "again"), BUS_OK);
    cr_assert_eq(bus_kv_delete(d->bus, 11, "gone", "last", BUS_ANY_REVISION, T), 0);
    cr_assert_eq(ends(d, 11), BUS_OK);
    uint64_t token = 20;
    do {
        driver_turn(d, 20);
        cr_assert_eq(get(d, ++token, "gone", "old"), BUS_NOT_FOUND);
    } while (d->done[token].revision != 0 && token < 1000);
    cr_assert_eq(d->done[token].revision, 0, "forgotten");
    cr_assert(driver_until(d, &d->synced, d->synced + 3, 20000));
    cr_assert_eq(get(d, 12, "gone", "reborn"), BUS_OK);
    cr_assert_eq(get(d, 13, "gone", "last"), BUS_NOT_FOUND);
    cr_assert_eq(d->done[13].revision, d->done[11].revision, "the newest stays: it says how new the bucket is");
    shut(d);
}

static void check_prefix(const struct nats_harness *h)
{
    struct driver *a = open_at(h, "red"), *b = open_at(h, "blue"), *plain = open_at(h, NULL);
    make_bucket(a, 1, "same", 0);
    make_bucket(b, 1, "same", 0);
    cr_assert_eq(bus_kv_watch(a->bus, "same"), 0);
    cr_assert_eq(bus_kv_watch(b->bus, "same"), 0);
    cr_assert_eq(bus_subscribe(a->bus, 1, "news"), 0);
    cr_assert_eq(bus_subscribe(b->bus, 1, "news"), 0);
    cr_assert(driver_until(a, &a->synced, 1, T));
    cr_assert(driver_until(b, &b->synced, 1, T));
    cr_assert_eq(put(a, 2, "same", "k1", 0, "red"), BUS_OK);
    cr_assert_eq(get(b, 2, "same", "k1"), BUS_NOT_FOUND);
    cr_assert_eq(get(plain, 2, "red_same", "k1"), BUS_OK);
    cr_assert(driver_until(a, &a->entries, 1, T));
    cr_assert_eq(bus_publish(a->bus, "news", NULL, "x", 1), 0);
    cr_assert(driver_until(a, &a->messages, 1, T));
    cr_assert_str_eq(a->last_subject, "news");
    a->echo = true; /* replies to inboxes and to other programs' reply subjects arrive */
    cr_assert_eq(bus_subscribe(plain->bus, 1, "foreign.reply"), 0);
    cr_assert_eq(bus_request(plain->bus, 5, "red.news", "ping", 4, T), 0);
    cr_assert_eq(bus_publish(plain->bus, "red.news", "foreign.reply", "pong", 4), 0);
    bus_flush(plain->bus);
    cr_assert(driver_until(a, &a->messages, 3, T));
    cr_assert_eq(ends(plain, 5), BUS_OK);
    cr_assert_str_eq(plain->done[5].data, "ping");
    cr_assert(driver_until(plain, &plain->messages, 1, T));
    driver_turn(b, 50);
    cr_assert_eq(b->messages, 0);
    cr_assert_eq(b->entries, 0);
    shut(a);
    shut(b);
    shut(plain);
}

static void check_close(const struct nats_harness *h)
{
    struct driver *a = open_at(h, NULL);
    cr_assert_eq(bus_subscribe(a->bus, 1, "deaf"), 0);
    for (uint64_t token = 1; token <= 50; token++)
        cr_assert_eq(bus_request(a->bus, token, "deaf", "", 0, T), 0);
    bus_close(a->bus);
    for (uint64_t token = 1; token <= 50; token++)
        cr_assert_eq(ends(a, token), BUS_CLOSED);
    cr_assert_eq(bus_publish(a->bus, "x", NULL, "", 0), ROOM_E_DISCONNECTED);
    shut(a);
}

static void check_latency(const struct nats_harness *h)
{
    enum { ROUNDS = 2000 };
    struct driver *a = open_at(h, NULL);
    a->echo = true;
    cr_assert_eq(bus_subscribe(a->bus, 1, "echo"), 0);
    bus_flush(a->bus);
    int64_t start = time_mono_now().us;
    for (uint64_t token = 1; token <= ROUNDS; token++) {
        cr_assert_eq(bus_request(a->bus, token, "echo", "x", 1, T), 0);
        cr_assert_eq(ends(a, token), BUS_OK);
    }
    printf("request round trip: %" PRId64 " us\n", (time_mono_now().us - start) / ROUNDS);
    shut(a);
}

static void all_checks(int servers)
{
    struct nats_harness h;
    cr_assert(nats_harness_start(&h, servers, NULL));
    check_messages(&h);
    check_kv(&h);
    check_race(&h);
    check_logs(&h);
    check_prefix(&h);
    check_log_prefix(&h);
    check_close(&h);
    check_latency(&h);
    check_listing(&h);
    check_forgetting(&h);
    nats_harness_stop(&h);
}

Test(bus_nats, single_server, .timeout = 60)
{
    all_checks(1);
}

Test(bus_nats, cluster_of_three, .timeout = 120)
{
    all_checks(3);
}
