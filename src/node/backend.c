/*
 * The instances behind a service: how they are found, how requests reach them, and what their answers mean.
 *
 * Decides: a service in use is pinged on `svc.<service>.all`; who answers is an instance, and gets requests on a subject of its
 * own, chosen by core/service.c. A service of which nobody answers pings is reached on `svc.<service>`, as a plain queue group.
 * Requests that come before it is known which of the two it is wait for the first answer, or the news that nobody listens:
 * less than a millisecond where NATS is near, BACKEND_HOLD_MS at the most; or until their time is up, if there is no queue
 * group either. Must not know what a session may ask.
 *
 * A request that was handed to an instance is never handed to another: it may have been done. Only "nobody listens there"
 * proves that it was not. Those that come back with it may be overtaken by later ones, if these find an instance sooner.
 */
#include "node/route.h"

enum { PART_RESERVE = 256, DEADLINE_SLACK_MS = 20 };

struct call {
    struct asked *asked; /* NULL: the first ping of a service */
    struct backend *backend;
    struct id instance; /* "": whoever is there */
    struct mono sent;
};

static void dispatch(struct node *n, struct backend *b, struct asked *q);

/* ---- finding ---- */

static void ping(struct node *n, struct backend *b)
{
    char subject[SUBJECT_SERVICE_SIZE], reply[SUBJECT_SIZE];
    subject_service(subject, b->service, "all");
    subject_server(reply, core_self(n->core)->id.s, "svc");
    b->pinged = n->now;
    if (bus_publish(n->bus, subject, reply, "", 0) == 0)
        service_pinged(&b->pool, n->now);
}

/* When nobody is known to be well: pings have many answers, this one tells at once if there is none. */
static void look(struct node *n, struct backend *b)
{
    char subject[SUBJECT_SERVICE_SIZE];
    struct call *c = alloc_get(n->alloc, sizeof(*c));
    uint64_t number = ++n->router->last_number;
    if (!b->in_use) {
        b->settled = mono_add_ms(n->now, BACKEND_HOLD_MS);
        service_doubt(&b->pool);
    }
    b->in_use = true;
    b->asking = b->silent = false;
    ping(n, b);
    if (!c || !umap_put(&n->router->calls, number, c)) {
        alloc_put(n->alloc, c, sizeof(*c));
        return;
    }
    c->backend = b;
    c->sent = n->now;
    subject_service(subject, b->service, "all");
    b->asking = bus_request(n->bus, number | (uint64_t)TOKEN_SERVICE << TOKEN_SHIFT, subject, "", 0, BACKEND_HOLD_MS) == 0;
    if (!b->asking) {
        umap_del(&n->router->calls, number);
        alloc_put(n->alloc, c, sizeof(*c));
    }
}

static void wait_for(struct node *n, struct backend *b, struct asked *q)
{
    struct asked **at = &b->first;
    while (*at && (*at)->number < q->number)
        at = &(*at)->waiting;
    q->waiting = *at;
    *at = q;
    q->looked = true;
    n->router->waiting++;
}

static bool must_wait(const struct node *n, const struct backend *b, const struct asked *q)
{
    bool all = q->route->to == ROUTE_ALL;
    if (b->silent && b->pool.count == 0 && (all || q->patient))
        return !mono_reached(n->now, q->deadline);
    return b->asking || (all && !mono_reached(n->now, b->settled));
}

/* Those that need not wait any longer, in the order they came. */
static void release(struct node *n, struct backend *b)
{
    struct asked **at = &b->first, *q;
    while ((q = *at)) {
        if (must_wait(n, b, q)) {
            at = &q->waiting;
            continue;
        }
        *at = q->waiting;
        q->waiting = NULL;
        n->router->waiting--;
        dispatch(n, b, q);
    }
}

void backend_forget(struct node *n, struct asked *q)
{
    struct backend *b = q->backend;
    for (struct asked **at = &b->first; *at; at = &(*at)->waiting) {
        if (*at != q)
            continue;
        *at = q->waiting;
        n->router->waiting--;
        return;
    }
}

static bool heard(struct node *n, struct backend *b, const uint8_t *data, size_t len)
{
    struct wire_service_instance m;
    if (wire_service_instance_from_json(&m, (const char *)data, len, &n->scratch, NULL) || strcmp(m.service.s, b->service) != 0)
        return false;
    if (!service_heard(&b->pool, m.instance.s, n->now) && n->config.log)
        LOG_WRN("a service has more instances than are used", "service=%s instance=%s limit=%d", b->service, m.instance.s,
                SERVICE_INSTANCES_MAX);
    return true;
}

