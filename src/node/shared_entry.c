/* See shared_entry.h. */
#include "node/shared_entry.h"

#include <string.h>

#include "wire/mp_read.h"
#include "wire/mp_write.h"
#include "wire/utf8.h"
#include "wire/wire_gen.h"

enum { DONE_FIELDS = 5 };

void shared_entry_init(struct shared_entry *e, const struct alloc *alloc)
{
    memset(e, 0, sizeof(*e));
    buf_init(&e->value, alloc, ROOM_ASK_DATA_MAX);
}

void shared_entry_deinit(struct shared_entry *e)
{
    buf_deinit(&e->value);
}

/* ---- as bytes ---- */

static bool read_uint(struct mp_read *r, uint64_t *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) || (t.type != MP_UINT && (t.type != MP_INT || t.i < 0)))
        return false;
    *out = t.type == MP_UINT ? t.u : (uint64_t)t.i;
    return true;
}

static bool read_one(struct mp_read *r, struct shared_done *d)
{
    struct mp_token t;
    *d = (struct shared_done){.older = false};
    if (mp_next(r, &t, NULL) || t.type != MP_ARRAY || t.count != DONE_FIELDS || mp_next(r, &t, NULL) || t.type != MP_STR ||
        !id_set_n(&d->by, (const char *)t.data, t.len) || !read_uint(r, &d->epoch) || !read_uint(r, &d->number) ||
        mp_next(r, &t, NULL))
        return false;
    if (t.type == MP_INT || t.type == MP_BOOL) {
        d->says = t.type == MP_INT ? SHARED_SAYS_INT : SHARED_SAYS_BOOL;
        d->result = t.type == MP_INT ? t.i : t.b;
    } else if (t.type != MP_NIL) {
        return false;
    }
    if (mp_next(r, &t, NULL) || t.type != MP_BOOL)
        return false;
    d->older = t.b;
    return true;
}

static bool read_done(struct shared_entry *e, struct wire_raw raw)
{
    struct mp_read r;
    struct mp_token t;
    if (!raw.len)
        return true;
    mp_read_init(&r, raw.data, raw.len);
    if (mp_next(&r, &t, NULL) || t.type != MP_ARRAY || t.count > SHARED_DONE_MAX)
        return false;
    for (uint32_t i = 0; i < t.count; i++, e->done_count++)
        if (!read_one(&r, &e->done[e->done_count]))
            return false;
    return true;
}

static void forget(struct shared_entry *e)
{
    buf_reset(&e->value);
    e->there = e->foreign = false;
    e->changes = 0;
    e->expires = e->changed = (struct wall){0};
    e->done_count = 0;
}

bool shared_entry_read(struct shared_entry *e, const uint8_t *json, size_t len, uint64_t revision, struct buf *scratch)
{
    struct wire_shared_entry w;
    forget(e);
    e->revision = json ? revision : 0;
    if (!json)
        return true;
    buf_reset(scratch);
    bool sound = wire_shared_entry_from_json(&w, (const char *)json, len, scratch, NULL) == 0 && read_done(e, w.done) &&
                 (!w.expires.data || time_from_rfc3339(w.expires.data, w.expires.len, &e->expires)) &&
                 time_from_rfc3339(w.changed.data, w.changed.len, &e->changed) && w.value.len <= ROOM_ASK_DATA_MAX;
    if (!sound) {
        forget(e);
        e->there = e->foreign = true;
        return !scratch->failed;
    }
    e->there = w.value.len > 0;
    return !e->there || buf_write(&e->value, w.value.data, w.value.len);
}

static void say(const struct shared_done *says, struct buf *result)
{
    if (says->says == SHARED_SAYS_INT)
        mp_write_int(result, says->result);
    else if (says->says == SHARED_SAYS_BOOL)
        mp_write_bool(result, says->result != 0);
}

static void write_done(const struct shared_entry *e, struct buf *out)
{
    mp_write_array(out, e->done_count);
    for (unsigned i = 0; i < e->done_count; i++) {
        const struct shared_done *d = &e->done[i];
        mp_write_array(out, DONE_FIELDS);
        mp_write_text(out, d->by.s);
        mp_write_uint(out, d->epoch);
        mp_write_uint(out, d->number);
        if (d->says == SHARED_SAYS_NOTHING)
            mp_write_nil(out);
        else
            say(d, out);
        mp_write_bool(out, d->older);
    }
}

int shared_entry_write(const struct shared_entry *e, const char *server, struct wall now, struct buf *scratch, struct buf *out)
{
    char changed[TIME_RFC3339_SIZE], expires[TIME_RFC3339_SIZE];
    struct wire_shared_entry w = {0};
    buf_reset(scratch);
    write_done(e, scratch);
    time_rfc3339(now, changed);
    time_rfc3339(e->expires, expires);
    w.changed = wire_str(changed);
    if (e->expires.ms)
        w.expires = wire_str(expires);
    if (e->there)
        w.value = (struct wire_raw){e->value.data, (uint32_t)e->value.len};
    w.done = (struct wire_raw){scratch->data, (uint32_t)scratch->len};
    if (!id_set(&w.server, server) || scratch->failed)
        return ROOM_E_NO_MEMORY;
    return wire_shared_entry_to_json(&w, out);
}

