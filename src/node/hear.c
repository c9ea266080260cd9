/*
 * Topics: what is published on topic.<topic>, to the rooms here whose patterns match.
 *
 * Decides: that each pattern is subscribed to once for all rooms here that have it, while one of them has. Must not know what a
 * pattern may look like; the host does. Nothing is kept for a room that stands still or is elsewhere: who publishes does not
 * learn who heard it. HEARD_MAX patterns of all rooms here at most: what goes beyond is logged and not heard.
 */
#include "node/state.h"

#include <stdio.h>

enum { HEARD_MAX = 16384 };

struct heard { /* a pattern */
    uint32_t sub;
    bool subscribed;
    struct hears *first; /* of its rooms */
    char pattern[ROOM_TOPIC_MAX + 1];
};

struct hears { /* one room, one pattern */
    struct hears *of_room, *of_pattern;
    struct heard *heard;
    struct id room;
};

static void subscribe(struct node *n, struct heard *h)
{
    char subject[sizeof("topic.") + ROOM_TOPIC_MAX];
    snprintf(subject, sizeof(subject), "topic.%s", h->pattern);
    h->subscribed = bus_subscribe(n->bus, h->sub, subject) == 0;
    n->heard_again |= !h->subscribed;
}

static void free_pattern(struct node *n, struct heard *h)
{
    map_del(&n->heard, h->pattern);
    umap_del(&n->heard_subs, h->sub);
    if (h->subscribed)
        (void)bus_unsubscribe(n->bus, h->sub);
    alloc_put(n->alloc, h, sizeof(*h));
}

static struct heard *pattern_of(struct node *n, const char *pattern)
{
    struct heard *h = map_get(&n->heard, pattern);
    if (h)
        return h;
    h = n->heard.count < HEARD_MAX ? alloc_get(n->alloc, sizeof(*h)) : NULL;
    if (!h)
        return NULL;
    do
        h->sub = SUB_TOPICS | n->heard_last++;
    while (umap_get(&n->heard_subs, h->sub));
    snprintf(h->pattern, sizeof(h->pattern), "%s", pattern);
    if (!umap_put(&n->heard_subs, h->sub, h) || !map_put_borrowed(&n->heard, h->pattern, h)) {
        umap_del(&n->heard_subs, h->sub);
        alloc_put(n->alloc, h, sizeof(*h));
        return NULL;
    }
    subscribe(n, h);
    return h;
}

static void drop(struct node *n, struct hears **at)
{
    struct hears *r = *at, **peer = &r->heard->first;
    while (*peer != r)
        peer = &(*peer)->of_pattern;
    *peer = r->of_pattern;
    *at = r->of_room;
    if (!r->heard->first)
        free_pattern(n, r->heard);
    alloc_put(n->alloc, r, sizeof(*r));
}

static bool add(struct node *n, struct hears **first, const char *room, const char *pattern)
{
    struct heard *h = pattern_of(n, pattern);
    struct hears *r = h ? alloc_get(n->alloc, sizeof(*r)) : NULL;
    if (!r) {
        if (h && !h->first)
            free_pattern(n, h);
        return false;
    }
    id_set(&r->room, room);
    r->heard = h;
    r->of_pattern = h->first;
    h->first = r;
    r->of_room = *first;
    *first = r;
    return true;
}

static bool wants(const struct room *room, const char *pattern)
{
    const char *t = host_room_topic(room, NULL);
    while (t && strcmp(t, pattern) != 0)
        t = host_room_topic(room, t);
    return t != NULL;
}

void hear_topics(void *arg, const struct room *room)
{
    struct node *n = arg;
    struct hears **first = talk_hears(n, host_room_id(room));
    if (!first)
        return; /* it begins just now: talk_open() comes back to it */
    for (struct hears **at = first; *at;) {
        if (wants(room, (*at)->heard->pattern))
            at = &(*at)->of_room;
        else
            drop(n, at);
    }
    for (const char *t = host_room_topic(room, NULL); t; t = host_room_topic(room, t)) {
        const struct hears *r = *first;
        while (r && strcmp(r->heard->pattern, t) != 0)
            r = r->of_room;
        if (!r && !add(n, first, host_room_id(room), t) && n->config.log)
            LOG_ERR("a room does not hear a topic: too many patterns on this server", "room=%s pattern=%s limit=%d",
                    host_room_id(room), t, HEARD_MAX);
    }
}

void hear_close(struct node *n, struct hears **first)
{
    while (*first)
        drop(n, first);
}

/* A room may end by what it hears, and take others along: their names are kept meanwhile. */
static void hand_on(struct node *n, uint32_t sub, const struct room_event *event)
{
    struct heard *h = umap_get(&n->heard_subs, sub);
    struct buf names;
    buf_init(&names, n->alloc, SIZE_MAX);
    for (const struct hears *r = h ? h->first : NULL; r; r = r->of_pattern)
        buf_write(&names, &r->room, sizeof(r->room));
    for (size_t at = 0; at < names.len; at += sizeof(struct id)) {
        struct id room;
        memcpy(&room, names.data + at, sizeof(room));
        int code = host_event(n->host, room.s, event, NULL, n->now);
        if (code && code != ROOM_E_UNAVAILABLE && code != ROOM_E_NOT_FOUND && n->config.log)
            LOG_DBG("a room did not take what was published", "room=%s topic=%s err=%s", room.s, event->from,
                    room_error_name(code));
    }
    buf_deinit(&names);
}

void hear_in(struct node *n, const struct bus_event *ev)
{
    static const size_t head = sizeof("topic.") - 1;
    struct wire_room_send m;
    char topic[ROOM_TOPIC_MAX + 1];
    struct buf copy;
    if (strncmp(ev->subject, "topic.", head) != 0 || strlen(ev->subject + head) > ROOM_TOPIC_MAX || core_is_isolated(n->core))
        return;
    snprintf(topic, sizeof(topic), "%s", ev->subject + head);
    buf_init(&copy, n->alloc, NODE_FRAME_MAX); /* several rooms are called with it, and use the node's own */
    if (wire_room_send_from_json(&m, (const char *)ev->data, ev->len, &copy, NULL) == 0) {
        struct room_event event = {.kind = ROOM_EVENT_TOPIC, .from = topic, .data = m.data.data, .len = m.data.len};
        hand_on(n, ev->sub, &event);
    }
    buf_deinit(&copy);
}

void hear_tick(struct node *n)
{
    if (!n->heard_again)
        return;
    n->heard_again = false;
    for (struct map_iter it = map_first(&n->heard); it.value; map_next(&it)) {
        struct heard *h = it.value;
        if (!h->subscribed)
            subscribe(n, h);
    }
}

void hear_init(struct node *n)
{
    map_init(&n->heard, n->alloc);
    umap_init(&n->heard_subs, n->alloc);
}

void hear_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->heard); it.value; map_next(&it)) {
        struct heard *h = it.value;
        for (struct hears *r = h->first, *next; r; r = next) {
            next = r->of_pattern;
            alloc_put(n->alloc, r, sizeof(*r));
        }
        alloc_put(n->alloc, h, sizeof(*h));
    }
    map_deinit(&n->heard);
    umap_deinit(&n->heard_subs);
}
