/*
 * Names on the bus: validity of ids, ULIDs, ids derived from other ids, hashing.
 *
 * Ids (server, room, player, type) match [A-Za-z0-9_-]{1,64}; `all` is reserved. Such an id is at once a NATS subject
 * token and a KV key.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "base/time.h"

enum {
    ID_MAX = 64,      /* characters */
    ID_SIZE = 65,     /* with the NUL */
    ULID_SIZE = 27,   /* 26 characters and the NUL */
};

struct id {
    char s[ID_SIZE];
};

bool id_valid(const char *s);
bool id_valid_n(const char *s, size_t len);
/* Copies a valid id, or returns false and leaves `out` empty. */
bool id_set(struct id *out, const char *s);
bool id_set_n(struct id *out, const char *s, size_t len);
/* A ULID (github.com/ulid/spec): 48 bits of milliseconds, 80 bits of chance, Crockford base32. */
void id_ulid(char out[ULID_SIZE], struct wall now, struct rng *rng);
/* The time in a ULID. False: not 26 characters of Crockford base32 within 128 bits. */
bool id_ulid_time(const char *ulid, struct wall *out);
/* 26 characters from the 128-bit xxh3 of `scope`, a NUL, and `name`: the same two strings give the same id on every node.
 * Only the first 64 characters of each count. */
void id_derived(char out[ULID_SIZE], const char *scope, const char *name);
/* xxh3 of the string with a seed; the cluster's rank hashes rest on it, so it never changes. */
uint64_t id_hash(const char *s, uint64_t seed);

#endif