/* ---- what is there ---- */

bool shared_entry_there(const struct shared_entry *e, struct wall now)
{
    return e->there && (!e->expires.ms || now.ms < e->expires.ms);
}

struct wall shared_entry_purge_at(const struct shared_entry *e)
{
    int64_t over = e->there ? e->expires.ms : e->changed.ms;
    return (struct wall){over ? over + SHARED_KEEP_MS : 0};
}

/* ---- repeats ---- */

static int compare(const struct shared_done *d, const struct shared_op *op)
{
    if (d->epoch != op->epoch)
        return d->epoch < op->epoch ? -1 : 1;
    return d->number == op->number ? 0 : d->number < op->number ? -1 : 1;
}

/* 1: it has not been done. */
static int repeated(const struct shared_entry *e, const struct shared_op *op, struct buf *result)
{
    const struct shared_done *oldest = NULL;
    for (unsigned i = 0; i < e->done_count; i++) {
        const struct shared_done *d = &e->done[i];
        if (strcmp(d->by.s, op->by.s) != 0)
            continue;
        oldest = oldest ? oldest : d;
        if (compare(d, op) != 0)
            continue;
        say(d, result);
        return 0;
    }
    return oldest && oldest->older && compare(oldest, op) > 0 ? ROOM_E_UNKNOWN_RESULT : 1;
}

/* Whose oldest one goes: the author's who has most, and of these the one that comes first. */
static unsigned victim(const struct shared_entry *e)
{
    unsigned first[SHARED_DONE_MAX], count[SHARED_DONE_MAX], authors = 0, most = 0;
    for (unsigned i = 0; i < e->done_count; i++) {
        unsigned a = 0;
        while (a < authors && strcmp(e->done[first[a]].by.s, e->done[i].by.s) != 0)
            a++;
        if (a == authors) {
            first[authors] = i;
            count[authors++] = 0;
        }
        count[a]++;
    }
    for (unsigned a = 1; a < authors; a++)
        if (count[a] > count[most])
            most = a;
    return first[most];
}

static void remember(struct shared_entry *e, const struct shared_op *op, const struct shared_done *what)
{
    if (e->done_count == SHARED_DONE_MAX) {
        unsigned at = victim(e);
        struct id by = e->done[at].by;
        memmove(&e->done[at], &e->done[at + 1], (e->done_count - at - 1) * sizeof(e->done[0]));
        e->done_count--;
        while (at < e->done_count && strcmp(e->done[at].by.s, by.s) != 0)
            at++;
        if (at < e->done_count)
            e->done[at].older = true;
    }
    struct shared_done *d = &e->done[e->done_count++];
    *d = *what;
    d->by = op->by;
    d->epoch = op->epoch;
    d->number = op->number;
}

/* ---- the operations ---- */

static bool put(struct shared_entry *e, const void *data, size_t len)
{
    buf_reset(&e->value);
    e->there = buf_write(&e->value, data, len);
    return e->there;
}

static void take_away(struct shared_entry *e)
{
    buf_reset(&e->value);
    e->there = e->foreign = false;
    e->expires.ms = 0;
}

static int set(struct shared_entry *e, const struct shared_op *op)
{
    if (op->len > ROOM_ASK_DATA_MAX)
        return ROOM_E_TOO_BIG;
    if (op->len == 0 || mp_check(op->data, op->len, WIRE_VALUE_DEPTH, NULL) != 0 || *(const uint8_t *)op->data == 0xC0)
        return ROOM_E_INVALID;
    e->expires.ms = 0;
    return put(e, op->data, op->len) ? 0 : ROOM_E_NO_MEMORY;
}

static int add(struct shared_entry *e, const struct shared_op *op, struct shared_done *says)
{
    struct mp_read r;
    struct mp_token t = {.type = MP_INT, .i = 0};
    mp_read_init(&r, e->value.data, e->value.len);
    if (e->there && (mp_next(&r, &t, NULL) || t.type != MP_INT))
        return ROOM_E_INVALID;
    if (__builtin_add_overflow(t.i, op->add, &says->result))
        return ROOM_E_TOO_BIG;
    says->says = SHARED_SAYS_INT;
    buf_reset(&e->value);
    mp_write_int(&e->value, says->result);
    e->there = !e->value.failed;
    return e->there ? 0 : ROOM_E_NO_MEMORY;
}

/* Where the members begin, how many they are, and which is the one that is meant (`count`: none). */
struct members {
    uint32_t count, found;
    struct mp_read first;
    struct wire_raw it;
};

