/*
 * A client's request to a service: what it may ask, and what each end of it is called.
 *
 * Decides: which requests go on, in which order their refusals are looked for, and that every one that went on is answered
 * once, or dropped with its session. Must not know how instances are found or reached (backend.c), nor what is remembered of
 * answers (asks.c). Who has not said hello may use routes with login=no; such a guest lives as long as its connection.
 */
#include "node/route.h"

/* ---- ends ---- */

static void tell_after(struct node *n, const struct asked *q, const struct outcome *o)
{
    const struct room_service_hook *hook = n->config.service_hook;
    if (!hook || !hook->after || q->asker.number)
        return;
    struct room_service_call call = {.route = q->route->name, .service = q->route->service.s, .player = q->player.s,
                                     .session = q->session_id.s, .trace = q->trace, .id = (uint64_t)q->id};
    hook->after(&call, o->code, o->data.data, o->data.len, mono_diff_ms(q->began, n->now));
}

void route_finish(struct node *n, struct asked *q, const struct outcome *o)
{
    struct session *s = q->session;
    struct wire_frame_reply reply = {.id = q->id, .data = o->data};
    struct wire_frame_error error = {.id = q->id, .has_id = true, .code = wire_str(room_error_name(o->code)),
                                     .message = o->text.data ? o->text : wire_str(room_error_text(o->code)),
                                     .service_code = o->service_code};
    int op = o->code ? WIRE_OP_ERROR : WIRE_OP_REPLY;
    const void *message = o->code ? (const void *)&error : &reply;
    tell_after(n, q, o);
    consult_finish(n, q, o);
    if (s) {
        asks_remove(s->asks, q);
        asks_keep(n, s->asks, q->id, op, message);
        session_send(n, s, op, message);
    }
    umap_del(&n->router->open, q->number);
    n->router->bytes -= q->len;
    buf_deinit(&q->gathered);
    alloc_put(n->alloc, q, sizeof(*q) + q->len);
}

void route_fail(struct node *n, struct asked *q, int code, const char *text)
{
    struct outcome o = {.code = code, .text = wire_str(text)};
    route_finish(n, q, &o);
}

/* ---- a request ---- */

/* The member `instance` of a map. */
static bool named_instance(struct wire_raw data, struct id *out)
{
    struct mp_read r;
    struct mp_token map, key, value;
    struct wire_raw skipped;
    mp_read_init(&r, data.data, data.len);
    if (mp_next(&r, &map, NULL) || map.type != MP_MAP)
        return false;
    for (uint32_t i = 0; i < map.count; i++) {
        if (mp_next(&r, &key, NULL) || key.type != MP_STR)
            return false;
        if (key.len == 8 && memcmp(key.data, "instance", 8) == 0)
            return mp_next(&r, &value, NULL) == 0 && value.type == MP_STR && id_set_n(out, (const char *)value.data, value.len);
        if (mp_skip(&r, WIRE_VALUE_DEPTH, &skipped, NULL))
            return false;
    }
    return false;
}

struct asked *route_open(struct node *n, const struct route *route, struct backend *b, int64_t timeout_ms)
{
    struct asked *q = alloc_get(n->alloc, sizeof(*q) + n->scratch.len);
    if (!q)
        return NULL;
    q->route = route;
    q->backend = b;
    q->number = ++n->router->last_number;
    q->began = n->now;
    q->deadline = mono_add_ms(n->now, timeout_ms);
    buf_init(&q->gathered, n->alloc, n->config.reply_max_bytes);
    q->len = n->scratch.len;
    memcpy(q->body, n->scratch.data, q->len);
    if (!umap_put(&n->router->open, q->number, q)) {
        alloc_put(n->alloc, q, sizeof(*q) + q->len);
        return NULL;
    }
    n->router->bytes += q->len;
    return q;
}

/* The request with its body; NULL and a code: it could not be made. */
static struct asked *make(struct node *n, struct session *s, const struct wire_frame_request *m, const struct route *route,
                          const char *trace, int *code)
{
    struct wire_service_request body = {.player = s->player, .session = s->id, .server = core_self(n->core)->id,
                                        .route = wire_str(route->name), .id = m->id, .data = m->data};
    id_set(&body.trace, trace);
    buf_reset(&n->scratch);
    *code = wire_service_request_to_json(&body, &n->scratch);
    struct asked *q = *code ? NULL : route_open(n, route, n->router->backends[route->service_number], route->timeout_ms);
    if (!q) {
        *code = *code ? *code : ROOM_E_NO_MEMORY;
        return NULL;
    }
    q->session = s;
    q->id = m->id;
    q->player = s->player;
    q->session_id = s->id;
    memcpy(q->trace, trace, ULID_SIZE);
    return q;
}

static int ask_hook(struct node *n, const struct session *s, const struct wire_frame_request *m, const struct route *route,
                    const char *trace)
{
    const struct room_service_hook *hook = n->config.service_hook;
    struct room_service_call call = {.route = route->name, .service = route->service.s, .player = s->player.s,
                                     .session = s->id.s, .trace = trace, .id = (uint64_t)m->id};
    int code = hook && hook->before ? hook->before(&call, m->data.data, m->data.len) : 0;
    return code > 0 || strcmp(room_error_name(code), "unknown") == 0 ? ROOM_E_INTERNAL : code;
}

