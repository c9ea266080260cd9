/*
 * See queue.h. Two figures: until all are matched who can be, and the longest call of it; between two calls the loop does
 * other things.
 * Weak point: the tickets lie in memory as they were made, one after the other; those of a node that has run for days do not.
 */
#include "tools/roombench/queue.h"

#include <stdio.h>
#include <time.h>

#include "base/rng.h"
#include "core/match.h"
#include "tools/roombench/stats.h"

/* STALL_US: what the loop of a node may stall. */
enum { ROUNDS_MAX = 16, RANKS = 3000, STALL_US = 50000 };

struct kind {
    const char *name, *spec;
};

static const struct kind kinds[] = {
    {"match cycle, pairs", "q=relay,size=2"},
    {"match cycle, pairs by rank", "q=relay,size=2,range=rank:20"},
    {"match cycle, 5 against 5 by rank", "q=relay,teams=2x5,range=rank:200"},
    {"match cycle, nobody fits", "q=relay,size=2,range=rank:0,range=other:0"},
};

static bool take(void *arg, struct match_ticket *const *tickets, const uint8_t *teams, unsigned count)
{
    *(unsigned *)arg += count;
    return true;
}

static int fill(struct match *m, unsigned tickets, struct mono now)
{
    struct rng rng;
    rng_init(&rng, tickets);
    for (unsigned i = 0; i < tickets; i++) {
        struct match_info info = {.state = MATCH_WAITING, .revision = 1, .player_count = 1, .age_ms = (int64_t)rng_below(&rng, 60000),
                                  .values = {(double)rng_below(&rng, RANKS), i}};
        snprintf(info.id.s, sizeof info.id.s, "t%08u", i);
        snprintf(info.players[0].s, sizeof info.players[0].s, "p%08u", i);
        if (!match_put(m, "q", &info, now))
            return -1;
    }
    return 0;
}

/* Of the processor, so that the figure does not tell what else the machine does. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds; `longest` of one call. Negative: no memory. */
static double cycle(const struct kind *kind, unsigned tickets, double *longest)
{
    struct queues queues = {0};
    struct match m;
    struct mono now = time_mono_now();
    unsigned matched = 0;
    double took = -1;
    if (queues_add(&queues, kind->spec, NULL))
        return -1;
    match_init(&m, &alloc_libc, &queues);
    if (fill(&m, tickets, now) == 0) {
        bool more = true;
        took = *longest = 0;
        while (more) {
            double begun = cpu_us();
            more = match_find(&m, &m.queues[0], now, take, &matched);
            double us = cpu_us() - begun;
            took += us;
            *longest = us > *longest ? us : *longest;
        }
    }
    match_deinit(&m);
    return took;
}

int queue_cycles(struct table *t, unsigned rounds)
{
    static const unsigned counts[] = {100, 1000, 10000};
    double took[ROUNDS_MAX], longest[ROUNDS_MAX];
    rounds = rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            char name[64];
            for (unsigned r = 0; r < rounds; r++)
                if ((took[r] = cycle(&kinds[k], counts[c], &longest[r])) < 0) {
                    fprintf(stderr, "roombench: no memory for %u tickets\n", counts[c]);
                    return -1;
                }
            snprintf(name, sizeof name, "%s, %u tickets", kinds[k].name, counts[c]);
            table_add(t, name, "us", stats_median(took, rounds));
            snprintf(name, sizeof name, "  its longest call");
            table_limit(t, name, "us", stats_median(longest, rounds), STALL_US);
        }
    return 0;
}
