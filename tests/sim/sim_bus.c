/*
 * The bus of one simulated node: its connection to NATS, what is said over it and what is lost with it.
 *
 * Decides: when a message arrives (in order from one sender to one receiver, in no order otherwise), who gets it, and
 * what a node is told of its connection. Must not know what messages mean. Invariant: each accepted request ends in one
 * BUS_EV_DONE; what was under way to a connection that went is lost.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include <xxhash.h>

int64_t sim_bus_delay(struct world *w)
{
    uint64_t dice = rng_below(&w->rng, 1000);
    if (dice < 4 && !w->healing)
        return world_between(w, 5 * SIM_MS, 200 * SIM_MS);
    if (dice < 100)
        return world_between(w, 400, 3000);
    return world_between(w, 100, 400);
}

struct sim_bus *sim_bus_find(struct world *w, unsigned owner, uint64_t life, uint64_t connection)
{
    struct sim_bus *b = w->procs[owner].bus;
    return b && b->life == life && (!connection || b->connection == connection) ? b : NULL;
}

void sim_bus_queue(struct sim_bus *b, const struct bus_event *ev)
{
    static const char *const names[] = {"up", "down", "message", "done", "sync", "entry", "synced", "lost"};
    const char *texts[4] = {ev->subject, ev->reply, ev->bucket, ev->key};
    size_t sizes[4], total = ev->len + 1;
    for (int i = 0; i < 4; i++)
        total += sizes[i] = texts[i] ? strlen(texts[i]) + 1 : 0;
    struct sim_queued *q = world_alloc(sizeof(*q) + total);
    q->event = *ev;
    const char **fields[4] = {&q->event.subject, &q->event.reply, &q->event.bucket, &q->event.key};
    char *at = q->bytes;
    for (int i = 0; i < 4; i++) {
        if (!sizes[i])
            continue;
        memcpy(at, texts[i], sizes[i]);
        *fields[i] = at;
        at += sizes[i];
    }
    if (ev->data) {
        memcpy(at, ev->data, ev->len);
        q->event.data = (uint8_t *)at;
    }
    *b->last = q;
    b->last = &q->next;
    b->queued++;
    struct sim_proc *p = &b->w->procs[b->owner];
    world_note(b->w, "%s <- %s %s%s%s result=%d rev=%llu len=%zu %016llx", p->id, names[ev->kind],
               ev->subject ? ev->subject : ev->bucket ? ev->bucket : "", ev->key ? "." : "", ev->key ? ev->key : "",
               (int)ev->result, (unsigned long long)ev->revision, ev->len,
               (unsigned long long)(ev->data ? XXH3_64bits(ev->data, ev->len) : 0));
    if (!p->frozen)
        proc_wake(p, b->w->now_us + world_between(b->w, 10, 100));
}

/* ---- on the way in ---- */

static void arrive(struct world *w, void *arg)
{
    struct sim_inbound *in = arg;
    struct sim_bus *b = sim_bus_find(w, in->owner, in->life, in->connection);
    if (!b)
        return;
    if (!b->cut_in) {
        in->land(b, in->body, in->len);
        return;
    }
    struct sim_inbound *held = world_alloc(sizeof(*held) + in->len);
    memcpy(held, in, sizeof(*held) + in->len);
    held->next = NULL;
    *b->held_in_last = held;
    b->held_in_last = &held->next;
}

void sim_bus_inward(struct sim_bus *b, int64_t at_us, void (*land)(struct sim_bus *, const void *, size_t),
                    const void *body, size_t len)
{
    struct sim_inbound *in = world_alloc(sizeof(*in) + len);
    *in = (struct sim_inbound){.owner = b->owner, .life = b->life, .connection = b->connection, .land = land, .len = len};
    memcpy(in->body, body, len);
    world_at(b->w, at_us, arrive, in);
}

void sim_bus_outward(struct sim_bus *b, int64_t at_us, sim_fn *fn, void *arg)
{
    if (!b->cut_out) {
        b->out_us = at_us > b->out_us ? at_us : b->out_us;
        world_at(b->w, b->out_us, fn, arg);
        return;
    }
    struct sim_held *held = world_alloc(sizeof(*held));
    *held = (struct sim_held){.fn = fn, .arg = arg};
    *b->held_out_last = held;
    b->held_out_last = &held->next;
}

