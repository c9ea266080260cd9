/*
 * Virtual time of the simulator, its trace and its verdict.
 *
 * Decides: what happens next (the earliest; of two at one moment the one asked for first), and what counts as the same
 * run (the xxh3 of all notes). Must not know nodes or buses. Invariant: time never falls.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

void *world_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p) {
        fputs("sim: out of memory\n", stderr);
        exit(2);
    }
    return p;
}

void world_init(struct world *w, uint64_t seed, bool trace, enum sim_mutation mutation)
{
    *w = (struct world){.seed = seed, .trace = trace, .mutation = mutation};
    rng_init(&w->rng, seed);
    w->hash = XXH3_createState();
    if (!w->hash || XXH3_64bits_reset(w->hash) != XXH_OK)
        exit(2);
}

void world_deinit(struct world *w)
{
    for (size_t i = 0; i < w->heap_count; i++)
        free(w->heap[i].arg);
    free(w->heap);
    XXH3_freeState(w->hash);
}

static bool before(const struct timed *a, const struct timed *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void world_at(struct world *w, int64_t at_us, sim_fn *fn, void *arg)
{
    if (w->heap_count == w->heap_cap) {
        w->heap_cap = w->heap_cap ? w->heap_cap * 2 : 1024;
        w->heap = realloc(w->heap, w->heap_cap * sizeof(*w->heap));
        if (!w->heap)
            exit(2);
    }
    struct timed t = {at_us < w->now_us ? w->now_us : at_us, w->order++, fn, arg};
    size_t i = w->heap_count++;
    for (; i > 0 && before(&t, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = t;
}

static struct timed take(struct world *w)
{
    struct timed top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->heap_count) {
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->heap_count)
        w->heap[i] = last;
    return top;
}

bool world_step(struct world *w)
{
    if (!w->heap_count)
        return false;
    struct timed t = take(w);
    w->now_us = t.at_us;
    w->steps++;
    t.fn(w, t.arg);
    free(t.arg);
    return true;
}

void world_note(struct world *w, const char *format, ...)
{
    char text[512];
    va_list args;
    int n = snprintf(text, sizeof(text), "%lld.%06lld ", (long long)(w->now_us / SIM_S), (long long)(w->now_us % SIM_S));
    va_start(args, format);
    int m = vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
    va_end(args);
    size_t len = (size_t)n + (size_t)m < sizeof(text) ? (size_t)n + (size_t)m : sizeof(text) - 1;
    XXH3_64bits_update(w->hash, text, len);
    if (w->trace)
        puts(text);
}

void world_fail(struct world *w, const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    int n = snprintf(w->failure, sizeof(w->failure), "at %lld.%06lld s: ", (long long)(w->now_us / SIM_S),
                     (long long)(w->now_us % SIM_S));
    va_list args;
    va_start(args, format);
    vsnprintf(w->failure + n, sizeof(w->failure) - (size_t)n, format, args);
    va_end(args);
    world_note(w, "FAILED %s", w->failure);
}

uint64_t world_hash(const struct world *w)
{
    return XXH3_64bits_digest(w->hash);
}

int64_t world_between(struct world *w, int64_t low, int64_t high)
{
    return low + (int64_t)rng_below(&w->rng, (uint64_t)(high - low) + 1);
}

bool world_chance(struct world *w, unsigned percent)
{
    return rng_below(&w->rng, 100) < percent;
}
