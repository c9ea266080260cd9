/*
 * Several cores over one simulated registry.
 *
 * Decides nothing about rooms: it applies registry operations in the order in which they come, tells every live node of
 * them, carries beats and the calls of moves, and answers for the room host as the test says (`restore`, `hold_release`,
 * `release_code`). A killed node is
 * declared down at once; who notices a death is core_member's subject. Time moves only by cluster_run().
 * Invariant: cluster_end() finds every byte given back; a room that stands still does so on the node that runs it.
 */
#ifndef UNIT_CORE_CLUSTER_H
#define UNIT_CORE_CLUSTER_H

#include "core_world.h"

enum { CLUSTER_NODES = 6, CLUSTER_HOLD = 1 /* a restore that is not answered */ };

/* What becomes of a room write. */
enum cluster_fault {
    CLUSTER_FINE,
    CLUSTER_APPLIED,
    CLUSTER_LOST,
    CLUSTER_LATE, /* unknown; applied with the next one */
    CLUSTER_HELD  /* unknown; applied by cluster_late() */
};

/* What becomes of calls between nodes. */
enum cluster_calls { CALLS_FINE, CALLS_LOST, CALLS_UNHEARD /* the answer is lost */ };

struct cluster_room { /* an entry of the registry, and what was said about the room */
    struct room_info info;
    uint64_t revision;
    bool deleted;
    int migrated, parked, disposed, gone, restores, drops, releases, keeps;
    unsigned still; /* the node + 1 on which it stands still */
    uint64_t token; /* of the last release */
    char reason[24]; /* of the last of these that everybody hears of */
    struct id from;
    struct mono moved;
};

struct cluster;

struct cluster_node {
    struct core *c;
    struct id id;
    struct core_config config;
    bool dead, stopped;
    int life, draining;
};

struct cluster_fx {
    struct cluster_fx *next;
    unsigned node;
    int life;
    struct core_fx fx;
    char reason[24];
};

struct cluster {
    struct alloc_budget memory;
    struct core_config config; /* of the nodes to come */
    struct mono now;
    struct wall wall;
    uint64_t revision, seed; /* of the test, to be said if it fails */
    struct cluster_node nodes[CLUSTER_NODES];
    unsigned count;
    struct server_info servers[CLUSTER_NODES];
    uint64_t server_revisions[CLUSTER_NODES];
    struct map rooms; /* struct cluster_room */
    struct cluster_fx *first, **last;
    struct core_fx late; /* a write to be applied before the next one */
    int late_keeps;      /* how often the room had been kept by then: that it is again means that the write is dead */
    bool has_late, hold_release;
    bool deaf; /* nobody hears of a room's write, but in a listing */
    int release_code; /* why a room cannot be saved */
    enum cluster_calls calls, news; /* questions whether a node would take a room; news that it has */
    unsigned asked, still, still_max; /* such questions; rooms that stand still, and the most at a time */
    struct core_answer answer; /* the last to one of the test's own requests */
    unsigned answers;
    enum cluster_fault fault; /* of the next write of a room */
    unsigned faults; /* and of so many more */
    bool spare;      /* but for writes that give no room away */
    int (*restore)(struct cluster *k, unsigned node, const struct core_fx *fx);
    int64_t slowest_us; /* step, in processor time */
};

void cluster_init(struct cluster *k);
void cluster_end(struct cluster *k);
/* Nodes `a`, `b`, ... that serve. `capacity` in rooms. Returns the index. */
unsigned cluster_node(struct cluster *k, uint32_t capacity);
void cluster_run(struct cluster *k, int ms);
/* The process is gone, and nobody has noticed. */
void cluster_crash(struct cluster *k, unsigned node);
/* The same, and the registry says down. */
void cluster_kill(struct cluster *k, unsigned node);
/* A new process with the same id, once dead. */
void cluster_restart(struct cluster *k, unsigned node);
void cluster_event(struct cluster *k, unsigned node, struct core_event ev);
/* A room of `type` that runs on the node: `safe` (journal) or `duel` (none). */
void cluster_room(struct cluster *k, unsigned node, const char *id, const char *type);
struct cluster_room *cluster_look(struct cluster *k, const char *id); /* NULL: never written */
/* The same as written by somebody else. */
void cluster_write(struct cluster *k, const struct room_info *info);
void cluster_stop(struct cluster *k, unsigned node);
/* As an operator asks for it; `to` empty: anywhere. */
void cluster_move(struct cluster *k, unsigned node, const char *id, const char *to);
/* The room host has done what it was asked: the last release, or the one of `token`. */
void cluster_saved(struct cluster *k, unsigned node, const char *id);
void cluster_released(struct cluster *k, unsigned node, const char *id, uint64_t token);
void cluster_late(struct cluster *k);
void cluster_listing(struct cluster *k, unsigned node);
/* Rooms that the node runs. */
unsigned cluster_running(const struct cluster *k, unsigned node);
/* Does exactly this node run it, and is it listed so? */
bool cluster_runs(struct cluster *k, unsigned node, const char *id);

#endif
