/* See id.h. */
#include "base/id.h"

#include <string.h>
#include <xxhash.h>

static const char crockford[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

bool id_valid_n(const char *s, size_t len)
{
    if (len == 0 || len > ID_MAX || (len == 3 && memcmp(s, "all", 3) == 0))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

bool id_valid(const char *s)
{
    return id_valid_n(s, strnlen(s, ID_MAX + 1));
}

bool id_set_n(struct id *out, const char *s, size_t len)
{
    out->s[0] = 0;
    if (!id_valid_n(s, len))
        return false;
    memcpy(out->s, s, len);
    out->s[len] = 0;
    return true;
}

bool id_set(struct id *out, const char *s)
{
    return id_set_n(out, s, strnlen(s, ID_MAX + 1));
}

static void base32(char out[ULID_SIZE], uint64_t high, uint64_t low)
{
    for (int i = 25; i >= 0; i--) {
        out[i] = crockford[low & 31];
        low = (low >> 5) | (high << 59);
        high >>= 5;
    }
    out[26] = 0;
}

void id_ulid(char out[ULID_SIZE], struct wall now, struct rng *rng)
{
    uint64_t chance = rng_next(rng);
    base32(out, ((uint64_t)now.ms << 16) | (chance & 0xffff), rng_next(rng));
}

bool id_ulid_time(const char *ulid, struct wall *out)
{
    int64_t ms = 0;
    if (strnlen(ulid, ULID_SIZE) != ULID_SIZE - 1 || strspn(ulid, crockford) != ULID_SIZE - 1 || ulid[0] > '7')
        return false;
    for (int i = 0; i < 10; i++)
        ms = ms << 5 | (strchr(crockford, ulid[i]) - crockford);
    out->ms = ms;
    return true;
}

void id_derived(char out[ULID_SIZE], const char *scope, const char *name)
{
    char joined[2 * ID_SIZE];
    size_t a = strnlen(scope, ID_MAX), b = strnlen(name, ID_MAX);
    memcpy(joined, scope, a);
    joined[a] = 0;
    memcpy(joined + a + 1, name, b);
    XXH128_hash_t h = XXH3_128bits(joined, a + 1 + b);
    base32(out, h.high64, h.low64);
}

uint64_t id_hash(const char *s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s, strlen(s), seed);
}
