/* See place.h. Ties are broken by chance: nodes that choose at the same moment, with the same view, must not all choose
 * the same one. */
#include "core/place.h"

#include <string.h>

static const char *const names[] = {
#define NAME(symbol, name) name,
    PLACE_TABLE(NAME)
#undef NAME
};

int place_strategy_from_name(const char *name)
{
    for (int i = 0; i < PLACE_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

const char *place_strategy_name(enum place_strategy s)
{
    return (unsigned)s < PLACE_COUNT ? names[s] : "?";
}

static bool can_take(const struct place_candidate *c)
{
    return c->eligible && c->rooms < c->capacity;
}

typedef double cost_fn(const struct place_candidate *c);

static double cost_rooms(const struct place_candidate *c)
{
    return c->rooms;
}

static double cost_players(const struct place_candidate *c)
{
    return c->players;
}

/* Half the processor's share, half the connections per room slot: a node that is busy or crowded is passed over. */
static double cost_load(const struct place_candidate *c)
{
    return c->load + (double)c->connections / ((double)c->capacity + 1);
}

static double cost_latency(const struct place_candidate *c)
{
    return c->latency_us > 0 ? (double)c->latency_us : 1e18;
}

static int cheapest(const struct place_candidate *c, size_t n, cost_fn *cost, const char *region, struct rng *rng)
{
    int best = -1;
    uint64_t equals = 0;
    for (size_t i = 0; i < n; i++) {
        if (!can_take(&c[i]) || (region && strcmp(c[i].region, region) != 0))
            continue;
        if (best < 0 || cost(&c[i]) < cost(&c[best])) {
            best = (int)i;
            equals = 1;
        } else if (cost(&c[i]) == cost(&c[best]) && rng_below(rng, ++equals) == 0) {
            best = (int)i; /* each of k equals with 1/k */
        }
    }
    return best;
}

static int nth_able(const struct place_candidate *c, size_t n, uint64_t k)
{
    for (size_t i = 0; i < n; i++)
        if (can_take(&c[i]) && k-- == 0)
            return (int)i;
    return -1;
}

/* A share of the rooms in proportion to what is free. */
static int weighted(const struct place_candidate *c, size_t n, struct rng *rng)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        if (can_take(&c[i]))
            total += c[i].capacity - c[i].rooms;
    uint64_t at = rng_below(rng, total);
    for (size_t i = 0; i < n; i++) {
        if (!can_take(&c[i]))
            continue;
        uint64_t room = c[i].capacity - c[i].rooms;
        if (at < room)
            return (int)i;
        at -= room;
    }
    return -1;
}

/* The better of two at random (Mitzenmacher 2001): nearly as even as the best of all, without the stampede. */
static int two_choices(const struct place_candidate *c, size_t n, size_t able, struct rng *rng)
{
    int a = nth_able(c, n, rng_below(rng, able));
    int b = nth_able(c, n, rng_below(rng, able));
    return c[b].rooms < c[a].rooms ? b : a;
}

int place_choose(const struct place_query *q, const struct place_candidate *c, size_t n, struct rng *rng)
{
    size_t able = 0;
    for (size_t i = 0; i < n; i++) {
        if (!can_take(&c[i]))
            continue;
        if (q->prefer_local && c[i].local)
            return (int)i;
        able++;
    }
    if (able == 0)
        return -1;
    switch (q->strategy) {
    case PLACE_ROUND_ROBIN:
        return nth_able(c, n, q->cursor % able);
    case PLACE_LEAST_PLAYERS:
        return cheapest(c, n, cost_players, NULL, rng);
    case PLACE_RANDOM:
        return nth_able(c, n, rng_below(rng, able));
    case PLACE_WEIGHTED:
        return weighted(c, n, rng);
    case PLACE_LOAD:
        return cheapest(c, n, cost_load, NULL, rng);
    case PLACE_TWO_CHOICES:
        return two_choices(c, n, able, rng);
    case PLACE_REGION: {
        int near = q->region && *q->region ? cheapest(c, n, cost_rooms, q->region, rng) : -1;
        return near >= 0 ? near : cheapest(c, n, cost_rooms, NULL, rng);
    }
    case PLACE_LATENCY:
        return cheapest(c, n, cost_latency, NULL, rng);
    case PLACE_LEAST_ROOMS:
    case PLACE_COUNT:
        break;
    }
    return cheapest(c, n, cost_rooms, NULL, rng);
}
