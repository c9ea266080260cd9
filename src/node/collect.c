/*
 * The inboxes of the players whose gateway this node is: read when a player comes, said to him, and done with once he has
 * acknowledged.
 *
 * Decides: which pushes become part of a session's sequence, in the order of the stream and once in each session; how many were
 * dropped before one; and when it is written down that the player has them (a mark, appended behind what was seen: whoever
 * appends at the same time wins, and is read first). Until then a push is said again in the next session, with the number it
 * had.
 * Must not know who pushes, nor whether he has a session elsewhere.
 * Weak point: a client that acknowledges nothing hears the same again in each of its sessions; the number tells it.
 */
#include "node/state.h"

enum { IDLE, LAST, NEXT, MARK };
enum { KV_MS = 2000, RETRY_MS = 100, MARK_EVERY_MS = 1000, ENDED_MS = 10000, PURGE_EVERY_MS = 250, PURGE_AFTER = 32 };

struct said {
    uint64_t seq; /* in the session */
    uint64_t sequence, number, end;
};

struct collecting {
    struct id player;
    uint64_t serial, session; /* session 0: it has ended */
    int step;
    bool waits, again;
    struct mono retry_at, mark_at, until; /* until: of one whose session has ended */
    struct inbox_head head; /* as of `last`, the newest message seen */
    uint64_t last;
    uint64_t at, number;    /* said, or passed over, up to here */
    struct said acked;      /* of what the client has; `seq` is not used */
    uint64_t purged;        /* number up to which it was */
    struct said *out;       /* said and not acknowledged, oldest first */
    uint32_t out_count, out_cap;
};

struct inbox_limits push_limits(const struct node *n)
{
    return (struct inbox_limits){(uint64_t)n->config.inbox_messages, (uint64_t)n->config.inbox_bytes};
}

static uint64_t token_of(const struct collecting *c)
{
    return c->serial | (uint64_t)TOKEN_INBOX << TOKEN_SHIFT;
}

static struct session *session_of(struct node *n, const struct collecting *c)
{
    return c->session ? umap_get(&n->sessions, c->session) : NULL;
}

static void drop(struct node *n, struct collecting *c)
{
    struct session *s = session_of(n, c);
    if (s)
        s->inbox = NULL;
    umap_del(&n->collects, c->serial);
    alloc_put(n->alloc, c->out, c->out_cap * sizeof(*c->out));
    alloc_put(n->alloc, c, sizeof(*c));
}

static struct collecting *make(struct node *n, struct session *s)
{
    struct collecting *c = alloc_get(n->alloc, sizeof(*c));
    if (!c)
        return NULL;
    c->player = s->player;
    c->serial = ++n->last_errand;
    c->session = s->serial;
    c->at = s->inbox_at;
    if (!umap_put(&n->collects, c->serial, c)) {
        alloc_put(n->alloc, c, sizeof(*c));
        return NULL;
    }
    s->inbox = c;
    return c;
}

static bool grow(struct node *n, struct collecting *c)
{
    uint32_t cap = c->out_cap ? 2 * c->out_cap : 4;
    struct said *out = alloc_resize(n->alloc, c->out, c->out_cap * sizeof(*out), cap * sizeof(*out));
    if (!out)
        return false;
    c->out = out;
    c->out_cap = cap;
    return true;
}

static void drop_first(struct collecting *c, uint32_t count)
{
    c->out_count -= count;
    memmove(c->out, c->out + count, c->out_count * sizeof(*c->out));
}

static void wait(struct node *n, struct collecting *c, int ms)
{
    c->waits = true;
    c->retry_at = mono_add_ms(n->now, ms);
}

static void ask_last(struct node *n, struct collecting *c)
{
    char subject[SUBJECT_SIZE];
    c->step = LAST;
    c->waits = c->again = false;
    if (bus_log_last(n->bus, token_of(c), INBOX_NAME, subject_inbox(subject, c->player.s), KV_MS))
        wait(n, c, RETRY_MS);
}

static void ask_next(struct node *n, struct collecting *c)
{
    char subject[SUBJECT_SIZE];
    c->step = NEXT;
    c->waits = false;
    if (bus_log_next(n->bus, token_of(c), INBOX_NAME, subject_inbox(subject, c->player.s), c->at + 1, KV_MS))
        wait(n, c, RETRY_MS);
}

