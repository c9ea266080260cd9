/*
 * One session per player in the whole cluster: who has said hello is welcome once the player's entry in the registry names
 * his session and this node.
 *
 * Decides: which session a hello becomes (a new one, or the one it would take up again, fetched from its gateway or, if that
 * is dead, from what it wrote down), and that the newest login wins: the entry is won by compare-and-set, and the gateway of
 * the session before is told that it is displaced. While the registry cannot be asked (no bus, no leader) a new session is
 * welcome all the same after WELCOME_MS, and its claim is made later. After any time in which others may have taken players
 * over (presence_verify()) every session here is looked up again. Must not know what is in a session.
 *
 * With the login policy `reject` it may be the session before that stays: policy.c is asked before the entry is claimed. Who was
 * welcome while the registry could not be asked leaves again when it says that somebody else stays.
 */
#include "login/digest.h"
#include "node/state.h"

enum { LOOK, ASK, READ, CLAIM, DISPLACE, GIVE_WAY };
enum { KV_MS = 1000, ASK_MS = 1000, WELCOME_MS = 1000, RESUME_MS = 4000, RETRY_MS = 100, DISPLACE_TRIES_MS = 10000,
       VERIFY_PER_TICK = 64, DUE_MAX = 512 };

static uint64_t token_of(const struct arrival *a)
{
    return a->serial | (uint64_t)TOKEN_PRESENCE << TOKEN_SHIFT;
}

static struct session *session_of(struct node *n, const struct arrival *a)
{
    return a->made ? a->made : umap_get(&n->sessions, a->session);
}

void arrival_forget(struct node *n, struct arrival *a)
{
    if (a->conn)
        umap_del(&n->arriving, a->conn);
    umap_del(&n->arrivals, a->serial);
    n->arrivals_waiting -= a->waits;
    if (a->made)
        hello_discard(n, a->made);
    buf_deinit(&a->early);
    alloc_put(n->alloc, a, sizeof(*a));
}

void arrival_wait(struct node *n, struct arrival *a)
{
    a->retry_at = mono_add_ms(n->now, RETRY_MS);
    n->arrivals_waiting += !a->waits;
    a->waits = true;
}

static void look(struct node *n, struct arrival *a)
{
    a->step = LOOK;
    if (bus_kv_get(n->bus, token_of(a), "players", a->player.s, KV_MS))
        arrival_wait(n, a);
}

static struct arrival *add(struct node *n, uint64_t conn)
{
    struct arrival *a = alloc_get(n->alloc, sizeof(*a));
    if (!a)
        return NULL;
    a->serial = ++n->last_errand;
    a->began = n->now;
    buf_init(&a->early, n->alloc, ARRIVAL_EARLY_MAX);
    if (umap_put(&n->arrivals, a->serial, a) && (!conn || umap_put(&n->arriving, conn, a))) {
        a->conn = conn;
        return a;
    }
    arrival_forget(n, a);
    return NULL;
}

static void displace(struct node *n, struct arrival *a);

/* Somebody else has logged in as this player, later; or an operator has ended what it would take up again. */
static void turn_away(struct node *n, struct arrival *a, const char *reason)
{
    uint64_t conn = a->conn;
    struct session nobody = {.conn = conn};
    struct wire_frame_kicked k = {.reason = wire_str(reason)};
    arrival_forget(n, a);
    if (!conn)
        return;
    session_send(n, &nobody, WIRE_OP_KICKED, &k);
    n->out.close(n->out.arg, conn, reason, NULL, 0);
}

/* It has won the entry and is displaced before it knows: whom it has displaced is still to be told. */
static void pass_on(struct node *n, const struct arrival *a)
{
    struct arrival *errand = a->other.s[0] ? add(n, 0) : NULL;
    if (!errand)
        return;
    errand->player = a->player;
    errand->other = a->other;
    errand->gateway = a->gateway;
    displace(n, errand);
}

bool presence_displaced(struct node *n, const struct id *session)
{
    struct session *s = map_get(&n->by_session, session->s);
    if (s) {
        session_kick(n, s, "replaced", NULL);
        return true;
    }
    for (struct umap_iter it = umap_first(&n->arrivals); it.value; umap_next(&it)) {
        struct arrival *a = it.value;
        if (a->made && a->tried && strcmp(a->made->id.s, session->s) == 0) {
            pass_on(n, a);
            turn_away(n, a, "replaced");
            return true;
        }
    }
    return false;
}

/* ---- the entry ---- */

