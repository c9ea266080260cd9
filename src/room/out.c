/*
 * What is said to the node.
 *
 * Decides: whether something is said at once or waits until its cause is durable, and who counts as seated for it. A
 * held broadcast goes to those whom the node knows as seated when it is said, and that are those who were seated when it came
 * about: joined() and left() wait in the same queue. Somebody whose left() waits is kept in seats.gone for that.
 */
#include <string.h>

#include "room/journal.h"

enum kind { SAY_MESSAGE, SAY_BROADCAST, SAY_JOINED, SAY_ATTACHED, SAY_SENT, SAY_LEFT, SAY_CHANGED, SAY_ENDED, SAY_IMAGE,
            SAY_ANSWERED, SAY_TELL, SAY_LOCK, SAY_ASK, SAY_OPEN, SAY_TOPICS };

struct said {
    enum kind kind;
    int code; /* ASK: its kind */
    uint64_t who;
    union {
        int64_t n;        /* SENT */
        uint64_t request; /* TELL, ASK; OPEN: its number */
        uint64_t version; /* IMAGE */
    };
    const char *name;   /* a player; BROADCAST: from, may be NULL; ANSWERED: where to; TELL: the other room; ASK: the target */
    const char *reason; /* LEFT, ENDED */
    const void *data;
    size_t len;
};

struct held {
    struct held *next;
    uint64_t group;
    size_t size;
    struct said said; /* its pointers lead into `bytes` */
    char bytes[];
};

static struct seat *known(const struct room *r, uint64_t who)
{
    struct seat *seat = seats_by_who(&r->seats, who);
    return seat ? seat : seats_gone_by_who(&r->seats, who);
}

static void say_left(struct room *r, const struct said *s)
{
    const struct host_config *c = &r->host->config;
    struct seat *gone = s->who ? seats_gone_by_who(&r->seats, s->who) : NULL;
    if (gone)
        seats_bury(&r->seats, gone);
    c->out->left(c->out_arg, r, s->who, s->name, s->reason);
}

static void say_ended(struct room *r, const struct said *s)
{
    struct host *h = r->host;
    char id[ID_SIZE], reason[ROOM_REASON_MAX + 1];
    memcpy(id, r->id, strlen(r->id) + 1);
    run_reason(reason, s->reason, "closed");
    run_discard(r);
    h->config.out->ended(h->config.out_arg, id, reason);
}

static void say_image(struct room *r, const struct said *s)
{
    const struct host_config *c = &r->host->config;
    struct journal *j = r->journal;
    struct buf image = j->image;
    buf_init(&j->image, c->alloc, SIZE_MAX);
    j->imaging = false;
    c->out->image(c->out_arg, r, s->version, j->sequence, image.data, image.len);
    buf_deinit(&image);
}

static void say_lock(struct room *r, const struct said *s)
{
    struct host_lock_ask ask;
    memcpy(&ask, s->data, sizeof(ask));
    r->host->config.out->lock(r->host->config.out_arg, r, &ask);
}

static void say_open(struct room *r, uint64_t number)
{
    const struct open_ask *o = open_find(r, number);
    if (o)
        r->host->config.out->ask(r->host->config.out_arg, r, &o->ask);
}

static void say(struct room *r, const struct said *s)
{
    const struct host_out *out = r->host->config.out;
    void *arg = r->host->config.out_arg;
    struct seat *seat = s->who ? known(r, s->who) : NULL;
    switch (s->kind) {
    case SAY_MESSAGE:
        if (seat)
            out->message(arg, r, s->who, s->name, s->data, s->len);
        break;
    case SAY_BROADCAST:
        out->broadcast(arg, r, s->who, s->name, s->data, s->len);
        break;
    case SAY_JOINED:
    case SAY_ATTACHED:
        if (!seat)
            break; /* it has left meanwhile, by its own word */
        seat->told = true;
        (s->kind == SAY_JOINED ? out->joined : out->attached)(arg, r, s->who, s->name, s->data, s->len);
        break;
    case SAY_SENT:
        if (seat)
            out->sent(arg, r, s->who, s->name, s->n, s->code, s->data, s->len);
        break;
    case SAY_LEFT:
        say_left(r, s);
        break;
    case SAY_CHANGED:
        out->changed(arg, r);
        break;
    case SAY_ENDED:
        say_ended(r, s);
        break;
    case SAY_IMAGE:
        say_image(r, s);
        break;
    case SAY_ANSWERED:
        out->answered(arg, r, s->name, s->code, s->data, s->len);
        break;
    case SAY_TELL:
        out->tell(arg, r, s->name, s->request, s->data, s->len);
        break;
    case SAY_LOCK:
        say_lock(r, s);
        break;
    case SAY_ASK:
        out->ask(arg, r, &(struct host_ask){.kind = (enum host_ask_kind)s->code, .target = s->name, .request = s->request,
                                            .data = s->data, .len = s->len});
        break;
    case SAY_OPEN:
        say_open(r, s->request);
        break;
    case SAY_TOPICS:
        out->topics(arg, r);
        break;
    }
}

static const char *put(char **at, const void *bytes, size_t len)
{
    char *start = *at;
    if (len)
        memcpy(start, bytes, len);
    *at += len;
    return start;
}

