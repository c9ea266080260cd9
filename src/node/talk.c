/*
 * Rooms here and the rest of the cluster: what comes in on room.<id>.send, what rooms tell others, and what comes of it.
 *
 * Decides: that a room is listened for while it runs here and no longer, how such a message and its answer look, and when an
 * answer is handed to the room that waits for it. The host speaks in the middle of its work, so what a room asks waits for
 * the end of the turn. An answer for a room that stands still waits until it goes on; one for a room that is not here any
 * more, or is of another epoch, is dropped: the room asks again, or its next owner does so of what is open.
 * Weak point: a message is handed in as often as it comes. Whoever repeats one whose answer was lost may be applied twice.
 */
#include "node/state.h"

#include <stdio.h>

enum { TELL_MS = 5000, TELLS_MAX = 1024, ASKS_MAX = 16384, ASKS_BYTES_MAX = 32 * 1024 * 1024, EVENTS_MAX = 4096 };

struct listening {
    struct id room;
    uint32_t sub, push_sub;
    struct hears *hears; /* hear.c */
};

struct tell { /* under way, and its answer is wanted */
    struct id room, other;
    uint64_t epoch, request;
};

struct room_ask { /* said by a room, not done yet */
    struct room_ask *next;
    enum { TELL, LOCK, PLAYER, PUBLISH, OPEN } kind;
    bool refused; /* too much of it waits */
    struct tell tell;
    struct host_lock_ask ask;
    struct host_ask open; /* its target is `topic`, its data `data` */
    char topic[ROOM_TOPIC_MAX + 1];
    size_t len;
    uint8_t data[];
};

struct waiting_event {
    struct waiting_event *next;
    struct id room, from;
    uint64_t epoch, number; /* number: of an open ask; 0: none */
    struct room_event event;
    uint8_t data[];
};

bool talk_open(struct node *n, const char *room)
{
    char subject[SUBJECT_SIZE];
    struct listening *t = map_get(&n->talk_rooms, room);
    if (t)
        return true;
    t = alloc_get(n->alloc, sizeof(*t));
    if (!t)
        return false;
    id_set(&t->room, room);
    t->sub = SUB_ROOMS + n->talk_subs++;
    bool kept = map_put_borrowed(&n->talk_rooms, t->room.s, t);
    t->push_sub = SUB_ROOMS + n->talk_subs++;
    int rc = kept ? bus_subscribe(n->bus, t->sub, subject_room(subject, room, "send")) : ROOM_E_NO_MEMORY;
    if (!rc && (rc = bus_subscribe(n->bus, t->push_sub, subject_room(subject, room, "push"))))
        (void)bus_unsubscribe(n->bus, t->sub);
    if (!rc) {
        const struct room *r = host_find(n->host, room);
        if (r)
            hear_topics(n, r);
        return true;
    }
    if (kept)
        map_del(&n->talk_rooms, t->room.s);
    alloc_put(n->alloc, t, sizeof(*t));
    return false;
}

struct hears **talk_hears(struct node *n, const char *room)
{
    struct listening *t = map_get(&n->talk_rooms, room);
    return t ? &t->hears : NULL;
}

void talk_close(struct node *n, const char *room)
{
    struct listening *t = map_del(&n->talk_rooms, room);
    if (!t)
        return;
    (void)bus_unsubscribe(n->bus, t->sub);
    (void)bus_unsubscribe(n->bus, t->push_sub);
    hear_close(n, &t->hears);
    alloc_put(n->alloc, t, sizeof(*t));
}

static void reply_with(struct node *n, const char *to, const struct wire_room_send_reply *reply)
{
    buf_reset(&n->scratch);
    if (wire_room_send_reply_to_json(reply, &n->scratch) == 0)
        (void)bus_publish(n->bus, to, NULL, n->scratch.data, n->scratch.len);
}

static void refuse(struct node *n, const char *to, int code, const char *text)
{
    struct wire_room_send_reply reply = {.error = wire_str(room_error_name(code))};
    reply.message = wire_str(text && text[0] ? text : room_error_text(code));
    if (to)
        reply_with(n, to, &reply);
}

void talk_answered(void *arg, const struct room *room, const char *to, int code, const void *result, size_t len)
{
    struct wire_room_send_reply reply = {.ok = true, .has_epoch = true, .epoch = (int64_t)host_room_epoch(room)};
    reply.result = (struct wire_raw){result, (uint32_t)len};
    if (code)
        refuse(arg, to, code, NULL);
    else
        reply_with(arg, to, &reply);
}

