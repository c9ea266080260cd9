/* See queue.h. */
#include "core/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SPEC_MAX = 512, MAX_WAIT_MS = 120 * 1000 };

const struct queue *queues_find(const struct queues *q, const char *name)
{
    for (unsigned i = 0; i < q->count; i++)
        if (strcmp(q->items[i].name.s, name) == 0)
            return &q->items[i];
    return NULL;
}

double queue_tolerance(const struct queue *q, unsigned i, int64_t waited_ms)
{
    const struct queue_range *r = &q->ranges[i];
    double wide = r->within + r->per_s * ((double)(waited_ms > 0 ? waited_ms : 0) / 1000);
    return wide < r->most ? wide : r->most;
}

/* 1 to QUEUE_MATCH_MAX, then what `end` points to; 0: it is none. */
static unsigned count_of(const char *s, const char **end)
{
    char *stop;
    unsigned long n = *s >= '0' && *s <= '9' ? strtoul(s, &stop, 10) : 0;
    *end = n ? stop : s;
    return n <= QUEUE_MATCH_MAX ? (unsigned)n : 0;
}

static int set_size(struct queue *q, const char *key, const char *value, struct err_detail *detail)
{
    const char *end;
    bool teams = strcmp(key, "teams") == 0;
    unsigned first = count_of(value, &end), second = 0;
    if (teams && first && *end == 'x')
        second = count_of(end + 1, &end);
    unsigned all = teams ? first * second : first;
    if (q->teams)
        return err_set(detail, ROOM_E_INVALID, "queue '%s': how big a match is was said already", q->name.s);
    if (*end || all < 1 || all > QUEUE_MATCH_MAX)
        return err_set(detail, ROOM_E_INVALID, "queue '%s': %s='%.60s', wanted %s, %d players in all at most", q->name.s, key,
                       value, teams ? "teams and players of each, as 2x5" : "a number of players", QUEUE_MATCH_MAX);
    q->teams = teams ? first : 1;
    q->team_size = teams ? second : first;
    return 0;
}