static bool hold(struct room *r, const struct said *s)
{
    struct journal *j = r->journal;
    size_t name = s->name ? strlen(s->name) + 1 : 0, reason = s->reason ? strlen(s->reason) + 1 : 0;
    size_t size = sizeof(struct held) + s->len + name + reason;
    bool must = s->kind == SAY_LEFT || s->kind == SAY_ENDED;
    struct held *e = must || j->held_bytes + size <= JOURNAL_BYTES + JOURNAL_HELD_MAX
                         ? alloc_get(r->host->config.alloc, size)
                         : NULL;
    if (!e)
        return false;
    char *at = e->bytes;
    e->size = size;
    e->group = j->groups + j->open;
    e->said = *s;
    e->said.data = put(&at, s->data, s->len);
    e->said.name = s->name ? put(&at, s->name, name) : NULL;
    e->said.reason = s->reason ? put(&at, s->reason, reason) : NULL;
    *(j->last ? &j->last->next : &j->first) = e;
    j->last = e;
    j->held_bytes += size;
    return true;
}

static void out(struct room *r, const struct said *s)
{
    if (!r->running)
        return;
    if (!journal_holds(r))
        say(r, s);
    else if (hold(r, s))
        return;
    else if (s->kind == SAY_LEFT)
        say(r, s); /* too early is better than never */
    else
        r->over_memory = true;
}

void out_message(struct room *r, uint64_t who, const char *player, const void *data, size_t len)
{
    out(r, &(struct said){.kind = SAY_MESSAGE, .who = who, .name = player, .data = data, .len = len});
}

void out_broadcast(struct room *r, uint64_t except_who, const char *from, const void *data, size_t len)
{
    out(r, &(struct said){.kind = SAY_BROADCAST, .who = except_who, .name = from, .data = data, .len = len});
}

void out_joined(struct room *r, const struct seat *seat, bool again, const void *state, size_t len)
{
    out(r, &(struct said){.kind = again ? SAY_ATTACHED : SAY_JOINED, .who = seat->who, .name = seat->player,
                          .data = state, .len = len});
}

void out_sent(struct room *r, uint64_t who, const char *player, int64_t n, int code, const void *result, size_t len)
{
    out(r, &(struct said){.kind = SAY_SENT, .who = who, .name = player, .n = n, .code = code, .data = result, .len = len});
}

void out_answered(struct room *r, const char *reply, int code, const void *result, size_t len)
{
    out(r, &(struct said){.kind = SAY_ANSWERED, .name = reply, .code = code, .data = result, .len = len});
}

void out_tell(struct room *r, const char *other, uint64_t request, const void *data, size_t len)
{
    out(r, &(struct said){.kind = SAY_TELL, .name = other, .request = request, .data = data, .len = len});
}

void out_lock(struct room *r, const struct host_lock_ask *ask)
{
    out(r, &(struct said){.kind = SAY_LOCK, .data = ask, .len = sizeof(*ask)});
}

void out_ask(struct room *r, const struct host_ask *ask)
{
    out(r, &(struct said){.kind = SAY_ASK, .code = (int)ask->kind, .name = ask->target, .request = ask->request,
                          .data = ask->data, .len = ask->len});
}

void out_open(struct room *r, const struct open_ask *o)
{
    out(r, &(struct said){.kind = SAY_OPEN, .request = o->ask.number});
}

void out_topics(struct room *r)
{
    out(r, &(struct said){.kind = SAY_TOPICS});
}

void out_left(struct room *r, uint64_t who, const char *player, const char *reason)
{
    out(r, &(struct said){.kind = SAY_LEFT, .who = who, .name = player, .reason = reason});
}

void out_changed(struct room *r)
{
    out(r, &(struct said){.kind = SAY_CHANGED});
}

bool out_ended(struct room *r, const char *reason)
{
    struct said s = {.kind = SAY_ENDED, .reason = reason};
    if (journal_holds(r) && hold(r, &s))
        return false;
    /* Without memory the end is said too early, which is better than never; and nobody is told that anything was done. */
    for (struct held *e = r->journal ? r->journal->first : NULL; e; e = e->next)
        if (e->said.kind == SAY_LEFT)
            say(r, &e->said);
    say(r, &s);
    return true;
}

bool out_image(struct room *r, uint64_t version)
{
    return hold(r, &(struct said){.kind = SAY_IMAGE, .version = version});
}

bool out_release(struct room *r)
{
    struct journal *j = r->journal;
    const struct alloc *alloc = r->host->config.alloc;
    struct held *e;
    while ((e = j->first) && e->group <= j->acked) {
        bool ended = e->said.kind == SAY_ENDED;
        j->first = e->next;
        if (!j->first)
            j->last = NULL;
        j->held_bytes -= e->size;
        say(r, &e->said);
        alloc_put(alloc, e, e->size);
        if (ended)
            return false;
    }
    return true;
}

void out_drop_held(struct room *r)
{
    struct journal *j = r->journal;
    while (j->first) {
        struct held *e = j->first;
        j->first = e->next;
        alloc_put(r->host->config.alloc, e, e->size);
    }
    j->last = NULL;
    j->held_bytes = 0;
}

bool out_has_sent(const struct room *r, uint64_t who, int64_t n)
{
    const struct held *e = r->journal ? r->journal->first : NULL;
    while (e && !(e->said.kind == SAY_SENT && e->said.who == who && e->said.n == n))
        e = e->next;
    return e != NULL;
}

void out_ungroup(struct room *r)
{
    struct journal *j = r->journal;
    for (struct held *e = j->first; e; e = e->next)
        if (e->group > j->groups)
            e->group = j->groups;
    (void)out_release(r); /* no end is among it: that has a record */
}

bool out_has_new(const struct room *r)
{
    const struct journal *j = r->journal;
    return j->last && j->last->group > j->groups;
}
