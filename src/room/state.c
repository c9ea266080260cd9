/*
 * The built-in room type `state`: a shared document of keys and values.
 *
 * {"set": {k: v, ...}}, {"delete": [k, ...]} and {"cas": {"key": k, "expect": v, "value": w}}. A message is done as a whole or
 * not at all. The result is {"ok": true}, for a cas whose expectation is wrong {"ok": false}. Everyone in the room, the sender
 * too, gets the change as a {"set": ...} or {"delete": ...} from the player; who joins gets the whole document.
 * In a cas, a missing or nil `expect` means that the key must be absent (or hold nil), a missing `value` deletes the key.
 *
 * Limits: keys of 1 to 256 bytes without NUL (else `invalid`); STATE_KEYS keys and STATE_BYTES of document (else `full`).
 */
#include <string.h>

#include "base/map.h"
#include "room/builtin.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum {
    STATE_KEY_MAX = 256,
    STATE_KEYS = 10000,
    STATE_BYTES = 524288,
    KEY_COST = 8 /* what the heads of a key and its value may take beside their bytes */
};

struct value {
    size_t len;
    uint8_t data[];
};

/* In the map for the time of one change too, with no `now` yet or with a `next` to come. */
struct cell {
    struct value *now, *next;
};

struct doc {
    struct map cells;
    struct alloc alloc; /* the room's, as base/ wants it */
    size_t bytes;
};

struct key {
    char s[STATE_KEY_MAX + 1];
};

static void *from_room(void *arg, void *ptr, size_t old, size_t size)
{
    if (size)
        return room_realloc(arg, ptr, old, size);
    room_free(arg, ptr, old);
    return NULL;
}

static int state_create(struct room *room, const void *options, size_t len)
{
    struct doc *d = room_alloc(room, sizeof(*d));
    if (!d)
        return ROOM_E_NO_MEMORY;
    d->alloc = (struct alloc){from_room, room};
    map_init(&d->cells, &d->alloc);
    room_set_user(room, d);
    return 0;
}

static void free_value(struct doc *d, struct value *v)
{
    if (v)
        alloc_put(&d->alloc, v, sizeof(*v) + v->len);
}

static void remove_cell(struct doc *d, const char *key)
{
    struct cell *c = map_del(&d->cells, key);
    if (c) {
        free_value(d, c->now);
        free_value(d, c->next);
        alloc_put(&d->alloc, c, sizeof(*c));
    }
}

static void state_dispose(struct room *room)
{
    struct doc *d = room_user(room);
    for (struct map_iter it = map_first(&d->cells); it.value; it = map_first(&d->cells))
        remove_cell(d, it.key);
    map_deinit(&d->cells);
    room_free(room, d, sizeof(*d));
}

static size_t cost(const char *key, const struct value *v)
{
    return v ? strlen(key) + v->len + KEY_COST : 0;
}

static int read_key(struct mp_read *r, struct key *out)
{
    struct mp_token t;
    if (mp_next(r, &t, NULL) != 0 || t.type != MP_STR || t.len == 0 || t.len > STATE_KEY_MAX ||
        memchr(t.data, 0, t.len))
        return ROOM_E_INVALID;
    memcpy(out->s, t.data, t.len);
    out->s[t.len] = '\0';
    return 0;
}

/* Puts a value in waiting; `total` is what the document will weigh. */
static int prepare(struct doc *d, const char *key, struct wire_raw raw, size_t *total)
{
    struct cell *c = map_get(&d->cells, key);
    struct value *v;
    if (raw.len > STATE_BYTES)
        return ROOM_E_FULL;
    if (!c) {
        if (d->cells.count >= STATE_KEYS)
            return ROOM_E_FULL;
        c = alloc_get(&d->alloc, sizeof(*c));
        if (!c)
            return ROOM_E_NO_MEMORY;
        if (!map_put(&d->cells, key, c)) {
            alloc_put(&d->alloc, c, sizeof(*c));
            return ROOM_E_NO_MEMORY;
        }
    }
    size_t others = *total - cost(key, c->next ? c->next : c->now);
    v = alloc_get(&d->alloc, sizeof(*v) + raw.len);
    if (!v)
        return ROOM_E_NO_MEMORY;
    v->len = raw.len;
    memcpy(v->data, raw.data, raw.len);
    free_value(d, c->next);
    c->next = v;
    *total = others + cost(key, v);
    return *total > STATE_BYTES ? ROOM_E_FULL : 0;
}

static void settle_key(struct doc *d, const char *key, bool commit)
{
    struct cell *c = map_get(&d->cells, key);
    if (!c)
        return;
    if (c->next && commit) {
        free_value(d, c->now);
        c->now = c->next;
    } else {
        free_value(d, c->next);
    }
    c->next = NULL;
    if (!c->now)
        remove_cell(d, key);
}

