/*
 * Waking a libuv loop from another thread.
 *
 * Decides: that many wake-ups before the loop runs are one. Must not know what waits for the loop.
 * Why not uv_async_t: up to libuv 1.44 a loop that wakes while the sender is still inside uv_async_send() spins, up to 997
 * pauses (55 us on recent processors), and then yields. Measured: that happened two times for each journalled add when sender
 * and loop shared a processor.
 * Invariant: what was pushed to a queue before wake_send() is seen by the callback.
 */
#ifndef BUS_WAKE_H
#define BUS_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

struct wake {
    uv_poll_t poll;
    int fd;
    atomic_bool pending;
    void (*fn)(void *arg);
    void *arg;
};

/* Before the loop runs, in any thread. `fn` is called in the loop's. IO: no descriptor; nothing is left behind. */
MUST_USE int wake_init(struct wake *w, uv_loop_t *loop, void (*fn)(void *arg), void *arg);
/* Any thread, from wake_init() to wake_deinit(). */
void wake_send(struct wake *w);
/* After the handle was closed with the others of its loop, and when no thread can send any more. Also after a wake_init() that
 * failed. */
void wake_deinit(struct wake *w);

#endif