/* Whatever waited in the kernel arrives now, or is lost with the connection. */
static void release_held(struct sim_bus *b, bool lost)
{
    struct sim_held *out = b->held_out;
    struct sim_inbound *in = b->held_in;
    b->held_out = NULL;
    b->held_out_last = &b->held_out;
    b->held_in = NULL;
    b->held_in_last = &b->held_in;
    for (struct sim_held *next; out; out = next) {
        next = out->next;
        if (lost)
            free(out->arg);
        else
            sim_bus_outward(b, b->w->now_us + 100, out->fn, out->arg);
        free(out);
    }
    for (struct sim_inbound *next; in; in = next) {
        next = in->next;
        if (!lost)
            in->land(b, in->body, in->len);
        free(in);
    }
}

/* ---- answers ---- */

struct timeout_arg {
    unsigned owner;
    uint64_t life, number;
};

bool sim_bus_done(struct sim_bus *b, uint64_t number, enum bus_result result, uint64_t revision, const void *data,
                  size_t len)
{
    for (struct sim_open **at = &b->open; *at; at = &(*at)->next) {
        if ((*at)->number != number)
            continue;
        struct sim_open *o = *at;
        *at = o->next;
        sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_DONE, .token = o->token, .result = result,
                                             .revision = revision, .data = data, .len = len});
        free(o);
        return true;
    }
    return false;
}

static void time_out(struct world *w, void *arg)
{
    struct timeout_arg *a = arg;
    struct sim_bus *b = sim_bus_find(w, a->owner, a->life, 0);
    if (!b)
        return;
    struct sim_proc *p = &w->procs[a->owner];
    if (p->frozen) { /* its bus thread stands still too */
        struct timeout_arg *again = world_alloc(sizeof(*again));
        *again = *a;
        world_at(w, p->frozen_until_us + 1, time_out, again);
        return;
    }
    sim_bus_done(b, a->number, BUS_UNKNOWN, 0, NULL, 0);
}

uint64_t sim_bus_open(struct sim_bus *b, uint64_t token, int timeout_ms)
{
    struct sim_open *o = world_alloc(sizeof(*o));
    *o = (struct sim_open){b->open, token, ++b->w->numbers};
    b->open = o;
    struct timeout_arg *a = world_alloc(sizeof(*a));
    *a = (struct timeout_arg){b->owner, b->life, o->number};
    world_at(b->w, b->w->now_us + (int64_t)timeout_ms * SIM_MS, time_out, a);
    return o->number;
}

struct answer_body {
    uint64_t number, revision;
    enum bus_result result;
    size_t len;
    bool has_data;
    char data[];
};

static void land_answer(struct sim_bus *b, const void *body, size_t len)
{
    const struct answer_body *a = body;
    if (!sim_bus_done(b, a->number, a->result, a->revision, a->has_data ? a->data : NULL, a->len))
        world_note(b->w, "%s drops a late answer", b->w->procs[b->owner].id);
}

void sim_bus_answer(struct world *w, unsigned owner, uint64_t life, uint64_t number, int64_t at_us, enum bus_result result,
                    uint64_t revision, const void *data, size_t len)
{
    struct sim_bus *b = sim_bus_find(w, owner, life, 0);
    if (!b || !b->attached)
        return;
    struct answer_body *a = world_alloc(sizeof(*a) + len);
    *a = (struct answer_body){.number = number, .revision = revision, .result = result, .len = len, .has_data = data};
    if (data)
        memcpy(a->data, data, len);
    sim_bus_inward(b, at_us, land_answer, a, sizeof(*a) + len);
    free(a);
}

/* ---- messages ---- */

struct said { /* what a node says, on its way to the servers */
    unsigned owner;
    uint64_t life, number; /* number: of the request, 0 for none */
    size_t len;
    char subject[160], reply[160];
    uint8_t data[];
};

struct heard { /* and from there to a subscriber */
    uint32_t sub;
    size_t len;
    char subject[160], reply[160];
    uint8_t data[];
};

bool sim_bus_matches(const char *pattern, const char *subject)
{
    while (*pattern && *subject) {
        if (pattern[0] == '>')
            return true;
        if (pattern[0] == '*') {
            pattern++;
            subject += strcspn(subject, ".");
        } else {
            while (*pattern && *pattern == *subject && *pattern != '.')
                pattern++, subject++;
        }
        if (*pattern == '.' && *subject == '.')
            pattern++, subject++;
        else
            return !*pattern && !*subject;
    }
    return false;
}