void backend_heard(struct node *n, const struct bus_event *ev)
{
    for (unsigned i = 0; i < n->router->backend_count; i++) {
        struct backend *b = n->router->backends[i];
        if (!b->in_use || !heard(n, b, ev->data, ev->len))
            continue;
        b->asking = b->silent = false;
        release(n, b);
        return;
    }
}

static void looked(struct node *n, struct backend *b, const struct bus_event *ev)
{
    if (ev->result == BUS_OK)
        (void)heard(n, b, ev->data, ev->len);
    else if (ev->result == BUS_NO_RESPONDERS)
        b->pool.count = 0;
    else
        b->silent = b->pool.count == 0;
    b->asking = false;
    release(n, b);
}

/* ---- answers ---- */

static struct outcome failed(int code, const char *text)
{
    return (struct outcome){.code = code, .text = wire_str(text)};
}

/* {"error": {"code": ..., "message": ...}} and nothing else. */
static bool error_of(struct wire_raw data, struct wire_raw *error)
{
    struct mp_read r;
    struct mp_token map, key, value;
    mp_read_init(&r, data.data, data.len);
    if (mp_next(&r, &map, NULL) || map.type != MP_MAP || map.count != 1 || mp_next(&r, &key, NULL) || key.type != MP_STR ||
        key.len != 5 || memcmp(key.data, "error", 5) != 0)
        return false;
    *error = (struct wire_raw){r.at, (uint32_t)(r.end - r.at)};
    return mp_next(&r, &value, NULL) == 0 && value.type == MP_MAP;
}

/* What it points to is in n->frame. */
static struct outcome read_reply(struct node *n, const uint8_t *text, size_t len)
{
    struct outcome o = {0};
    struct wire_raw error;
    struct wire_service_error e;
    if (len > n->config.reply_max_bytes)
        return failed(ROOM_E_TOO_BIG, "the service's answer is larger than this server's limit for one frame");
    buf_reset(&n->frame);
    if (json_read((const char *)text, len, &n->frame, NULL))
        return failed(ROOM_E_BAD_REPLY, "the service's answer is not JSON");
    if (n->frame.len > n->config.reply_max_bytes)
        return failed(ROOM_E_TOO_BIG, "the service's answer is larger than this server's limit for one frame");
    if (mp_check(n->frame.data, n->frame.len, WIRE_VALUE_DEPTH, NULL))
        return failed(ROOM_E_BAD_REPLY, "the service's answer is nested too deep");
    o.data = (struct wire_raw){n->frame.data, (uint32_t)n->frame.len};
    if (!error_of(o.data, &error))
        return o;
    if (wire_service_error_unpack(&e, error.data, error.len, NULL))
        return failed(ROOM_E_BAD_REPLY, "the service's error is none of schemas/service_error.json");
    return (struct outcome){.code = ROOM_E_SERVICE_ERROR, .service_code = e.code, .text = e.message};
}

static void gather(struct node *n, struct asked *q, const char *instance, const struct outcome *o)
{
    struct buf *g = &q->gathered;
    size_t reserve = (size_t)PART_RESERVE * SERVICE_INSTANCES_MAX;
    bool fits = g->len + o->data.len + o->text.len + o->service_code.len + reserve <= g->max;
    int code = o->code ? o->code : fits ? 0 : ROOM_E_TOO_BIG;
    struct wire_str text = fits && o->text.data ? o->text : wire_str(room_error_text(code));
    mp_write_map(g, 2);
    mp_write_text(g, "instance");
    mp_write_text(g, instance);
    mp_write_text(g, code ? "error" : "data");
    if (code) {
        struct wire_str word = fits && o->service_code.data ? o->service_code : wire_str(room_error_name(code));
        mp_write_map(g, 2);
        mp_write_text(g, "code");
        mp_write_str(g, word.data, word.len);
        mp_write_text(g, "message");
        mp_write_str(g, text.data, text.len);
        q->code = code;
    } else {
        mp_write_raw(g, o->data);
    }
    q->good += o->code == 0 || o->code == ROOM_E_SERVICE_ERROR;
    q->gathered_count++;
}

static void finish_all(struct node *n, struct asked *q)
{
    struct outcome o = {0};
    if (q->gathered_count && !q->good)
        o = failed(q->code, NULL);
    else if (q->gathered_count == 0)
        o = failed(ROOM_E_NO_SERVICE, "no instance of this service announces itself, and the route is to all of them");
    buf_reset(&n->frame);
    mp_write_array(&n->frame, q->gathered_count);
    buf_write(&n->frame, q->gathered.data, q->gathered.len);
    if (!o.code && (q->gathered.failed || n->frame.failed))
        o = failed(ROOM_E_NO_MEMORY, NULL);
    if (!o.code)
        o.data = (struct wire_raw){n->frame.data, (uint32_t)n->frame.len};
    route_finish(n, q, &o);
}

