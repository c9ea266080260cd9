/* Which instance of a service is next: turns, open requests, penalties, pings. Time is a number here. */
#include <criterion/criterion.h>

#include <stdio.h>

#include "core/service.h"

static struct service pool;
static struct mono now;

static void setup(void)
{
    pool = (struct service){0};
    now = (struct mono){1000000};
    for (int i = 0; i < 3; i++)
        cr_assert(service_heard(&pool, (const char *[]){"a", "b", "c"}[i], now));
}

TestSuite(core_service, .init = setup);

static void pass(int ms)
{
    now = mono_add_ms(now, ms);
}

static char next(void)
{
    const struct service_instance *i = service_next(&pool, now);
    return i ? i->name.s[0] : '-';
}

static char send(void)
{
    char name[2] = {next()};
    service_sent(&pool, name, now);
    return name[0];
}

/* All but `silent` answer a ping. */
static void ping(const char *silent)
{
    service_pinged(&pool, now);
    for (int i = 0; i < 3; i++) {
        const char *name = (const char *[]){"a", "b", "c"}[i];
        if (!strstr(silent, name))
            service_heard(&pool, name, now);
    }
}

Test(core_service, equals_take_turns)
{
    char got[7] = "";
    for (int i = 0; i < 6; i++) {
        got[i] = send();
        service_answered(&pool, (char[]){got[i], 0}, now);
    }
    cr_assert_str_eq(got, "abcabc");
}

Test(core_service, the_fewest_open_are_next)
{
    service_sent(&pool, "a", now);
    service_sent(&pool, "b", now);
    cr_assert_eq(send(), 'c');
    service_answered(&pool, "b", now);
    cr_assert_eq(send(), 'b');
}

Test(core_service, who_answers_nothing_has_few_requests_however_long_the_time_out)
{
    unsigned to_b = 0;
    for (int i = 0; i < 1000; i++) {
        char got = send();
        to_b += got == 'b';
        if (got != 'b')
            service_answered(&pool, (char[]){got, 0}, now);
    }
    cr_assert_eq(to_b, 1);
}

Test(core_service, a_time_out_costs_a_penalty_then_one_request_at_a_time)
{
    service_sent(&pool, "b", now);
    cr_assert(service_missed(&pool, "b", now));
    for (int i = 0; i < 30; i++) {
        char got = send();
        cr_assert_neq(got, 'b');
        service_answered(&pool, (char[]){got, 0}, now);
    }
    pass(SERVICE_PENALTY_MS);
    unsigned to_b = 0;
    for (int i = 0; i < 30; i++) {
        char got = send();
        to_b += got == 'b';
        if (got != 'b')
            service_answered(&pool, (char[]){got, 0}, now);
    }
    cr_assert_eq(to_b, 1, "one probe, %u", to_b);
    service_answered(&pool, "b", now);
    cr_assert_eq(service_find(&pool, "b")->missed, 0);
    cr_assert_eq(send() + send() + send(), 'a' + 'b' + 'c', "healed");
}

Test(core_service, penalties_double_to_thirty_seconds)
{
    static const int64_t seconds[] = {1, 2, 4, 8, 16, 30, 30, 30};
    for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
        service_sent(&pool, "b", now);
        cr_assert(service_missed(&pool, "b", now));
        cr_assert_eq(mono_diff_ms(now, service_find(&pool, "b")->penalty_until), seconds[i] * 1000, "the %zu-th", i);
        pass((int)seconds[i] * 1000);
    }
}

Test(core_service, what_was_open_before_the_penalty_does_not_make_it_longer)
{
    for (int i = 0; i < 5; i++)
        service_sent(&pool, "b", now);
    cr_assert(service_missed(&pool, "b", now));
    struct mono until = service_find(&pool, "b")->penalty_until;
    for (int i = 0; i < 4; i++) {
        pass(10);
        cr_assert_not(service_missed(&pool, "b", now));
    }
    cr_assert_eq(service_find(&pool, "b")->penalty_until.us, until.us);
    cr_assert_eq(service_find(&pool, "b")->open, 0);
}

Test(core_service, who_answers_no_pings_gets_nothing_not_even_a_probe)
{
    ping("");
    ping("b");
    cr_assert_eq(send() + send() + send(), 'a' + 'b' + 'c', "one ping may be on its way");
    for (int i = 0; i < 3; i++)
        service_answered(&pool, (const char *[]){"a", "b", "c"}[i], now);
    ping("b");
    ping("b");
    for (int i = 0; i < 10; i++) {
        pass(10000);
        char got = send();
        cr_assert_neq(got, 'b');
        service_answered(&pool, (char[]){got, 0}, now);
    }
    ping("");
    cr_assert_eq(send() + send() + send(), 'a' + 'b' + 'c', "it is back with its first word");
}

Test(core_service, after_a_time_without_pings_everybody_must_answer_again)
{
    cr_assert(service_alive(&pool));
    service_doubt(&pool);
    cr_assert_not(service_alive(&pool));
    cr_assert_neq(next(), '-', "who is known is known");
    service_heard(&pool, "b", now);
    cr_assert(service_alive(&pool));
    for (int i = 0; i < 5; i++)
        cr_assert_eq(send(), 'b');
    pool.count = 0;
    cr_assert_not(service_alive(&pool));
}

Test(core_service, the_least_bad_serves_when_all_are_bad)
{
    ping("abc");
    ping("abc");
    cr_assert_neq(next(), '-');
    service_heard(&pool, "c", now);
    service_sent(&pool, "c", now);
    service_missed(&pool, "c", now);
    cr_assert_eq(next(), 'c', "it was slow, the others read nothing at all");
}

Test(core_service, who_is_gone_is_gone_at_once)
{
    service_gone(&pool, "b");
    cr_assert_eq(send() + send(), 'a' + 'c');
    service_gone(&pool, "a");
    service_gone(&pool, "c");
    service_gone(&pool, "c");
    cr_assert_eq(next(), '-');
    service_answered(&pool, "a", now);
    service_missed(&pool, "a", now);
    cr_assert_eq(pool.count, 0);
}

Test(core_service, the_long_silent_are_forgotten_and_the_turn_stays_valid)
{
    next();
    next();
    service_sent(&pool, "c", now);
    pass(SERVICE_FORGET_MS);
    service_heard(&pool, "b", now);
    service_pinged(&pool, now);
    cr_assert_eq(pool.count, 2, "a is gone, c has a request open");
    cr_assert_eq(next(), 'b');
    service_dropped(&pool, "c");
    service_pinged(&pool, now);
    cr_assert_eq(pool.count, 1);
    cr_assert_eq(next(), 'b');
}

Test(core_service, there_is_a_limit_of_instances)
{
    char name[16];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "i%d", i);
        cr_assert_eq(service_heard(&pool, name, now), i < SERVICE_INSTANCES_MAX - 3, "%d", i);
    }
    cr_assert_not(service_heard(&pool, "all", now) || service_heard(&pool, "", now));
    cr_assert_eq(pool.count, SERVICE_INSTANCES_MAX);
}
