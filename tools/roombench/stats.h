/*
 * Latency histograms and medians.
 *
 * Decides: how measured values are kept: in buckets of 1/32 of their size, so that memory does not grow with the run and
 * a percentile is at most 3 % off. Knows nothing of what is measured. Values are microseconds.
 */
#ifndef ROOMBENCH_STATS_H
#define ROOMBENCH_STATS_H

#include <stdint.h>

enum { STATS_BUCKETS = 32 * 60 };

struct stats {
    uint64_t count;
    uint64_t bucket[STATS_BUCKETS];
};

void stats_add(struct stats *s, int64_t us);
/* The value that `share` (0..1) of all are not above; 0 if there are none. */
double stats_at(const struct stats *s, double share);
/* Sorts `values`. */
double stats_median(double *values, unsigned count);
int64_t stats_now_us(void);

#endif
