/*
 * Who sits in the rooms of this node, and what the rooms say to them.
 *
 * Decides: the number (`who`) under which the host knows a member, and where that member's words go: to a session of this
 * node, or over a link to its gateway. A broadcast goes to each gateway once. Called back by the host in the middle of its
 * work, so nothing here calls the host; what the core must hear is queued.
 */
#include "node/state.h"

#include <stdio.h>

enum { KEY_SIZE = 2 * ID_SIZE };

static const char *key_of(char key[KEY_SIZE], const char *session, const char *room)
{
    snprintf(key, KEY_SIZE, "%s %s", session, room);
    return key;
}

struct member *seat_add(struct node *n, struct place *p, const char *server, const char *session, const char *room)
{
    struct member *m = alloc_get(n->alloc, sizeof(*m));
    char key[KEY_SIZE];
    if (!m)
        return NULL;
    m->who = ++n->last_who;
    m->place = p;
    id_set(&m->server, server);
    id_set(&m->session, session);
    id_set(&m->room, room);
    bool ok = umap_put(&n->members, m->who, m);
    if (ok && !p && !map_put(&n->remotes, key_of(key, session, room), m)) {
        umap_del(&n->members, m->who);
        ok = false;
    }
    if (!ok) {
        alloc_put(n->alloc, m, sizeof(*m));
        return NULL;
    }
    return m;
}

void seat_drop(struct node *n, uint64_t who)
{
    struct member *m = umap_del(&n->members, who);
    char key[KEY_SIZE];
    if (!m)
        return;
    if (!m->place && map_get(&n->remotes, key_of(key, m->session.s, m->room.s)) == m)
        map_del(&n->remotes, key);
    alloc_put(n->alloc, m, sizeof(*m));
}

struct member *seat_remote(struct node *n, const char *session, const char *room)
{
    char key[KEY_SIZE];
    return map_get(&n->remotes, key_of(key, session, room));
}

void seat_gone(struct node *n, const struct member *m, const char *reason)
{
    struct id room = m->room;
    uint64_t who = m->who;
    const struct room *r = host_find(n->host, room.s);
    const void *cursor = NULL;
    struct host_member hm;
    while (r && host_room_member(r, &cursor, &hm))
        if (hm.who == who) {
            registry_player_event(n, false, hm.player, r, reason);
            break;
        }
    seat_drop(n, who);
    host_leave(n->host, room.s, who, reason, n->now);
}

/* A gateway is gone, and its players with it. Who they are is written down first: the table changes under the walk. */
void seat_gateway_gone(struct node *n, const char *server, const char *reason)
{
    struct map_iter it;
    do {
        uint64_t gone[256];
        size_t count = 0;
        for (it = map_first(&n->remotes); it.value && count < sizeof(gone) / sizeof(gone[0]); map_next(&it)) {
            const struct member *m = it.value;
            if (strcmp(m->server.s, server) == 0)
                gone[count++] = m->who;
        }
        for (size_t i = 0; i < count; i++) {
            const struct member *m = umap_get(&n->members, gone[i]);
            if (m && (m->resumes || keep_room(n, m->room.s))) {
                (void)host_hold(n->host, m->room.s, gone[i], n->now);
                seat_drop(n, gone[i]);
            } else if (m) {
                seat_gone(n, m, reason);
            }
        }
    } while (it.value);
}

static struct wire_link_message link_message(const struct room *room, const char *from, const void *data, size_t len)
{
    struct wire_link_message m = {.epoch = (int64_t)host_room_epoch(room), .data = {data, (uint32_t)len}};
    id_set(&m.room, host_room_id(room));
    if (from)
        id_set(&m.from, from);
    return m;
}

static void message(void *arg, const struct room *room, uint64_t who, const char *player, const void *data, size_t len)
{
    struct node *n = arg;
    struct member *m = umap_get(&n->members, who);
    if (m && m->place) {
        struct speech said = {.data = {data, (uint32_t)len}};
        session_message(n, m->place, &said);
        session_said(n, &said);
    } else if (m) {
        struct wire_link_message lm = link_message(room, NULL, data, len);
        lm.session = m->session;
        link_send(n, m->server.s, WIRE_OP_LINK_MESSAGE, &lm);
    }
}

static unsigned tell_all(struct node *n, const struct room *room, uint64_t except_who, const char *from, const void *data,
                         size_t len, bool push)
{
    unsigned count = 0;
    struct speech said = {.from = from, .data = {data, (uint32_t)len}, .push = push};
    struct member *except = umap_get(&n->members, except_who);
    struct wire_link_message lm = link_message(room, from, data, len);
    lm.push = push;
    const void *cursor = NULL;
    struct host_member hm;
    n->marker++;
    while (host_room_member(room, &cursor, &hm)) {
        struct member *m = umap_get(&n->members, hm.who);
        if (!m)
            continue;
        count++;
        if (m->place) {
            if (m != except)
                session_message(n, m->place, &said);
            continue;
        }
        struct link *l = map_get(&n->links, m->server.s);
        if (!l || l->marker == n->marker)
            continue;
        l->marker = n->marker;
        bool there = except && !except->place && strcmp(except->server.s, m->server.s) == 0;
        lm.except = there ? except->session : (struct id){{0}};
        link_send(n, m->server.s, WIRE_OP_LINK_MESSAGE, &lm);
    }
    session_said(n, &said);
    return count;
}

