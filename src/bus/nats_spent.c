/*
 * Messages of nats.c that are no longer needed, given back many at a time.
 *
 * Decides: when they are given back. natsMsg_Destroy() only hands a message to a thread that frees it, and wakes that thread,
 * which then runs before those that have something to do: measured, an append on one processor took 20 % longer.
 * Invariant: at most NATS_SPENT_MAX small messages are held, until nats_spent_free(). Bus thread only.
 */
#include "bus/nats_engine.h"

enum { SMALL_BYTES = 4096 };

void nats_spent_free(struct bus_nats *b)
{
    while (b->spent_count)
        natsMsg_Destroy(b->spent[--b->spent_count]);
}

void nats_spend(struct bus_nats *b, natsMsg *msg)
{
    if (!msg)
        return;
    if (natsMsg_GetDataLength(msg) > SMALL_BYTES) {
        natsMsg_Destroy(msg);
        return;
    }
    b->spent[b->spent_count++] = msg;
    if (b->spent_count == NATS_SPENT_MAX)
        nats_spent_free(b);
}
