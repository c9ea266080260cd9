/*
 * Messages without an answer: they are said again when the session is taken up again.
 *
 * Decides: how much of them is kept (max_queue, together with open joins), and their numbers. Must not know connections but to
 * queue. Invariant: in the order of their numbers, each until it is answered or its room is gone.
 */
#include <stdlib.h>
#include <string.h>

#include "client/frame.h"
#include "client/state.h"

static size_t cost(const struct client_send *s)
{
    return sizeof *s + s->len;
}

int sends_keep(struct room_client *c, uint32_t room, const void *data, size_t len, const struct client_send **out)
{
    if (len > c->max_queue || c->kept + sizeof(struct client_send) + len > c->max_queue)
        return ROOM_E_FULL;
    struct client_send *s = malloc(sizeof *s + len);
    if (!s)
        return ROOM_E_NO_MEMORY;
    *s = (struct client_send){.n = ++c->last_n, .room = room, .len = (uint32_t)len};
    memcpy(s->data, data, len);
    *c->sends_end = s;
    c->sends_end = &s->next;
    c->kept += cost(s);
    *out = s;
    return 0;
}

static void take_out(struct room_client *c, struct client_send **at)
{
    struct client_send *s = *at;
    *at = s->next;
    if (c->sends_end == &s->next)
        c->sends_end = at;
    c->kept -= cost(s);
    free(s);
}

uint32_t sends_answered(struct room_client *c, uint64_t n)
{
    struct client_send **at = &c->sends;
    while (*at && (*at)->n < n)
        at = &(*at)->next;
    uint32_t room = *at && (*at)->n == n ? (*at)->room : 0;
    if (room)
        take_out(c, at);
    return room;
}

void sends_forget(struct room_client *c, uint32_t room)
{
    for (struct client_send **at = &c->sends; *at;) {
        if ((*at)->room == room)
            take_out(c, at);
        else
            at = &(*at)->next;
    }
}

int sends_queue(struct room_client *c, const struct client_room *r, const struct client_send *s)
{
    struct wire_frame_send f = {.room = r->remote, .n = (int64_t)s->n, .data = {s->data, s->len}};
    size_t begin = frame_begin(&c->home->out);
    c->dirty = true;
    return frame_end(&c->home->out, begin, wire_frame_send_pack(&f, &c->home->out));
}
