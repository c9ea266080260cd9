/*
 * Messages of the players connected here that their rooms have not answered yet.
 *
 * Decides: how many a room gets before it has answered (SENDS_OUT_MAX), what waits while the room has no owner, and what is
 * sent again to the next one. The room does not do twice what it did before: it knows each message by its number.
 * Invariant: of one place, messages reach the room in the order in which the player sent them.
 * Answers come from inside the room host, which may not be called then: what the answer makes room for goes out at the end
 * of the turn.
 */
#include "node/state.h"

enum { DUE_MAX = 1024 };

int sends_add(struct node *n, struct place *p, int64_t number, struct wire_raw data)
{
    struct sends *s = &p->sends;
    for (const struct unanswered *u = p->session->resumed ? s->first : NULL; u; u = u->next)
        if (u->n == number)
            return 0; /* asked again by a client who was away: the answer to the first one is on its way */
    if (s->count >= SENDS_MAX || s->bytes + data.len > SENDS_BYTES_MAX)
        return ROOM_E_RATE_LIMITED;
    struct unanswered *u = alloc_get(n->alloc, sizeof(*u) + data.len);
    if (!u)
        return ROOM_E_NO_MEMORY;
    u->n = number;
    u->len = data.len;
    if (data.len)
        memcpy(u->data, data.data, data.len);
    *(s->first ? s->last : &s->first) = u;
    s->last = &u->next;
    s->count++;
    s->bytes += data.len;
    return 0;
}

bool sends_answered(struct node *n, struct place *p, int64_t number)
{
    struct sends *s = &p->sends;
    struct unanswered **at = &s->first;
    while (*at && (*at)->n != number)
        at = &(*at)->next;
    struct unanswered *u = *at;
    if (!u)
        return false;
    *at = u->next;
    if (s->last == &u->next)
        s->last = at;
    s->count--;
    s->out -= u->out;
    s->bytes -= u->len;
    alloc_put(n->alloc, u, sizeof(*u) + u->len);
    if (s->count > s->out && !p->pumping) {
        p->waiting = true;
        n->pump_due = true;
    }
    return true;
}

void sends_refused(struct node *n, struct session *s, int64_t number, int code, const char *text)
{
    struct wire_frame_error e = {.code = wire_str(room_error_name(code)), .n = number, .has_n = true,
                                 .message = wire_str(text ? text : room_error_text(code))};
    session_send(n, s, WIRE_OP_ERROR, &e);
}

void sends_result(struct node *n, struct place *p, int64_t number, int code, struct wire_raw result)
{
    struct wire_frame_sent f = {.room = p->number, .n = number, .epoch = (int64_t)p->epoch, .result = result};
    (void)sends_answered(n, p, number);
    if (code)
        sends_refused(n, p->session, number, code, NULL);
    else
        session_send(n, p->session, WIRE_OP_SENT, &f);
}

void sends_again(struct place *p)
{
    for (struct unanswered *u = p->sends.first; u; u = u->next)
        u->out = false;
    p->sends.out = 0;
}

void sends_clear(struct node *n, struct place *p)
{
    for (struct unanswered *u = p->sends.first, *next; u; u = next) {
        next = u->next;
        alloc_put(n->alloc, u, sizeof(*u) + u->len);
    }
    p->sends = (struct sends){0};
}

static struct unanswered *next_to_go(const struct place *p)
{
    struct unanswered *u = p->sends.first;
    if (!p->joined || p->away || p->sends.out >= SENDS_OUT_MAX)
        return NULL;
    while (u && u->out)
        u = u->next;
    return u;
}

void sends_pump(struct node *n, struct place *p)
{
    uint64_t serial = p->session->serial;
    uint32_t number = p->number;
    struct unanswered *u;
    if (p->pumping)
        return;
    p->pumping = true;
    while (p && (u = next_to_go(p))) {
        struct wire_raw data = {u->data, (uint32_t)u->len};
        int64_t sent = u->n;
        u->out = true;
        p->sends.out++;
        if (p->relayed) {
            struct wire_link_send ls = {.session = p->session->id, .room = p->room, .n = sent, .data = data,
                                        .number = p->number, .has_number = true};
            link_send(n, p->server.s, WIRE_OP_LINK_SEND, &ls);
            continue;
        }
        struct id room = p->room;
        buf_reset(&n->frame); /* the answer frees the copy while the room may still read it */
        if (!buf_write(&n->frame, data.data, data.len)) {
            sends_result(n, p, sent, ROOM_E_NO_MEMORY, (struct wire_raw){0});
            continue;
        }
        int code = host_message(n->host, room.s, p->who, sent, n->frame.data, n->frame.len, n->now);
        p = session_place(n, serial, number);
        if (p && code)
            sends_result(n, p, sent, code, (struct wire_raw){0});
    }
    if (p)
        p->pumping = false;
}

/* What answers of this turn made room for. */
void sends_turn(struct node *n)
{
    struct {
        uint64_t session;
        uint32_t number;
    } due[DUE_MAX];
    while (n->pump_due) {
        size_t count = 0;
        n->pump_due = false;
        for (struct umap_iter it = umap_first(&n->sessions); it.value && count < DUE_MAX; umap_next(&it)) {
            struct session *s = it.value;
            for (struct place *p = s->places; p && count < DUE_MAX; p = p->next) {
                if (!p->waiting)
                    continue;
                p->waiting = false;
                due[count].session = s->serial;
                due[count++].number = p->number;
            }
        }
        n->pump_due = count == DUE_MAX;
        for (size_t i = 0; i < count; i++) { /* by number: each of them may change the tables */
            struct place *p = session_place(n, due[i].session, due[i].number);
            if (p)
                sends_pump(n, p);
        }
    }
}
