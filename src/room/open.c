/*
 * What a room has asked for beyond itself, and is not answered yet: requests to services, and questions about shared data.
 *
 * Decides: how an ask is numbered, and that it is open until host_done(). Open asks are part of the room, as its topics are: in
 * its image, and in the journal of a type with apply(); any other type asks again when its journal is read, and gives the same
 * numbers. So the next owner knows what nobody has answered, says it again, and whoever did it already knows it by room, epoch
 * and number. Must not know what is asked. Invariant: ROOM_OPEN_MAX at most, numbers grow.
 */
#include <string.h>

#include "room/journal.h"
#include "room/read.h"
#include "wire/mp_write.h"
#include "wire/utf8.h"

enum { ASK_FIELDS = 10 };

struct open_ask *open_find(const struct room *r, uint64_t number)
{
    struct open_ask *o = r->open;
    while (o && o->ask.number != number)
        o = o->next;
    return o;
}

bool open_sound(const struct host_ask *a)
{
    bool lasts = a->limit_ms >= ROOM_SHARED_EXPIRY_MIN_MS && a->limit_ms <= ROOM_SHARED_EXPIRY_MAX_MS;
    if (a->kind == HOST_ASK_SERVICE)
        return a->target && id_valid(a->target) && a->limit_ms >= ROOM_REQUEST_MIN_MS && a->limit_ms <= ROOM_REQUEST_MAX_MS;
    if (!topics_valid(a->target, false) || (a->limit_ms != 0 && !lasts))
        return false;
    bool member = a->verb == HOST_SHARED_INSERT || a->verb == HOST_SHARED_REMOVE;
    return !member || (a->len > 0 && a->len <= ROOM_SHARED_MEMBER_MAX && utf8_check(a->data, a->len, NULL));
}

static uint32_t count(const struct room *r)
{
    uint32_t n = 0;
    for (const struct open_ask *o = r->open; o; o = o->next)
        n++;
    return n;
}

static size_t size_of(const struct host_ask *ask)
{
    return sizeof(struct open_ask) + strlen(ask->target) + 1 + ask->len;
}

static struct open_ask *append(struct room *r, const struct host_ask *ask)
{
    struct open_ask *o = room_alloc(r, size_of(ask)), **at = &r->open;
    if (!o)
        return NULL;
    size_t target = strlen(ask->target) + 1;
    o->ask = *ask;
    memcpy(o->bytes, ask->target, target);
    if (ask->len)
        memcpy(o->bytes + target, ask->data, ask->len);
    o->ask.target = o->bytes;
    o->ask.data = o->bytes + target;
    while (*at)
        at = &(*at)->next;
    *at = o;
    r->ask_number = ask->number;
    return o;
}

int open_add(struct room *r, const struct host_ask *ask)
{
    struct host_ask named = *ask;
    if (count(r) >= ROOM_OPEN_MAX)
        return ROOM_E_FULL;
    named.epoch = r->running || !r->journal ? r->epoch : r->journal->seen_epoch;
    named.number = r->ask_number + 1;
    struct open_ask *o = append(r, &named);
    if (!o)
        return ROOM_E_NO_MEMORY;
    o->unsaid = !r->running;
    journal_ask(r, &o->ask);
    out_open(r, o);
    return 0;
}

struct open_ask *open_take(struct room *r, uint64_t number)
{
    struct open_ask **at = &r->open, *o;
    while (*at && (*at)->ask.number != number)
        at = &(*at)->next;
    o = *at;
    if (o)
        *at = o->next;
    return o;
}

void open_free(struct room *r, struct open_ask *o)
{
    if (o)
        room_free(r, o, size_of(&o->ask));
}

void open_clear(struct room *r)
{
    while (r->open)
        open_free(r, open_take(r, r->open->ask.number));
}

void open_say_unsaid(struct room *r)
{
    for (struct open_ask *o = r->open; o; o = o->next) {
        if (!o->unsaid)
            continue;
        o->unsaid = false;
        o->ask.again = true;
        out_open(r, o);
    }
}