static bool find_member(const struct shared_entry *e, const struct shared_op *op, struct members *out)
{
    struct mp_read r;
    struct mp_token t = {.type = MP_ARRAY, .count = 0};
    mp_read_init(&r, e->value.data, e->value.len);
    if (e->there && (mp_next(&r, &t, NULL) || t.type != MP_ARRAY))
        return false;
    *out = (struct members){.count = t.count, .found = t.count, .first = r};
    for (uint32_t i = 0; i < out->count; i++) {
        const uint8_t *at = r.at;
        if (mp_next(&r, &t, NULL) || t.type != MP_STR)
            return false;
        if (out->found == out->count && t.len == op->len && memcmp(t.data, op->data, t.len) == 0) {
            out->found = i;
            out->it = (struct wire_raw){at, (uint32_t)(r.at - at)};
        }
    }
    return true;
}

/* The members but `without` (len 0: all), and the one of `op` if `more`. */
static int rewrite(struct shared_entry *e, const struct shared_op *op, const struct members *m, struct wire_raw without,
                   bool more)
{
    struct buf fresh;
    buf_init(&fresh, e->value.alloc, ROOM_ASK_DATA_MAX);
    size_t all = (size_t)(m->first.end - m->first.at), before = without.len ? (size_t)(without.data - m->first.at) : all;
    mp_write_array(&fresh, m->count - (without.len > 0) + more);
    if (before)
        buf_write(&fresh, m->first.at, before);
    if (all > before + without.len)
        buf_write(&fresh, without.data + without.len, all - before - without.len);
    if (more)
        mp_write_str(&fresh, op->data, op->len);
    if (fresh.failed) {
        buf_deinit(&fresh);
        return e->value.len + op->len + 8 > ROOM_ASK_DATA_MAX ? ROOM_E_TOO_BIG : ROOM_E_NO_MEMORY;
    }
    buf_deinit(&e->value);
    e->value = fresh;
    e->there = true;
    return 0;
}

static int member(struct shared_entry *e, const struct shared_op *op, struct shared_done *says)
{
    struct members m;
    bool insert = op->verb == HOST_SHARED_INSERT;
    if (op->len == 0 || op->len > ROOM_SHARED_MEMBER_MAX || !utf8_check(op->data, op->len, NULL) || !find_member(e, op, &m))
        return ROOM_E_INVALID;
    bool has = m.found < m.count;
    says->says = SHARED_SAYS_BOOL;
    says->result = has != insert;
    if (has == insert)
        return 0;
    if (insert && m.count >= SHARED_MEMBERS_MAX)
        return ROOM_E_FULL;
    return rewrite(e, op, &m, insert ? (struct wire_raw){0} : m.it, insert);
}

/* 0, or why the operation is not wanted with what is there. */
static int expected(const struct shared_entry *e, const struct shared_op *op)
{
    bool asks = op->verb == HOST_SHARED_SET || op->verb == HOST_SHARED_DELETE;
    if (op->verb == HOST_SHARED_GET || op->verb == HOST_SHARED_DELETE) {
        if (!e->there)
            return ROOM_E_NOT_FOUND;
    }
    if (!asks || op->expect == ROOM_SHARED_ANY)
        return 0;
    if (op->expect == 0)
        return e->there ? ROOM_E_EXISTS : 0;
    if (e->changes)
        return SHARED_LATER;
    return e->there && e->revision == op->expect ? 0 : ROOM_E_CONFLICT;
}

static int change(struct shared_entry *e, const struct shared_op *op, struct shared_done *says)
{
    if (e->foreign && op->verb != HOST_SHARED_SET && op->verb != HOST_SHARED_DELETE)
        return ROOM_E_INVALID;
    switch (op->verb) {
    case HOST_SHARED_SET:
        return set(e, op);
    case HOST_SHARED_ADD:
        return add(e, op, says);
    case HOST_SHARED_INSERT:
    case HOST_SHARED_REMOVE:
        return member(e, op, says);
    case HOST_SHARED_DELETE:
        take_away(e);
        return 0;
    case HOST_SHARED_GET:
        break;
    }
    return ROOM_E_INTERNAL;
}

int shared_apply(struct shared_entry *e, const struct shared_op *op, struct wall now, struct buf *result)
{
    struct shared_done says = {.says = SHARED_SAYS_NOTHING};
    bool reads = op->verb == HOST_SHARED_GET;
    int rc = reads ? 1 : repeated(e, op, result);
    e->last = rc == 1 ? SHARED_LOOKED : SHARED_REPEATED;
    if (rc != 1)
        return rc;
    if (reads && e->changes)
        return SHARED_LATER;
    if (e->there && !shared_entry_there(e, now)) {
        e->changed = e->expires;
        take_away(e);
    }
    rc = expected(e, op);
    if (rc)
        return rc;
    if (reads) {
        if (!e->foreign)
            buf_write(result, e->value.data, e->value.len);
        return e->foreign ? ROOM_E_INVALID : 0;
    }
    rc = change(e, op, &says);
    if (rc)
        return rc;
    say(&says, result);
    bool same = says.says == SHARED_SAYS_BOOL && !says.result && !op->ttl_ms;
    if (same)
        return 0;
    if (op->ttl_ms && e->there)
        e->expires.ms = now.ms + op->ttl_ms;
    e->foreign = false;
    e->last = SHARED_CHANGED;
    e->changes++;
    remember(e, op, &says);
    return 0;
}
