/*
 * nats.c's socket on the bus thread's loop.
 *
 * Decides: when the socket is polled, and for what. Knows nothing of what is read. nats.c calls the four functions below
 * from any of its threads, the reconnecting one among them, and holds its connection's lock meanwhile; libuv is touched on
 * the bus thread alone. It stands in for nats.c's own libuv adapter, which hands a new socket over outside its lock: two
 * reconnects in quick succession poll one socket twice there, and that ends the connection for good.
 * Invariant: what is polled follows the newest attach, read, write or detach; older ones need not be carried out.
 */
#ifndef BUS_NATS_POLL_H
#define BUS_NATS_POLL_H

#include <nats/nats.h>
#include <stdbool.h>
#include <uv.h>

struct nats_poll {
    uv_loop_t *loop;
    uv_thread_t thread; /* the bus thread's */
    uv_async_t wake;
    uv_mutex_t lock;
    /* guarded by the lock */
    natsConnection *nc;
    natsSock socket;
    unsigned generation; /* +1 with each socket */
    bool attached;
    int wanted; /* UV_READABLE, UV_WRITABLE */
    /* bus thread */
    uv_poll_t *handle; /* NULL: nothing is polled */
    unsigned polled;   /* the generation of `handle` */
    int polled_for;
};

/* On the bus thread, before the first connect; `loop` outlives `p`. */
int nats_poll_init(struct nats_poll *p, uv_loop_t *loop);
/* On the bus thread, after nats.c has said goodbye: stops polling. The handles end with the loop's next runs; after them
 * nats_poll_deinit() frees the rest. */
void nats_poll_close(struct nats_poll *p);
void nats_poll_deinit(struct nats_poll *p);

/* For natsOptions_SetEventLoop(), with `p` in the place of the loop. */
natsStatus nats_poll_attach(void **user, void *p, natsConnection *nc, natsSock socket);
natsStatus nats_poll_read(void *user, bool add);
natsStatus nats_poll_write(void *user, bool add);
natsStatus nats_poll_detach(void *user);

#endif