static void part_done(struct node *n, struct asked *q, const char *instance, const struct outcome *o)
{
    q->parts--;
    if (q->route->to != ROUTE_ALL) {
        route_finish(n, q, o);
        return;
    }
    gather(n, q, instance, o);
    if (q->parts == 0 && !q->dispatching)
        finish_all(n, q);
}

/* ---- sending ---- */

static int call(struct node *n, struct backend *b, struct asked *q, const char *instance)
{
    char subject[SUBJECT_SERVICE_SIZE];
    struct call *c = alloc_get(n->alloc, sizeof(*c));
    uint64_t number = ++n->router->last_number;
    int64_t left_ms = (q->deadline.us - n->now.us + 999) / 1000;
    if (!c || !umap_put(&n->router->calls, number, c)) {
        alloc_put(n->alloc, c, sizeof(*c));
        return ROOM_E_NO_MEMORY;
    }
    *c = (struct call){.asked = q, .backend = b, .sent = n->now};
    id_set(&c->instance, instance ? instance : "");
    subject_service(subject, b->service, instance);
    int rc = bus_request(n->bus, number | (uint64_t)TOKEN_SERVICE << TOKEN_SHIFT, subject, q->body, q->len,
                         left_ms > 0 ? (int)left_ms : 1);
    if (rc) {
        umap_del(&n->router->calls, number);
        alloc_put(n->alloc, c, sizeof(*c));
        return rc == ROOM_E_DISCONNECTED || rc == ROOM_E_FULL ? ROOM_E_UNAVAILABLE : rc;
    }
    service_sent(&b->pool, c->instance.s, n->now);
    b->open++;
    q->parts++;
    return 0;
}

static void to_each(struct node *n, struct backend *b, struct asked *q)
{
    q->dispatching = true;
    for (unsigned i = 0; i < b->pool.count; i++) {
        struct id name = b->pool.items[i].name;
        int rc = call(n, b, q, name.s);
        if (rc) {
            struct outcome o = failed(rc, NULL);
            gather(n, q, name.s, &o);
        }
    }
    q->dispatching = false;
    if (q->parts == 0)
        finish_all(n, q);
}

static void dispatch(struct node *n, struct backend *b, struct asked *q)
{
    const char *instance = q->instance.s[0] ? q->instance.s : NULL;
    if (b->pool.count == 0 && b->silent && mono_reached(n->now, q->deadline)) {
        route_fail(n, q, ROOM_E_UNRESPONSIVE, NULL);
        return;
    }
    if (q->route->to == ROUTE_ALL) {
        to_each(n, b, q);
        return;
    }
    if (q->route->to == ROUTE_ONE) {
        bool group = b->plain && !service_alive(&b->pool); /* it answers, they do not */
        const struct service_instance *next = group ? NULL : service_next(&b->pool, n->now);
        instance = next ? next->name.s : NULL;
    }
    int rc = call(n, b, q, instance);
    if (rc)
        route_fail(n, q, rc, NULL);
}

void backend_send(struct node *n, struct asked *q)
{
    struct backend *b = q->backend;
    bool chosen = q->route->to == ROUTE_NAMED || q->route->to == ROUTE_INSTANCE;
    b->used = n->now;
    if (!b->in_use || (!chosen && !service_alive(&b->pool) && !b->plain && !b->asking))
        look(n, b);
    if (chosen || !must_wait(n, b, q)) {
        dispatch(n, b, q);
        return;
    }
    wait_for(n, b, q);
}

/* It had all its time: is the instance slow, or does it read nothing at all? */
static struct outcome timed_out(struct node *n, struct backend *b, const struct call *c)
{
    const struct service_instance *i = service_find(&b->pool, c->instance.s);
    bool dumb = i ? i->unanswered > 1 : b->silent && !c->instance.s[0];
    if (service_missed(&b->pool, c->instance.s, n->now) && n->config.log)
        LOG_WRN("a service's instance lets requests time out", "service=%s instance=%s answers_pings=%s", b->service,
                c->instance.s, dumb ? "no" : "yes");
    return dumb ? failed(ROOM_E_UNRESPONSIVE, NULL)
                : failed(ROOM_E_TIMEOUT, "the service did not answer in time; it may or may not have done it");
}

