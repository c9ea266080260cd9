/*
 * What this node believes about the cluster: servers and rooms, as the registries and the beats tell.
 *
 * Decides: which entries count (newer revision or newer seat count wins), which servers are usable, and which rooms are
 * open for a join. It must not decide anything about the cluster itself: a view may be stale, and whoever acts on it
 * confirms with the owner or by compare-and-set.
 * Invariant: a room is in its type's open list exactly when room_is_open() holds for it.
 */
#ifndef CORE_VIEW_H
#define CORE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/id.h"
#include "base/map.h"
#include "base/time.h"

enum { ADDRESS_SIZE = 256, REGION_SIZE = 65, VERSION_SIZE = 32 };

enum server_status { SERVER_UP = 1, SERVER_DRAINING, SERVER_DOWN };
enum room_state { ROOM_STARTING = 1, ROOM_RUNNING, ROOM_PENDING, ROOM_PARKED };

/* The value of `servers.<id>`. */
struct server_info {
    struct id id;
    char boot[ULID_SIZE];
    char address[ADDRESS_SIZE]; /* empty: no public address, players reach it by relay only */
    uint16_t port;
    char region[REGION_SIZE];
    enum server_status status;
    uint32_t rooms, players, connections, capacity;
    double load; /* share of one core used by the loop, 0..1 */
    char version[VERSION_SIZE];
    char down_by[ULID_SIZE]; /* boot of the node that declared it down; empty otherwise */
    uint64_t queues; /* a bit for each matchmaking queue that it knows; two may share one */
};

/* The value of `rooms.<id>`. */
struct room_info {
    struct id id;
    struct id type;
    struct id owner;
    char boot[ULID_SIZE];
    char nonce[ULID_SIZE]; /* names the write: an unknown result is settled by looking for it */
    uint64_t epoch;
    uint32_t players; /* in the room now */
    uint32_t seats;   /* players and reserved seats */
    uint64_t seats_version;
    uint32_t max_players;
    uint32_t metadata_version; /* only of rooms here: +1 when what the listing shows beside the counts has changed */
    bool locked;
    bool is_private;
    uint8_t durability; /* 0 none, 1 snapshot, 2 journal */
    uint8_t restores;   /* owners in a row that did not get it to run for long; CORE_RESTORES_MAX: it is parked */
    enum room_state state;
    struct wall created;
    uint64_t saved_epoch, saved_version; /* of the snapshot that it was given away with, until it runs; 0: none */
};

struct view_server {
    struct server_info info;
    uint64_t revision; /* of the registry entry; 0: known from beats only */
    bool suspect;      /* a probe or a call found nobody there; cleared by its next sign of life */
    bool beaten;       /* last_beat is set */
    struct mono last_beat;
    bool hides;          /* some of its rooms are hidden */
    uint32_t handed_out; /* rooms given to it since its last count; keeps a burst from going to one place */
    int64_t latency_us;  /* last measured round trip, 0: not measured */
    uint32_t sweep;
};

struct view_room {
    struct room_info info;
    uint64_t revision; /* of the registry entry; 0: known from an owner's answer only */
    uint32_t in_flight; /* seats this node has asked for and not heard about */
    bool hidden;        /* its owner did not answer for it; until the owner's next sign of life or the next entry */
    bool unknown;       /* its owner does not know it; until the next entry */
    bool open;          /* linked in its type's list */
    uint32_t sweep;
    struct view_type *type;
    struct view_room *open_prev, *open_next;
};

struct view_type {
    struct id name;
    struct view_room *open_head, *open_tail;
    uint32_t rooms;
};

struct view {
    const struct alloc *alloc;
    struct map servers; /* struct view_server */
    struct map rooms;   /* struct view_room */
    struct map types;   /* struct view_type */
    uint32_t sweep_servers, sweep_rooms;
    uint64_t rooms_revision; /* the highest heard of */
    bool servers_synced, rooms_synced; /* a whole listing has been seen since the start */
};

void view_init(struct view *v, const struct alloc *alloc);
void view_deinit(struct view *v);

/* Borrowed until the entry is removed; NULL when unknown. */
struct view_server *view_server(const struct view *v, const char *id);
struct view_room *view_room(const struct view *v, const char *id);

/* Takes over an entry read from the registry. An older revision than the one known changes nothing. NULL: no memory. */
struct view_server *view_put_server(struct view *v, const struct server_info *info, uint64_t revision);
struct view_room *view_put_room(struct view *v, const struct room_info *info, uint64_t revision);
/* In a listing: the entry is still the last one. False: it is not known here. */
bool view_keep(struct view *v, bool rooms, const char *id, uint64_t revision);
/* `revision` is that of the delete marker; 0 removes whatever is there. */
void view_del_server(struct view *v, const char *id, uint64_t revision);
void view_del_room(struct view *v, const char *id, uint64_t revision);

/* A newer seat count from the owner's own answer. */
void view_seats(struct view *v, struct view_room *r, uint32_t seats, uint64_t seats_version, uint32_t max_players);
/* Puts the room into its type's open list or takes it out, as its fields now say. */
void view_reindex(struct view *v, struct view_room *r);
/* The same for all rooms of one server, after the server's usability changed. */
void view_reindex_server(struct view *v, const char *server);

/* Out of sight for new joins: a call about this room was not answered, or its owner does not know it (`unknown`). */
void view_hide(struct view *v, struct view_room *r, bool unknown);
/* The server has shown life: what it owns may be tried again. */
void view_unhide(struct view *v, struct view_server *s);

/* A whole listing begins, or has ended: what it did not mention is forgotten. */
void view_sync_begin(struct view *v, bool rooms);
void view_sync_end(struct view *v, bool rooms);

/* Up, not suspect. Draining servers are usable for players of existing rooms, not for new ones. */
bool view_server_usable(const struct view_server *s);
/* The oldest room of the type that seems to have a free seat, or NULL. */
struct view_room *view_open_room(const struct view *v, const char *type);

/* Rank of `candidate` for `subject` (rendezvous hashing, Thaler and Ravishankar 1996): the highest wins, every node
 * computes the same, and a node that leaves moves only what was its own. */
uint64_t view_rank(const char *subject, const char *candidate);

#endif
