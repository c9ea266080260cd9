/*
 * A client's place in a matchmaking queue: one at a time, as the server has it.
 *
 * Decides: what is asked again at a new home (what has no end yet: the server knows it by its number), and that queued, confirm,
 * matched and unmatched are told once. Must not join the room of a match: that is the caller's.
 */
#include <string.h>

#include "client/frame.h"
#include "client/state.h"
#include "wire/mp_read.h"

enum { PROPERTIES_MAX = 1024, FRAME_MAX = 4096, WORD_SIZE = 128 * 4 + 1 };

static int queue_unmatch(struct room_client *c)
{
    struct buf *out = &c->home->out;
    struct wire_frame_unmatch f = {.id = (int64_t)(c->last_request + 1), .queue = c->match.queue};
    size_t begin = frame_begin(out);
    int rc = frame_end(out, begin, wire_frame_unmatch_pack(&f, out));
    if (rc == 0) {
        c->last_request++;
        c->dirty = true;
    }
    return rc;
}

static int queue_match(struct room_client *c)
{
    struct buf *out = &c->home->out;
    size_t begin = frame_begin(out);
    int rc = frame_end(out, begin, buf_write(out, c->match.frame.data, c->match.frame.len) ? 0 : ROOM_E_FULL);
    if (rc == 0)
        c->dirty = true;
    return rc;
}

static void forget(struct room_client *c)
{
    c->match.id = 0;
    c->match.queued = c->match.leaving = false;
}

void waiting_ask_again(struct room_client *c)
{
    if (c->match.id && queue_match(c) == 0 && c->match.leaving)
        (void)queue_unmatch(c);
}

void waiting_lost(struct room_client *c, const char *reason)
{
    uint64_t id = c->match.id;
    struct id queue = c->match.queue;
    forget(c);
    if (id && c->on.unmatched)
        c->on.unmatched(c->arg, id, queue.s, reason);
}

bool waiting_error(struct room_client *c, uint64_t id, int code, const char *text)
{
    if (!id || id != c->match.id)
        return false;
    forget(c);
    if (c->on.error)
        c->on.error(c->arg, id, code, text);
    return true;
}

void waiting_deinit(struct room_client *c)
{
    if (c->match.frame.alloc)
        buf_deinit(&c->match.frame);
}

/* ---- what the caller says ---- */

static int pack(struct room_client *c, const struct room_client_match *m, struct buf *out)
{
    struct wire_frame_match f = {.id = (int64_t)(c->last_request + 1), .party.count = m->party_count,
                                 .properties = {m->properties, (uint32_t)m->properties_len}};
    if (!m->queue || !id_set(&f.queue, m->queue) || m->party_count > sizeof f.party.items / sizeof f.party.items[0] ||
        m->properties_len > PROPERTIES_MAX ||
        (m->properties_len && mp_check(m->properties, m->properties_len, WIRE_VALUE_DEPTH, NULL) != 0))
        return ROOM_E_INVALID;
    for (unsigned i = 0; i < m->party_count; i++) {
        if (!m->party[i] || !id_valid(m->party[i]))
            return ROOM_E_INVALID;
        f.party.items[i] = wire_str(m->party[i]);
    }
    c->match.queue = f.queue;
    return wire_frame_match_pack(&f, out);
}

int room_client_match(struct room_client *c, const struct room_client_match *m, uint64_t *request)
{
    if (!client_home_open(c) && !c->secret_len)
        return ROOM_E_DISCONNECTED;
    if (c->match.id)
        return ROOM_E_ALREADY;
    if (!c->match.frame.alloc)
        buf_init(&c->match.frame, &alloc_libc, FRAME_MAX);
    buf_reset(&c->match.frame);
    int rc = pack(c, m, &c->match.frame);
    if (rc == 0 && client_home_open(c))
        rc = queue_match(c);
    if (rc != 0)
        return rc;
    c->match.id = ++c->last_request;
    if (request)
        *request = c->match.id;
    return 0;
}

int room_client_unmatch(struct room_client *c)
{
    if (!c->match.id)
        return ROOM_E_NOT_FOUND;
    int rc = !c->match.leaving && client_home_open(c) ? queue_unmatch(c) : 0;
    c->match.leaving |= rc == 0;
    return rc;
}

int room_client_accept(struct room_client *c, const char *match, int accept)
{
    struct wire_frame_accept f = {.id = (int64_t)(c->last_request + 1), .accept = accept != 0};
    if (!client_home_open(c))
        return ROOM_E_DISCONNECTED;
    if (!match || !id_set(&f.match, match))
        return ROOM_E_INVALID;
    size_t begin = frame_begin(&c->home->out);
    int rc = frame_end(&c->home->out, begin, wire_frame_accept_pack(&f, &c->home->out));
    if (rc == 0) {
        c->last_request++;
        c->dirty = true;
    }
    return rc;
}

/* ---- what the server says ---- */

int waiting_queued(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_queued f;
    int rc = wire_frame_queued_unpack(&f, data, len, NULL);
    if (rc != 0 || (uint64_t)f.id != c->match.id || c->match.queued)
        return rc;
    c->match.queued = true;
    if (c->on.queued)
        c->on.queued(c->arg, (uint64_t)f.id, f.queue.s, f.ticket.s);
    return 0;
}

int waiting_confirm(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_confirm f;
    int rc = wire_frame_confirm_unpack(&f, data, len, NULL);
    if (rc != 0 || strcmp(f.match.s, c->match.asked.s) == 0)
        return rc;
    c->match.asked = f.match;
    if (c->on.confirm)
        c->on.confirm(c->arg, f.queue.s, f.match.s, (unsigned)f.wait_ms, (unsigned)f.players);
    return 0;
}

int waiting_matched(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_matched f;
    struct id players[sizeof f.players.items / sizeof f.players.items[0]];
    const char *names[sizeof f.players.items / sizeof f.players.items[0]];
    int rc = wire_frame_matched_unpack(&f, data, len, NULL);
    if (rc != 0 || strcmp(f.match.s, c->match.told.s) == 0)
        return rc;
    bool own = f.has_id && c->match.id && (uint64_t)f.id == c->match.id;
    for (uint32_t i = 0; i < f.players.count; i++) {
        if (!id_set_n(&players[i], f.players.items[i].data, f.players.items[i].len))
            return ROOM_E_BAD_FRAME;
        names[i] = players[i].s;
    }
    struct room_client_matched m = {.request = own ? c->match.id : 0, .queue = f.queue.s, .match = f.match.s,
                                    .room_id = f.room_id.s, .type = f.type.s, .server = f.server.s, .team = (unsigned)f.team,
                                    .players = names, .player_count = f.players.count};
    c->match.told = f.match;
    if (own)
        forget(c);
    if (c->on.matched)
        c->on.matched(c->arg, &m);
    return 0;
}

int waiting_unmatched(struct client_conn *conn, const uint8_t *data, size_t len)
{
    struct room_client *c = conn->client;
    struct wire_frame_unmatched f;
    char reason[WORD_SIZE] = "";
    int rc = wire_frame_unmatched_unpack(&f, data, len, NULL);
    if (rc != 0 || !c->match.id || (uint64_t)f.id != c->match.id)
        return rc;
    if (f.reason.data && f.reason.len < sizeof reason)
        memcpy(reason, f.reason.data, f.reason.len);
    waiting_lost(c, reason);
    return 0;
}
