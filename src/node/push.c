/*
 * Pushes of backends to one player: player.<id>.push.
 *
 * Decides: which node sees to a push (all hear it; the first in rank for the player does it), and what may be said of it. Every
 * push is appended to the player's inbox first, behind the message that was last, and only then the player's entry is read:
 * whoever logs in later reads the inbox. So a push is `kept` once the stream has acknowledged it, and `delivered` once his
 * gateway has it in the sequence of his session. The pushes of one player go one after the other. A push bears a key (its id, or
 * where its answer goes and what it says), and the inbox knows the last keys: what is repeated, or seen to by two nodes whose
 * views differ, is there once.
 * Weak point: while the first in rank is dead and nobody knows it yet, nobody answers: the push is to be repeated with its id.
 * One without an id and a reply may be there twice while views differ.
 */
#include <xxhash.h>

#include "node/state.h"

enum { READ, APPEND, LOOK, TELL, REST };
enum { KV_MS = 2000, TELL_MS = 1000, RETRY_MS = 30, APPEND_WITHIN_MS = 4000, TELL_WITHIN_MS = 1500, IDLE_MS = 5000,
       NUDGE_MS = 500, NUDGES_MAX = 20, POSTS_MAX = 8192, PARCELS_MAX = 256, PARCELS_ALL = 16384,
       PARCELS_BYTES = 32 * 1024 * 1024, DUE_MAX = 256 };

struct parcel {
    struct parcel *next;
    char *reply; /* NULL: nobody wants to know */
    uint64_t key;
    struct mono deadline;
    size_t len;
    uint8_t data[];
};

struct post { /* of one player */
    struct id player;
    uint64_t serial;
    int step;
    bool waits, known; /* known: `head` is that of the last message, for all we know */
    bool fresh;        /* it was read for the first parcel */
    struct mono retry_at, used;
    struct inbox_head head;
    uint64_t last, before;
    uint64_t number, sequence; /* of the first parcel, once it is in the inbox; sequence 0: it was before */
    struct id gateway, session;
    struct mono give_up;       /* 0: the gateway takes what it is told */
    bool alive;                /* it answered, the last time */
    bool from_before;          /* it is that of an earlier push: the player may have another one since */
    bool untold;               /* there is something in the inbox that the gateway has not taken */
    unsigned nudges;
    struct parcel *first, **end;
    unsigned count;
};

static uint64_t token_of(const struct post *p)
{
    return p->serial | (uint64_t)TOKEN_POST << TOKEN_SHIFT;
}

void push_answer(struct node *n, const char *to, const struct wire_push_reply *reply)
{
    struct wire_push_reply r = *reply;
    r.server = core_self(n->core)->id;
    buf_reset(&n->scratch);
    if (to && wire_push_reply_to_json(&r, &n->scratch) == 0)
        (void)bus_publish(n->bus, to, NULL, n->scratch.data, n->scratch.len);
}

void push_refuse(struct node *n, const char *to, int code, const char *text)
{
    struct wire_push_reply r = {.status = code == ROOM_E_UNKNOWN_RESULT ? WIRE_PUSH_REPLY_STATUS_UNKNOWN
                                                                        : WIRE_PUSH_REPLY_STATUS_REFUSED};
    r.error = wire_str(room_error_name(code));
    r.message = wire_str(text && text[0] ? text : room_error_text(code));
    push_answer(n, to, &r);
}

/* ---- one player's pushes, one after the other ---- */

static void begin(struct node *n, struct post *p);

static void free_parcel(struct node *n, struct parcel *m)
{
    alloc_put_str(n->alloc, m->reply);
    n->post_bytes -= m->len;
    n->post_count--;
    alloc_put(n->alloc, m, sizeof(*m) + m->len);
}

static void next(struct node *n, struct post *p)
{
    struct parcel *m = p->first;
    p->first = m->next;
    if (!p->first)
        p->end = &p->first;
    p->count--;
    free_parcel(n, m);
    p->number = p->sequence = 0;
    p->fresh = false;
    begin(n, p);
}

static void wait(struct node *n, struct post *p, int ms)
{
    p->waits = true;
    p->retry_at = mono_add_ms(n->now, ms);
}

