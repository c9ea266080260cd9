/*
 * Where a new room goes: one pure function per strategy.
 *
 * Decides: which of the candidates takes the room. A candidate that is not eligible (down, suspect, draining, isolated)
 * or full is never chosen, whatever the strategy. Knows only the numbers it is given; the caller counts what it has
 * handed out since those numbers were measured.
 */
#ifndef CORE_PLACE_H
#define CORE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

/*  X(symbol, name) */
#define PLACE_TABLE(X)                                                                                               \
    X(ROUND_ROBIN, "round-robin")                                                                                    \
    X(LEAST_ROOMS, "least-rooms")                                                                                    \
    X(LEAST_PLAYERS, "least-players")                                                                                \
    X(RANDOM, "random")                                                                                              \
    X(WEIGHTED, "weighted")                                                                                          \
    X(LOAD, "load")                                                                                                  \
    X(TWO_CHOICES, "two-choices")                                                                                    \
    X(REGION, "region")                                                                                              \
    X(LATENCY, "latency")

enum place_strategy {
#define PLACE_ENUM(symbol, name) PLACE_##symbol,
    PLACE_TABLE(PLACE_ENUM)
#undef PLACE_ENUM
    PLACE_COUNT
};

struct place_candidate {
    const char *id;     /* candidates are given in ascending order of id */
    const char *region; /* "" when none */
    bool eligible;
    bool local;
    uint32_t rooms, players, connections, capacity;
    double load;        /* 0..1 */
    int64_t latency_us; /* 0: not measured, treated as the worst */
};

struct place_query {
    enum place_strategy strategy;
    bool prefer_local;   /* the local node if it is eligible and not full */
    const char *region;  /* wanted by `region`; falls back to everywhere */
    uint64_t cursor;     /* round-robin: grows by one per placement */
};

/* Index into `c`, or -1 if nobody can take it. `rng` is used by random, weighted and two-choices. */
int place_choose(const struct place_query *q, const struct place_candidate *c, size_t n, struct rng *rng);

/* The strategy of a name, or -1. */
int place_strategy_from_name(const char *name);
const char *place_strategy_name(enum place_strategy s);

#endif
