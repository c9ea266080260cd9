/*
 * Open joins, requests to services and rooms of a client: two small tables.
 *
 * Decides: their limits and numbers. Must not know sockets. Invariant: an entry is out of its table before its end is told
 * to the caller, so that each request and each room ends exactly once.
 */
#include "client/state.h"

#include <stdlib.h>

#include "client/frame.h"

/* Room for one more in a table of `size`-byte entries. */
static bool grow(void **table, unsigned count, unsigned *cap, unsigned max, size_t size)
{
    if (count < *cap)
        return true;
    if (count >= max)
        return false;
    unsigned more = *cap ? *cap * 2 : 4;
    void *bigger = realloc(*table, more * size);
    if (!bigger)
        return false;
    *table = bigger;
    *cap = more;
    return true;
}

struct client_request *request_find(struct room_client *c, uint64_t id)
{
    for (unsigned i = 0; i < c->request_count; i++)
        if (c->requests[i].id == id)
            return &c->requests[i];
    return NULL;
}

struct client_request *request_add(struct room_client *c, size_t options_len)
{
    void *table = c->requests;
    size_t cost = sizeof *c->requests + options_len;
    if (options_len > c->max_queue || c->kept + cost > c->max_queue)
        return NULL;
    bool ok = grow(&table, c->request_count, &c->request_cap, ROOM_CLIENT_JOINS_MAX, sizeof *c->requests);
    c->requests = table;
    if (!ok)
        return NULL;
    struct client_request *r = &c->requests[c->request_count++];
    *r = (struct client_request){.id = ++c->last_request, .deadline_ms = c->now_ms + c->join_timeout_ms,
                                 .options.len = (uint32_t)options_len};
    c->kept += cost;
    return r;
}

void request_drop(struct room_client *c, struct client_request *r)
{
    c->kept -= sizeof *r + r->options.len;
    free((void *)r->ticket.data);
    free((void *)r->options.data);
    *r = c->requests[--c->request_count];
}

void request_fail(struct room_client *c, struct client_request *r, int code, const char *text)
{
    uint64_t id = r->id;
    request_drop(c, r);
    if (c->on.error)
        c->on.error(c->arg, id, code, text);
}

static int pack(const struct client_request *r, struct buf *out)
{
    struct wire_frame_request call = {.id = (int64_t)r->id, .route = r->ticket, .data = r->options};
    struct wire_frame_join join = {.id = (int64_t)r->id, .mode = r->mode, .type = r->type, .room_id = r->room_id,
                                   .create_id = r->create_id, .options = r->options, .ticket = r->ticket,
                                   .private = r->private_room};
    return r->service ? wire_frame_request_pack(&call, out) : wire_frame_join_pack(&join, out);
}

int request_queue(struct room_client *c, struct client_request *r)
{
    struct buf *out = &c->home->out;
    size_t begin = frame_begin(out);
    int rc = frame_end(out, begin, pack(r, out));
    if (rc == 0) {
        r->asked = true;
        c->dirty = true;
    }
    return rc;
}

struct client_room *room_add(struct room_client *c)
{
    void *table = c->rooms;
    bool ok = grow(&table, c->room_count, &c->room_cap, ROOM_CLIENT_ROOMS_MAX, sizeof *c->rooms);
    c->rooms = table;
    if (!ok)
        return NULL;
    struct client_room *r = &c->rooms[c->room_count++];
    *r = (struct client_room){.room = ++c->last_room};
    return r;
}

struct client_room *room_by_handle(struct room_client *c, uint32_t room)
{
    for (unsigned i = 0; i < c->room_count; i++)
        if (c->rooms[i].room == room)
            return &c->rooms[i];
    return NULL;
}

struct client_room *room_by_remote(struct room_client *c, int64_t remote)
{
    for (unsigned i = 0; i < c->room_count; i++)
        if (c->rooms[i].remote == remote)
            return &c->rooms[i];
    return NULL;
}

int room_queue_leave(struct room_client *c, int64_t remote)
{
    struct wire_frame_leave f = {.id = (int64_t)(c->last_request + 1), .room = remote};
    struct buf *out = &c->home->out;
    size_t begin = frame_begin(out);
    int rc = frame_end(out, begin, wire_frame_leave_pack(&f, out));
    if (rc == 0) {
        c->last_request++;
        c->dirty = true;
    }
    return rc;
}

void room_gone(struct room_client *c, struct client_room *r, const char *reason)
{
    uint32_t room = r->room;
    *r = c->rooms[--c->room_count];
    sends_forget(c, room);
    if (c->on.left)
        c->on.left(c->arg, room, reason);
}