static void read_last(struct node *n, struct post *p)
{
    char subject[SUBJECT_SIZE];
    p->step = READ;
    if (bus_log_last(n->bus, token_of(p), INBOX_NAME, subject_inbox(subject, p->player.s), KV_MS))
        wait(n, p, RETRY_MS);
}

static void look(struct node *n, struct post *p)
{
    p->step = LOOK;
    p->from_before = false;
    if (bus_kv_get(n->bus, token_of(p), "players", p->player.s, KV_MS))
        wait(n, p, RETRY_MS);
}

static void finish(struct node *n, struct post *p, bool delivered)
{
    struct wire_push_reply r = {.status = delivered ? WIRE_PUSH_REPLY_STATUS_DELIVERED : WIRE_PUSH_REPLY_STATUS_KEPT};
    fault_point("push_answer");
    if (p->first && p->number) {
        push_answer(n, p->first->reply, &r);
        next(n, p);
    } else {
        begin(n, p);
    }
}

/* The gateway does not take it: once more, but not for ever. */
static void later(struct node *n, struct post *p, int ms)
{
    p->untold = true;
    if (!p->give_up.us)
        p->give_up = mono_add_ms(n->now, TELL_WITHIN_MS);
    if (mono_reached(n->now, p->give_up) || !p->number) {
        finish(n, p, false);
        return;
    }
    p->step = LOOK;
    wait(n, p, ms);
}

/* What the gateway says. Without a number it was only asked to look into the inbox. */
static void heard(struct node *n, struct post *p, bool answered, int code, bool delivered)
{
    if (!answered || code == ROOM_E_NOT_FOUND)
        p->gateway.s[0] = '\0';
    if (answered && !p->alive)
        p->give_up.us = 0; /* another one, perhaps, and it may need a moment */
    p->alive = answered;
    if (p->from_before && !p->gateway.s[0]) {
        look(n, p);
        return;
    }
    if (p->number && (!answered || code)) {
        later(n, p, answered ? RETRY_MS : TELL_MS / 4);
        return;
    }
    p->untold = !answered || code == ROOM_E_NOT_FOUND;
    if (answered)
        p->give_up.us = 0;
    finish(n, p, delivered);
}

static void tell(struct node *n, struct post *p)
{
    struct wire_rpc_push m = {.session = p->session, .player = p->player, .sequence = (int64_t)p->sequence,
                              .before = (int64_t)p->before, .number = (int64_t)p->number};
    char subject[SUBJECT_SIZE];
    bool delivered = false;
    buf_reset(&n->frame);
    if (p->first && p->sequence) {
        struct inbox_message im = {.before = p->before, .head = p->head, .size = p->first->len,
                                   .data = {p->first->data, (uint32_t)p->first->len}};
        inbox_write(&im, &n->frame);
        m.message = (struct wire_raw){n->frame.data, (uint32_t)n->frame.len};
    }
    p->step = TELL;
    if (strcmp(p->gateway.s, core_self(n->core)->id.s) == 0) {
        int code = collect_heard(n, &m, &delivered);
        heard(n, p, true, code, delivered);
        return;
    }
    buf_reset(&n->scratch);
    if (wire_rpc_push_pack(&m, &n->scratch) ||
        bus_request(n->bus, token_of(p), subject_server(subject, p->gateway.s, "rpc"), n->scratch.data, n->scratch.len,
                    TELL_MS))
        wait(n, p, RETRY_MS);
}

/* It stands in the inbox. */
static void stands(struct node *n, struct post *p)
{
    p->from_before = p->gateway.s[0] != '\0';
    if (p->from_before)
        tell(n, p);
    else
        look(n, p);
}

static void append(struct node *n, struct post *p)
{
    char subject[SUBJECT_SIZE];
    struct parcel *m = p->first;
    struct inbox_limits limits = push_limits(n);
    struct inbox_message im = {.before = p->last, .head = p->head, .size = m->len, .data = {m->data, (uint32_t)m->len}};
    p->step = APPEND;
    (void)inbox_add(&im.head, p->last, m->key, m->len, &limits);
    buf_reset(&n->scratch);
    inbox_write(&im, &n->scratch);
    if (n->scratch.failed || bus_log_append(n->bus, token_of(p), subject_inbox(subject, p->player.s), p->last, n->scratch.data,
                                            n->scratch.len, KV_MS)) {
        p->known = false;
        wait(n, p, RETRY_MS);
    }
}

