/*
 * A host with a recorder for everything it says, for the tests of src/room.
 *
 * One line of text per thing said ("msg WHO BYTES", "all -EXCEPT FROM BYTES", "left WHO REASON", "ended ID REASON", and "joined WHO
 * BYTES", "sent WHO N CODE BYTES", "attached WHO BYTES" unless a call of the fixture waits for it; images and batches are kept),
 * bytes shown by what they decode to, so that a test compares strings.
 */
#ifndef ROOM_FIXTURE_H
#define ROOM_FIXTURE_H

#include <string.h>

#include "room/host.h"

/* A journal, as it is kept elsewhere: what was acknowledged. */
struct fixture_batch {
    uint64_t sequence;
    size_t at, len; /* in `bytes` */
};

struct fixture_journal {
    struct buf bytes;
    struct fixture_batch batches[4096];
    size_t count;
    uint64_t sequence; /* of the last one */
    /* on its way */
    struct id room;
    uint64_t epoch, number; /* number 0: none */
    struct buf flight;
};

struct fixture {
    struct alloc_budget memory; /* of the whole host: what is left at the end is a leak */
    struct types *types;
    struct host *host;
    struct buf said; /* NUL-terminated by fixture_said() */
    struct buf reply; /* of the last joined() or sent() */
    int64_t last_n;   /* of fixture_send() */
    struct mono now;
    unsigned counter; /* makes tickets repeatable */
    uint64_t waiting; /* who is waited for in fixture_join() and fixture_send() */
    int answer;
    struct fixture_journal *journal;
    struct buf image; /* the last one */
    uint64_t version, position;
    unsigned images, changes; /* how many were said */
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
/* What joined() or sent() said, CANCELLED if left() came in its place, or the error of the call itself. The session is
 * "s-PLAYER". */
int fixture_join(struct fixture *f, const char *id, const char *player, uint64_t who, const char *ticket);
/* `json` is a small subset: maps, arrays, strings, integers, true, false, null. */
int fixture_join_with(struct fixture *f, const char *id, const char *player, uint64_t who, const char *json);
int fixture_send(struct fixture *f, const char *id, uint64_t who, const char *json);
/* The same with a number of the caller's choice. */
int fixture_send_n(struct fixture *f, const char *id, uint64_t who, int64_t n, const char *json);
int fixture_send_raw(struct fixture *f, const char *id, uint64_t who, int64_t n, const void *data, size_t len);

/* The journal has the batch that is on its way, and the host hears of it. */
void fixture_append(struct fixture *f);
/* The same until none is on its way. */
void fixture_append_all(struct fixture *f);
/* Makes the room of another host here, as a new owner does: from its last image (NULL: none) and the batches after it. */
int fixture_take_over(struct fixture *f, const char *id, uint64_t epoch, const struct fixture *from);

/* The msgpack of such text into `out`. */
void fixture_pack(struct buf *out, const char *json);

#endif