/* Both passes over the pairs of a set: `at` stands behind the head of the map. The second pass, which cannot fail, stops
 * where the first one did. */
static int set_pairs(struct doc *d, struct mp_read at, uint32_t count)
{
    struct mp_read r = at;
    struct wire_raw raw;
    struct key key;
    size_t total = d->bytes;
    int rc = 0;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = read_key(&r, &key);
        if (rc == 0)
            rc = mp_skip(&r, WIRE_VALUE_DEPTH, &raw, NULL);
        if (rc == 0)
            rc = prepare(d, key.s, raw, &total);
    }
    r = at;
    for (uint32_t i = 0; i < count; i++) {
        if (read_key(&r, &key) != 0 || mp_skip(&r, WIRE_VALUE_DEPTH, &raw, NULL) != 0)
            break;
        settle_key(d, key.s, rc == 0);
    }
    if (rc == 0)
        d->bytes = total;
    return rc;
}

static void delete_key(struct doc *d, const char *key)
{
    struct cell *c = map_get(&d->cells, key);
    if (c) {
        d->bytes -= cost(key, c->now);
        remove_cell(d, key);
    }
}

static int delete_keys(struct doc *d, struct mp_read at, uint32_t count)
{
    struct mp_read r = at;
    struct key key;
    for (uint32_t i = 0; i < count; i++)
        if (read_key(&r, &key) != 0)
            return ROOM_E_INVALID;
    r = at;
    for (uint32_t i = 0; i < count && read_key(&r, &key) == 0; i++)
        delete_key(d, key.s);
    return 0;
}

/* Equal as values: 1 is 1 in any of its encodings. Maps in another order count as different. */
static bool equal(struct wire_raw a, struct wire_raw b)
{
    struct mp_read ra, rb;
    struct mp_token ta, tb;
    mp_read_init(&ra, a.data, a.len);
    mp_read_init(&rb, b.data, b.len);
    while (ra.at != ra.end && rb.at != rb.end) {
        if (mp_next(&ra, &ta, NULL) != 0 || mp_next(&rb, &tb, NULL) != 0 || ta.type != tb.type)
            return false;
        bool same = true;
        switch (ta.type) {
        case MP_BOOL:
            same = ta.b == tb.b;
            break;
        case MP_INT:
            same = ta.i == tb.i;
            break;
        case MP_UINT:
            same = ta.u == tb.u;
            break;
        case MP_FLOAT:
            same = memcmp(&ta.d, &tb.d, sizeof(ta.d)) == 0;
            break;
        case MP_STR:
        case MP_BIN:
        case MP_EXT:
            same = ta.len == tb.len && memcmp(ta.data, tb.data, ta.len) == 0;
            break;
        case MP_ARRAY:
        case MP_MAP:
            same = ta.count == tb.count;
            break;
        case MP_NIL:
            break;
        }
        if (!same)
            return false;
    }
    return ra.at == ra.end && rb.at == rb.end;
}

struct cas {
    struct key key;
    struct wire_raw key_raw, expect, value;
};

static int read_cas(struct mp_read *r, uint32_t count, struct cas *out)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 0; i < count; i++) {
        struct mp_token word;
        struct wire_raw raw;
        if (mp_next(r, &word, NULL) != 0 || word.type != MP_STR)
            return ROOM_E_INVALID;
        struct mp_read value = *r;
        struct wire_str name = {(const char *)word.data, word.len};
        if (mp_skip(r, WIRE_VALUE_DEPTH, &raw, NULL) != 0)
            return ROOM_E_INVALID;
        if (wire_str_is(name, "key") && read_key(&value, &out->key) == 0)
            out->key_raw = raw;
        else if (wire_str_is(name, "expect"))
            out->expect = raw;
        else if (wire_str_is(name, "value"))
            out->value = raw;
        else
            return ROOM_E_INVALID;
    }
    return out->key_raw.len ? 0 : ROOM_E_INVALID;
}

static bool as_expected(const struct doc *d, const struct cas *c)
{
    static const uint8_t nil = 0xC0;
    struct wire_raw nothing = {&nil, 1};
    const struct cell *cell = map_get(&d->cells, c->key.s);
    struct wire_raw now = cell ? (struct wire_raw){cell->now->data, (uint32_t)cell->now->len} : nothing;
    return equal(now, c->expect.len ? c->expect : nothing);
}