/* A repeat: what has become of the first is what counts. */
static void repeated(struct node *n, struct post *p, uint64_t number)
{
    struct inbox_limits limits = push_limits(n);
    if (!p->fresh) {
        read_last(n, p);
        return;
    }
    p->number = number;
    p->sequence = 0;
    if (number <= p->head.acked) {
        finish(n, p, true);
    } else if (!inbox_may_be_good(number, &p->head, &limits)) {
        push_refuse(n, p->first->reply, ROOM_E_FULL, "the player did not come, and it was dropped for newer ones");
        next(n, p);
    } else {
        stands(n, p);
    }
}

static void begin(struct node *n, struct post *p)
{
    p->used = n->now;
    if (!p->first) {
        p->step = REST;
        wait(n, p, NUDGE_MS);
        return;
    }
    if (mono_reached(n->now, p->first->deadline)) {
        push_refuse(n, p->first->reply, ROOM_E_UNKNOWN_RESULT,
               "the store has not answered in time: it may be kept or not; repeat it with its id");
        next(n, p);
        return;
    }
    uint64_t number = p->known ? inbox_find(&p->head, p->first->key) : 0;
    if (!p->known)
        read_last(n, p);
    else if (number)
        repeated(n, p, number);
    else
        append(n, p);
}

/* ---- what comes of it ---- */

static void read_done(struct node *n, struct post *p, const struct bus_event *ev)
{
    struct inbox_message m = {.before = 0};
    bool broken = ev->result == BUS_OK && !inbox_read(&m, ev->data, ev->len);
    if ((ev->result != BUS_OK && ev->result != BUS_NOT_FOUND) || broken) {
        p->known = false;
        wait(n, p, RETRY_MS);
        return;
    }
    p->head = m.head;
    p->last = ev->result == BUS_OK ? ev->revision : 0;
    p->known = p->fresh = true;
    begin(n, p);
}

static void purge(struct node *n, const struct post *p, uint64_t below)
{
    char subject[SUBJECT_SIZE];
    if (below && !n->inbox_purging)
        n->inbox_purging = bus_log_purge(n->bus, (uint64_t)TOKEN_INBOX << TOKEN_SHIFT, INBOX_NAME,
                                         subject_inbox(subject, p->player.s), below, KV_MS) == 0;
}

static void appended(struct node *n, struct post *p, const struct bus_event *ev)
{
    struct inbox_limits limits = push_limits(n);
    if (ev->result != BUS_OK) { /* somebody was faster, or nobody knows: what is there now tells */
        p->known = false;
        if (ev->result == BUS_CONFLICT)
            begin(n, p);
        else
            wait(n, p, RETRY_MS);
        return;
    }
    fault_point("push_appended");
    uint64_t below = inbox_add(&p->head, p->last, p->first->key, p->first->len, &limits);
    p->before = p->last;
    p->last = p->sequence = ev->revision;
    p->number = p->head.number;
    p->nudges = 0;
    purge(n, p, below);
    stands(n, p);
}

static void looked(struct node *n, struct post *p, const struct bus_event *ev)
{
    struct wire_player_entry e;
    bool entry = ev->result == BUS_OK &&
                 wire_player_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL) == 0;
    if (ev->result != BUS_OK && ev->result != BUS_NOT_FOUND) {
        later(n, p, RETRY_MS);
        return;
    }
    if (!entry) { /* whoever comes after this look reads the inbox */
        p->gateway.s[0] = '\0';
        p->untold = false;
        finish(n, p, false);
        return;
    }
    if (strcmp(e.session.s, p->session.s) != 0)
        p->give_up.us = 0;
    p->gateway = e.gateway;
    p->session = e.session;
    const struct view_server *v = view_server(core_view(n->core), e.gateway.s);
    if (view_server_usable(v)) {
        tell(n, p);
        return;
    }
    p->gateway.s[0] = '\0';
    p->untold = true;
    if (!v || v->info.status == SERVER_DOWN)
        finish(n, p, false); /* whoever takes the session over reads the inbox */
    else
        later(n, p, TELL_MS / 4);
}