static void land_message(struct sim_bus *b, const void *body, size_t len)
{
    const struct heard *h = body;
    for (size_t i = 0; i < b->sub_count; i++) {
        if (b->subs[i].id != h->sub)
            continue;
        sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_MESSAGE, .sub = h->sub, .subject = h->subject,
                                             .reply = h->reply[0] ? h->reply : NULL, .data = h->data, .len = h->len});
        return;
    }
}

static unsigned route_to(struct sim_bus *b, const struct said *s)
{
    struct world *w = b->w;
    unsigned heard = 0;
    for (size_t i = 0; i < b->sub_count; i++) {
        if (b->subs[i].visible_us > w->now_us || !sim_bus_matches(b->subs[i].subject, s->subject))
            continue;
        heard++;
        if (w->now_us < w->loss_until_us && world_chance(w, 30))
            continue;
        struct heard *h = world_alloc(sizeof(*h) + s->len);
        h->sub = b->subs[i].id;
        h->len = s->len;
        memcpy(h->subject, s->subject, sizeof(h->subject));
        memcpy(h->reply, s->reply, sizeof(h->reply));
        memcpy(h->data, s->data, s->len);
        int64_t *last = &w->sent_us[s->owner][b->owner], at = w->now_us + sim_bus_delay(w);
        *last = at > *last ? at : *last;
        sim_bus_inward(b, *last, land_message, h, sizeof(*h) + s->len);
        free(h);
    }
    return heard;
}

struct told { /* on its way to the operator */
    uint64_t number;
    bool nobody;
    size_t len;
    uint8_t data[];
};

static void land_told(struct world *w, void *arg)
{
    const struct told *t = arg;
    operator_answered(w, t->number, t->nobody ? NULL : t->data, t->len);
}

/* s NULL: nobody is there. */
static void tell_operator(struct world *w, uint64_t number, const struct said *s)
{
    struct told *t = world_alloc(sizeof(*t) + (s ? s->len : 0));
    *t = (struct told){.number = number, .nobody = !s, .len = s ? s->len : 0};
    if (s)
        memcpy(t->data, s->data, s->len);
    world_at(w, w->now_us + sim_bus_delay(w), land_told, t);
}

static void route(struct world *w, void *arg)
{
    const struct said *s = arg;
    unsigned owner, heard = 0;
    unsigned long long life, number;
    if (sscanf(s->subject, "_OP.%llu", &number) == 1) {
        if (w->now_us >= w->loss_until_us || !world_chance(w, 30))
            tell_operator(w, number, s);
        return;
    }
    if (sscanf(s->subject, "_R.%u.%llu.%llu", &owner, &life, &number) == 3) {
        int64_t *last = &w->sent_us[s->owner][owner], at = w->now_us + sim_bus_delay(w);
        *last = at > *last ? at : *last;
        if (w->now_us >= w->loss_until_us || !world_chance(w, 30))
            sim_bus_answer(w, owner, life, number, *last, BUS_OK, 0, s->data, s->len);
        return;
    }
    for (unsigned i = 0; i < w->proc_count; i++)
        if (w->procs[i].bus && w->procs[i].bus->attached)
            heard += route_to(w->procs[i].bus, s);
    if (s->number && !heard && s->owner == SIM_OPERATOR)
        tell_operator(w, s->number, NULL);
    else if (s->number && !heard)
        sim_bus_answer(w, s->owner, s->life, s->number, w->now_us + world_between(w, 50, 800), BUS_NO_RESPONDERS, 0, NULL,
                       0);
}

static int say(struct sim_bus *b, const char *subject, const char *reply, uint64_t number, const void *data, size_t len)
{
    struct said *s = world_alloc(sizeof(*s) + len);
    s->owner = b->owner;
    s->life = b->life;
    s->number = number;
    s->len = len;
    snprintf(s->subject, sizeof(s->subject), "%s", subject);
    if (number)
        snprintf(s->reply, sizeof(s->reply), "_R.%u.%llu.%llu", b->owner, (unsigned long long)b->life,
                 (unsigned long long)number);
    else if (reply)
        snprintf(s->reply, sizeof(s->reply), "%s", reply);
    if (len)
        memcpy(s->data, data, len);
    world_note(b->w, "%s says %s len=%zu %016llx", b->w->procs[b->owner].id, subject, len,
               (unsigned long long)XXH3_64bits(s->data, len));
    sim_bus_outward(b, b->w->now_us + world_between(b->w, 20, 100), route, s);
    return 0;
}

