/*
 * A bounded queue of records from any number of threads to one consumer.
 *
 * Decides: whether a record still fits. Knows nothing of what is in a record. Invariant: `count` and `bytes` cover every
 * record from its push until queue_done(), also while the consumer works on it, so the limits bound memory and not just
 * the list. The lock is held for a few instructions only; nobody ever waits for room.
 */
#ifndef BUS_QUEUE_H
#define BUS_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* First member of every record; records come from malloc(). */
struct queue_item {
    struct queue_item *next;
    size_t size; /* bytes the record stands for */
};

struct queue {
    pthread_mutex_t lock;
    struct queue_item *head;
    struct queue_item *tail;
    struct queue_item *taken; /* consumer only */
    atomic_size_t count;
    atomic_size_t bytes;
    size_t max_count;
    size_t max_bytes;
};

enum queue_pushed { QUEUE_FULL, QUEUE_PUSHED, QUEUE_PUSHED_FIRST };

void queue_init(struct queue *q, size_t max_count, size_t max_bytes);
/* The caller has popped everything before. */
void queue_deinit(struct queue *q);
/* Any thread. Takes `item` unless FULL. `always` ignores the limits: for records whose number is bounded elsewhere. FIRST:
 * the consumer may be asleep, wake it. */
enum queue_pushed queue_push(struct queue *q, struct queue_item *item, bool always);
/* Consumer only. The oldest record, still accounted for, or NULL. */
struct queue_item *queue_pop(struct queue *q);
/* Consumer only. Ends the accounting of a popped record and frees it. */
void queue_done(struct queue *q, struct queue_item *item);
/* Any thread: below half of both limits, so that a whole batch has a chance. */
bool queue_roomy(struct queue *q);

#endif
