/*
 * The bus in memory, the rules for subjects, and the rule for versions of nats-server: no server needed.
 *
 * Decides what standalone mode must share with the NATS bus. Invariant: every test ends with all memory given back.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "bus/bus_mem.h"
#include "bus/nats_kv.h"
#include "bus/subject.h"
#include "support/bus_checks.h"

static struct alloc_budget budget;
static struct driver d;
static struct mono now;

static void setup(void)
{
    memset(&d, 0, sizeof d);
    now = (struct mono){1000000};
    alloc_budget_init(&budget, &alloc_libc, SIZE_MAX);
    driver_wrap(&d, bus_mem_create(&budget.alloc, now, 64));
    driver_turn(&d, 0);
    cr_assert_eq(d.up, 1);
}

static void teardown(void)
{
    bus_mem_destroy(d.bus);
    cr_assert_eq(budget.used_bytes, 0);
}

static void pass(int64_t ms)
{
    now = mono_add_ms(now, ms);
    bus_mem_tick(d.bus, now);
    driver_turn(&d, 0);
}

static enum bus_result put(uint64_t token, const char *key, uint64_t expected, const char *value)
{
    cr_assert_eq(bus_kv_put(d.bus, token, "b", key, expected, value, strlen(value), 100), 0);
    driver_turn(&d, 0);
    cr_assert_eq(d.done[token].count, 1);
    return d.done[token].result;
}

TestSuite(bus_mem, .init = setup, .fini = teardown);

Test(bus_mem, requests_end_once_each)
{
    cr_assert_eq(bus_request(d.bus, 1, "nobody", "", 0, 100), 0);
    cr_assert_eq(d.done[1].count, 0, "no event inside a call");
    pass(0);
    cr_assert_eq(d.done[1].result, BUS_NO_RESPONDERS);
    cr_assert_eq(bus_subscribe(d.bus, 5, "svc.*"), 0);
    d.echo = true;
    cr_assert_eq(bus_request(d.bus, 2, "svc.echo", "hi", 2, 100), 0);
    pass(0);
    pass(500);
    cr_assert_eq(d.done[2].result, BUS_OK);
    cr_assert_str_eq(d.done[2].data, "hi");
    d.echo = false;
    cr_assert_eq(bus_request(d.bus, 3, "svc.echo", "hi", 2, 100), 0);
    pass(99);
    cr_assert_eq(d.done[3].count, 0);
    pass(1);
    cr_assert_eq(d.done[3].result, BUS_UNKNOWN);
    cr_assert_eq(bus_publish(d.bus, d.last_reply, NULL, "late", 4), 0);
    cr_assert_eq(bus_request(d.bus, 4, "svc.echo", "hi", 2, 100), 0);
    bus_close(d.bus);
    pass(200);
    cr_assert_eq(d.done[4].result, BUS_CLOSED);
    for (int i = 1; i <= 4; i++)
        cr_assert_eq(d.done[i].count, 1);
}

Test(bus_mem, compare_and_set)
{
    cr_assert_eq(bus_kv_put(d.bus, 1, "b", "k", 0, "", 0, 100), 0);
    cr_assert_eq(bus_kv_bucket(d.bus, 2, &(struct bus_bucket){.name = "b"}, 100), 0);
    pass(0);
    cr_assert_eq(d.done[1].result, BUS_NO_RESPONDERS);
    cr_assert_eq(d.done[2].result, BUS_OK);
    cr_assert_eq(put(3, "k", 0, "one"), BUS_OK);
    cr_assert_eq(put(4, "k", 0, "twin"), BUS_CONFLICT);
    cr_assert_eq(put(5, "k", d.done[3].revision, "two"), BUS_OK);
    cr_assert_eq(put(6, "k", d.done[3].revision, "late"), BUS_CONFLICT);
    cr_assert_eq(bus_kv_delete(d.bus, 7, "b", "k", d.done[5].revision, 100), 0);
    cr_assert_eq(bus_kv_get(d.bus, 8, "b", "k", 100), 0);
    pass(0);
    cr_assert_eq(d.done[8].result, BUS_NOT_FOUND);
    cr_assert_eq(d.done[8].revision, d.done[7].revision);
    cr_assert_eq(put(9, "k", 0, "again"), BUS_OK);
}

Test(bus_mem, a_deletion_is_forgotten_in_time)
{
    cr_assert_eq(bus_kv_bucket(d.bus, 1, &(struct bus_bucket){.name = "b"}, 100), 0);
    cr_assert_eq(bus_kv_watch(d.bus, "b"), 0);
    pass(0);
    cr_assert_eq(put(2, "k", 0, "x"), BUS_OK);
    cr_assert_eq(put(3, "stays", 0, "x"), BUS_OK);
    cr_assert_eq(bus_kv_delete(d.bus, 4, "b", "k", BUS_ANY_REVISION, 100), 0);
    pass(BUS_KEEP_DELETED_MS - 60000);
    cr_assert_eq(bus_kv_get(d.bus, 5, "b", "k", 100), 0);
    pass(120000);
    cr_assert_eq(d.done[5].revision, d.done[4].revision);
    cr_assert_eq(bus_kv_get(d.bus, 6, "b", "k", 100), 0);
    cr_assert_eq(bus_kv_get(d.bus, 7, "b", "stays", 100), 0);
    pass(0);
    cr_assert_eq(d.done[6].result, BUS_NOT_FOUND);
    cr_assert_eq(d.done[6].revision, 0);
    cr_assert_eq(d.done[7].result, BUS_OK);
}

Test(bus_mem, watch_tells_changes_at_once_and_expiry_within_a_minute)
{
    cr_assert_eq(bus_kv_bucket(d.bus, 1, &(struct bus_bucket){.name = "b", .ttl_ms = 1000}, 100), 0);
    cr_assert_eq(bus_kv_watch(d.bus, "b"), 0);
    pass(0);
    cr_assert_eq(d.synced, 1);
    cr_assert_eq(put(2, "k7", 0, "x"), BUS_OK);
    cr_assert_eq(d.revision[7], d.done[2].revision);
    pass(1000);
    cr_assert_eq(bus_kv_get(d.bus, 3, "b", "k7", 100), 0);
    pass(0);
    cr_assert_eq(d.done[3].result, BUS_NOT_FOUND);
    cr_assert_eq(d.syncs, 1);
    pass(60000);
    cr_assert_eq(d.synced, 2);
    cr_assert_eq(d.synced_entries, 0);
}

Test(bus_mem, a_loop_that_does_not_drain_is_told_what_it_lost)
{
    int full = 0;
    cr_assert_eq(bus_subscribe(d.bus, 1, ">"), 0);
    cr_assert_eq(bus_subscribe(d.bus, 2, "a.*"), 0);
    for (int i = 0; i < 100; i++)
        full += bus_publish(d.bus, "a.b", NULL, "x", 1) == ROOM_E_FULL;
    cr_assert_eq(full, 68);
    cr_assert_lt(budget.used_bytes, 64 * 512);
    pass(0);
    cr_assert_eq(d.messages + d.lost, 64);
}

Test(bus_mem, out_of_memory_is_an_error_and_changes_nothing)
{
    cr_assert_eq(bus_kv_bucket(d.bus, 1, &(struct bus_bucket){.name = "b"}, 100), 0);
    pass(0);
    for (long n = 0;; n++) {
        budget.fail_after = n;
        int err = bus_kv_put(d.bus, 2, "b", "k", 0, "x", 1, 100);
        budget.fail_after = -1;
        pass(0);
        if (err == 0)
            break;
        cr_assert_eq(err, ROOM_E_NO_MEMORY);
        cr_assert_eq(d.done[2].count, 0);
        cr_assert_lt(n, 100);
    }
    cr_assert_eq(d.done[2].result, BUS_OK);
}

Test(bus_mem, logs)
{
    struct driver *same[3] = {&d, &d, &d};
    bus_check_log(&d);
    bus_check_log_age(&d, pass);
    bus_check_log_race(same, 3);
    bus_check_big(&d);
}

Test(bus_mem, an_append_without_memory_changes_nothing)
{
    cr_assert_eq(bus_stream(d.bus, 1, &(struct bus_stream){.name = "S", .subjects = "log.*"}, 100), 0);
    pass(0);
    for (long n = 0;; n++) {
        budget.fail_after = n;
        int err = bus_log_append(d.bus, 2, "log.a", 0, "x", 1, 100);
        budget.fail_after = -1;
        pass(0);
        if (err == 0)
            break;
        cr_assert_eq(err, ROOM_E_NO_MEMORY);
        cr_assert_eq(d.done[2].count, 0);
        cr_assert_eq(bus_log_last(d.bus, 3, "S", "log.a", 100), 0);
        pass(0);
        cr_assert_eq(d.done[3].result, BUS_NOT_FOUND);
        cr_assert_lt(n, 100);
    }
    cr_assert_eq(d.done[2].result, BUS_OK);
    cr_assert_eq(d.done[2].revision, 1);
}

Test(subject, rules)
{
    cr_assert(subject_valid("a.b", false));
    cr_assert(subject_valid("a.*.>", true));
    for (const char *const *s = (const char *const[]){"", ".", "a.", ".a", "a..b", "a b", "a.>.b", "a*", NULL}; *s; s++)
        cr_assert(!subject_valid(*s, true), "%s", *s);
    cr_assert(subject_pattern_valid("a-b.*.>"));
    cr_assert(!subject_pattern_valid("a.\".*"));
    cr_assert(!subject_pattern_valid("a.b*"));
    cr_assert(subject_match("a.*.c", "a.b.c"));
    cr_assert(subject_match("a.>", "a.b.c"));
    cr_assert(!subject_match("a.>", "a"));
    cr_assert(!subject_match("a.*", "a.b.c"));
    cr_assert(!subject_match("a.b", "a.bb"));
}

Test(nats_version, unsafe_ones_are_refused_with_replicas)
{
    bool warn;
    struct err_detail detail;
    cr_assert_eq(bus_nats_check_version("2.10.23", 3, &warn, &detail), 0);
    cr_assert_eq(bus_nats_check_version("2.15.1", 3, &warn, &detail), 0);
    cr_assert(!warn);
    cr_assert_eq(bus_nats_check_version("2.9.10", 3, &warn, &detail), ROOM_E_UNSUPPORTED);
    cr_assert(strstr(detail.text, "2.9.10") && strstr(detail.text, "2.10.23"));
    cr_assert_eq(bus_nats_check_version("2.10.22", 3, &warn, &detail), ROOM_E_UNSUPPORTED);
    cr_assert_eq(bus_nats_check_version("2.9.10", 1, &warn, &detail), 0);
    cr_assert(warn);
    cr_assert_eq(bus_nats_check_version("nonsense", 1, &warn, &detail), ROOM_E_UNSUPPORTED);
}

Test(nats_kv, acknowledgement_subjects_of_both_forms)
{
    uint64_t seq, pending;
    cr_assert(nats_kv_ack_parse("$JS.ACK.KV_b.c.1.42.1.99.7", &seq, &pending));
    cr_assert(seq == 42 && pending == 7);
    cr_assert(nats_kv_ack_parse("$JS.ACK.dom.acc.KV_b.c.1.42.1.99.7.rnd", &seq, &pending));
    cr_assert(seq == 42 && pending == 7);
    cr_assert(!nats_kv_ack_parse("$JS.ACK.KV_b.c.1.42.1.99.7.8", &seq, &pending));
    cr_assert(!nats_kv_ack_parse(NULL, &seq, &pending));
}