void sim_bus_ask(struct world *w, const char *subject, uint64_t number, const void *data, size_t len)
{
    struct said *s = world_alloc(sizeof(*s) + len);
    s->owner = SIM_OPERATOR;
    s->number = number;
    s->len = len;
    snprintf(s->subject, sizeof(s->subject), "%s", subject);
    snprintf(s->reply, sizeof(s->reply), "_OP.%llu", (unsigned long long)number);
    memcpy(s->data, data, len);
    world_at(w, w->now_us + sim_bus_delay(w), route, s);
}

static int check(const struct sim_bus *b, const char *subject, size_t len)
{
    return !subject || !subject[0] ? ROOM_E_INVALID : len > SIM_MESSAGE_MAX ? ROOM_E_TOO_BIG : !b->up ? ROOM_E_DISCONNECTED : 0;
}

static int publish(struct bus *base, const char *subject, const char *reply, const void *data, size_t len)
{
    struct sim_bus *b = (struct sim_bus *)base;
    int rc = check(b, subject, len);
    return rc ? rc : say(b, subject, reply, 0, data, len);
}

static int request(struct bus *base, uint64_t token, const char *subject, const void *data, size_t len, int timeout_ms)
{
    struct sim_bus *b = (struct sim_bus *)base;
    int rc = check(b, subject, len);
    return rc ? rc : say(b, subject, NULL, sim_bus_open(b, token, timeout_ms), data, len);
}

static int64_t known_at(struct world *w)
{
    return w->now_us + (world_chance(w, 11) ? world_between(w, 300, 700) : 50);
}

static int subscribe(struct bus *base, uint32_t sub, const char *subject)
{
    struct sim_bus *b = (struct sim_bus *)base;
    if (!subject[0] || b->sub_count == sizeof(b->subs) / sizeof(b->subs[0]))
        return ROOM_E_INVALID;
    struct sim_sub *s = &b->subs[b->sub_count++];
    s->id = sub;
    snprintf(s->subject, sizeof(s->subject), "%s", subject);
    s->visible_us = known_at(b->w);
    return 0;
}

static int unsubscribe(struct bus *base, uint32_t sub)
{
    struct sim_bus *b = (struct sim_bus *)base;
    for (size_t i = 0; i < b->sub_count; i++) {
        if (b->subs[i].id == sub) {
            memmove(&b->subs[i], &b->subs[i + 1], (--b->sub_count - i) * sizeof(b->subs[0]));
            return 0;
        }
    }
    return ROOM_E_NOT_FOUND;
}

static size_t drain(struct bus *base, bus_handler *handler, void *arg, size_t max_events)
{
    struct sim_bus *b = (struct sim_bus *)base;
    size_t n = 0;
    for (; n < max_events && b->first; n++) {
        struct sim_queued *q = b->first;
        b->first = q->next;
        if (!b->first)
            b->last = &b->first;
        b->queued--;
        handler(arg, &q->event);
        free(q);
    }
    return n;
}

static void flush(struct bus *base)
{
}

static void close_bus(struct bus *base)
{
    struct sim_bus *b = (struct sim_bus *)base;
    while (b->open)
        sim_bus_done(b, b->open->number, BUS_CLOSED, 0, NULL, 0);
}

static const struct bus_ops ops = {.publish = publish, .request = request, .subscribe = subscribe,
                                   .unsubscribe = unsubscribe, .kv_bucket = sim_kv_bucket, .kv_watch = sim_kv_watch,
                                   .kv_get = sim_kv_get, .kv_put = sim_kv_put, .kv_delete = sim_kv_delete,
                                   .stream = sim_stream, .log_append = sim_log_append, .log_last = sim_log_last,
                                   .log_next = sim_log_next, .log_purge = sim_log_purge,
                                   .drain = drain, .flush = flush, .close = close_bus};

/* ---- the connection ---- */

struct link_arg {
    unsigned owner;
    uint64_t life, connection, cut;
};