static void write_mark(struct node *n, struct collecting *c)
{
    char subject[SUBJECT_SIZE];
    struct inbox_message m = {.mark = true, .before = c->last, .head = c->head};
    m.head.acked = c->acked.number;
    m.head.acked_end = c->acked.end;
    m.head.acked_sequence = c->acked.sequence;
    c->step = MARK;
    c->waits = false;
    c->mark_at = mono_add_ms(n->now, MARK_EVERY_MS);
    buf_reset(&n->scratch);
    inbox_write(&m, &n->scratch);
    if (n->scratch.failed || bus_log_append(n->bus, token_of(c), subject_inbox(subject, c->player.s), c->last, n->scratch.data,
                                            n->scratch.len, KV_MS))
        wait(n, c, RETRY_MS);
}

/* What is left to do, now that nothing is under way: read on, write down, or forget all about it. */
static void rest(struct node *n, struct collecting *c)
{
    struct session *s = session_of(n, c);
    c->step = IDLE;
    if (s)
        s->inbox_at = c->at;
    if (c->again) {
        ask_last(n, c);
    } else if (c->acked.number > c->head.acked) {
        if (!s || mono_reached(n->now, c->mark_at))
            write_mark(n, c);
        else
            wait(n, c, (int)mono_diff_ms(n->now, c->mark_at) + 1);
    } else if (!s || c->out_count == 0) {
        drop(n, c);
    }
}

/* False: no memory, nothing has happened. */
static bool take(struct node *n, struct collecting *c, struct session *s, uint64_t sequence, const struct inbox_message *m)
{
    struct inbox_limits limits = push_limits(n);
    if (c->out_count == limits.messages)
        drop_first(c, 1); /* it is out of reach */
    if (c->out_count == c->out_cap && !grow(n, c))
        return false;
    uint64_t known = c->number > c->head.acked ? c->number : c->head.acked;
    uint64_t missed = m->head.number > known + 1 ? m->head.number - known - 1 : 0;
    struct speech said = {.data = m->data, .push = true, .number = sequence,
                          .missed = missed < UINT32_MAX ? (uint32_t)missed : UINT32_MAX};
    c->number = m->head.number;
    c->at = sequence;
    uint64_t seq = session_push(n, s, &said);
    session_said(n, &said);
    c->out[c->out_count++] = (struct said){seq, sequence, m->head.number, m->head.end};
    fault_point("push_said");
    return true;
}

static void last_done(struct node *n, struct collecting *c, const struct bus_event *ev)
{
    struct session *s = session_of(n, c);
    struct inbox_message m;
    if (ev->result == BUS_NOT_FOUND && s) {
        s->inbox_open = true;
        c->head = (struct inbox_head){.number = 0};
        c->last = c->at = c->number = 0;
        c->acked = (struct said){.seq = 0};
        rest(n, c);
        return;
    }
    if (ev->result != BUS_OK || !inbox_read(&m, ev->data, ev->len)) {
        if (ev->result == BUS_OK && n->config.log)
            LOG_ERR("an inbox cannot be read", "player=%s sequence=%llu", c->player.s, (unsigned long long)ev->revision);
        wait(n, c, ev->result == BUS_OK ? KV_MS : RETRY_MS);
        return;
    }
    if (m.head.number < c->number) /* all was too old at some time, and the numbers begin anew */
        c->number = c->acked.number = 0;
    c->head = m.head;
    c->last = ev->revision;
    if (c->at < m.head.acked_sequence)
        c->at = m.head.acked_sequence;
    if (s && c->at < c->last && m.head.number > c->number && m.head.number > m.head.acked) {
        ask_next(n, c);
        return;
    }
    if (s)
        s->inbox_open = true;
    c->at = c->last;
    rest(n, c);
}