void talk_in(struct node *n, const struct bus_event *ev)
{
    struct subject subject;
    struct wire_room_send m;
    struct err_detail detail = {{0}};
    if (!subject_parse(ev->subject, &subject) || !map_get(&n->talk_rooms, subject.id.s))
        return;
    if (core_is_isolated(n->core))
        return; /* the room may be another's by now, and that one answers; if it is not, nobody knows */
    if (strcmp(subject.verb, "push") == 0) {
        shout_room(n, subject.id.s, ev);
        return;
    }
    buf_reset(&n->frame);
    int code = wire_room_send_from_json(&m, (const char *)ev->data, ev->len, &n->frame, &detail);
    if (!code) {
        bool tell = m.room.s[0];
        struct room_event event = {.kind = tell ? ROOM_EVENT_TELL : ROOM_EVENT_SEND, .data = m.data.data, .len = m.data.len};
        event.from = tell ? m.room.s : m.from.s[0] ? m.from.s : NULL;
        code = host_event(n->host, subject.id.s, &event, ev->reply, n->now);
    }
    if (code)
        refuse(n, ev->reply, code, detail.text);
}

/* ---- what rooms say ---- */

static void add(struct node *n, struct room_ask *a)
{
    *n->talk_last = a;
    n->talk_last = &a->next;
    n->talk_count++;
    n->talk_bytes += a->len;
}

static struct room_ask *ask_of(struct node *n, const struct room *room, uint64_t request, const void *data, size_t len)
{
    bool refused = n->talk_count >= ASKS_MAX / 2 || len > ASKS_BYTES_MAX - n->talk_bytes;
    len = refused ? 0 : len;
    struct room_ask *a = n->talk_count < ASKS_MAX ? alloc_get(n->alloc, sizeof(*a) + len) : NULL;
    if (!a) {
        if (n->config.log)
            LOG_ERR("what a room asked was dropped: too much waits", "room=%s", host_room_id(room));
        return NULL;
    }
    id_set(&a->tell.room, host_room_id(room));
    a->tell.epoch = host_room_epoch(room);
    a->tell.request = request;
    a->refused = refused;
    a->len = len;
    if (len)
        memcpy(a->data, data, len);
    return a;
}

static void say_later(struct node *n, const char *room, uint64_t number)
{
    host_unsaid(n->host, room, number);
    n->talk_unsaid = true;
}

void talk_tell(void *arg, const struct room *room, const char *other, uint64_t request, const void *data, size_t len)
{
    struct node *n = arg;
    struct room_ask *a = ask_of(n, room, request, data, len);
    if (!a)
        return;
    id_set(&a->tell.other, other);
    add(n, a);
}

void talk_lock(void *arg, const struct room *room, const struct host_lock_ask *ask)
{
    struct node *n = arg;
    struct room_ask *a = ask_of(n, room, ask->request, NULL, 0);
    if (!a)
        return;
    a->kind = LOCK;
    a->ask = *ask;
    a->tell.other = ask->name;
    add(n, a);
}

void talk_ask(void *arg, const struct room *room, const struct host_ask *ask)
{
    struct node *n = arg;
    struct room_ask *a = ask_of(n, room, ask->request, ask->data, ask->len);
    if (!a && ask->number)
        say_later(n, host_room_id(room), ask->number);
    if (!a)
        return;
    a->kind = ask->number ? OPEN : ask->kind == HOST_ASK_PLAYER ? PLAYER : PUBLISH;
    a->open = *ask;
    a->open.target = a->topic;
    a->open.data = a->data;
    if (a->kind == PLAYER)
        id_set(&a->tell.other, ask->target);
    else
        snprintf(a->topic, sizeof(a->topic), "%s", ask->target);
    add(n, a);
}

/* ---- what comes of it ---- */

static bool runs_here(const struct node *n, const char *room, uint64_t epoch)
{
    const struct room *r = host_find(n->host, room);
    return r && host_room_epoch(r) == epoch;
}

static bool wait_with(struct node *n, const char *room, uint64_t epoch, uint64_t number, const struct room_event *event)
{
    struct waiting_event *w = n->talk_waiting < EVENTS_MAX ? alloc_get(n->alloc, sizeof(*w) + event->len) : NULL;
    if (!w) {
        if (n->config.log)
            LOG_ERR("an answer for a room was dropped: too many wait", "room=%s", room);
        return false;
    }
    id_set(&w->room, room);
    w->epoch = epoch;
    w->number = number;
    w->event = *event;
    if (!number)
        id_set(&w->from, event->from);
    w->event.from = w->from.s;
    if (event->len)
        memcpy(w->data, event->data, event->len);
    w->event.data = w->data;
    *n->talk_events_last = w;
    n->talk_events_last = &w->next;
    n->talk_waiting++;
    return true;
}

