/* See stats.h. Decides the buckets' borders; invariant: a value is in the bucket whose range holds it. */
#include "tools/roombench/stats.h"

#include <stdlib.h>
#include <time.h>

static unsigned bucket_of(uint64_t v)
{
    if (v < 64)
        return (unsigned)v;
    unsigned shift = 63 - (unsigned)__builtin_clzll(v) - 5;
    unsigned i = shift * 32 + (unsigned)(v >> shift);
    return i < STATS_BUCKETS ? i : STATS_BUCKETS - 1;
}

static double middle_of(unsigned i)
{
    if (i < 64)
        return i;
    unsigned shift = i / 32 - 1;
    return ((double)(i % 32 + 32) + 0.5) * (double)(UINT64_C(1) << shift);
}

void stats_add(struct stats *s, int64_t us)
{
    s->bucket[bucket_of(us > 0 ? (uint64_t)us : 0)]++;
    s->count++;
}

double stats_at(const struct stats *s, double share)
{
    uint64_t seen = 0, want = (uint64_t)(share * (double)s->count);
    if (want >= s->count)
        want = s->count ? s->count - 1 : 0;
    for (unsigned i = 0; s->count && i < STATS_BUCKETS; i++) {
        seen += s->bucket[i];
        if (seen > want)
            return middle_of(i);
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double stats_median(double *values, unsigned count)
{
    if (!count)
        return 0;
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

int64_t stats_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