static void next_done(struct node *n, struct collecting *c, const struct bus_event *ev)
{
    struct session *s = session_of(n, c);
    struct inbox_limits limits = push_limits(n);
    struct inbox_message m;
    if (!s) {
        rest(n, c);
        return;
    }
    if (ev->result != BUS_OK && ev->result != BUS_NOT_FOUND) {
        wait(n, c, RETRY_MS);
        return;
    }
    if (ev->result == BUS_NOT_FOUND || ev->revision > c->last) { /* somebody has cleared it, or the answer was an old one */
        c->step = LAST;
        wait(n, c, RETRY_MS);
        return;
    }
    bool good = inbox_read(&m, ev->data, ev->len) && inbox_good(&m, &c->head, &limits) && m.head.number > c->number;
    if (good && !take(n, c, s, ev->revision, &m)) {
        wait(n, c, RETRY_MS);
        return;
    }
    c->at = ev->revision;
    if (c->at < c->last) {
        ask_next(n, c);
        return;
    }
    s->inbox_open = true;
    rest(n, c);
}

/* What is done with takes room in the stream until it is too old; a purge is dear, so one at a time and not often. */
static void purge(struct node *n, struct collecting *c)
{
    char subject[SUBJECT_SIZE];
    uint64_t below = c->out_count ? c->out[0].sequence : c->last;
    bool worth = !c->session || c->acked.number - c->purged >= PURGE_AFTER;
    if (!worth || n->inbox_purging || !mono_reached(n->now, n->inbox_purge_at))
        return;
    n->inbox_purging = bus_log_purge(n->bus, (uint64_t)TOKEN_INBOX << TOKEN_SHIFT, INBOX_NAME,
                                     subject_inbox(subject, c->player.s), below, KV_MS) == 0;
    n->inbox_purge_at = mono_add_ms(n->now, PURGE_EVERY_MS);
    c->purged = c->acked.number;
}

static void mark_done(struct node *n, struct collecting *c, const struct bus_event *ev)
{
    if (ev->result != BUS_OK) { /* conflict: a push has come, and is read; unknown: what is there is looked at */
        ask_last(n, c);
        return;
    }
    fault_point("push_marked");
    c->head.acked = c->acked.number;
    c->head.acked_end = c->acked.end;
    c->head.acked_sequence = c->acked.sequence;
    if (c->at == c->last)
        c->at = ev->revision;
    c->last = ev->revision;
    purge(n, c);
    rest(n, c);
}

void collect_done(struct node *n, const struct bus_event *ev)
{
    uint64_t serial = ev->token & TOKEN_MASK;
    struct collecting *c = umap_get(&n->collects, serial);
    if (serial == 0)
        n->inbox_purging = false;
    if (!c || c->waits)
        return;
    if (c->step == LAST)
        last_done(n, c, ev);
    else if (c->step == NEXT)
        next_done(n, c, ev);
    else if (c->step == MARK)
        mark_done(n, c, ev);
}

/* ---- from the rest of the node ---- */

void collect_begin(struct node *n, struct session *s)
{
    struct collecting *c = s->inbox;
    if (!n->config.inbox_messages || s->moved)
        return;
    if (!c && !(c = make(n, s)))
        return; /* the next push, or the next look, finds it */
    c->session = s->serial;
    if (c->step == IDLE)
        ask_last(n, c);
    else
        c->again = true;
}

void collect_acked(struct node *n, struct session *s, uint64_t seq)
{
    struct collecting *c = s->inbox;
    uint32_t count = 0;
    while (c && count < c->out_count && c->out[count].seq <= seq)
        count++;
    if (!count)
        return;
    c->acked = c->out[count - 1];
    drop_first(c, count);
    if (c->step == IDLE && c->session)
        rest(n, c);
}

bool collect_lost(struct node *n, struct session *s, uint64_t floor)
{
    struct collecting *c = s->inbox;
    if (!c || !c->out_count || c->out[0].seq > floor)
        return false;
    c->number = c->acked.number;
    c->at = c->acked.sequence;
    c->out_count = 0;
    if (c->session)
        collect_begin(n, s);
    return true;
}

void collect_end(struct node *n, struct session *s)
{
    struct collecting *c = s->inbox;
    s->inbox = NULL;
    if (!c)
        return;
    c->session = 0;
    c->again = false;
    c->out_count = 0;
    c->until = mono_add_ms(n->now, ENDED_MS);
    if (s->moved || n->stopping)
        drop(n, c); /* elsewhere it is known what he has; or it is heard once more */
    else if (c->step == IDLE)
        rest(n, c);
}

static void write_said(struct buf *out, const struct said *said)
{
    mp_write_uint(out, said->sequence);
    mp_write_uint(out, said->number);
    mp_write_uint(out, said->end);
}