void host_unsaid(struct host *h, const char *id, uint64_t number)
{
    struct room *r = map_get(&h->rooms, id);
    struct open_ask *o = r ? open_find(r, number) : NULL;
    if (o)
        o->unsaid = true;
}

bool host_say_again(struct host *h, const char *id, struct mono now)
{
    struct room *r = room_of(h, id, now);
    const struct open_ask *o = r ? r->open : NULL;
    while (o && !o->unsaid)
        o = o->next;
    if (!o)
        return true;
    if (room_usable(r))
        return false;
    open_say_unsaid(r);
    return true;
}

/* ---- as bytes ---- */

void open_write_one(const struct host_ask *ask, struct buf *out)
{
    mp_write_array(out, ASK_FIELDS);
    mp_write_uint(out, ask->epoch);
    mp_write_uint(out, ask->number);
    mp_write_uint(out, ask->kind);
    mp_write_uint(out, ask->verb);
    mp_write_text(out, ask->target);
    mp_write_uint(out, ask->request);
    mp_write_int(out, ask->limit_ms);
    mp_write_uint(out, ask->expect);
    mp_write_int(out, ask->by);
    mp_write_bin(out, ask->data, ask->len);
}

static bool read_text(struct mp_read *in, char out[ROOM_TOPIC_MAX + 1])
{
    struct mp_token t;
    if (mp_next(in, &t, NULL) != 0 || t.type != MP_STR || t.len > ROOM_TOPIC_MAX)
        return false;
    memcpy(out, t.data, t.len);
    out[t.len] = '\0';
    return strlen(out) == t.len;
}

int open_read_one(struct room *r, struct mp_read *in)
{
    struct host_ask a = {0};
    char target[ROOM_TOPIC_MAX + 1];
    struct mp_token data;
    int64_t kind, verb;
    uint32_t fields;
    if (!read_array(in, &fields) || fields != ASK_FIELDS || !read_uint(in, &a.epoch) || !read_uint(in, &a.number) ||
        !read_int(in, HOST_ASK_SERVICE, HOST_ASK_SHARED, &kind) || !read_int(in, HOST_SHARED_GET, HOST_SHARED_REMOVE, &verb) ||
        !read_text(in, target) || !read_uint(in, &a.request) || !read_int(in, 0, INT64_MAX, &a.limit_ms) ||
        !read_uint(in, &a.expect) || !read_int(in, INT64_MIN, INT64_MAX, &a.by) || mp_next(in, &data, NULL) != 0 ||
        data.type != MP_BIN || data.len > ROOM_ASK_DATA_MAX)
        return ROOM_E_BAD_FRAME;
    a.kind = (enum host_ask_kind)kind;
    a.verb = (enum host_shared_verb)verb;
    a.target = target;
    a.data = data.data;
    a.len = data.len;
    bool value = a.kind == HOST_ASK_SERVICE || a.verb == HOST_SHARED_SET;
    if (!open_sound(&a) || (value && mp_check(a.data, a.len, WIRE_VALUE_DEPTH, NULL)) || a.number <= r->ask_number ||
        count(r) >= ROOM_OPEN_MAX)
        return ROOM_E_BAD_FRAME;
    struct open_ask *o = append(r, &a);
    if (!o)
        return ROOM_E_NO_MEMORY;
    o->unsaid = true;
    return 0;
}

void open_write(const struct room *r, struct buf *out)
{
    mp_write_array(out, count(r) + 1);
    mp_write_uint(out, r->ask_number);
    for (const struct open_ask *o = r->open; o; o = o->next)
        open_write_one(&o->ask, out);
}

int open_read(struct room *r, struct mp_read *in)
{
    uint32_t items;
    uint64_t last;
    open_clear(r);
    r->ask_number = 0;
    if (!read_array(in, &items) || items < 1 || items > ROOM_OPEN_MAX + 1 || !read_uint(in, &last))
        return ROOM_E_BAD_FRAME;
    for (uint32_t i = 1; i < items; i++) {
        int rc = open_read_one(r, in);
        if (rc)
            return rc;
    }
    if (r->ask_number > last)
        return ROOM_E_BAD_FRAME;
    r->ask_number = last;
    return 0;
}