static bool name_of(char out[QUEUE_NAME_MAX + 1], const char *from, size_t len)
{
    if (len < 1 || len > QUEUE_NAME_MAX)
        return false;
    memcpy(out, from, len);
    out[len] = 0;
    return strspn(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == len;
}

static int set_equal(struct queue *q, const char *value, struct err_detail *detail)
{
    if (q->equal_count == QUEUE_RULES_MAX || !name_of(q->equals[q->equal_count], value, strlen(value)))
        return err_set(detail, ROOM_E_INVALID, "queue '%s': equal='%.60s', wanted the name of a property, %d of them at most",
                       q->name.s, value, QUEUE_RULES_MAX);
    q->equal_count++;
    return 0;
}

static int set_range(struct queue *q, const char *value, struct err_detail *detail)
{
    double numbers[3] = {0, 0, HUGE_VAL};
    size_t len = strcspn(value, ":");
    const char *at = value + len;
    bool ok = q->range_count < QUEUE_RULES_MAX && *at && name_of(q->ranges[q->range_count].name, value, len);
    for (int i = 0; i < 3 && ok && *at; i++) {
        char *end;
        ok = *at == ':' && ((at[1] >= '0' && at[1] <= '9') || at[1] == '.');
        if (!ok)
            break;
        numbers[i] = strtod(at + 1, &end);
        ok = end > at + 1 && numbers[i] >= 0 && numbers[i] <= 1e15;
        at = end;
    }
    if (!ok || *at || numbers[2] < numbers[0])
        return err_set(detail, ROOM_E_INVALID,
                       "queue '%s': range='%.60s', wanted PROPERTY:WITHIN[:PER_SECOND[:MOST]], as rank:100:20:1000, %d of them "
                       "at most",
                       q->name.s, value, QUEUE_RULES_MAX);
    struct queue_range *r = &q->ranges[q->range_count++];
    r->within = numbers[0];
    r->per_s = numbers[1];
    r->most = numbers[2];
    return 0;
}

static int set_time(struct queue *q, const char *key, const char *value, struct err_detail *detail)
{
    char *unit = NULL;
    bool wait = strcmp(key, "max_wait") == 0;
    int64_t most = wait ? QUEUE_WAIT_MAX_MS : QUEUE_CONFIRM_MAX_MS;
    long long n = *value >= '0' && *value <= '9' ? strtoll(value, &unit, 10) : -1;
    int64_t by = !unit ? 0 : strcmp(unit, "ms") == 0 || !*unit ? 1 : strcmp(unit, "s") == 0 ? 1000 : strcmp(unit, "m") == 0 ? 60000 : 0;
    if (n < 0 || n > most || !by || n * by > most || (n * by > 0 && n * by < 100))
        return err_set(detail, ROOM_E_INVALID, "queue '%s': %s='%.60s', wanted a time of 100ms to %llds, or 0: %s", q->name.s,
                       key, value, (long long)most / 1000, wait ? "for ever" : "nobody is asked");
    *(wait ? &q->max_wait_ms : &q->confirm_ms) = n * by;
    return 0;
}

static int set(struct queue *q, const char *key, const char *value, struct err_detail *detail)
{
    if (strcmp(key, "size") == 0 || strcmp(key, "teams") == 0)
        return set_size(q, key, value, detail);
    if (strcmp(key, "equal") == 0)
        return set_equal(q, value, detail);
    if (strcmp(key, "range") == 0)
        return set_range(q, value, detail);
    if (strcmp(key, "max_wait") == 0 || strcmp(key, "confirm") == 0)
        return set_time(q, key, value, detail);
    return err_set(detail, ROOM_E_INVALID, "queue '%s': unknown key '%.60s'; there are size, teams, equal, range, max_wait and "
                                           "confirm", q->name.s, key);
}

int queues_add(struct queues *all, const char *spec, struct err_detail *detail)
{
    char text[SPEC_MAX];
    struct queue q = {.max_wait_ms = MAX_WAIT_MS};
    if (strlen(spec) >= sizeof(text))
        return err_set(detail, ROOM_E_INVALID, "queue '%.60s...' is longer than %zu characters", spec, sizeof(text) - 1);
    memcpy(text, spec, strlen(spec) + 1);
    char *type = strchr(text, '='), *next = type ? strchr(type, ',') : NULL;
    if (type)
        *type++ = 0;
    if (next)
        *next++ = 0;
    if (!type || !id_set(&q.name, text) || !id_set(&q.type, type))
        return err_set(detail, ROOM_E_INVALID,
                       "queue '%.200s': wanted NAME=TYPE,size=N or NAME=TYPE,teams=AxB[,KEY=VALUE...]; NAME and TYPE are 1 to "
                       "%d of A-Z a-z 0-9 _ - (not 'all')",
                       spec, ID_MAX);
    if (queues_find(all, q.name.s))
        return err_set(detail, ROOM_E_EXISTS, "queue '%s' exists already", q.name.s);
    if (all->count == QUEUES_MAX)
        return err_set(detail, ROOM_E_FULL, "no place for queue '%s': %d are the limit", q.name.s, QUEUES_MAX);
    while (next) {
        char *key = next, *value = strchr(key, '=');
        next = strchr(key, ',');
        if (next)
            *next++ = 0;
        if (!value || (next && value > next))
            return err_set(detail, ROOM_E_INVALID, "queue '%s': '%.60s' is not KEY=VALUE", q.name.s, key);
        *value++ = 0;
        int rc = set(&q, key, value, detail);
        if (rc)
            return rc;
    }
    if (!q.teams)
        return err_set(detail, ROOM_E_INVALID, "queue '%s': how many players are a match? say size=N or teams=AxB", q.name.s);
    all->items[all->count++] = q;
    return 0;
}
