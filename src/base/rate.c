/* See rate.h. What is missing is kept, not what is there: an untouched bucket needs no set-up and no clock. */
#include "base/rate.h"

enum { ONE = 1000000 };

bool rate_take(struct rate *r, int64_t per_s, struct mono now)
{
    if (per_s <= 0)
        return true;
    int64_t passed = now.us - r->at.us, full = RATE_BURST_S * per_s * ONE;
    if (r->used && passed > 0) {
        bool refilled = passed >= (int64_t)RATE_BURST_S * ONE;
        r->used = refilled || passed * per_s >= r->used ? 0 : r->used - passed * per_s;
    }
    if (passed > 0)
        r->at = now;
    if (r->used + ONE > full)
        return false;
    r->used += ONE;
    return true;
}