static void broadcast(void *arg, const struct room *room, uint64_t except_who, const char *from, const void *data,
                      size_t len)
{
    (void)tell_all(arg, room, except_who, from, data, len, false);
}

unsigned seat_push(struct node *n, const struct room *room, const void *data, size_t len)
{
    return tell_all(n, room, 0, NULL, data, len, true);
}

static void joined(void *arg, const struct room *room, uint64_t who, const char *player, const void *state, size_t len)
{
    struct node *n = arg;
    struct member *m = umap_get(&n->members, who);
    struct wire_raw raw = {state, (uint32_t)len};
    if (!m)
        return;
    if (m->place) {
        n->stats.joins_local++;
        session_joined(n, m->place, m->place->request, host_room_players(room), host_room_max_players(room), raw);
    } else {
        struct wire_link_joined j = {.session = m->session, .request = m->number, .room = m->room,
                                     .type = host_room_type(room)->name, .epoch = (int64_t)host_room_epoch(room),
                                     .players = host_room_players(room), .max_players = host_room_max_players(room),
                                     .state = raw};
        link_send(n, m->server.s, WIRE_OP_LINK_JOINED, &j);
    }
    registry_player_event(n, true, player, room, NULL);
}

static void sent(void *arg, const struct room *room, uint64_t who, const char *player, int64_t number, int code,
                 const void *result, size_t len)
{
    struct node *n = arg;
    struct member *m = umap_get(&n->members, who);
    struct wire_raw raw = {result, (uint32_t)len};
    if (m && m->place) {
        sends_result(n, m->place, number, code, raw);
    } else if (m && code) {
        relay_send_refused(n, m->server.s, &m->session, &m->room, number, code);
    } else if (m) {
        struct wire_link_sent s = {.session = m->session, .room = m->room, .n = number, .number = m->number,
                                   .has_number = true, .epoch = (int64_t)host_room_epoch(room), .result = raw};
        link_send(n, m->server.s, WIRE_OP_LINK_SENT, &s);
    }
}

static void attached(void *arg, const struct room *room, uint64_t who, const char *player, const void *state, size_t len)
{
    struct node *n = arg;
    struct member *m = umap_get(&n->members, who);
    struct wire_raw raw = {state, (uint32_t)len};
    if (m && m->place) {
        attach_seated(n, m, host_room_epoch(room), raw);
    } else if (m) {
        struct wire_link_attached a = {.session = m->session, .room = m->room, .request = m->number,
                                       .epoch = (int64_t)host_room_epoch(room), .state = raw};
        link_send(n, m->server.s, WIRE_OP_LINK_ATTACHED, &a);
    }
}

static void left(void *arg, const struct room *room, uint64_t who, const char *player, const char *reason)
{
    struct node *n = arg;
    struct member *m = umap_get(&n->members, who);
    registry_player_event(n, false, player, room, reason);
    if (!m)
        return;
    if (m->place) {
        m->place->who = 0;
        session_place_drop(n, m->place, reason, true);
    } else {
        struct wire_link_left l = {.session = m->session, .room = m->room, .reason = wire_str(reason)};
        link_send(n, m->server.s, WIRE_OP_LINK_LEFT, &l);
    }
    seat_drop(n, who);
}

static void changed(void *arg, const struct room *room)
{
    struct node *n = arg;
    struct queued *q = step_event(n, CORE_EV_ROOM_CHANGED);
    if (!q)
        return;
    registry_room_info(&q->room, room);
    q->ev.room = &q->room;
}

static void image(void *arg, const struct room *room, uint64_t version, uint64_t position, const void *data, size_t len)
{
    keep_image(arg, room, version, position, data, len);
}

static void append(void *arg, const struct room *room, uint64_t number, const void *data, size_t len)
{
    append_batch(arg, host_room_id(room), host_room_epoch(room), number, data, len);
}

static void ended(void *arg, const char *room_id, const char *reason)
{
    struct node *n = arg;
    const struct journal *j = map_get(&n->journals, room_id);
    if (j)
        append_ended(n, room_id, j->last);
    append_close(n, room_id);
    talk_close(n, room_id);
    keep_remove(n, room_id);
    struct queued *q = step_event(n, CORE_EV_ROOM_ENDED);
    if (!q)
        return;
    id_set(&q->room.id, room_id);
    snprintf(q->reason, sizeof(q->reason), "%s", reason);
    q->ev.room = &q->room;
    q->ev.reason = q->reason;
}

const struct host_out seat_host_out = {message, broadcast, joined, sent, attached, left, changed, ended, image, append,
                                       talk_answered, talk_tell, talk_lock, talk_ask, hear_topics};
