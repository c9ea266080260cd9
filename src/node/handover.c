/*
 * Sessions on their way from one gateway to another, and what is written down of them for when a gateway is dead.
 *
 * Decides: what of a session goes along (its rooms, and the messages its client may have to hear again), and what its former
 * gateway does: it lets go without a word to the rooms, where the seats are held until the next gateway asks for them. The
 * bucket `sessions` has the rooms of each session that can be resumed; whoever takes one up from there does not know what was
 * said to it last. Must not decide who may have a session: presence.c does.
 */
#include "node/state.h"

enum { MESSAGES_BYTES = 700 * 1024, ROSTER_MS = 2000, ROSTER_AGAIN_MS = 250 };

static void write_places(struct buf *out, const struct session *s)
{
    uint32_t count = 0;
    for (const struct place *p = s->places; p; p = p->next)
        count += p->joined;
    mp_write_array(out, count);
    for (const struct place *p = s->places; p; p = p->next) {
        if (!p->joined)
            continue;
        mp_write_array(out, 5);
        mp_write_uint(out, p->number);
        mp_write_text(out, p->room.s);
        mp_write_text(out, p->type.s);
        mp_write_uint(out, p->epoch);
        mp_write_int(out, p->request);
    }
}

static bool read_uint(struct mp_read *r, uint64_t max, uint64_t *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) || t.type != MP_INT || t.i < 0 || (uint64_t)t.i > max)
        return false;
    *out = (uint64_t)t.i;
    return true;
}

/* `nil` allowed: the id is empty then. */
static bool read_id(struct mp_read *r, bool nil, struct id *out)
{
    struct mp_token t;
    *out = (struct id){{0}};
    if (mp_next(r, &t, NULL))
        return false;
    return (nil && t.type == MP_NIL) || (t.type == MP_STR && id_set_n(out, (const char *)t.data, t.len));
}

static bool read_array(struct mp_read *r, uint32_t *count)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) || t.type != MP_ARRAY)
        return false;
    *count = t.count;
    return true;
}

static bool install_place(struct node *n, struct session *s, struct mp_read *r)
{
    uint32_t fields;
    uint64_t number, epoch, request;
    struct id room, type;
    if (!read_array(r, &fields) || fields != 5 || !read_uint(r, UINT32_MAX, &number) || !read_id(r, false, &room) ||
        !read_id(r, false, &type) || !read_uint(r, INT64_MAX, &epoch) || !read_uint(r, INT64_MAX, &request))
        return false;
    struct place *p = session_place_add(n, s, room.s, type.s);
    if (!p)
        return false;
    p->number = (uint32_t)number;
    p->epoch = epoch; /* and nobody's place until the listing says whom to ask: its owner may be dead by now */
    p->request = (int64_t)request;
    p->joined = p->away = true;
    p->retry_at = p->away_since = n->now;
    p->relayed = relay_track(n, p);
    return p->relayed;
}

static bool install_places(struct node *n, struct session *s, struct wire_raw places, uint64_t last_room)
{
    struct mp_read r;
    uint32_t count;
    mp_read_init(&r, places.data, places.len);
    if (!read_array(&r, &count))
        return false;
    bool ok = count <= n->config.rooms_per_session;
    while (ok && count--)
        ok = install_place(n, s, &r);
    if (!ok)
        session_drop_places(n, s);
    s->next_room = (uint32_t)last_room;
    return ok;
}

static bool install_message(struct node *n, struct session *s, struct mp_read *r)
{
    uint32_t fields;
    uint64_t room, number = 0, missed = 0;
    struct id from;
    struct wire_raw data;
    if (!read_array(r, &fields) || (fields != 3 && fields != 5) || !read_uint(r, UINT32_MAX, &room) ||
        !read_id(r, true, &from) || mp_skip(r, WIRE_DEPTH_MAX, &data, NULL))
        return false;
    if (fields == 5 && (!read_uint(r, INT64_MAX, &number) || !read_uint(r, UINT32_MAX, &missed)))
        return false;
    struct words *w = words_get(n->alloc, from.s[0] ? from.s : NULL, data.data, data.len);
    if (w) {
        w->push = fields == 5;
        w->number = number;
        w->missed = (uint32_t)missed;
    }
    (void)tail_add(&s->tail, n->alloc, (uint32_t)room, w);
    words_put(n->alloc, w);
    return true;
}

bool handover_install(struct node *n, struct session *s, const struct wire_rpc_session *m)
{
    struct mp_read r;
    uint32_t count;
    s->listed = true; /* it may be, by its former gateway */
    mp_read_init(&r, m->messages.data, m->messages.len);
    if (!install_places(n, s, m->places, (uint64_t)m->last_room))
        return false;
    tail_begin_after(&s->tail, n->alloc, (uint64_t)m->floor);
    bool ok = read_array(&r, &count) && (uint64_t)m->floor + count == (uint64_t)m->seq;
    while (ok && count--)
        ok = install_message(n, s, &r);
    ok = ok && collect_take(n, s, m->inbox);
    if (!ok) {
        session_drop_places(n, s);
        tail_clear(&s->tail, n->alloc);
    }
    return ok;
}

bool handover_from_roster(struct node *n, struct session *s, const uint8_t *data, size_t len)
{
    struct wire_session_entry e;
    s->listed = true;
    return wire_session_entry_from_json(&e, (const char *)data, len, &n->scratch, NULL) == 0 &&
           strcmp(e.player.s, s->player.s) == 0 && install_places(n, s, e.rooms, (uint64_t)e.last_room);
}

