/*
 * Locks of the whole cluster, between the core's decisions, the bucket `locks`, and who asks.
 *
 * Decides: how an entry looks, when the bucket is watched (from the first request on), and how a request of a backend is
 * read and answered. Must not decide who has a lock: core/lock.c does. An entry that cannot be read has no holder.
 */
#include "node/state.h"

#include <stdio.h>

enum { KV_MS = 2000 };

struct lock_asker { /* who waits for an answer */
    char *reply;        /* of a backend; NULL: a room */
    struct id room;
    uint64_t epoch, request;
    enum lock_verb verb;
    struct id name;
};

static void put(struct node *n, const struct lock_fx *fx, uint64_t token)
{
    char since[TIME_RFC3339_SIZE];
    const struct lock_entry *e = &fx->entry;
    struct wire_lock_entry w = {.holder = e->holder, .ttl_ms = e->ttl_ms, .has_token = e->fence != 0,
                                .token = (int64_t)e->fence};
    time_rfc3339(n->wall, since);
    w.since = wire_str(since);
    buf_reset(&n->scratch);
    if (!id_set(&w.boot, core_self(n->core)->boot) || !id_set(&w.n, e->n) || wire_lock_entry_to_json(&w, &n->scratch) ||
        bus_kv_put(n->bus, token, "locks", fx->name.s, fx->expected, n->scratch.data, n->scratch.len, KV_MS))
        locks_failed(n->locks, fx->token);
}

static void result_of(struct buf *b, const struct lock_asker *asker, const struct lock_answer *a)
{
    mp_write_map(b, 5);
    mp_write_text(b, "name");
    mp_write_text(b, asker->name.s);
    mp_write_text(b, "holder");
    mp_write_text(b, a->holder.s);
    mp_write_text(b, "token");
    mp_write_uint(b, a->fence);
    mp_write_text(b, "ttl_ms");
    mp_write_uint(b, (uint64_t)a->ttl_ms);
    mp_write_text(b, "left_ms");
    mp_write_uint(b, (uint64_t)a->left_ms);
}

static void explain(char *out, size_t size, const struct lock_asker *asker, const struct lock_answer *a)
{
    const char *name = asker->name.s;
    if (a->code == ROOM_E_HELD)
        snprintf(out, size, "lock '%s' is held by '%s' for %lld ms more, if it is not renewed", name, a->holder.s,
                 (long long)a->left_ms);
    else if (a->code == ROOM_E_FENCED)
        snprintf(out, size, "lock '%s' is somebody else's, or was since: this token is over", name);
    else if (a->code == ROOM_E_NOT_FOUND)
        snprintf(out, size, "nobody holds lock '%s'", name);
    else if (a->code == ROOM_E_UNKNOWN_RESULT)
        snprintf(out, size, "the registry did not say whether lock '%s' was changed: ask again, as the same holder", name);
    else if (a->code == ROOM_E_UNAVAILABLE)
        snprintf(out, size, "the registry of locks does not answer; lock '%s' was not changed", name);
    else
        snprintf(out, size, "%s", room_error_text(a->code));
}

/* A backend is told who holds it, too. */
static void answer_backend(struct node *n, const struct lock_asker *asker, const struct lock_answer *a)
{
    struct wire_ctl_reply reply = {.ok = a->code == 0};
    char text[256];
    struct buf b;
    buf_init(&b, n->alloc, sizeof(text) * 4);
    bool has_result = (a->code == 0 && asker->verb != LOCK_RELEASE) || a->code == ROOM_E_HELD;
    if (has_result)
        result_of(&b, asker, a);
    else if (a->code == 0)
        mp_write_map(&b, 0);
    if (a->code) {
        explain(text, sizeof(text), asker, a);
        reply.error = wire_str(room_error_name(a->code));
        reply.message = wire_str(text);
    }
    reply.result = (struct wire_raw){b.data, (uint32_t)b.len};
    buf_reset(&n->scratch);
    if (!b.failed && wire_ctl_reply_to_json(&reply, &n->scratch) == 0)
        (void)bus_publish(n->bus, asker->reply, NULL, n->scratch.data, n->scratch.len);
    buf_deinit(&b);
}

static void free_asker(struct node *n, struct lock_asker *asker)
{
    if (asker && asker->reply)
        alloc_put_str(n->alloc, asker->reply);
    alloc_put(n->alloc, asker, sizeof(*asker));
}

static void answer(struct node *n, const struct lock_fx *fx)
{
    const struct lock_answer *a = &fx->answer;
    struct lock_asker *asker = umap_del(&n->lock_askers, fx->req);
    struct room_event event = {.kind = ROOM_EVENT_LOCK, .code = a->code, .token = a->fence};
    if (!asker)
        return;
    event.from = asker->name.s;
    event.request = asker->request;
    if (asker->reply)
        answer_backend(n, asker, a);
    else
        talk_event(n, asker->room.s, asker->epoch, &event);
    free_asker(n, asker);
}