static void told(struct node *n, struct post *p, const struct bus_event *ev)
{
    struct wire_rpc_pushed m;
    bool answered = ev->result == BUS_OK && wire_rpc_pushed_unpack(&m, ev->data, ev->len, NULL) == 0;
    heard(n, p, answered, answered ? (int)m.code : 0, answered && m.delivered);
}

void push_done(struct node *n, const struct bus_event *ev)
{
    struct post *p = umap_get(&n->post_serials, ev->token & TOKEN_MASK);
    if (!p || p->waits)
        return;
    if (!p->first && p->step != LOOK && p->step != TELL)
        return;
    switch (p->step) {
    case READ:   read_done(n, p, ev); return;
    case APPEND: appended(n, p, ev); return;
    case LOOK:   looked(n, p, ev); return;
    case TELL:   told(n, p, ev); return;
    }
}

void push_told(struct node *n, const struct bus_event *ev)
{
    struct wire_rpc_push m;
    struct wire_rpc_pushed r = {.code = ROOM_E_BAD_FRAME};
    if (wire_rpc_push_unpack(&m, ev->data, ev->len, NULL) == 0)
        r.code = collect_heard(n, &m, &r.delivered);
    buf_reset(&n->scratch);
    if (wire_rpc_pushed_pack(&r, &n->scratch) == 0)
        (void)bus_publish(n->bus, ev->reply, NULL, n->scratch.data, n->scratch.len);
}

/* ---- in ---- */

static bool first_in_rank(const struct node *n, const char *player)
{
    const char *self = core_self(n->core)->id.s;
    uint64_t own = view_rank(player, self);
    for (struct map_iter it = map_first(&core_view(n->core)->servers); it.value; map_next(&it))
        if (strcmp(it.key, self) != 0 && view_server_usable(it.value) && view_rank(player, it.key) > own)
            return false;
    return true;
}

/* A post that rests may be forgotten. */
static bool make_room(struct node *n)
{
    for (struct map_iter it = map_first(&n->posts); it.value && n->posts.count >= POSTS_MAX; map_next(&it)) {
        struct post *p = it.value;
        if (p->first || p->step != REST)
            continue;
        map_del(&n->posts, p->player.s);
        umap_del(&n->post_serials, p->serial);
        alloc_put(n->alloc, p, sizeof(*p));
    }
    return n->posts.count < POSTS_MAX;
}

static struct post *post_of(struct node *n, const struct id *player)
{
    struct post *p = map_get(&n->posts, player->s);
    if (p || !make_room(n))
        return p;
    p = alloc_get(n->alloc, sizeof(*p));
    if (!p)
        return NULL;
    p->player = *player;
    p->serial = ++n->last_errand;
    p->step = REST;
    p->end = &p->first;
    if (map_put(&n->posts, player->s, p) && umap_put(&n->post_serials, p->serial, p))
        return p;
    map_del(&n->posts, player->s);
    alloc_put(n->alloc, p, sizeof(*p));
    return NULL;
}

static uint64_t key_of(struct node *n, const struct wire_push_request *m, const struct bus_event *ev)
{
    if (m->id.len)
        return XXH3_64bits_withSeed(m->id.data, m->id.len, 1);
    if (ev->reply)
        return XXH3_64bits_withSeed(ev->reply, strlen(ev->reply), XXH3_64bits(ev->data, ev->len));
    return rng_next(&n->rng);
}

static int add(struct node *n, const struct id *player, const struct wire_push_request *m, const struct bus_event *ev)
{
    bool room = n->post_count < PARCELS_ALL && n->post_bytes + m->data.len <= PARCELS_BYTES;
    struct post *p = room ? post_of(n, player) : NULL;
    if (!p || p->count >= PARCELS_MAX)
        return ROOM_E_RATE_LIMITED;
    struct parcel *a = alloc_get(n->alloc, sizeof(*a) + m->data.len);
    if (!a)
        return ROOM_E_NO_MEMORY;
    a->reply = ev->reply ? alloc_str(n->alloc, ev->reply) : NULL;
    if (ev->reply && !a->reply) {
        alloc_put(n->alloc, a, sizeof(*a) + m->data.len);
        return ROOM_E_NO_MEMORY;
    }
    a->key = key_of(n, m, ev);
    a->deadline = mono_add_ms(n->now, APPEND_WITHIN_MS);
    a->len = m->data.len;
    memcpy(a->data, m->data.data, a->len);
    *p->end = a;
    p->end = &a->next;
    p->count++;
    n->post_count++;
    n->post_bytes += a->len;
    if (p->step == REST) {
        p->waits = false;
        begin(n, p);
    }
    return 0;
}