void talk_event(struct node *n, const char *room, uint64_t epoch, const struct room_event *event)
{
    if (!event->request || !runs_here(n, room, epoch))
        return;
    int code = host_event(n->host, room, event, NULL, n->now);
    if (code == ROOM_E_UNAVAILABLE || code == ROOM_E_NO_MEMORY)
        (void)wait_with(n, room, epoch, 0, event);
}

void talk_finish(struct node *n, const struct asker *a, const struct room_event *event)
{
    if (!runs_here(n, a->room.s, a->epoch))
        return;
    int code = host_done(n->host, a->room.s, a->number, event, n->now);
    bool later = code == ROOM_E_UNAVAILABLE || code == ROOM_E_NO_MEMORY;
    if (later && !wait_with(n, a->room.s, a->epoch, a->number, event))
        say_later(n, a->room.s, a->number);
}

static void told(struct node *n, const struct tell *t, int code, const void *data, size_t len)
{
    struct room_event event = {.kind = ROOM_EVENT_TOLD, .from = t->other.s, .request = t->request, .code = code};
    event.data = data;
    event.len = len;
    talk_event(n, t->room.s, t->epoch, &event);
}

void talk_done(struct node *n, const struct bus_event *ev)
{
    struct tell *t = umap_del(&n->tells, ev->token & TOKEN_MASK);
    struct wire_room_send_reply reply = {.ok = false};
    if (!t)
        return;
    buf_reset(&n->frame);
    bool answered = ev->result == BUS_OK && ev->data &&
                    wire_room_send_reply_from_json(&reply, (const char *)ev->data, ev->len, &n->frame, NULL) == 0;
    char word[33] = "";
    if (answered && !reply.ok)
        memcpy(word, reply.error.data ? reply.error.data : "", reply.error.len < 32 ? reply.error.len : 32);
    int code = answered ? (reply.ok ? 0 : room_error_from_name(word))
                        : ev->result == BUS_NO_RESPONDERS ? ROOM_E_NO_RESPONDERS : ROOM_E_UNKNOWN_RESULT;
    told(n, t, code, code ? NULL : reply.result.data, code ? 0 : reply.result.len);
    alloc_put(n->alloc, t, sizeof(*t));
}

static int send_tell(struct node *n, const struct room_ask *a)
{
    char subject[SUBJECT_SIZE];
    struct wire_room_send m = {.data = {a->data, (uint32_t)a->len}, .room = a->tell.room};
    subject_room(subject, a->tell.other.s, "send");
    buf_reset(&n->scratch);
    int rc = wire_room_send_to_json(&m, &n->scratch);
    if (rc || !a->tell.request)
        return rc ? rc : bus_publish(n->bus, subject, NULL, n->scratch.data, n->scratch.len);
    struct tell *t = n->tells.count < TELLS_MAX ? alloc_get(n->alloc, sizeof(*t)) : NULL;
    uint64_t serial = ++n->last_errand;
    if (!t)
        return ROOM_E_FULL;
    *t = a->tell;
    rc = umap_put(&n->tells, serial, t) ? 0 : ROOM_E_NO_MEMORY;
    if (!rc)
        rc = bus_request(n->bus, serial | (uint64_t)TOKEN_TELL << TOKEN_SHIFT, subject, n->scratch.data, n->scratch.len,
                         TELL_MS);
    if (rc) {
        umap_del(&n->tells, serial);
        alloc_put(n->alloc, t, sizeof(*t));
    }
    return rc;
}

static int publish(struct node *n, const struct room_ask *a)
{
    char subject[sizeof("topic.") + ROOM_TOPIC_MAX];
    struct wire_room_send m = {.data = {a->data, (uint32_t)a->len}, .room = a->tell.room};
    snprintf(subject, sizeof(subject), "topic.%s", a->topic);
    buf_reset(&n->scratch);
    int rc = wire_room_send_to_json(&m, &n->scratch);
    return rc ? rc : bus_publish(n->bus, subject, NULL, n->scratch.data, n->scratch.len);
}

