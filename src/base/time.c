/* See time.h. */
#include "base/time.h"

#include <stdio.h>
#include <string.h>
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

bool time_from_rfc3339(const char *text, size_t len, struct wall *out)
{
    char copy[TIME_RFC3339_SIZE];
    struct tm tm = {0};
    unsigned ms = 0;
    int end = 0;
    if (!text || len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    bool whole = len == 20 && sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                                     &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end) == 6;
    if (!whole)
        whole = sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2d.%3uZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                       &tm.tm_min, &tm.tm_sec, &ms, &end) == 7;
    if (!whole || (size_t)end != len)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *out = (struct wall){(int64_t)timegm(&tm) * 1000 + ms};
    return true;
}