static void attach_later(struct world *w, void *arg)
{
    const struct link_arg *a = arg;
    struct sim_bus *b = sim_bus_find(w, a->owner, a->life, a->connection);
    struct sim_proc *p = &w->procs[a->owner];
    if (!b || b->attached)
        return;
    if (!p->frozen && !b->cut_in && !b->cut_out) {
        sim_bus_attach(b);
        return;
    }
    struct link_arg *again = world_alloc(sizeof(*again));
    *again = *a;
    world_at(w, p->frozen ? p->frozen_until_us + 3 * SIM_MS : w->now_us + world_between(w, 100, 300) * SIM_MS, attach_later,
             again);
}

static void attach_at(struct sim_bus *b, int64_t at_us)
{
    struct link_arg *a = world_alloc(sizeof(*a));
    *a = (struct link_arg){b->owner, b->life, b->connection, 0};
    world_at(b->w, at_us, attach_later, a);
}

void sim_bus_attach(struct sim_bus *b)
{
    b->connection = ++b->w->numbers;
    b->attached = b->up = true;
    for (size_t i = 0; i < b->sub_count; i++)
        b->subs[i].visible_us = known_at(b->w);
    sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_UP});
    sim_kv_resync(b);
}

void sim_bus_drop(struct sim_bus *b, int64_t back_us)
{
    struct world *w = b->w;
    if (!b->attached)
        return;
    b->attached = b->up = false;
    b->connection = ++w->numbers;
    release_held(b, true);
    for (size_t i = 0; i < b->watch_count; i++)
        b->watches[i].live = false;
    sim_bus_queue(b, &(struct bus_event){.kind = BUS_EV_DOWN});
    struct sim_open *next;
    for (struct sim_open *o = b->open; o; o = next) {
        next = o->next;
        if (world_chance(w, 50))
            sim_bus_done(b, o->number, BUS_UNKNOWN, 0, NULL, 0);
    }
    attach_at(b, w->now_us + back_us);
}

static void notice_cut(struct world *w, void *arg)
{
    const struct link_arg *a = arg;
    struct sim_bus *b = sim_bus_find(w, a->owner, a->life, a->connection);
    if (b && (b->cut_in || b->cut_out) && b->cut_number == a->cut)
        sim_bus_drop(b, world_between(w, 3, 300) * SIM_MS);
}

static void end_cut(struct world *w, void *arg)
{
    const struct link_arg *a = arg;
    struct sim_bus *b = sim_bus_find(w, a->owner, a->life, 0);
    if (!b || b->cut_number != a->cut)
        return;
    world_note(w, "%s is no longer cut off", w->procs[a->owner].id);
    b->cut_in = b->cut_out = false;
    release_held(b, !b->attached);
}

void sim_bus_cut(struct sim_bus *b, bool in, bool out, int64_t us)
{
    struct world *w = b->w;
    world_note(w, "%s cut off%s%s for %lld ms", w->procs[b->owner].id, in ? " in" : "", out ? " out" : "",
               (long long)(us / SIM_MS));
    b->cut_in = in;
    b->cut_out = out;
    struct link_arg link = {b->owner, b->life, b->connection, ++b->cut_number};
    struct link_arg *notice = world_alloc(sizeof(link)), *end = world_alloc(sizeof(link));
    *notice = *end = link;
    world_at(w, w->now_us + world_between(w, 2000, 2700) * SIM_MS, notice_cut, notice);
    world_at(w, w->now_us + us, end_cut, end);
}

struct sim_bus *sim_bus_create(struct world *w, unsigned owner, uint64_t life)
{
    struct sim_bus *b = world_alloc(sizeof(*b));
    b->base.ops = &ops;
    b->w = w;
    b->owner = owner;
    b->life = life;
    b->last = &b->first;
    b->held_out_last = &b->held_out;
    b->held_in_last = &b->held_in;
    b->connection = ++w->numbers;
    attach_at(b, w->now_us + world_between(w, 1, 20) * SIM_MS);
    return b;
}

void sim_bus_destroy(struct sim_bus *b)
{
    release_held(b, true);
    for (struct sim_queued *q = b->first, *next; q; q = next) {
        next = q->next;
        free(q);
    }
    for (struct sim_open *o = b->open, *next; o; o = next) {
        next = o->next;
        free(o);
    }
    sim_kv_forget(b);
    free(b);
}