static void claim(struct node *n, struct arrival *a)
{
    struct session *s = session_of(n, a);
    char since[TIME_RFC3339_SIZE], hash[DIGEST_SIZE];
    struct wire_player_entry e = {.gateway = core_self(n->core)->id, .session = s->id, .status = WIRE_PLAYER_STATUS_ONLINE,
                                  .replaced = a->other};
    time_rfc3339(s->since, since);
    digest(hash, s->secret, strlen(s->secret));
    e.since = wire_str(since);
    e.resume = wire_str(s->can_resume ? hash : NULL);
    buf_reset(&n->scratch);
    a->step = CLAIM;
    a->tried = true;
    if (wire_player_entry_to_json(&e, &n->scratch) ||
        bus_kv_put(n->bus, token_of(a), "players", a->player.s, a->revision, n->scratch.data, n->scratch.len, KV_MS))
        arrival_wait(n, a);
}

/* Whoever does not answer keeps nobody from playing; he is told for a while. */
static void not_displaced(struct node *n, struct arrival *a)
{
    if (mono_diff_ms(a->began, n->now) > DISPLACE_TRIES_MS)
        arrival_finish(n, a);
    else if (a->made)
        (void)arrival_begin(n, a, false);
    else
        arrival_wait(n, a);
}

static void displace(struct node *n, struct arrival *a)
{
    const struct session *s = a->left ? session_of(n, a) : NULL;
    struct wire_rpc_displace m = {.session = s ? s->id : a->other, .player = a->player, .has_claim = s,
                                  .claim = s ? (int64_t)s->claim : 0};
    char subject[SUBJECT_SIZE];
    bool here = strcmp(a->gateway.s, core_self(n->core)->id.s) == 0;
    const struct view_server *v = view_server(core_view(n->core), a->gateway.s);
    if (here && !a->left)
        (void)presence_displaced(n, &a->other);
    if (here || (a->left && !s)) {
        arrival_finish(n, a);
        return;
    }
    a->step = DISPLACE;
    if (!view_server_usable(v)) { /* the listing may be late with one that is back */
        not_displaced(n, a);
        return;
    }
    buf_reset(&n->scratch);
    if (wire_rpc_displace_pack(&m, &n->scratch) ||
        bus_request(n->bus, token_of(a), subject_server(subject, a->gateway.s, "rpc"), n->scratch.data, n->scratch.len, ASK_MS / 2))
        arrival_wait(n, a);
}

/* Its gateway is dead, or has not got it: what it wrote down. */
static void read_roster(struct node *n, struct arrival *a)
{
    a->step = READ;
    if (bus_kv_get(n->bus, token_of(a), "sessions", a->wanted.s, KV_MS))
        arrival_wait(n, a);
}

static void ask_gateway(struct node *n, struct arrival *a)
{
    struct wire_rpc_handover m = {.session = a->wanted, .player = a->player, .secret = wire_str(a->secret),
                                  .last_seq = (int64_t)a->seen};
    char subject[SUBJECT_SIZE];
    a->made->id = a->wanted;
    memcpy(a->made->secret, a->secret, sizeof(a->secret));
    bool self = strcmp(a->gateway.s, core_self(n->core)->id.s) == 0; /* it came here while this one was looking for it */
    if (self ? !map_get(&n->by_session, a->wanted.s) : !view_server_usable(view_server(core_view(n->core), a->gateway.s))) {
        read_roster(n, a);
        return;
    }
    a->step = ASK;
    buf_reset(&n->scratch);
    if (wire_rpc_handover_pack(&m, &n->scratch) ||
        bus_request(n->bus, token_of(a), subject_server(subject, a->gateway.s, "rpc"), n->scratch.data, n->scratch.len, ASK_MS))
        arrival_wait(n, a);
}

/* What the registry says of a session that is here already: it is another's. */
static void lost(struct node *n, struct arrival *a, bool moved, bool kicked)
{
    struct session *s = umap_get(&n->sessions, a->session);
    arrival_forget(n, a);
    if (moved) {
        session_moved(n, s);
        return;
    }
    s->moved = false;
    if (kicked)
        registry_kicked_event(n, &s->player, NULL);
    session_kick(n, s, kicked ? "kicked" : "replaced", NULL);
}

static void won(struct node *n, struct arrival *a, uint64_t revision)
{
    struct session *s = session_of(n, a);
    s->claim = revision;
    a->began = n->now; /* of telling the one before */
    if (!a->made)
        collect_begin(n, s);
    if (a->other.s[0]) {
        displace(n, a);
    } else if (a->left) { /* nobody waits for a gateway that says nothing */
        a->step = DISPLACE;
        (void)arrival_begin(n, a, false);
    } else {
        arrival_finish(n, a);
    }
}

