/*
 * The bounded queue of queue.h: a locked list the consumer takes over whole, so that one lock serves a batch.
 *
 * Must not know what it carries. Invariant: records leave in the order in which they were pushed.
 */
#include "bus/queue.h"

#include <stdlib.h>

void queue_init(struct queue *q, size_t max_count, size_t max_bytes)
{
    pthread_mutex_init(&q->lock, NULL);
    q->head = q->tail = q->taken = NULL;
    atomic_init(&q->count, 0);
    atomic_init(&q->bytes, 0);
    q->max_count = max_count;
    q->max_bytes = max_bytes;
}

void queue_deinit(struct queue *q)
{
    pthread_mutex_destroy(&q->lock);
}

/* Never beyond `max`, not even for a moment: others look at the figures. */
static bool reserve(atomic_size_t *figure, size_t more, size_t max, bool always)
{
    size_t now = atomic_load(figure);
    do {
        if (!always && now + more > max)
            return false;
    } while (!atomic_compare_exchange_weak(figure, &now, now + more));
    return true;
}

enum queue_pushed queue_push(struct queue *q, struct queue_item *item, bool always)
{
    size_t size = item->size;
    if (!reserve(&q->count, 1, q->max_count, always))
        return QUEUE_FULL;
    if (!reserve(&q->bytes, size, q->max_bytes, always)) {
        atomic_fetch_sub(&q->count, 1);
        return QUEUE_FULL;
    }
    item->next = NULL;
    pthread_mutex_lock(&q->lock);
    bool first = q->head == NULL;
    if (first)
        q->head = item;
    else
        q->tail->next = item;
    q->tail = item;
    pthread_mutex_unlock(&q->lock);
    return first ? QUEUE_PUSHED_FIRST : QUEUE_PUSHED;
}

struct queue_item *queue_pop(struct queue *q)
{
    if (!q->taken) {
        pthread_mutex_lock(&q->lock);
        q->taken = q->head;
        q->head = q->tail = NULL;
        pthread_mutex_unlock(&q->lock);
    }
    struct queue_item *item = q->taken;
    if (item)
        q->taken = item->next;
    return item;
}

void queue_done(struct queue *q, struct queue_item *item)
{
    atomic_fetch_sub(&q->bytes, item->size);
    atomic_fetch_sub(&q->count, 1);
    free(item);
}

bool queue_roomy(struct queue *q)
{
    return atomic_load(&q->count) < q->max_count / 2 && atomic_load(&q->bytes) < q->max_bytes / 2;
}
