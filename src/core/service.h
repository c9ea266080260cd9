/*
 * The instances of one service, as one node sees them: which of them gets the next request.
 *
 * Decides: whoever has the fewest requests of ours open is next, in turn where they are equal; whoever let one time out
 * gets none for a while (1 s, doubling to 30 s), then a single one to prove itself; whoever leaves pings unanswered gets none
 * while there is another. Must not know the bus, clocks or what a request says.
 *
 * Why not a queue group: NATS deals a group's messages out without looking whether they are read, so a frozen member takes its
 * share for as long as it is frozen. Counting what is open bounds the loss at once: a frozen instance has soon more open
 * than the others, whatever the time-out. Weak spot: only what this node has sent is counted.
 *
 * Invariant: at the most SERVICE_INSTANCES_MAX are known; while one is known, service_next() names one, however bad.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include <stdbool.h>

#include "base/id.h"
#include "base/time.h"

enum { SERVICE_INSTANCES_MAX = 64, SERVICE_PENALTY_MS = 1000, SERVICE_PENALTY_MAX_MS = 30000, SERVICE_FORGET_MS = 120000 };

struct service_instance {
    struct id name;
    unsigned open;       /* requests sent and not ended */
    unsigned missed;     /* time-outs in a row */
    unsigned unanswered; /* pings in a row */
    bool probing;        /* after a time-out: the one request that may heal it is open */
    struct mono heard;   /* the last word of it, whatever it was */
    struct mono penalty_until;
};

struct service { /* zeroed: none known */
    unsigned count, turn;
    struct service_instance items[SERVICE_INSTANCES_MAX];
};

/* It answered a ping. Adds it if it is new; false: there is no place for one more. */
bool service_heard(struct service *s, const char *name, struct mono now);
/* All are pinged. Forgets who has not said a word for SERVICE_FORGET_MS. */
void service_pinged(struct service *s, struct mono now);
/* It was not pinged for long: who was there must answer again before it counts as well. */
void service_doubt(struct service *s);
/* Does anybody answer pings? */
bool service_alive(const struct service *s);
/* Who is next; NULL: none is known. Borrowed until the next call. Does not count as sent. */
const struct service_instance *service_next(struct service *s, struct mono now);
const struct service_instance *service_find(const struct service *s, const char *name);

/* A request to it begins, and ends in one of the four ways below. Names that are not known (any more) are ignored. */
void service_sent(struct service *s, const char *name, struct mono now);
void service_answered(struct service *s, const char *name, struct mono now);
/* It had all its time. True: a penalty begins. */
bool service_missed(struct service *s, const char *name, struct mono now);
/* Nobody listens there any more: it is forgotten. */
void service_gone(struct service *s, const char *name);
/* It was given up, for a reason that says nothing of the instance. */
void service_dropped(struct service *s, const char *name);

#endif