/* The change of a cas as the others get it: {"set": {k: v}} or {"delete": [k]}. */
static bool write_change(struct buf *out, const struct cas *c)
{
    mp_write_map(out, 1);
    mp_write_text(out, c->value.len ? "set" : "delete");
    if (c->value.len)
        mp_write_map(out, 1);
    else
        mp_write_array(out, 1);
    mp_write_raw(out, c->key_raw);
    if (c->value.len)
        mp_write_raw(out, c->value);
    return !out->failed;
}

static int reply_ok(struct room *room, bool ok)
{
    uint8_t text[] = {0x81, 0xA2, 'o', 'k', ok ? 0xC3 : 0xC2};
    return room_reply(room, text, sizeof(text));
}

/* Everything that can fail comes before the change. */
static int compare_and_set(struct room *room, const char *player, struct mp_read *r, uint32_t count)
{
    struct doc *d = room_user(room);
    struct cas c;
    struct buf change;
    size_t total = d->bytes;
    int rc = read_cas(r, count, &c);
    if (rc)
        return rc;
    if (!as_expected(d, &c))
        return reply_ok(room, false);
    buf_init(&change, &d->alloc, STATE_BYTES + 1024);
    if (c.value.len > STATE_BYTES)
        rc = ROOM_E_FULL;
    else if (!write_change(&change, &c))
        rc = ROOM_E_NO_MEMORY;
    else
        rc = reply_ok(room, true);
    if (rc == 0 && c.value.len) {
        rc = prepare(d, c.key.s, c.value, &total);
        settle_key(d, c.key.s, rc == 0);
        d->bytes = rc == 0 ? total : d->bytes;
    } else if (rc == 0) {
        delete_key(d, c.key.s);
    }
    if (rc == 0)
        room_broadcast(room, NULL, player, change.data, change.len);
    buf_deinit(&change);
    return rc;
}

static int state_message(struct room *room, const char *player, const void *data, size_t len)
{
    struct doc *d = room_user(room);
    struct mp_read r;
    struct mp_token map, key, body;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &map, NULL) != 0 || map.type != MP_MAP || map.count != 1 || mp_next(&r, &key, NULL) != 0 ||
        key.type != MP_STR || mp_next(&r, &body, NULL) != 0)
        return ROOM_E_INVALID;
    struct wire_str op = {(const char *)key.data, key.len};
    if (wire_str_is(op, "cas") && body.type == MP_MAP)
        return compare_and_set(room, player, &r, body.count);
    bool set = wire_str_is(op, "set") && body.type == MP_MAP;
    if (!set && !(wire_str_is(op, "delete") && body.type == MP_ARRAY))
        return ROOM_E_INVALID;
    int rc = reply_ok(room, true);
    if (rc == 0)
        rc = set ? set_pairs(d, r, body.count) : delete_keys(d, r, body.count);
    if (rc == 0)
        room_broadcast(room, NULL, player, data, len);
    return rc;
}

static int state_event(struct room *room, const struct room_event *event)
{
    bool message = event->kind == ROOM_EVENT_SEND || event->kind == ROOM_EVENT_TELL;
    return message ? state_message(room, NULL, event->data, event->len) : 0;
}

static int reply_document(struct room *room)
{
    struct doc *d = room_user(room);
    uint8_t bytes[STATE_KEY_MAX + 16];
    struct buf head = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes), .alloc = &alloc_libc};
    mp_write_map(&head, (uint32_t)d->cells.count);
    int rc = room_reply(room, head.data, head.len);
    for (struct map_iter it = map_first(&d->cells); it.value && rc == 0; map_next(&it)) {
        const struct cell *c = it.value;
        buf_reset(&head);
        mp_write_text(&head, it.key);
        rc = room_reply(room, head.data, head.len);
        if (rc == 0)
            rc = room_reply(room, c->now->data, c->now->len);
    }
    return rc;
}

static int state_state(struct room *room, const char *player)
{
    return reply_document(room);
}

/* The same as a message that sets all of it, within the same limits. */
static int state_restore(struct room *room, const void *state, size_t len)
{
    struct mp_read r;
    struct mp_token map;
    mp_read_init(&r, state, len);
    if (mp_next(&r, &map, NULL) != 0 || map.type != MP_MAP)
        return ROOM_E_BAD_FRAME;
    int rc = state_create(room, NULL, 0);
    if (rc)
        return rc;
    rc = set_pairs(room_user(room), r, map.count);
    if (rc)
        state_dispose(room);
    return rc;
}

const struct room_type state_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "state",
    .max_players = 100,
    .durability = ROOM_DURABILITY_SNAPSHOT,
    .flags = ROOM_TYPE_AUTO_DISPOSE,
    .create = state_create,
    .message = state_message,
    .state = state_state,
    .dispose = state_dispose,
    .save = reply_document,
    .restore = state_restore,
    .event = state_event,
};
