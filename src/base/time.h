/*
 * Two kinds of time that cannot be mixed up.
 *
 * `struct mono` runs evenly and means nothing on another machine; every deadline uses it. `struct wall` is for people
 * and event texts and is never compared between machines. Only the outermost layer reads a clock (time_mono_now(),
 * time_wall_now()); everything below is handed `now`.
 */
#ifndef BASE_TIME_H
#define BASE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mono {
    int64_t us; /* microseconds since some fixed moment of this process's machine */
};

struct wall {
    int64_t ms; /* milliseconds since 1970-01-01 UTC */
};

enum { TIME_RFC3339_SIZE = 25 }; /* "2026-01-31T23:59:59.123Z" and its NUL */

static inline struct mono mono_add_ms(struct mono t, int64_t ms)
{
    return (struct mono){t.us + ms * 1000};
}

/* Whole milliseconds from `from` to `to`, negative if `to` is earlier. */
static inline int64_t mono_diff_ms(struct mono from, struct mono to)
{
    return (to.us - from.us) / 1000;
}

static inline bool mono_reached(struct mono now, struct mono deadline)
{
    return now.us >= deadline.us;
}

struct mono time_mono_now(void);
struct wall time_wall_now(void);
void time_rfc3339(struct wall t, char out[TIME_RFC3339_SIZE]);
/* What time_rfc3339() wrote, or the same in whole seconds. False: something else. */
bool time_from_rfc3339(const char *text, size_t len, struct wall *out);

#endif
