/* See wake.h. Invariant: the flag is cleared before the callback looks at any queue. */
#include "bus/wake.h"

#include <sys/eventfd.h>
#include <unistd.h>

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct wake *w = handle->data;
    eventfd_t value;
    (void)status;
    (void)events;
    (void)eventfd_read(w->fd, &value);
    atomic_store(&w->pending, false);
    w->fn(w->arg);
}

int wake_init(struct wake *w, uv_loop_t *loop, void (*fn)(void *arg), void *arg)
{
    atomic_init(&w->pending, false);
    w->fn = fn;
    w->arg = arg;
    w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    w->poll.data = w;
    if (w->fd < 0)
        return ROOM_E_IO;
    if (uv_poll_init(loop, &w->poll, w->fd) == 0 && uv_poll_start(&w->poll, UV_READABLE, on_readable) == 0)
        return 0;
    wake_deinit(w);
    return ROOM_E_IO;
}

void wake_send(struct wake *w)
{
    if (!atomic_exchange(&w->pending, true))
        (void)eventfd_write(w->fd, 1);
}

void wake_deinit(struct wake *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}
