/*
 * Inside the host: what a room and a host are made of, shared by host.c, run.c, due.c, service.c, view.c and lobby.c only.
 *
 * Invariants: a callback of a type runs only between run_enter() and run_exit(), and what it asked for that ends seats or
 * the room is carried out by run_settle() afterwards, so that no callback ever sees its room vanish.
 */
#ifndef ROOM_ROOM_H
#define ROOM_ROOM_H

#include "base/map.h"
#include "base/rng.h"
#include "room/host.h"
#include "room/seats.h"

struct lobby;

enum { DUE_NONE = UINT32_MAX };

struct room {
    struct host *host;
    struct room *prev, *next; /* all rooms, in the order of their start */
    struct room *lobby_next;  /* rooms of the type lobby */
    const struct room_type_def *def;
    struct alloc_budget budget; /* seats, metadata and what the type takes */
    struct seats seats;
    void *user;
    uint64_t number; /* of its start: settles equal due times the same way on every run */
    uint64_t epoch;
    struct wall created;
    struct mono started, last_tick, next_tick, empty_since, due;
    uint32_t due_at; /* place in the heap, DUE_NONE: not in it */
    unsigned metadata_len;
    uint32_t metadata_version; /* +1 at each change */
    uint8_t *metadata;
    struct rng rng;
    struct buf *reply; /* where room_reply() writes; NULL: not now */
    size_t reply_at; /* where it began to */
    int reply_error;
    uint64_t told_version; /* seats.version the node knows of */
    int64_t entered_us;
    bool private_room, locked, dirty, kicks, closing, over_memory, stuck, in_callback;
    char *reason; /* of room_close(), an alloc_str() of the host's; NULL: no memory for it */
    char id[];
};

struct host {
    struct host_config config;
    struct map rooms;
    struct room *head, *tail;
    struct room **heap; /* rooms with something due, the first due at 0; holds all rooms if need be */
    uint32_t heap_len, heap_cap;
    uint64_t started, players;
    struct mono now; /* of the running call */
    struct lobby *lobby;
};

/* due.c: the order in which rooms have something to do. */
/* Makes place for one more room; false: no memory. */
bool due_prepare(struct host *h, size_t rooms);
/* Puts the room where its seats, tick and emptiness say. */
void due_update(struct room *r);
void due_remove(struct room *r);

/* run.c: calling into a type, and what follows from it. */
void run_enter(struct room *r);
void run_exit(struct room *r);
/* Calls state() for the player and appends to `out`; on error `out` is as before. */
int run_state(struct room *r, const char *player, struct buf *out);
int run_message(struct room *r, const char *player, const void *data, size_t len, struct buf *out);
void run_leave(struct room *r, const char *player, const char *reason);
/* Carries out pending kicks and the room's end, refreshes the due time, tells the node of changes. Returns 0 or, if the room
 * has ended, why: NO_MEMORY, INTERNAL or CANCELLED (it closed itself). `r` is gone then. */
int run_settle(struct room *r);
/* Ends the room now; `r` is gone afterwards. */
void run_end(struct room *r, const char *reason);
/* Frees a room that the node has not heard of; dispose() is called if `created`. */
void run_discard(struct room *r, bool created);

/* Cuts `reason` to ROOM_REASON_MAX characters; NULL or empty becomes `otherwise`. */
void run_reason(char out[ROOM_REASON_MAX + 1], const char *reason, const char *otherwise);

#endif
