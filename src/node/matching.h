/*
 * Inside of the node: matchmaking, between the book of who waits (core/match.h), the bucket `matchmaking`, and players.
 * Only files of node/ include this, beside state.h.
 *
 * matching.c the bucket: what is in it, and every write of it
 * ticket.c   players of this node who wait, or are told that they wait no more
 * pair.c     matches that this node makes: it is first in rank for their queue
 * mend.c     what others have left half done
 *
 * How a match comes about. Its entry is written first; then its tickets are taken, each by compare-and-set at the revision in
 * which it waited; then a seat for each player is reserved in a room whose id follows from the match's; then the entry changes
 * from `open` to `made`, by compare-and-set. That change decides, for all its tickets at once. Whoever is to clear up after a
 * matchmaker that is dead, or was, changes the entry to `undone` instead; only one of the two can be. So tickets of a match
 * that is made stand, those of one that is undone go back, and a ticket that names a match without an entry was taken too late,
 * by somebody who did not know that his match was over: it goes back, too. An entry is removed after the last of its tickets.
 * Everything here may be repeated; what came of a write is not waited for where the bucket tells it anyway.
 */
#ifndef NODE_MATCHING_H
#define NODE_MATCHING_H

#include "core/match.h"
#include "node/state.h"

enum {
    MATCH_KV_MS = 2000,
    MATCH_PAIRS_MAX = 256,      /* matches under way on this node; more wait for their turn */
    MATCH_RETRY_MS = 1000,      /* tickets of a match that failed are left alone for so long */
    MATCH_LATE_MS = 3000,       /* a write that was sent is in the bucket by then, or never: more than MATCH_KV_MS */
    MATCH_MADE_KEEP_MS = 90000, /* tickets of a match that is made, whose gateway does not remove them */
    MATCH_FOREIGN_MS = 15000,   /* an open match of a node that is alive is left to it for so long */
    MATCH_KEY_SIZE = 6 + ID_SIZE,
};

enum pair_state { PAIR_OPEN = 1, PAIR_ASKING, PAIR_MADE, PAIR_UNDONE };

/* What an entry of a match says. */
struct pair {
    struct id id, type, room, server, boot;
    const struct queue *queue;
    enum pair_state state;
    uint64_t revision; /* 0: not written yet, for all that is known */
    unsigned ticket_count, player_count;
    struct id *tickets, *players; /* players by teams */
    uint8_t *teams;
    int64_t confirm_ms;
    struct mono seen; /* its last change */
    char since[TIME_RFC3339_SIZE];
    uint32_t sweep;
    bool sending;          /* a write of it by mend.c is under way */
    struct driver *driver; /* this node makes it; NULL: not, or not any more */
};

enum driver_step { DRIVER_WRITE = 1, DRIVER_FIRST, DRIVER_TAKE, DRIVER_ASK, DRIVER_ACCEPT, DRIVER_SEAT, DRIVER_MAKE, DRIVER_UNDO };

struct driver {
    enum driver_step step;
    unsigned pending, seated;
    bool failed;
    struct id server; /* who has the room */
    struct mono deadline;
    const char *why;
};

/* A ticket that was asked for here. */
struct ask {
    struct id id;
    uint64_t session; /* serial; 0: gone */
    int64_t request, leave; /* the last: of the unmatch */
    struct id queue;
    bool written; /* the bucket has taken it */
    bool there;   /* and has told of it */
    bool made;    /* and so is its match */
    bool asked;   /* its players were asked to accept a match */
    unsigned seats; /* a room asked, for so many */
    const char *reason; /* why it is to leave the queue; NULL: it is not */
    struct mono since, deadline, gone_at; /* deadline us 0: none; gone_at: made, and nobody needs it then */
    char *reply;  /* of the control request that waits for it */
};

enum errand_kind {
    ERRAND_NEW_TICKET = 1, ERRAND_TICKET, ERRAND_END_TICKET, /* written, changed, removed */
    ERRAND_TAKE,                                             /* changed by the driver of its match */
    ERRAND_PAIR, ERRAND_MEND_PAIR, ERRAND_END_PAIR,          /* an entry: by its driver, by mend.c, removed */
    ERRAND_LOOK,                                             /* is there an entry? */
    ERRAND_CLOSE                                             /* of a room that nobody needs */
};

/* A write that is under way, and what is true once it is done. */
struct errand {
    enum errand_kind kind;
    struct id ticket, match, room;
    enum match_state state;
    enum pair_state pair_state;
    unsigned accepted;
    bool mine; /* the ticket is this node's from then on */
};

struct matching {
    struct match book;
    struct map pairs;     /* match id -> pair */
    struct map asks;      /* ticket id -> ask */
    struct map by_player; /* -> session; the newest, if there are two */
    struct map accepts;   /* player -> accept */
    struct umap errands;
    uint64_t last_errand;
    unsigned driven;
    uint32_t sweep;
    bool watched, listed;
    struct mono next_mend, next_find;
    uint64_t made, undone; /* by this node, since the start */
};

/* matching.c */
struct pair *matching_pair(const struct node *n, const char *id);
const char *matching_key(char key[MATCH_KEY_SIZE], const struct id *match);
struct pair *matching_pair_new(struct node *n, const char *id, unsigned tickets, unsigned players);
void matching_pair_free(struct node *n, struct pair *p);
/* Copies `e`. False: no memory. */
struct errand *matching_errand(struct node *n, const struct errand *e, uint64_t *token);
/* Each false: it was not sent. What a ticket or an entry is to say is in the errand and the pair. */
bool matching_write_ticket(struct node *n, struct match_ticket *t, const struct errand *e);
bool matching_end_ticket(struct node *n, struct match_ticket *t);
bool matching_write_pair(struct node *n, struct pair *p, enum errand_kind kind, enum pair_state state, uint64_t expected);
bool matching_end_pair(struct node *n, struct pair *p);
bool matching_look(struct node *n, const struct id *match);
/* May tickets be written now? */
bool matching_ready(const struct node *n);
/* Reads the properties that the queue wants. INVALID, TOO_BIG. */
MUST_USE int matching_properties(const struct queue *q, struct wire_raw properties, struct match_info *out, struct err_detail *detail);
/* The first write of a ticket. */
bool matching_write_new(struct node *n, const struct queue *q, const struct match_info *info);

/* ticket.c */
void ticket_written(struct node *n, const struct id *ticket, bool ok, uint64_t revision);
/* Its state is another now. */
void ticket_pair(struct node *n, struct pair *p);
void ticket_tick(struct node *n);
void ticket_deinit(struct node *n);

/* pair.c */
bool pair_mine(const struct node *n, const struct queue *q);
void pair_done(struct node *n, const struct errand *e, const struct bus_event *ev);
void pair_tick(struct node *n);
/* Another one has written it, or removed it. */
void pair_lost(struct node *n, struct pair *p);

/* mend.c */
void mend_tick(struct node *n);
void mend_looked(struct node *n, const struct errand *e, const struct bus_event *ev);
void mend_undone(struct node *n, struct pair *p);

#endif