void collect_drop(struct node *n, struct session *s)
{
    if (s->inbox)
        drop(n, s->inbox);
    s->inbox = NULL;
    s->inbox_at = 0;
    s->inbox_open = false;
}

void collect_give(const struct session *s, struct buf *out)
{
    const struct collecting *c = s->inbox;
    mp_write_array(out, c ? 5 + 4 * c->out_count : 0);
    if (!c)
        return;
    mp_write_uint(out, c->at);
    mp_write_uint(out, c->number);
    write_said(out, &c->acked);
    for (uint32_t i = 0; i < c->out_count; i++) {
        mp_write_uint(out, c->out[i].seq);
        write_said(out, &c->out[i]);
    }
}

static bool read_number(struct mp_read *r, uint64_t *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) || t.type != MP_INT || t.i < 0)
        return false;
    *out = (uint64_t)t.i;
    return true;
}

static bool read_said(struct mp_read *r, struct said *out)
{
    return read_number(r, &out->sequence) && read_number(r, &out->number) && read_number(r, &out->end);
}

bool collect_take(struct node *n, struct session *s, struct wire_raw state)
{
    struct mp_read r;
    struct mp_token t;
    if (!state.len || !n->config.inbox_messages)
        return true;
    mp_read_init(&r, state.data, state.len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY)
        return false;
    if (t.count < 5)
        return true;
    struct collecting *c = make(n, s);
    bool ok = c && read_number(&r, &c->at) && read_number(&r, &c->number) && read_said(&r, &c->acked);
    for (uint32_t i = 5; ok && i + 4 <= t.count; i += 4) {
        ok = c->out_count < c->out_cap || grow(n, c);
        ok = ok && read_number(&r, &c->out[c->out_count].seq) && read_said(&r, &c->out[c->out_count]);
        c->out_count += ok;
    }
    if (c && !ok) {
        s->inbox = NULL;
        drop(n, c);
    }
    return ok;
}

int collect_heard(struct node *n, const struct wire_rpc_push *m, bool *delivered)
{
    struct session *s = map_get(&n->by_session, m->session.s);
    struct inbox_message push;
    if (!s || s->moved || strcmp(s->player.s, m->player.s) != 0)
        return ROOM_E_NOT_FOUND;
    struct collecting *c = s->inbox;
    uint64_t number = (uint64_t)m->number, sequence = (uint64_t)m->sequence, before = (uint64_t)m->before;
    *delivered = s->conn != 0;
    if (c && number && c->number >= number && (sequence == 0 || c->at >= sequence))
        return 0;
    bool next = sequence && s->inbox_open && (!c || c->step == IDLE) && before == (c ? c->at : s->inbox_at);
    if (next && !c)
        c = make(n, s);
    if (!c || !next || !inbox_read(&push, m->message.data, m->message.len) || push.mark) {
        collect_begin(n, s);
        return ROOM_E_UNAVAILABLE;
    }
    if (c->number >= push.head.number)
        c->number = 0; /* the numbers begin anew */
    c->head = push.head;
    c->last = sequence;
    if (!take(n, c, s, sequence, &push)) {
        collect_begin(n, s);
        return ROOM_E_UNAVAILABLE;
    }
    s->inbox_at = c->at;
    return 0;
}

void collect_tick(struct node *n)
{
    if (!n->bus_up)
        return;
    for (struct umap_iter it = umap_first(&n->collects); it.value;) {
        struct collecting *c = it.value;
        umap_next(&it);
        if (!c->session && mono_reached(n->now, c->until) && c->until.us) {
            drop(n, c);
            continue;
        }
        if (!c->waits || !mono_reached(n->now, c->retry_at))
            continue;
        c->waits = false;
        if (c->step == NEXT)
            ask_next(n, c);
        else if (c->step == LAST || c->step == MARK)
            ask_last(n, c);
        else
            rest(n, c);
    }
}

void collect_deinit(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->collects); it.value; umap_next(&it)) {
        struct collecting *c = it.value;
        alloc_put(n->alloc, c->out, c->out_cap * sizeof(*c->out));
        alloc_put(n->alloc, c, sizeof(*c));
    }
    umap_deinit(&n->collects);
}