static struct outcome outcome_of(struct node *n, struct backend *b, const struct call *c, const struct bus_event *ev)
{
    bool late = mono_reached(mono_add_ms(n->now, DEADLINE_SLACK_MS), c->asked->deadline);
    if (ev->result == BUS_OK) {
        service_answered(&b->pool, c->instance.s, n->now);
        b->plain |= !c->instance.s[0];
        return read_reply(n, ev->data, ev->len);
    }
    if (ev->result == BUS_UNKNOWN && late)
        return timed_out(n, b, c);
    if (ev->result == BUS_NO_RESPONDERS) {
        service_gone(&b->pool, c->instance.s);
        return b->silent && !c->instance.s[0] ? failed(ROOM_E_UNRESPONSIVE, NULL) : failed(ROOM_E_NO_SERVICE, NULL);
    }
    service_dropped(&b->pool, c->instance.s);
    if (ev->result == BUS_UNKNOWN)
        return failed(ROOM_E_UNKNOWN_RESULT, "the server lost its connection; the service may or may not have done it");
    return failed(ev->result == BUS_CLOSED ? ROOM_E_CANCELLED : ROOM_E_UNAVAILABLE, NULL);
}

/* Nobody listens there, so it was not done. Another instance may, or one that came since the last ping. */
static bool elsewhere(struct node *n, struct backend *b, struct asked *q, const struct call *c)
{
    bool one = q->route->to == ROUTE_ONE && (q->session || q->asker.number), queue = !c->instance.s[0];
    if (queue)
        b->plain = false;
    q->patient = b->silent && b->pool.count == 0;
    if (!one || (queue && q->looked && !q->patient) || mono_reached(n->now, q->deadline))
        return false;
    q->parts--;
    if (q->patient) {
        wait_for(n, b, q);
        return true;
    }
    if (!service_alive(&b->pool) && !b->asking)
        look(n, b);
    if (b->asking)
        wait_for(n, b, q);
    else
        dispatch(n, b, q);
    return true;
}

void backend_done(struct node *n, const struct bus_event *ev)
{
    struct call *c = umap_del(&n->router->calls, ev->token & TOKEN_MASK);
    if (!c)
        return;
    struct backend *b = c->backend;
    struct asked *q = c->asked;
    if (!q) {
        looked(n, b, ev);
    } else {
        b->open--;
        struct outcome o = outcome_of(n, b, c, ev);
        if (ev->result != BUS_NO_RESPONDERS || !elsewhere(n, b, q, c))
            part_done(n, q, c->instance.s, &o);
        if (b->asking && service_alive(&b->pool)) { /* an answer is as good as a ping's */
            b->asking = false;
            release(n, b);
        }
    }
    alloc_put(n->alloc, c, sizeof(*c));
}

/* ---- which there are ---- */

struct backend *backend_add(struct node *n, const char *service)
{
    struct router *r = n->router;
    struct backend *b = r->backend_count < BACKENDS_MAX ? alloc_get(n->alloc, sizeof(*b)) : NULL;
    if (!b)
        return NULL;
    id_set(&b->by_rooms.service, service);
    memcpy(b->by_rooms.name, b->by_rooms.service.s, sizeof(b->by_rooms.service.s));
    b->service = b->by_rooms.service.s;
    b->shortest_ms = ROUTE_TIMEOUT_MAX_MS;
    r->backends[r->backend_count++] = b;
    return b;
}

struct backend *backend_find(struct node *n, const char *service)
{
    for (unsigned i = 0; i < n->router->backend_count; i++)
        if (strcmp(n->router->backends[i]->service, service) == 0)
            return n->router->backends[i];
    return NULL;
}

/* ---- time ---- */

void backend_tick(struct node *n)
{
    for (unsigned i = 0; i < n->router->backend_count; i++) {
        struct backend *b = n->router->backends[i];
        int64_t every = b->open ? b->shortest_ms / 3 : BACKEND_PING_MS;
        every = every > BACKEND_PING_MS ? BACKEND_PING_MS : every < BACKEND_PING_MIN_MS ? BACKEND_PING_MIN_MS : every;
        if (!b->in_use)
            continue;
        if (mono_diff_ms(b->used, n->now) >= BACKEND_IDLE_MS && !b->open && !b->first && !b->asking) {
            b->in_use = false;
            continue;
        }
        if (mono_diff_ms(b->pinged, n->now) >= every)
            ping(n, b);
        release(n, b);
    }
}

void backend_free_calls(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->router->calls); it.value; umap_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct call));
}
