/*
 * Players connected here whose room has lost its owner: they wait, and take their seats up again at the next one.
 *
 * Decides: which rooms will come back (the listing says that they outlive their owner), when the player is told `paused`,
 * when and where the seat is asked for again, and that the player gets the room's whole state with it, because what the
 * former owner said last may never have come here. Must not decide who owns a room: the listing says so.
 */
#include "node/state.h"

/* A watch may be some seconds late without anybody noticing, also with a room so new that nothing is known of it here. */
enum { RETRY_MS = 250, LOOK_MS = 50, UNLISTED_MS = 6000, DUE_MAX = 1024 /* in one tick */ };

static bool comes_back(struct node *n, const char *room)
{
    const struct view_room *r = view_room(core_view(n->core), room);
    if (keep_room(n, room)) /* of this node until now; it may be so new that its entry has not come here */
        return true;
    return n->store && r && r->info.durability != ROOM_DURABILITY_NONE && r->info.state != ROOM_PARKED;
}

static void paused(struct node *n, struct place *p)
{
    struct wire_frame_paused f = {.room = p->number, .epoch = (int64_t)p->epoch};
    session_send(n, p->session, WIRE_OP_PAUSED, &f);
}

bool attach_wait(struct node *n, struct place *p, bool sure)
{
    if (!p->joined || !(sure || comes_back(n, p->room.s)))
        return false;
    if (!p->relayed && !(p->relayed = relay_track(n, p)))
        return false;
    p->who = 0;
    sends_again(p);
    p->retry_at = n->now;
    if (!p->away) {
        p->away_since = n->now;
        paused(n, p);
    }
    p->away = true;
    if (!sure)
        p->server = (struct id){{0}};
    return true;
}

void attach_done(struct node *n, struct place *p, uint64_t epoch, struct wire_raw state)
{
    struct wire_frame_resumed f = {.room = p->number, .epoch = (int64_t)epoch};
    if (p->away) /* asked twice, it is answered twice: what was said in between went to nobody, and is in the second state */
        session_send(n, p->session, WIRE_OP_RESUMED, &f);
    p->away = false;
    p->epoch = epoch;
    struct wire_frame_resync r = {.room = p->number, .has_room = true, .state = state, .seq = (int64_t)p->session->tail.last};
    session_send(n, p->session, WIRE_OP_RESYNC, &r);
    p->session->anew = true;
    p->session->anew_at = p->session->tail.last;
    p->waiting = true; /* not from inside the room host */
    n->pump_due = true;
}

/* The room came to this very node. The host answers when what the seat rests on is durable. */
static void attach_here(struct node *n, struct place *p)
{
    struct session *s = p->session;
    const struct room *room = host_find(n->host, p->room.s);
    if (p->who && room)
        return;
    const struct member *remote = seat_remote(n, s->id.s, p->room.s); /* of its gateway before this one */
    seat_drop(n, remote ? remote->who : 0);
    seat_drop(n, p->who); /* of an attempt before, and a room that went again */
    p->who = 0;
    struct member *m = room ? seat_add(n, p, core_self(n->core)->id.s, s->id.s, p->room.s) : NULL;
    if (!m)
        return;
    p->who = m->who;
    int code = host_attach(n->host, p->room.s, s->player.s, s->id.s, m->who, n->now);
    if (code == 0)
        return;
    seat_drop(n, p->who);
    p->who = 0;
    if (code == ROOM_E_NOT_FOUND)
        session_place_drop(n, p, "seat_lost", true);
}

static bool stands_still(struct node *n, const struct room *room)
{
    const struct kept *k = room ? keep_room(n, host_room_id(room)) : NULL;
    return (k && k->still) || (room && core_is_isolated(n->core) && host_room_freezes(room));
}

/* The room may stand still since it was asked: what the player has said waits on, lest it is refused though it was done before. */
void attach_seated(struct node *n, struct member *m, uint64_t epoch, struct wire_raw state)
{
    struct place *p = m->place;
    if (p->relayed)
        relay_untrack(n, p);
    p->relayed = false;
    p->who = m->who;
    attach_done(n, p, epoch, state);
    p->away = stands_still(n, host_find(n->host, p->room.s));
    if (p->away)
        paused(n, p);
}

void attach_ask(struct node *n, struct place *p, const char *owner)
{
    struct wire_link_attach m = {.session = p->session->id, .player = p->session->player, .room = p->room,
                                 .request = p->number, .epoch = (int64_t)p->epoch, .claim = (int64_t)p->session->claim,
                                 .has_claim = p->session->claim != 0, .resumes = p->session->can_resume};
    link_send(n, owner, WIRE_OP_LINK_ATTACH, &m);
}

