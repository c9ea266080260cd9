/*
 * The names of what is said on the bus: `server.<id>.<verb>`, `room.<id>.<verb>`, `player.<id>.<verb>`.
 *
 * Decides: how a subject is built and taken apart. Knows nothing of prefixes; those belong to the bus. Invariant: a
 * subject that was built is parsed to the same parts. Any thread; no allocation.
 */
#ifndef WIRE_SUBJECT_H
#define WIRE_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/id.h"

enum {
    SUBJECT_VERB_MAX = 32,                          /* characters */
    SUBJECT_SIZE = 8 + ID_SIZE + SUBJECT_VERB_MAX + 1 /* the longest subject and its NUL */
};

enum subject_kind { SUBJECT_SERVER = 1, SUBJECT_ROOM, SUBJECT_PLAYER };

struct subject {
    enum subject_kind kind;
    struct id id; /* "" if `all` */
    bool all;     /* server.all.broadcast */
    char verb[SUBJECT_VERB_MAX + 1];
};

/* `id` is a valid id, or "all" or "*" to reach or subscribe to all; `verb` is one token or "*". A bug in either gives an
 * empty subject, which no bus accepts. Return `out`. */
const char *subject_server(char out[SUBJECT_SIZE], const char *id, const char *verb);
const char *subject_room(char out[SUBJECT_SIZE], const char *id, const char *verb);
const char *subject_player(char out[SUBJECT_SIZE], const char *id, const char *verb);

/* False, and `out` untouched, if it is none of the three forms or the id is not valid. */
bool subject_parse(const char *subject, struct subject *out);

#endif
