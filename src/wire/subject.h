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
    JOURNAL_STREAMS = 4,                            /* the journals of all rooms are spread over so many streams */
    JOURNAL_NAME_SIZE = 24,                         /* of a stream's name and its NUL */
    SUBJECT_SERVICE_SIZE = 4 + 2 * ID_SIZE,
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

/* `journal.<k>.<room>`, k in 0 .. JOURNAL_STREAMS - 1 from a hash of the room's id that never changes. */
const char *subject_journal(char out[SUBJECT_SIZE], const char *room);
unsigned subject_journal_stream(const char *room);
/* The stream k is called ROOM_JOURNAL_<k>. */
const char *subject_journal_name(char out[JOURNAL_NAME_SIZE], unsigned k);

/* `inbox.<player>`. */
const char *subject_inbox(char out[SUBJECT_SIZE], const char *player);

/* `svc.<service>.<instance>`; `instance` is an id, "all" (each of them), or NULL: `svc.<service>`, whoever is there. An
 * empty subject if an id is not valid. */
const char *subject_service(char out[SUBJECT_SERVICE_SIZE], const char *service, const char *instance);

/* False, and `out` untouched, if it is none of the three forms or the id is not valid. */
bool subject_parse(const char *subject, struct subject *out);

#endif