/* Nobody waits for the session that it would be. */
static bool vanished(const struct arrival *a)
{
    return a->made && !a->conn && !a->resumed;
}

/* What it had of the session is not true any more. False: nobody waits for it, and it is gone. */
static bool drop_what_it_had(struct node *n, struct arrival *a)
{
    if (!a->conn) {
        arrival_forget(n, a);
        return false;
    }
    session_drop_places(n, a->made);
    collect_drop(n, a->made);
    tail_begin_after(&a->made->tail, n->alloc, 0);
    a->resumed = a->unknown_missed = a->tried = a->left = false;
    return true;
}

static void fetch_again(struct node *n, struct arrival *a, const struct id *gateway)
{
    if (!drop_what_it_had(n, a))
        return;
    a->gateway = *gateway;
    ask_gateway(n, a);
}

/* The session ended while it was taken up: whoever ended it meant that, and its player begins a new one. */
static void begin_anew(struct node *n, struct arrival *a)
{
    if (!drop_what_it_had(n, a))
        return;
    a->wants = false;
    a->other = (struct id){{0}};
    hello_renew(n, a->made);
    claim(n, a);
}

/* Whoever was there before stays, or does not. */
static void decide(struct node *n, struct arrival *a, enum in_way way)
{
    struct session *s = a->made ? NULL : session_of(n, a);
    uint64_t conn = a->conn;
    if (!session_of(n, a)) {
        look(n, a); /* it has ended meanwhile */
        return;
    }
    a->step = way == WAY_ASKED ? GIVE_WAY : a->step;
    if (way == WAY_FREE)
        claim(n, a); /* if the entry is no more what it was, it is looked at again */
    else if (way == WAY_UNKNOWN)
        arrival_wait(n, a);
    if (way != WAY_BARRED)
        return;
    arrival_forget(n, a);
    if (s)
        session_kick(n, s, "already_connected", NULL);
    else if (conn)
        session_conn_error(n, conn, 0, ROOM_E_ALREADY_CONNECTED,
                           "the player is connected already and stays: log out there first, or come back with `resume`",
                           "already_connected");
}

static void looked(struct node *n, struct arrival *a, const struct bus_event *ev)
{
    struct session *s = session_of(n, a);
    struct wire_player_entry e;
    bool entry = ev->result == BUS_OK &&
                 wire_player_entry_from_json(&e, (const char *)ev->data, ev->len, &n->scratch, NULL) == 0;
    if (ev->result != BUS_OK && ev->result != BUS_NOT_FOUND) {
        arrival_wait(n, a);
        return;
    }
    if (s && entry && (ev->revision < a->revision || ev->revision < s->claim)) { /* of a leader that is none any more */
        arrival_wait(n, a);
        return;
    }
    if (!s) { /* it has ended; did it displace somebody before? */
        if (!entry || strcmp(e.session.s, a->other.s) != 0)
            pass_on(n, a);
        arrival_forget(n, a);
        return;
    }
    uint64_t before = a->revision;
    a->revision = ev->result == BUS_OK ? ev->revision : 0;
    bool same = entry && strcmp(e.session.s, s->id.s) == 0, moved_on = a->revision != before;
    if (a->tried && !same && !(entry && strcmp(e.session.s, a->other.s) == 0)) {
        pass_on(n, a); /* it may have been listed in between, and replaced: then nobody else knows whom it has displaced */
        a->other = (struct id){{0}};
    }
    if (a->tried && !same && vanished(a) && moved_on) { /* what was written cannot be applied any more */
        arrival_forget(n, a);
        return;
    }
    bool here = entry && strcmp(e.gateway.s, core_self(n->core)->id.s) == 0;
    bool kicked = entry && e.status == WIRE_PLAYER_STATUS_KICKED;
    if (same && here && a->renew && !a->tried) {
        claim(n, a);
    } else if (same && here && (a->tried || a->verify)) {
        won(n, a, ev->revision); /* without an answer at the time */
    } else if (a->resumed && same && moved_on && a->made) { /* another gateway has it since */
        fetch_again(n, a, &e.gateway);
    } else if (a->resumed && a->made && ev->result == BUS_NOT_FOUND) {
        begin_anew(n, a);
    } else if (entry && !same && ((a->tried && strcmp(e.replaced.s, s->id.s) == 0) || arrival_outdone(n, a, &e.session))) {
        if (a->made)
            turn_away(n, a, "replaced");
        else
            lost(n, a, false, false);
    } else if (entry && a->verify) {
        lost(n, a, same, kicked);
    } else if (entry && !a->resumed && resume_listed(a, &e)) {
        a->gateway = e.gateway;
        (void)time_from_rfc3339(e.since.data, e.since.len, &s->since);
        ask_gateway(n, a);
    } else if (entry && ((a->resumed && !same) || (a->wants && strcmp(e.replaced.s, a->wanted.s) == 0))) {
        turn_away(n, a, kicked ? "kicked" : "replaced");
    } else if (entry && !same && !kicked && !a->made && !arrival_may_take(a, s)) {
        arrival_wait(n, a);
    } else {
        if (a->made && !a->resumed && strcmp(s->id.s, a->wanted.s) == 0)
            hello_renew(n, s);
        a->other = entry && !same && !kicked ? e.session : (struct id){{0}};
        a->gateway = entry ? e.gateway : a->gateway;
        decide(n, a, n->config.login_reject ? policy_look(n, a, token_of(a)) : WAY_FREE);
    }
}

