/*
 * What rooms here ask services.
 *
 * Decides: what a room's request says to the service, and what the room hears of its end. It takes the way of players' requests
 * (backend.c), so that a frozen instance costs rooms no more than them. Must not know room types. Weak point: a service that a
 * room has asked once is known until the node ends.
 */
#include "node/route.h"

static int body(struct node *n, const struct asker *asker, const struct host_ask *a, const char *trace)
{
    struct wire_service_request m = {.server = core_self(n->core)->id, .route = wire_str(a->target), .id = (int64_t)a->number,
                                     .data = {a->data, (uint32_t)a->len}, .room = asker->room, .has_epoch = true,
                                     .epoch = (int64_t)a->epoch};
    id_set(&m.trace, trace);
    buf_reset(&n->scratch);
    return wire_service_request_to_json(&m, &n->scratch);
}

int consult(struct node *n, const struct asker *asker, const struct host_ask *a)
{
    struct router *r = n->router;
    char trace[ULID_SIZE];
    if (!n->bus_up)
        return asker->again ? ROOM_E_UNKNOWN_RESULT : ROOM_E_UNAVAILABLE;
    if (r->calls.count + r->waiting >= ROUTE_CALLS_MAX || r->bytes >= ROUTE_BYTES_MAX)
        return ROOM_E_FULL;
    struct backend *b = backend_find(n, a->target);
    if (!b)
        b = backend_add(n, a->target);
    if (!b)
        return r->backend_count < BACKENDS_MAX ? ROOM_E_NO_MEMORY : ROOM_E_FULL;
    if (a->limit_ms < b->shortest_ms)
        b->shortest_ms = (int)a->limit_ms;
    id_ulid(trace, n->wall, &n->rng);
    int rc = body(n, asker, a, trace);
    struct asked *q = rc ? NULL : route_open(n, &b->by_rooms, b, a->limit_ms);
    if (!q)
        return rc ? rc : ROOM_E_NO_MEMORY;
    memcpy(q->trace, trace, ULID_SIZE);
    q->asker = *asker;
    q->id = (int64_t)a->number;
    backend_send(n, q);
    return 0;
}

/* The service's own word for what went wrong, as a map. */
static void write_error(const struct outcome *o, struct buf *out)
{
    mp_write_map(out, 2);
    mp_write_text(out, "code");
    mp_write_str(out, o->service_code.data ? o->service_code.data : "", o->service_code.len);
    mp_write_text(out, "message");
    mp_write_str(out, o->text.data ? o->text.data : "", o->text.len);
}

void consult_finish(struct node *n, const struct asked *q, const struct outcome *o)
{
    bool not_now = o->code == ROOM_E_NO_SERVICE || o->code == ROOM_E_UNAVAILABLE;
    struct room_event event = {.code = not_now && q->asker.again ? ROOM_E_UNKNOWN_RESULT : o->code};
    struct buf error;
    if (!q->asker.number)
        return;
    buf_init(&error, n->alloc, ROOM_DATA_MAX);
    if (o->code == ROOM_E_SERVICE_ERROR)
        write_error(o, &error);
    if (o->code == 0) {
        event.data = o->data.data;
        event.len = o->data.len;
    } else if (!error.failed) {
        event.data = error.data;
        event.len = error.len;
    }
    if (event.len > ROOM_DATA_MAX)
        event = (struct room_event){.code = ROOM_E_TOO_BIG};
    talk_finish(n, &q->asker, &event);
    buf_deinit(&error);
}