void push_in(struct node *n, const struct bus_event *ev)
{
    struct subject subject;
    struct wire_push_request m;
    struct err_detail detail = {{0}};
    if (!subject_parse(ev->subject, &subject) || subject.all || !first_in_rank(n, subject.id.s) || !core_may_serve(n->core))
        return; /* another one does it; or nobody knows, and it is to be repeated */
    buf_reset(&n->frame);
    int code = wire_push_request_from_json(&m, (const char *)ev->data, ev->len, &n->frame, &detail);
    int64_t most = n->config.inbox_bytes < INBOX_PUSH_MAX ? n->config.inbox_bytes : INBOX_PUSH_MAX;
    if (!code && m.data.len > most)
        code = err_set(&detail, ROOM_E_TOO_BIG,
                       "a push to a player may have %lld bytes at most: push a hint, and let him fetch the rest", (long long)most);
    if (!code)
        code = add(n, &subject.id, &m, ev);
    if (code == ROOM_E_RATE_LIMITED)
        err_set(&detail, code, "too many pushes wait for the store: try again in a second");
    if (code)
        push_refuse(n, ev->reply, code, detail.text);
}

void push_listen(struct node *n, bool on)
{
    char subject[SUBJECT_SIZE];
    if (!n->config.inbox_messages)
        return;
    int rc = on ? bus_subscribe(n->bus, SUB_PUSH, subject_player(subject, "*", "push")) : bus_unsubscribe(n->bus, SUB_PUSH);
    if (!rc)
        rc = on ? bus_subscribe(n->bus, SUB_BROADCAST_ALL, subject_server(subject, "all", "broadcast"))
                : bus_unsubscribe(n->bus, SUB_BROADCAST_ALL);
    if (!rc)
        rc = on ? bus_subscribe(n->bus, SUB_BROADCAST, subject_server(subject, core_self(n->core)->id.s, "broadcast"))
                : bus_unsubscribe(n->bus, SUB_BROADCAST);
    if (rc && n->config.log)
        LOG_ERR("cannot subscribe", "subject=%s err=%s", subject, room_error_name(rc));
}

/* Nothing waits. A gateway that has not taken what is in the inbox is asked to look, for a while. */
static void nudge(struct node *n, struct post *p)
{
    if (p->untold && ++p->nudges <= NUDGES_MAX) {
        p->number = p->sequence = 0;
        look(n, p);
    } else if (mono_diff_ms(p->used, n->now) < IDLE_MS) {
        wait(n, p, NUDGE_MS);
    } else {
        map_del(&n->posts, p->player.s);
        umap_del(&n->post_serials, p->serial);
        alloc_put(n->alloc, p, sizeof(*p));
    }
}

static void again(struct node *n, struct post *p)
{
    p->waits = false;
    if (p->step == REST)
        nudge(n, p);
    else if (p->step == LOOK)
        look(n, p);
    else if (p->step == TELL)
        tell(n, p);
    else
        begin(n, p);
}

void push_tick(struct node *n)
{
    uint64_t due[DUE_MAX];
    size_t count = 0;
    if (!n->bus_up)
        return;
    for (struct umap_iter it = umap_first(&n->post_serials); it.value && count < DUE_MAX; umap_next(&it)) {
        const struct post *p = it.value;
        if (p->waits && mono_reached(n->now, p->retry_at))
            due[count++] = p->serial;
    }
    for (size_t i = 0; i < count; i++) {
        struct post *p = umap_get(&n->post_serials, due[i]);
        if (p && p->waits)
            again(n, p);
    }
}

void push_deinit(struct node *n)
{
    for (struct map_iter it = map_first(&n->posts); it.value; map_next(&it)) {
        struct post *p = it.value;
        for (struct parcel *m = p->first, *after; m; m = after) {
            after = m->next;
            free_parcel(n, m);
        }
        alloc_put(n->alloc, p, sizeof(*p));
    }
    map_deinit(&n->posts);
    umap_deinit(&n->post_serials);
}