static int begin(struct node *n, const struct room_ask *a)
{
    switch (a->kind) {
    case TELL:    return send_tell(n, a);
    case LOCK:    return locks_room(n, a->tell.room.s, a->tell.epoch, &a->ask);
    case PLAYER:  return reach_player(n, a->tell.room.s, a->tell.epoch, a->tell.request, a->tell.other.s, a->data, a->len);
    case PUBLISH: return publish(n, a);
    case OPEN:    break;
    }
    return ROOM_E_INTERNAL;
}

static void perform_open(struct node *n, const struct room_ask *a)
{
    struct asker asker = {.room = a->tell.room, .epoch = a->tell.epoch, .number = a->open.number, .again = a->open.again};
    struct room_event event = {.code = ROOM_E_FULL};
    if (!runs_here(n, asker.room.s, asker.epoch))
        return;
    if (!a->refused)
        event.code = a->open.kind == HOST_ASK_SERVICE ? consult(n, &asker, &a->open) : shared_room(n, &asker, &a->open);
    bool later = asker.again && (event.code == ROOM_E_FULL || event.code == ROOM_E_NO_MEMORY);
    if (later)
        say_later(n, asker.room.s, asker.number);
    else if (event.code)
        talk_finish(n, &asker, &event);
}

static void perform(struct node *n, const struct room_ask *a)
{
    static const enum room_event_kind kinds[] = {ROOM_EVENT_TOLD, ROOM_EVENT_LOCK, ROOM_EVENT_PLAYER, ROOM_EVENT_TOPIC};
    struct room_event event = {.kind = kinds[a->kind], .from = a->tell.other.s, .request = a->tell.request};
    event.code = a->refused ? ROOM_E_FULL : begin(n, a);
    if (!event.code)
        return;
    if (a->kind != PUBLISH)
        talk_event(n, a->tell.room.s, a->tell.epoch, &event);
    else if (n->config.log)
        LOG_WRN("what a room published was dropped", "room=%s topic=%s err=%s", a->tell.room.s, a->topic,
                room_error_name(event.code));
}

bool talk_turn(struct node *n)
{
    for (unsigned left = n->talk_count; left && n->talk_first; left--) {
        struct room_ask *a = n->talk_first;
        n->talk_first = a->next;
        if (!n->talk_first)
            n->talk_last = &n->talk_first;
        n->talk_count--;
        n->talk_bytes -= a->len;
        (a->kind == OPEN ? perform_open : perform)(n, a);
        alloc_put(n->alloc, a, sizeof(*a) + a->len);
    }
    return n->talk_first != NULL;
}

void talk_tick(struct node *n)
{
    hear_tick(n);
    if (n->talk_unsaid) {
        n->talk_unsaid = false;
        for (const struct room *r = host_room_next(n->host, NULL); r; r = host_room_next(n->host, r))
            if (!host_say_again(n->host, host_room_id(r), n->now))
                n->talk_unsaid = true;
    }
    for (unsigned left = n->talk_waiting; left; left--) {
        struct waiting_event *w = n->talk_events;
        n->talk_events = w->next;
        if (!n->talk_events)
            n->talk_events_last = &n->talk_events;
        n->talk_waiting--;
        if (w->number)
            talk_finish(n, &(struct asker){.room = w->room, .epoch = w->epoch, .number = w->number}, &w->event);
        else
            talk_event(n, w->room.s, w->epoch, &w->event);
        alloc_put(n->alloc, w, sizeof(*w) + w->event.len);
    }
}

void talk_init(struct node *n)
{
    map_init(&n->talk_rooms, n->alloc);
    umap_init(&n->tells, n->alloc);
    hear_init(n);
    reach_init(n);
    n->talk_last = &n->talk_first;
    n->talk_events_last = &n->talk_events;
}

void talk_deinit(struct node *n)
{
    reach_deinit(n);
    hear_deinit(n);
    for (struct map_iter it = map_first(&n->talk_rooms); it.value; map_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct listening));
    for (struct umap_iter it = umap_first(&n->tells); it.value; umap_next(&it))
        alloc_put(n->alloc, it.value, sizeof(struct tell));
    for (struct room_ask *a = n->talk_first, *next; a; a = next) {
        next = a->next;
        alloc_put(n->alloc, a, sizeof(*a) + a->len);
    }
    for (struct waiting_event *w = n->talk_events, *next; w; w = next) {
        next = w->next;
        alloc_put(n->alloc, w, sizeof(*w) + w->event.len);
    }
    map_deinit(&n->talk_rooms);
    umap_deinit(&n->tells);
}
