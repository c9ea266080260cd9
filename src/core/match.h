/*
 * Who waits in the matchmaking queues, and who of them make a match.
 *
 * Decides: which tickets are matched. Whoever has waited longest comes first, and with him the longest-waiting of those that
 * fit: what must be equal is, numbers are within what his wait allows, and a party stays in one team. A match is whole or not
 * at all. Knows nothing of buckets, sessions and rooms: the caller says what a ticket's entry is, and keeps to itself what is
 * under way (`busy`).
 * Ages are of this machine's clock since the ticket was first seen here, plus the age that its entry told; nothing that must
 * be safe rests on them. Invariant: no ticket is handed out twice while it is busy; each is in its queue's list exactly once.
 *
 * Weak points: teams are filled greedily, so that a match that only a cleverer choice would fill is not found until others
 * come; and a young player's own range does not protect him from one who has waited long.
 */
#ifndef CORE_MATCH_H
#define CORE_MATCH_H

#include "base/alloc.h"
#include "base/map.h"
#include "base/time.h"
#include "core/queue.h"

enum {
    MATCH_TICKETS_MAX = 50000,    /* of all queues; beyond it a new one is refused with `full` */
    MATCH_PROPERTIES_MAX = 1024,  /* bytes of msgpack */
    MATCH_BUDGET = 100 * 1000,    /* tickets looked at in one call; the next one goes on from there */
};

enum match_state { MATCH_WAITING = 1, MATCH_MATCHED };

/* What the entry of a ticket says. */
struct match_info {
    struct id id, server, boot, session, match, room;
    enum match_state state;
    uint64_t revision;
    int64_t age_ms;          /* when the entry was written */
    struct wall since;       /* for people */
    unsigned seats;          /* a room that asks for so many players (`room`), and no player itself; 0: it is players */
    unsigned player_count;   /* the first is the leader */
    struct id players[QUEUE_PARTY_MAX];
    unsigned accepted;       /* bit of each player who has said that he is there */
    int64_t request;         /* the leader's, as he numbered it */
    const uint8_t *properties; /* one msgpack value */
    size_t properties_len;
    char equal[QUEUE_RULES_MAX * (QUEUE_VALUE_MAX + 1) + 1]; /* the values that must be equal, in the queue's order */
    double values[QUEUE_RULES_MAX];                          /* of the ranges */
};

struct match_ticket {
    struct match_ticket *prev, *next;           /* of its queue */
    struct match_ticket *older, *younger;       /* while a match is looked for: those still free, by age */
    const struct queue *queue;
    struct id id, server, boot, session, match, room;
    enum match_state state;
    uint64_t revision;
    struct mono since, not_before, orphan_since, stray_since; /* the last two are the caller's */
    struct wall since_wall;
    bool busy;
    bool sending, orphan, stray;                /* the caller's: a write of it is under way; the two times are set */
    bool free;                                  /* while a match is looked for */
    uint32_t sweep, rank, low, high;
    unsigned seats, player_count, accepted;
    int64_t request;
    struct id *players;
    uint8_t *properties;
    size_t properties_len;
    char *equal;
    double values[QUEUE_RULES_MAX];
};

struct match_queue_book {
    const struct queue *queue;
    struct match_ticket *first, *last;
    unsigned count, waiting;
    bool dirty;      /* somebody may fit now who did not before */
    struct mono after; /* where the budget ended: the age of the last who was looked at */
    struct id after_id;
};

struct match {
    const struct alloc *alloc;
    struct map tickets, leaders; /* id -> ticket; player -> the last ticket that he leads */
    unsigned queue_count;
    struct match_queue_book queues[QUEUES_MAX];
    uint32_t sweep;
    struct match_ticket **by_age, **by_value, **picked;
    size_t cap;
    uint64_t looked; /* tickets, in all calls: for who wants to know what it costs */
};

/* `queues` is borrowed for the book's life. */
void match_init(struct match *m, const struct alloc *alloc, const struct queues *queues);
void match_deinit(struct match *m);

struct match_queue_book *match_queue(struct match *m, const char *queue);
/* NULL: not here. Borrowed until it is removed. */
struct match_ticket *match_get(const struct match *m, const char *id);
struct match_ticket *match_of_leader(const struct match *m, const char *player);
/* The entry as it is now; an older revision than the one known changes nothing. NULL: no memory, no such queue, or too many. */
struct match_ticket *match_put(struct match *m, const char *queue, const struct match_info *info, struct mono now);
void match_del(struct match *m, const char *id);
/* A whole listing begins; then each that is in it is put or kept; what was not is gone at its end. */
void match_sync_begin(struct match *m);
bool match_keep(struct match *m, const char *id);
void match_sync_end(struct match *m);
/* So long it has waited. */
int64_t match_age_ms(const struct match_ticket *t, struct mono now);

/* One match: `count` tickets, the longest-waiting first, and the team of each. False: no more now; these were not taken. */
typedef bool match_found(void *arg, struct match_ticket *const *tickets, const uint8_t *teams, unsigned count);
/* Hands out matches; their tickets are busy then. True: there may be more, that the budget or the caller did not allow. */
bool match_find(struct match *m, struct match_queue_book *q, struct mono now, match_found *found, void *arg);

#endif