static void attach_there(struct node *n, struct place *p, const struct room_info *info)
{
    p->server = info->owner;
    attach_ask(n, p, p->server.s);
}

static void try(struct node *n, struct place *p)
{
    const struct view *view = core_view(n->core);
    const struct view_room *r = view_room(view, p->room.s);
    p->retry_at = mono_add_ms(n->now, RETRY_MS);
    bool listing_late = mono_diff_ms(p->away_since, n->now) < UNLISTED_MS;
    if (!r && view->rooms_synced && n->bus_up && !core_is_isolated(n->core) && !listing_late) {
        session_place_drop(n, p, "room_lost", true);
    } else if (r && r->info.state == ROOM_PARKED) {
        session_place_drop(n, p, "room_parked", true);
    } else if (r && r->info.state == ROOM_RUNNING && strcmp(r->info.owner.s, core_self(n->core)->id.s) == 0) {
        attach_here(n, p);
    } else if (r && r->info.state == ROOM_RUNNING && view_server_usable(view_server(view, r->info.owner.s))) {
        attach_there(n, p, &r->info);
    } else {
        p->retry_at = mono_add_ms(n->now, LOOK_MS);
    }
}

void attach_anew(struct node *n, struct place *p)
{
    seat_drop(n, p->who);
    if (p->joined && p->away)
        paused(n, p);
    else if (p->joined && !attach_wait(n, p, true))
        session_place_drop(n, p, "no_memory", true);
    n->attach_due = true;
}

/* The listing says something new of a room: its players here may have a new owner to ask. */
void attach_room_entry(struct node *n, const struct room_info *info)
{
    struct relayed *r = map_get(&n->relayed, info->id.s);
    for (struct place *p = r ? r->first : NULL, *next; p; p = next) {
        bool last = !p->room_next;
        next = p->room_next;
        bool other = p->joined && info->state && info->epoch > p->epoch;
        if (other && !p->away && !attach_wait(n, p, true))
            continue;
        if (p->away && info->state == ROOM_RUNNING) {
            p->retry_at = n->now;
            n->attach_due = true; /* once the core has seen the entry, too */
        }
        if (last)
            break;
    }
}

void attach_tick(struct node *n)
{
    struct {
        uint64_t session;
        uint32_t number;
    } due[DUE_MAX];
    size_t count = 0;
    for (struct map_iter it = map_first(&n->relayed); it.value && count < DUE_MAX; map_next(&it)) {
        const struct relayed *r = it.value;
        for (struct place *p = r->first; p && count < DUE_MAX; p = p->room_next) {
            if (!p->away || !mono_reached(n->now, p->retry_at))
                continue;
            due[count].session = p->session->serial;
            due[count++].number = p->number;
        }
    }
    for (size_t i = 0; i < count; i++) { /* by number: each of them may change the tables */
        struct place *p = session_place(n, due[i].session, due[i].number);
        if (p && p->away)
            try(n, p);
    }
}

void attach_still(struct node *n, const struct room *room, bool still)
{
    const void *cursor = NULL;
    struct host_member hm;
    (void)host_freeze(n->host, host_room_id(room), still, n->now);
    while (host_room_member(room, &cursor, &hm)) {
        struct member *m = umap_get(&n->members, hm.who);
        if (!m || !m->place || m->place->relayed || m->place->away == still) /* relayed: it waits for its seat yet */
            continue;
        m->place->away = still;
        m->place->waiting = true;
        n->pump_due = true;
        struct wire_frame_resumed f = {.room = m->place->number, .epoch = (int64_t)m->place->epoch};
        if (still)
            paused(n, m->place);
        else
            session_send(n, m->place->session, WIRE_OP_RESUMED, &f);
    }
}

/* A room that is being given away stands still on: it may be another node's by now. */
void attach_isolated(struct node *n, bool isolated)
{
    for (const struct room *room = host_room_next(n->host, NULL); room; room = host_room_next(n->host, room)) {
        const struct kept *k = keep_room(n, host_room_id(room));
        if (host_room_freezes(room))
            attach_still(n, room, isolated || (k && k->still));
    }
}

/* Joins to a room that went from here before it could answer. */
void attach_end_strays(struct node *n)
{
    if (!n->stray_joins)
        return;
    n->stray_joins = false;
    for (struct umap_iter it = umap_first(&n->sessions); it.value; umap_next(&it)) {
        const struct session *s = it.value;
        for (struct place *p = s->places, *next; p; p = next) {
            next = p->next;
            if (p->joined || p->relayed || host_find(n->host, p->room.s))
                continue;
            seat_drop(n, p->who);
            session_place_drop(n, p, "room moved", true);
        }
    }
}
