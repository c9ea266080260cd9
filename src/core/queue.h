/*
 * The matchmaking queues of a node: who is matched with whom, as --queue says it.
 *
 * Decides: how an option of --queue is read, and what is wrong with one. Filled at start-up, read-only afterwards; does no I/O
 * and knows nothing of tickets. Invariant: a match of a queue has QUEUE_MATCH_MAX players at most, and each fits a team.
 */
#ifndef CORE_QUEUE_H
#define CORE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"

enum {
    QUEUES_MAX = 32,
    QUEUE_MATCH_MAX = 64, /* players of one match */
    QUEUE_PARTY_MAX = 16, /* players of one ticket */
    QUEUE_RULES_MAX = 4,  /* properties that must be equal; the same of ranges */
    QUEUE_NAME_MAX = 32,  /* characters of a property's name */
    QUEUE_VALUE_MAX = 64, /* characters of a property that must be equal */
    QUEUE_WAIT_MAX_MS = 24 * 3600 * 1000,
    QUEUE_CONFIRM_MAX_MS = 120 * 1000,
};

/* How far a number may be from that of the player who has waited longest; wider with every second he has waited. */
struct queue_range {
    char name[QUEUE_NAME_MAX + 1];
    double within, per_s, most;
};

struct queue {
    struct id name, type; /* type: of the rooms */
    unsigned teams, team_size;
    unsigned equal_count, range_count;
    char equals[QUEUE_RULES_MAX][QUEUE_NAME_MAX + 1];
    struct queue_range ranges[QUEUE_RULES_MAX];
    int64_t max_wait_ms; /* 0: for ever */
    int64_t confirm_ms;  /* every player must say that he is there within it; 0: nobody is asked */
};

struct queues { /* zeroed: none */
    unsigned count;
    struct queue items[QUEUES_MAX];
};

/* NAME=TYPE,size=N or NAME=TYPE,teams=AxB, then any of equal=PROPERTY, range=PROPERTY:WITHIN[:PER_SECOND[:MOST]],
 * max_wait=TIME, confirm=TIME. INVALID, EXISTS, FULL. */
MUST_USE int queues_add(struct queues *q, const char *spec, struct err_detail *detail);
/* NULL: no such queue. */
const struct queue *queues_find(const struct queues *q, const char *name);
/* How far the number of range `i` may be off after so long a wait. */
double queue_tolerance(const struct queue *q, unsigned i, int64_t waited_ms);
/* Players of a whole match. */
static inline unsigned queue_size(const struct queue *q)
{
    return q->teams * q->team_size;
}

#endif
