/*
 * Patience: who is being waited for, since when, and what happens when it was too long.
 *
 * Decides the fate of a connection that is late. Knows nothing of frames. Invariant: every queue is in the order of
 * since_ms, and the timer is due no later than the earliest deadline.
 */
#include "gate/state.h"

static struct conn *conn_of(struct link *l)
{
    return (struct conn *)((char *)l - offsetof(struct conn, waiting));
}

void link_init(struct link *head)
{
    head->prev = head->next = head;
}

void link_add(struct link *head, struct link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

void link_del(struct link *l)
{
    if (!l->next)
        return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}

void wait_init(struct gate *g)
{
    for (int i = 0; i < WAIT_COUNT; i++)
        link_init(&g->waits[i]);
    g->wait_ms[WAIT_HELLO] = g->config.hello_timeout_ms;
    g->wait_ms[WAIT_ACTIVE] = g->config.idle_timeout_ms / 2;
    g->wait_ms[WAIT_QUIET] = g->config.idle_timeout_ms - g->config.idle_timeout_ms / 2;
    g->wait_ms[WAIT_CLOSE] = g->config.close_timeout_ms;
}

static void arm(struct gate *g, uint64_t due_ms)
{
    if (g->destroying || (uv_is_active((uv_handle_t *)&g->timer) && g->timer_due_ms <= due_ms))
        return;
    uint64_t now = uv_now(g->config.loop);
    g->timer_due_ms = due_ms;
    uv_timer_start(&g->timer, wait_timer, due_ms > now ? due_ms - now : 0, 0);
}

void wait_enter(struct conn *c, enum conn_wait wait)
{
    struct gate *g = c->gate;
    wait_leave(c);
    if ((wait == WAIT_ACTIVE || wait == WAIT_QUIET) && g->config.idle_timeout_ms == 0)
        return;
    c->wait = (uint8_t)wait;
    c->since_ms = uv_now(g->config.loop);
    link_add(&g->waits[wait], &c->waiting);
    arm(g, c->since_ms + g->wait_ms[wait]);
}

void wait_leave(struct conn *c)
{
    link_del(&c->waiting);
    c->wait = WAIT_NONE;
}

static void expire(struct conn *c)
{
    switch ((enum conn_wait)c->wait) {
    case WAIT_HELLO:
        c->gate->stats.hello_timeouts++;
        wait_leave(c);
        if (c->opened)
            conn_refuse(c, ROOM_E_TIMEOUT, "no hello in time");
        else
            conn_drop(c, "timeout");
        break;
    case WAIT_ACTIVE:
        wait_enter(c, WAIT_QUIET);
        if (c->state == CONN_WS)
            ws_write_ping(c);
        break;
    case WAIT_QUIET:
        c->gate->stats.idle_timeouts++;
        conn_close(c, "idle_timeout");
        break;
    case WAIT_CLOSE:
        conn_drop(c, NULL);
        break;
    case WAIT_NONE:
        break;
    }
}

void wait_timer(uv_timer_t *timer)
{
    struct gate *g = timer->data;
    uint64_t now = uv_now(g->config.loop);
    for (int i = 0; i < WAIT_COUNT; i++) {
        while (!g->destroying && g->waits[i].next != &g->waits[i]) {
            struct conn *c = conn_of(g->waits[i].next);
            uint64_t due = c->since_ms + g->wait_ms[i];
            if (due > now) {
                arm(g, due);
                break;
            }
            expire(c);
        }
    }
}
