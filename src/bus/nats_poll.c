/* See nats_poll.h. */
#include "bus/nats_poll.h"

#include <stdlib.h>
#include <string.h>

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct nats_poll *p = handle->data;
    uv_mutex_lock(&p->lock);
    natsConnection *nc = p->attached && p->generation == p->polled ? p->nc : NULL;
    uv_mutex_unlock(&p->lock);
    if (!nc)
        return; /* of a socket that has been replaced */
    if (status != 0 || (events & UV_READABLE))
        natsConnection_ProcessReadEvent(nc); /* a broken socket is found broken by reading it */
    if (status == 0 && (events & UV_WRITABLE) && p->handle == handle)
        natsConnection_ProcessWriteEvent(nc);
}

static void release(uv_handle_t *handle)
{
    free(handle);
}

static void drop(struct nats_poll *p)
{
    if (p->handle)
        uv_close((uv_handle_t *)p->handle, release);
    p->handle = NULL;
    p->polled_for = 0;
}

static bool take(struct nats_poll *p, natsSock socket, unsigned generation)
{
    drop(p);
    uv_poll_t *handle = malloc(sizeof *handle);
    if (!handle)
        return false;
    if (uv_poll_init_socket(p->loop, handle, socket) != 0) {
        free(handle);
        return false;
    }
    handle->data = p;
    p->handle = handle;
    p->polled = generation;
    return true;
}

/* Bus thread. False: the socket cannot be polled. */
static bool apply(struct nats_poll *p)
{
    uv_mutex_lock(&p->lock);
    bool attached = p->attached;
    natsSock socket = p->socket;
    unsigned generation = p->generation;
    int wanted = p->wanted;
    uv_mutex_unlock(&p->lock);
    if (!attached) {
        drop(p);
        return true;
    }
    if ((!p->handle || p->polled != generation) && !take(p, socket, generation))
        return false;
    if (p->polled_for == wanted)
        return true;
    p->polled_for = wanted;
    return (wanted ? uv_poll_start(p->handle, wanted, on_poll) : uv_poll_stop(p->handle)) == 0;
}

static void on_wake(uv_async_t *wake)
{
    struct nats_poll *p = wake->data;
    if (apply(p))
        return;
    uv_mutex_lock(&p->lock);
    natsConnection *nc = p->attached ? p->nc : NULL;
    uv_mutex_unlock(&p->lock);
    if (nc)
        natsConnection_Close(nc); /* no memory or no descriptors: said by its closed callback */
}

static natsStatus changed(struct nats_poll *p)
{
    uv_thread_t self = uv_thread_self();
    if (uv_thread_equal(&self, &p->thread))
        return apply(p) ? NATS_OK : NATS_ERR;
    return uv_async_send(&p->wake) == 0 ? NATS_OK : NATS_ERR;
}

static natsStatus want(struct nats_poll *p, int event, bool add)
{
    uv_mutex_lock(&p->lock);
    p->wanted = add ? p->wanted | event : p->wanted & ~event;
    uv_mutex_unlock(&p->lock);
    return changed(p);
}

natsStatus nats_poll_attach(void **user, void *loop, natsConnection *nc, natsSock socket)
{
    struct nats_poll *p = loop;
    uv_mutex_lock(&p->lock);
    p->nc = nc;
    p->socket = socket;
    p->generation++;
    p->attached = true;
    p->wanted = UV_READABLE;
    uv_mutex_unlock(&p->lock);
    *user = p;
    return changed(p);
}

natsStatus nats_poll_read(void *user, bool add)
{
    return want(user, UV_READABLE, add);
}

natsStatus nats_poll_write(void *user, bool add)
{
    return want(user, UV_WRITABLE, add);
}

natsStatus nats_poll_detach(void *user)
{
    struct nats_poll *p = user;
    uv_mutex_lock(&p->lock);
    p->attached = false;
    uv_mutex_unlock(&p->lock);
    return changed(p);
}

int nats_poll_init(struct nats_poll *p, uv_loop_t *loop)
{
    memset(p, 0, sizeof *p);
    p->loop = loop;
    p->thread = uv_thread_self();
    int rc = uv_mutex_init(&p->lock);
    if (rc)
        return rc;
    p->wake.data = p;
    rc = uv_async_init(loop, &p->wake, on_wake);
    if (rc)
        uv_mutex_destroy(&p->lock);
    return rc;
}

void nats_poll_close(struct nats_poll *p)
{
    drop(p);
    uv_close((uv_handle_t *)&p->wake, NULL);
}

void nats_poll_deinit(struct nats_poll *p)
{
    uv_mutex_destroy(&p->lock);
}