/* The newest messages that fit; the first of them follows the floor that is returned. */
static uint64_t write_messages(struct buf *out, const struct session *s, uint64_t seen)
{
    uint64_t floor = s->tail.last, bytes = 0;
    const struct tail_message *t;
    while (floor > seen && (t = tail_at(&s->tail, floor)) && (bytes += t->words->len + ID_SIZE) <= MESSAGES_BYTES)
        floor--;
    mp_write_array(out, (uint32_t)(s->tail.last - floor));
    for (uint64_t seq = floor + 1; seq <= s->tail.last; seq++) {
        t = tail_at(&s->tail, seq);
        mp_write_array(out, t->words->push ? 5 : 3);
        mp_write_uint(out, t->room);
        if (t->words->from.s[0])
            mp_write_text(out, t->words->from.s);
        else
            mp_write_nil(out);
        buf_write(out, t->words->data, t->words->len);
        if (t->words->push) {
            mp_write_uint(out, t->words->number);
            mp_write_uint(out, t->words->missed);
        }
    }
    return floor;
}

static void answer(struct node *n, const char *reply, const struct wire_rpc_session *m)
{
    buf_reset(&n->scratch);
    if (wire_rpc_session_pack(m, &n->scratch) == 0)
        (void)bus_publish(n->bus, reply, NULL, n->scratch.data, n->scratch.len);
}

/* What was handed over ends here; if the answer is lost, the bucket knows enough. */
static void give(struct node *n, struct session *s, const char *reply, uint64_t seen)
{
    struct wire_rpc_session m = {.seq = (int64_t)s->tail.last, .has_seq = true, .last_room = s->next_room,
                                 .has_last_room = true, .has_floor = true};
    buf_reset(&n->frame);
    write_places(&n->frame, s);
    size_t places = n->frame.len;
    if (seen <= s->tail.last) /* else it is of what another gateway has said */
        collect_acked(n, s, seen);
    seen = resume_after(s, seen);
    m.floor = (int64_t)write_messages(&n->frame, s, seen < s->tail.last ? seen : s->tail.last);
    size_t messages = n->frame.len - places;
    collect_give(s, &n->frame);
    m.places = (struct wire_raw){n->frame.data, (uint32_t)places};
    m.messages = (struct wire_raw){n->frame.data + places, (uint32_t)messages};
    m.inbox = (struct wire_raw){n->frame.data + places + messages, (uint32_t)(n->frame.len - places - messages)};
    if (n->frame.failed) {
        answer(n, reply, &(struct wire_rpc_session){.code = ROOM_E_NO_MEMORY});
        return;
    }
    answer(n, reply, &m);
    session_moved(n, s);
}

/* Another gateway has it, and could not ask this one for it. */
static bool goes_on(struct node *n, const struct wire_rpc_displace *m)
{
    struct session *s = map_get(&n->by_session, m->session.s);
    bool here = s != NULL;
    if (here && s->claim < (uint64_t)m->claim)
        session_moved(n, s);
    return here;
}

void handover_in(struct node *n, int op, const struct bus_event *ev)
{
    struct wire_rpc_handover h;
    struct wire_rpc_displace d;
    int code = ROOM_E_NOT_FOUND;
    if (op == WIRE_OP_RPC_DISPLACE && wire_rpc_displace_unpack(&d, ev->data, ev->len, NULL) == 0) {
        if (d.absent)
            code = policy_absent(n, &d.session);
        else if (d.has_claim ? goes_on(n, &d) : presence_displaced(n, &d.session))
            code = 0;
    } else if (op == WIRE_OP_RPC_HANDOVER && wire_rpc_handover_unpack(&h, ev->data, ev->len, NULL) == 0) {
        struct session *s = resume_match(n, &h.session, &h.player, h.secret);
        if (s) {
            give(n, s, ev->reply, (uint64_t)h.last_seq);
            return;
        }
    } else {
        code = ROOM_E_BAD_FRAME;
    }
    answer(n, ev->reply, &(struct wire_rpc_session){.code = code});
}

/* ---- the bucket `sessions` ---- */

void roster_changed(struct node *n, struct session *s)
{
    if (!s->can_resume || s->moved)
        return;
    s->roster_due = n->rosters_due = true;
    s->roster_at = n->now;
}

static uint64_t roster_token(const struct session *s)
{
    return s->serial | (uint64_t)TOKEN_ROSTER << TOKEN_SHIFT;
}

static void write_roster(struct node *n, struct session *s)
{
    struct wire_session_entry e = {.player = s->player, .gateway = core_self(n->core)->id, .last_room = s->next_room};
    buf_reset(&n->frame);
    write_places(&n->frame, s);
    e.rooms = (struct wire_raw){n->frame.data, (uint32_t)n->frame.len};
    buf_reset(&n->scratch);
    s->roster_at = mono_add_ms(n->now, ROSTER_AGAIN_MS);
    if (n->frame.failed || wire_session_entry_to_json(&e, &n->scratch) ||
        bus_kv_put(n->bus, roster_token(s), "sessions", s->id.s, BUS_ANY_REVISION, n->scratch.data, n->scratch.len, ROSTER_MS))
        return;
    s->roster_due = false;
    s->listed = true;
}

void roster_done(struct node *n, const struct bus_event *ev)
{
    struct session *s = umap_get(&n->sessions, ev->token & TOKEN_MASK);
    if (s && ev->result != BUS_OK)
        s->roster_due = n->rosters_due = true;
}

void roster_end(struct node *n, const struct session *s)
{
    if (s->listed && !s->moved)
        (void)bus_kv_delete(n->bus, roster_token(s), "sessions", s->id.s, BUS_ANY_REVISION, ROSTER_MS);
}

void roster_tick(struct node *n)
{
    if (!n->rosters_due || !n->bus_up)
        return;
    n->rosters_due = false;
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        if (s->roster_due && mono_reached(n->now, s->roster_at))
            write_roster(n, s);
        n->rosters_due |= s->roster_due;
    }
}