static void asked(struct node *n, struct arrival *a, const struct bus_event *ev)
{
    struct wire_rpc_session m;
    a->resumed = ev->result == BUS_OK && wire_rpc_session_unpack(&m, ev->data, ev->len, NULL) == 0 && m.code == 0 &&
                 handover_install(n, a->made, &m);
    if (a->resumed)
        claim(n, a);
    else
        read_roster(n, a);
}

static void read_done(struct node *n, struct arrival *a, const struct bus_event *ev)
{
    if (ev->result != BUS_OK && ev->result != BUS_NOT_FOUND) {
        arrival_wait(n, a);
        return;
    }
    if (ev->result == BUS_OK) /* one that cannot be read names no rooms */
        (void)handover_from_roster(n, a->made, ev->data, ev->len);
    tail_begin_after(&a->made->tail, n->alloc, resume_beyond(a->seen, a->revision));
    a->left = true;
    a->resumed = a->unknown_missed = true;
    claim(n, a);
}

static void claimed(struct node *n, struct arrival *a, const struct bus_event *ev)
{
    if (ev->result == BUS_CONFLICT) {
        look(n, a);
    } else if (ev->result != BUS_OK) {
        arrival_wait(n, a);
    } else {
        won(n, a, ev->revision);
    }
}

static void displaced(struct node *n, struct arrival *a, const struct bus_event *ev)
{
    if (ev->result == BUS_OK)
        arrival_finish(n, a);
    else
        not_displaced(n, a);
}

/* The session has ended meanwhile, or nobody is there who would want it; but what was written is settled first. */
static bool gone(struct node *n, const struct arrival *a)
{
    bool doubt = a->tried && a->other.s[0];
    return session_of(n, a) ? vanished(a) && !a->tried : !doubt;
}

void presence_done(struct node *n, const struct bus_event *ev)
{
    struct arrival *a = umap_get(&n->arrivals, ev->token & TOKEN_MASK);
    if (!a || a->waits)
        return;
    bool over = a->step == CLAIM && ev->result == BUS_OK && !session_of(n, a);
    if (a->step != DISPLACE && (over || gone(n, a))) {
        if (over) {
            pass_on(n, a);
            (void)bus_kv_delete(n->bus, (uint64_t)TOKEN_PRESENCE << TOKEN_SHIFT, "players", a->player.s, ev->revision, KV_MS);
        }
        arrival_forget(n, a);
        return;
    }
    switch (a->step) {
    case LOOK:     looked(n, a, ev); return;
    case ASK:      asked(n, a, ev); return;
    case READ:     read_done(n, a, ev); return;
    case CLAIM:    claimed(n, a, ev); return;
    case DISPLACE: displaced(n, a, ev); return;
    case GIVE_WAY: decide(n, a, policy_answer(ev)); return;
    }
}

/* ---- from the rest of the node ---- */

void presence_arrive(struct node *n, uint64_t conn, struct session *s, const struct wire_frame_hello *m)
{
    struct arrival *a = add(n, conn);
    if (!a) {
        hello_discard(n, s);
        session_conn_error(n, conn, 0, ROOM_E_NO_MEMORY, room_error_text(ROOM_E_NO_MEMORY), "no_memory");
        return;
    }
    a->made = s;
    a->player = s->player;
    a->wants = s->can_resume && resume_token(m->resume, &a->wanted, a->secret);
    a->seen = m->has_last_seq ? (uint64_t)m->last_seq : 0;
    if (!a->wants && (!n->bus_up || core_is_isolated(n->core)))
        (void)arrival_begin(n, a, false);
    else
        look(n, a);
}

