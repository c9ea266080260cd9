/* How --route is read, and the token bucket. */
#include <criterion/criterion.h>

#include <stdio.h>

#include "base/rate.h"
#include "node/routes.h"

static struct routes table;
static struct err_detail detail;

static int add(const char *spec)
{
    detail.text[0] = 0;
    return routes_add(&table, spec, &detail);
}

Test(node_routes, what_is_said_is_what_is_there)
{
    cr_assert_eq(add("profile=users"), 0, "%s", detail.text);
    cr_assert_eq(add("1001=shop,to=all,timeout=500ms,login=no,rate=7/s"), 0, "%s", detail.text);
    cr_assert_eq(add("a.b-c_D=users,to=named,timeout=60s,login=yes,rate=9"), 0, "%s", detail.text);
    cr_assert_eq(add("x=shop,to=eu-1"), 0, "%s", detail.text);
    const struct route *r = routes_find(&table, wire_str("profile"));
    cr_assert(r && r->to == ROUTE_ONE && r->timeout_ms == 2000 && r->login && r->per_s == 0 && !r->instance.s[0]);
    cr_assert_str_eq(r->service.s, "users");
    r = routes_find(&table, wire_str("1001"));
    cr_assert(r && r->to == ROUTE_ALL && r->timeout_ms == 500 && !r->login && r->per_s == 7);
    r = routes_find(&table, wire_str("a.b-c_D"));
    cr_assert(r && r->to == ROUTE_NAMED && r->timeout_ms == 60000 && r->login && r->per_s == 9);
    cr_assert_eq(r->service_number, 0);
    r = routes_find(&table, wire_str("x"));
    cr_assert(r && r->to == ROUTE_INSTANCE && r->service_number == 1 && r->number == 3);
    cr_assert_str_eq(r->instance.s, "eu-1");
    cr_assert_eq(table.service_count, 2);
    cr_assert_null(routes_find(&table, wire_str("profil")));
    cr_assert_null(routes_find(&table, (struct wire_str){"profile\0", 8}));
}

Test(node_routes, what_is_wrong_is_told)
{
    static const struct {
        const char *spec, *words;
    } wrong[] = {
        {"", "wanted NAME=SERVICE"}, {"profile", "wanted NAME=SERVICE"}, {"=users", "wanted NAME=SERVICE"},
        {"a=", "wanted NAME=SERVICE"}, {"a b=users", "wanted NAME=SERVICE"}, {"a=all", "wanted NAME=SERVICE"},
        {"a=us.ers", "wanted NAME=SERVICE"}, {"a,to=all=users", "wanted NAME=SERVICE"}, {"a=u,", "is not KEY=VALUE"},
        {"a=u,to", "is not KEY=VALUE"}, {"a=u,to,rate=1/s", "'to' is not KEY=VALUE"},
        {"a=u,colour=red", "unknown key 'colour'"},
        {"a=u,to=", "wanted one, all, named"}, {"a=u,to=e u", "wanted one, all, named"}, {"a=u,timeout=2", "timeout='2'"},
        {"a=u,timeout=49ms", "50ms to 60s"}, {"a=u,timeout=61s", "50ms to 60s"}, {"a=u,timeout=-1s", "timeout='-1s'"},
        {"a=u,timeout=99999999999999999999s", "timeout="}, {"a=u,rate=0/s", "wanted 1/s"}, {"a=u,rate=5/m", "rate='5/m'"},
        {"a=u,rate=1000001", "wanted 1/s"}, {"a=u,login=maybe", "wanted yes or no"}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        cr_assert_eq(add(wrong[i].spec), ROOM_E_INVALID, "'%s'", wrong[i].spec);
        cr_assert(strstr(detail.text, wrong[i].words), "'%s': %s", wrong[i].spec, detail.text);
    }
    cr_assert_eq(table.count, 0);
    char name[160] = {0};
    memset(name, 'n', 129);
    strcat(name, "=u");
    cr_assert_eq(add(name), ROOM_E_INVALID);
    cr_assert_eq(add(name + 1), 0);
    cr_assert_eq(add(name + 1), ROOM_E_EXISTS);
    for (int i = 1; i <= ROUTES_MAX; i++) {
        snprintf(name, sizeof(name), "r%d=s%d", i, i);
        cr_assert_eq(add(name), i < ROUTES_MAX ? 0 : ROOM_E_FULL);
    }
}

Test(node_routes, a_bucket_holds_two_seconds_and_fills_evenly)
{
    struct rate r = {0};
    struct mono now = {777};
    for (int i = 0; i < 20; i++)
        cr_assert(rate_take(&r, 10, now), "%d", i);
    cr_assert_not(rate_take(&r, 10, now));
    now.us += 99999;
    cr_assert_not(rate_take(&r, 10, now));
    now.us += 1;
    cr_assert(rate_take(&r, 10, now));
    cr_assert_not(rate_take(&r, 10, now));
    now.us -= 5000000;
    cr_assert_not(rate_take(&r, 10, now), "time that falls gives nothing");
    now.us += 7000000;
    for (int i = 0; i < 20; i++)
        cr_assert(rate_take(&r, 10, now), "%d", i);
    cr_assert_not(rate_take(&r, 10, now), "no more than full");
    for (int i = 0; i < 1000; i++)
        cr_assert(rate_take(&r, 0, now));
    unsigned taken = 0;
    struct rate fast = {0};
    for (now.us = 0; now.us < 10000000; now.us += 100)
        taken += rate_take(&fast, RATE_MAX, now);
    cr_assert_eq(taken, 100000);
}
