/*
 * A token bucket: how often something may happen.
 *
 * Decides: that a bucket begins full, holds two seconds' worth, and fills evenly. Reads no clock; whoever is refused takes
 * nothing, so that trying again costs nothing. Time that falls counts as standing still.
 */
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/time.h"

enum { RATE_BURST_S = 2, RATE_MAX = 1000000 };

struct rate { /* zeroed: full */
    int64_t used; /* millionths of a token that are missing */
    struct mono at;
};

/* Takes one token; false: there is none. `per_s` is how many come back in a second, RATE_MAX at most; 0: no limit. */
bool rate_take(struct rate *r, int64_t per_s, struct mono now);

#endif
