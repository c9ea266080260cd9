/*
 * Subjects, keys and bucket names: what is valid, and which pattern matches which subject.
 *
 * Pure functions of their arguments, any thread. Invariant: what passes here can be put into a NATS protocol line or a
 * stream name without changing its meaning.
 */
#ifndef BUS_SUBJECT_H
#define BUS_SUBJECT_H

#include <stdbool.h>

enum { SUBJECT_MAX = 400, SUBJECT_BUCKET_MAX = 64, SUBJECT_PREFIX_MAX = 32 };

/* 1 to SUBJECT_MAX printable characters without blanks, no empty token; `wildcards` allows `*` and a final `>`. */
bool subject_valid(const char *s, bool wildcards);
/* `[A-Za-z0-9_-]{1,64}` */
bool subject_bucket_valid(const char *s);
/* A subject without wildcards made of `[-/_=.A-Za-z0-9]`. */
bool subject_key_valid(const char *s);
/* The same with wildcards: it can be put into JSON as it is. */
bool subject_pattern_valid(const char *s);
bool subject_match(const char *pattern, const char *subject);

#endif