/* Everything from here on that refuses has not used the number. */
static void ask(struct node *n, struct session *s, const struct wire_frame_request *m, const struct route *route)
{
    char trace[ULID_SIZE];
    const char *why = NULL;
    struct id instance = route->instance;
    int code = asks_allowed(n, s->asks, route, &why);
    if (!code && route->to == ROUTE_NAMED && !named_instance(m->data, &instance)) {
        code = ROOM_E_INVALID;
        why = "this route is to one instance: `data` must be a map that names it in `instance`";
    }
    if (!code && !n->bus_up) {
        code = ROOM_E_UNAVAILABLE;
        why = "the server has lost its connection to the services";
    }
    id_ulid(trace, n->wall, &n->rng);
    if (!code)
        code = ask_hook(n, s, m, route, trace);
    struct asked *q = code ? NULL : make(n, s, m, route, trace, &code);
    if (!q) {
        session_error(n, s, m->id, code, why);
        return;
    }
    q->instance = instance;
    asks_add(s->asks, q);
    backend_send(n, q);
}

void route_in(struct node *n, struct session *s, const struct wire_frame_request *m)
{
    const struct route *route = routes_find(n->router->routes, m->route);
    if (m->id < 1) {
        session_error(n, s, m->id, ROOM_E_INVALID, "a request's id is 1 or more");
        return;
    }
    struct asks *a = asks_of(n, s);
    if (!a) {
        session_error(n, s, m->id, ROOM_E_NO_MEMORY, NULL);
        return;
    }
    if (m->id <= a->highest) {
        if (!asks_open(a, m->id) && !asks_repeat(n, s, m->id))
            session_error(n, s, m->id, ROOM_E_ALREADY,
                          "a request of this or a higher id was let through before, and the answer of this one, if any, is "
                          "forgotten; it was not sent again");
        return;
    }
    if (!route)
        session_error(n, s, m->id, ROOM_E_UNKNOWN_ROUTE, NULL);
    else
        ask(n, s, m, route);
}

/* ---- who has not said hello ---- */

bool route_guest_in(struct node *n, uint64_t conn, const struct wire_frame_request *m)
{
    const struct route *route = routes_find(n->router->routes, m->route);
    if (!route || route->login)
        return false;
    struct session *s = umap_get(&n->router->guests, conn);
    if (!s) {
        s = alloc_get(n->alloc, sizeof(*s));
        if (!s || !umap_put(&n->router->guests, conn, s)) {
            alloc_put(n->alloc, s, sizeof(*s));
            session_conn_error(n, conn, m->id, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), NULL);
            return true;
        }
        s->serial = ++n->last_serial;
        s->conn = conn;
    }
    route_in(n, s, m);
    return true;
}

void route_guest_gone(struct node *n, uint64_t conn)
{
    struct session *s = umap_del(&n->router->guests, conn);
    if (s) {
        route_session_gone(n, s);
        alloc_put(n->alloc, s, sizeof(*s));
    }
}

/* ---- life ---- */

/* What is with an instance stays counted until it has ended there. */
void route_session_gone(struct node *n, struct session *s)
{
    struct asked *q;
    while (s->asks && (q = s->asks->first)) {
        asks_remove(s->asks, q);
        q->session = NULL;
        if (q->parts == 0) {
            backend_forget(n, q);
            route_fail(n, q, ROOM_E_CANCELLED, NULL);
        }
    }
    asks_free(n, s);
}

static void cancel(struct node *n, struct session *s)
{
    for (struct asked *q = s->asks ? s->asks->first : NULL; q; q = q->next)
        session_error(n, s, q->id, ROOM_E_CANCELLED, "the server stops; the service may or may not have done it");
}

void route_stop(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it))
        cancel(n, it.value);
    for (struct umap_iter it = umap_first(&n->router->guests); it.value; umap_next(&it))
        cancel(n, it.value);
}

bool route_init(struct node *n)
{
    static const struct routes none;
    const struct routes *routes = n->config.routes ? n->config.routes : &none;
    struct router *r = alloc_get(n->alloc, sizeof(*r));
    if (!r)
        return false;
    n->router = r;
    r->routes = routes;
    umap_init(&r->open, n->alloc);
    umap_init(&r->calls, n->alloc);
    umap_init(&r->guests, n->alloc);
    for (unsigned i = 0; i < routes->service_count; i++)
        if (!backend_add(n, routes->services[i].s))
            return false;
    for (unsigned i = 0; i < routes->count; i++) {
        struct backend *b = r->backends[routes->items[i].service_number];
        if (routes->items[i].timeout_ms < b->shortest_ms)
            b->shortest_ms = routes->items[i].timeout_ms;
    }
    return true;
}

/* Sessions are freed by the caller, with route_forget() for each. */
void route_deinit(struct node *n)
{
    struct router *r = n->router;
    if (!r)
        return;
    for (struct umap_iter it = umap_first(&r->guests); it.value; umap_next(&it)) {
        asks_free(n, it.value);
        alloc_put(n->alloc, it.value, sizeof(struct session));
    }
    for (struct umap_iter it = umap_first(&r->open); it.value; umap_next(&it)) {
        struct asked *q = it.value;
        buf_deinit(&q->gathered);
        alloc_put(n->alloc, q, sizeof(*q) + q->len);
    }
    backend_free_calls(n);
    umap_deinit(&r->open);
    umap_deinit(&r->calls);
    umap_deinit(&r->guests);
    for (unsigned i = 0; i < r->backend_count; i++)
        alloc_put(n->alloc, r->backends[i], sizeof(*r->backends[i]));
    alloc_put(n->alloc, r, sizeof(*r));
    n->router = NULL;
}

void route_forget(struct node *n, struct session *s)
{
    asks_free(n, s);
}
