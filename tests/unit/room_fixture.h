/*
 * A host with a recorder for everything it says, for the tests of src/room.
 *
 * One line of text per thing said ("msg WHO BYTES", "all -EXCEPT FROM BYTES", "left WHO REASON", "changed ID", "ended ID REASON"),
 * bytes shown by what they decode to, so that a test compares strings.
 */
#ifndef ROOM_FIXTURE_H
#define ROOM_FIXTURE_H

#include <string.h>

#include "room/host.h"

struct fixture {
    struct alloc_budget memory; /* of the whole host: what is left at the end is a leak */
    struct types *types;
    struct host *host;
    struct buf said; /* NUL-terminated by fixture_said() */
    struct buf reply;
    struct mono now;
    unsigned counter; /* makes tickets repeatable */
    int64_t cpu_us;
};

/* `change` may adjust the configuration; NULL: seat_ttl 1 s, empty 5 s. */
void fixture_open(struct fixture *f, void (*change)(struct host_config *config));
/* Frees all and fails the test if a byte is left. */
void fixture_close(struct fixture *f);

/* What was said since the last call, lines separated by '\n'. "changed" lines are left out. Valid until the next call. */
const char *fixture_said(struct fixture *f);
/* The last reply or state as JSON-like text. */
const char *fixture_reply(struct fixture *f);

int fixture_start(struct fixture *f, const char *id, const char *type);
int fixture_join(struct fixture *f, const char *id, const char *player, uint64_t who, const char *ticket);
/* `json` is a small subset: maps, arrays, strings, integers, true, false, null. */
int fixture_join_with(struct fixture *f, const char *id, const char *player, uint64_t who, const char *json);
int fixture_send(struct fixture *f, const char *id, uint64_t who, const char *json);

/* The msgpack of such text into `out`. */
void fixture_pack(struct buf *out, const char *json);

#endif
