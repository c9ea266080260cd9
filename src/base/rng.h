/*
 * Seeded random numbers (xoshiro256**, Blackman and Vigna 2018; seeded through splitmix64).
 *
 * The whole of a node's chance comes from one seed, so that a simulated run can be repeated. Not for secrets: tokens and
 * tickets are made from rng_secret(), which asks the kernel.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, n), without bias; n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* Fills `out` from the kernel; aborts if the kernel has none, because a guessable token is worse. */
void rng_secret(void *out, size_t len);

#endif
