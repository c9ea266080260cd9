/* See time.h. */
#include "base/time.h"

#include <stdio.h>
#include <time.h>

struct mono time_mono_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (struct mono){(int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000};
}

struct wall time_wall_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (struct wall){(int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000};
}

void time_rfc3339(struct wall t, char out[TIME_RFC3339_SIZE])
{
    time_t seconds = (time_t)(t.ms / 1000);
    struct tm tm;
    char date[32] = "";
    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, TIME_RFC3339_SIZE, "%.19s.%03uZ", date, (unsigned)(t.ms % 1000) % 1000u);
}
