/* See routes.h. */
#include "node/routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rate.h"

const struct route *routes_find(const struct routes *r, struct wire_str name)
{
    for (unsigned i = 0; i < r->count; i++)
        if (wire_str_is(name, r->items[i].name))
            return &r->items[i];
    return NULL;
}

static bool name_valid(const char *s)
{
    size_t len = strlen(s);
    return len > 0 && len <= ROUTE_NAME_MAX &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == len;
}

/* Digits, then what `end` points to. */
static bool number(const char *s, long long *out, const char **end)
{
    char *stop;
    errno = 0;
    *out = strtoll(s, &stop, 10);
    *end = stop;
    return *s >= '0' && *s <= '9' && !errno;
}

static int set_timeout(struct route *t, const char *value, struct err_detail *detail)
{
    const char *unit;
    long long n;
    bool ok = number(value, &n, &unit) && n <= ROUTE_TIMEOUT_MAX_MS;
    long long ms = !ok ? 0 : strcmp(unit, "s") == 0 ? n * 1000 : n;
    ok = ok && (strcmp(unit, "s") == 0 || strcmp(unit, "ms") == 0);
    if (!ok || ms < ROUTE_TIMEOUT_MIN_MS || ms > ROUTE_TIMEOUT_MAX_MS)
        return err_set(detail, ROOM_E_INVALID, "route '%s': timeout='%.60s', wanted a time like 500ms or 2s, %dms to %ds",
                       t->name, value, ROUTE_TIMEOUT_MIN_MS, ROUTE_TIMEOUT_MAX_MS / 1000);
    t->timeout_ms = (int)ms;
    return 0;
}

static int set_rate(struct route *t, const char *value, struct err_detail *detail)
{
    const char *unit;
    long long n;
    if (!number(value, &n, &unit) || (*unit && strcmp(unit, "/s") != 0) || n < 1 || n > RATE_MAX)
        return err_set(detail, ROOM_E_INVALID, "route '%s': rate='%.60s', wanted 1/s to %d/s", t->name, value, RATE_MAX);
    t->per_s = n;
    return 0;
}

static int set_to(struct route *t, const char *value, struct err_detail *detail)
{
    static const char *const words[] = {"one", "all", "named"};
    for (int i = ROUTE_ONE; i <= ROUTE_NAMED; i++)
        if (strcmp(value, words[i]) == 0) {
            t->to = (enum route_to)i;
            return 0;
        }
    t->to = ROUTE_INSTANCE;
    if (!id_set(&t->instance, value))
        return err_set(detail, ROOM_E_INVALID, "route '%s': to='%.80s', wanted one, all, named or the name of an instance",
                       t->name, value);
    return 0;
}

static int set(struct route *t, const char *key, const char *value, struct err_detail *detail)
{
    if (strcmp(key, "to") == 0)
        return set_to(t, value, detail);
    if (strcmp(key, "timeout") == 0)
        return set_timeout(t, value, detail);
    if (strcmp(key, "rate") == 0)
        return set_rate(t, value, detail);
    if (strcmp(key, "login") != 0)
        return err_set(detail, ROOM_E_INVALID, "route '%s': unknown key '%.60s'; there are to, timeout, login and rate",
                       t->name, key);
    t->login = strcmp(value, "yes") == 0;
    if (!t->login && strcmp(value, "no") != 0)
        return err_set(detail, ROOM_E_INVALID, "route '%s': login='%.60s', wanted yes or no", t->name, value);
    return 0;
}

static unsigned service_number(struct routes *r, const struct id *service)
{
    unsigned i = 0;
    while (i < r->service_count && strcmp(r->services[i].s, service->s) != 0)
        i++;
    if (i == r->service_count)
        r->services[r->service_count++] = *service;
    return i;
}

int routes_add(struct routes *r, const char *spec, struct err_detail *detail)
{
    char text[512];
    struct route t = {.timeout_ms = ROUTE_TIMEOUT_MS, .login = true};
    if (strlen(spec) >= sizeof(text))
        return err_set(detail, ROOM_E_INVALID, "route '%.60s...' is longer than %zu characters", spec, sizeof(text) - 1);
    strcpy(text, spec);
    char *service = strchr(text, '=');
    char *next = service ? strchr(service, ',') : NULL;
    if (service)
        *service++ = 0;
    if (next)
        *next++ = 0;
    if (!service || !name_valid(text) || !id_set(&t.service, service))
        return err_set(detail, ROOM_E_INVALID,
                       "route '%.200s': wanted NAME=SERVICE[,KEY=VALUE...]; NAME is 1 to %d of A-Z a-z 0-9 _ . -, SERVICE 1 "
                       "to %d of A-Z a-z 0-9 _ - (not 'all')",
                       spec, ROUTE_NAME_MAX, ID_MAX);
    strcpy(t.name, text);
    if (routes_find(r, wire_str(t.name)))
        return err_set(detail, ROOM_E_EXISTS, "route '%s' exists already", t.name);
    if (r->count == ROUTES_MAX)
        return err_set(detail, ROOM_E_FULL, "no place for route '%s': %d are the limit", t.name, ROUTES_MAX);
    while (next) {
        char *key = next, *value = strchr(key, '=');
        next = strchr(key, ',');
        if (next)
            *next++ = 0;
        if (!value || (next && value > next))
            return err_set(detail, ROOM_E_INVALID, "route '%s': '%.60s' is not KEY=VALUE", t.name, key);
        *value++ = 0;
        int rc = set(&t, key, value, detail);
        if (rc)
            return rc;
    }
    t.number = r->count;
    t.service_number = service_number(r, &t.service);
    r->items[r->count++] = t;
    return 0;
}