static void step(struct node *n, const struct lock_event *ev)
{
    const struct lock_effects *fx = locks_step(n->locks, ev, n->now, n->wall);
    for (size_t i = 0; i < fx->count; i++) {
        const struct lock_fx *f = &fx->items[i];
        uint64_t token = f->token | (uint64_t)TOKEN_LOCK << TOKEN_SHIFT;
        int rc = 0;
        if (f->kind == LOCK_FX_ANSWER)
            answer(n, f);
        else if (f->kind == LOCK_FX_PUT)
            put(n, f, token);
        else if (f->kind == LOCK_FX_DELETE)
            rc = bus_kv_delete(n->bus, token, "locks", f->name.s, f->expected, KV_MS);
        else
            rc = bus_kv_get(n->bus, token, "locks", f->name.s, KV_MS);
        if (rc)
            locks_failed(n->locks, f->token);
    }
}

/* NULL: there is none. */
static const struct lock_entry *read_entry(struct node *n, const struct bus_event *ev, struct lock_entry *out)
{
    struct wire_lock_entry w;
    *out = (struct lock_entry){.ttl_ms = 0};
    if (!ev->data || !ev->len)
        return NULL;
    if (wire_lock_entry_from_json(&w, (const char *)ev->data, ev->len, &n->scratch, NULL))
        return out;
    out->holder = w.holder;
    out->ttl_ms = w.ttl_ms;
    out->fence = w.has_token ? (uint64_t)w.token : 0;
    if (strlen(w.n.s) < sizeof(out->n))
        memcpy(out->n, w.n.s, strlen(w.n.s) + 1);
    return out;
}

void locks_done(struct node *n, const struct bus_event *ev)
{
    struct lock_entry e;
    struct lock_event done = {.kind = LOCK_EV_DONE, .token = ev->token & TOKEN_MASK, .revision = ev->revision};
    done.result = ev->result == BUS_OK          ? CORE_KV_OK
                  : ev->result == BUS_CONFLICT  ? CORE_KV_CONFLICT
                  : ev->result == BUS_NOT_FOUND ? CORE_KV_NOT_FOUND
                                                : CORE_KV_UNKNOWN;
    if (ev->result == BUS_OK)
        done.entry = read_entry(n, ev, &e);
    step(n, &done);
}

void locks_entry(struct node *n, const struct bus_event *ev)
{
    struct lock_entry e;
    step(n, &(struct lock_event){.kind = LOCK_EV_ENTRY, .name = ev->key, .revision = ev->revision,
                                 .entry = read_entry(n, ev, &e)});
}

/* Until the watch is on, waiting takes a poll longer; nothing else rests on it. */
static void watch(struct node *n)
{
    if (!n->locks_watched && cluster_has_locks(n))
        n->locks_watched = bus_kv_watch(n->bus, "locks") == 0;
}

int locks_ctl(struct node *n, const struct wire_ctl_request *q, const char *reply)
{
    if (!q->holder.s[0] || !q->name.s[0] || q->room.s[0])
        return ROOM_E_INVALID;
    struct lock_asker *asker = alloc_get(n->alloc, sizeof(*asker));
    uint64_t req = ++n->last_request;
    if (asker)
        asker->reply = alloc_str(n->alloc, reply);
    if (!asker || !asker->reply || !umap_put(&n->lock_askers, req, asker)) {
        free_asker(n, asker);
        return ROOM_E_NO_MEMORY;
    }
    asker->name = q->name;
    asker->verb = q->op == WIRE_CTL_REQUEST_OP_LOCK    ? LOCK_ACQUIRE
                  : q->op == WIRE_CTL_REQUEST_OP_RENEW ? LOCK_RENEW
                                                       : LOCK_RELEASE;
    watch(n);
    step(n, &(struct lock_event){.kind = LOCK_EV_ASK, .req = req, .verb = asker->verb, .name = q->name.s,
                                 .holder = q->holder.s, .ttl_ms = q->has_ttl_ms ? q->ttl_ms : 0,
                                 .wait_ms = q->has_wait_ms ? q->wait_ms : 0, .fence = q->has_token ? (uint64_t)q->token : 0});
    return 0;
}

int locks_room(struct node *n, const char *room, uint64_t epoch, const struct host_lock_ask *ask)
{
    struct lock_asker *asker = alloc_get(n->alloc, sizeof(*asker));
    uint64_t req = ++n->last_request;
    if (!asker || !umap_put(&n->lock_askers, req, asker)) {
        free_asker(n, asker);
        return ROOM_E_NO_MEMORY;
    }
    id_set(&asker->room, room);
    asker->epoch = epoch;
    asker->request = ask->request;
    asker->name = ask->name;
    asker->verb = ask->verb;
    watch(n);
    step(n, &(struct lock_event){.kind = LOCK_EV_ASK, .req = req, .verb = ask->verb, .name = ask->name.s, .holder = room,
                                 .ttl_ms = ask->ttl_ms, .wait_ms = ask->wait_ms, .fence = ask->token});
    return 0;
}

void locks_tick(struct node *n)
{
    if (!locks_busy(n->locks))
        return;
    watch(n);
    step(n, &(struct lock_event){.kind = LOCK_EV_TICK});
}

bool locks_init(struct node *n)
{
    n->locks = locks_create(n->alloc, n->config.core.seed);
    return n->locks != NULL;
}

void locks_deinit(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->lock_askers); it.value; umap_next(&it)) {
        free_asker(n, it.value);
    }
    umap_deinit(&n->lock_askers);
    locks_destroy(n->locks);
}