bool presence_early(struct node *n, uint64_t conn, const uint8_t *data, size_t len)
{
    struct arrival *a = umap_get(&n->arriving, conn);
    uint32_t size = (uint32_t)len;
    return a && a->early.len + sizeof(size) + len <= ARRIVAL_EARLY_MAX && buf_write(&a->early, &size, sizeof(size)) &&
           buf_write(&a->early, data, len);
}

bool presence_closed(struct node *n, uint64_t conn)
{
    struct arrival *a = umap_del(&n->arriving, conn);
    if (a)
        a->conn = 0;
    return a != NULL;
}

void presence_end(struct node *n, const struct session *s)
{
    if (s->moved)
        return;
    if (s->claim)
        (void)bus_kv_delete(n->bus, (uint64_t)TOKEN_PRESENCE << TOKEN_SHIFT, "players", s->player.s, s->claim, KV_MS);
    roster_end(n, s);
}

void presence_verify(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        s->recheck = s->claim != 0; /* others are still being claimed */
        n->rechecks |= s->recheck;
    }
}

static void verify_some(struct node *n)
{
    int left = VERIFY_PER_TICK;
    n->rechecks = false;
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        struct arrival *a = s->recheck && left > 0 ? add(n, 0) : NULL;
        n->rechecks |= s->recheck && !a;
        if (!a)
            continue;
        left--;
        a->verify = true;
        a->renew = s->renew;
        s->recheck = s->renew = false;
        a->session = s->serial;
        a->player = s->player;
        look(n, a);
    }
}

static void again(struct node *n, struct arrival *a)
{
    n->arrivals_waiting--;
    a->waits = false;
    if (a->step == DISPLACE)
        displace(n, a);
    else if (gone(n, a))
        arrival_forget(n, a);
    else
        look(n, a);
}

static bool patience_ends(const struct node *n, const struct arrival *a)
{
    struct mono from = a->stands ? a->stands_since : a->began;
    int64_t most = a->stands ? POLICY_WAIT_MS : a->wants ? RESUME_MS : WELCOME_MS;
    return a->made && a->conn && !a->resumed && mono_diff_ms(from, n->now) > most;
}

/* What stands in the registries does so for a time only, lest the players of dead nodes stand there for ever. */
static void renew_all(struct node *n)
{
    n->next_renewal = mono_add_ms(n->now, PRESENCE_RENEW_MS);
    presence_verify(n);
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        struct session *s = it.value;
        s->renew = s->recheck;
        if (s->listed)
            roster_changed(n, s);
    }
}

void presence_tick(struct node *n)
{
    if (mono_reached(n->now, n->next_renewal))
        renew_all(n);
    if (n->rechecks && n->bus_up && !core_is_isolated(n->core))
        verify_some(n);
    uint64_t due[DUE_MAX];
    size_t count = 0;
    for (struct umap_iter it = umap_first(&n->arrivals); n->arrivals_waiting && it.value && count < DUE_MAX; umap_next(&it)) {
        const struct arrival *a = it.value;
        if (a->waits && (patience_ends(n, a) || mono_reached(n->now, a->retry_at)))
            due[count++] = a->serial;
    }
    for (size_t i = 0; i < count; i++) { /* by number: each of them may end others */
        struct arrival *a = umap_get(&n->arrivals, due[i]);
        if (!a || !a->waits)
            continue;
        if (patience_ends(n, a)) {
            if (a->wants && !a->tried)
                hello_renew(n, a->made);
            a->wants = false;
            n->arrivals_waiting--;
            a->waits = false;
            a->step = LOOK;
            (void)arrival_begin(n, a, false);
        } else {
            again(n, a);
        }
    }
}

/* Nobody is welcome any more. */
void presence_stop(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->arrivals); it.value; it = umap_first(&n->arrivals)) {
        struct arrival *a = it.value;
        uint64_t conn = a->conn;
        arrival_forget(n, a);
        if (conn)
            n->out.close(n->out.arg, conn, "server_stopping", NULL, 0);
    }
}

void presence_deinit(struct node *n)
{
    for (struct umap_iter it = umap_first(&n->arrivals); it.value; it = umap_first(&n->arrivals))
        arrival_forget(n, it.value);
    umap_deinit(&n->arrivals);
    umap_deinit(&n->arriving);
}
