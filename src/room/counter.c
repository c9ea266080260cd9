/*
 * The built-in room type `counter`: {"add": n} adds a 64-bit integer.
 *
 * The result is {"value": v}, and everyone in the room gets {"value": v}; who joins gets the same as its state. A sum that
 * does not fit 64 bits is refused with `full` and changes nothing. Anything else is refused with `invalid`.
 */
#include "room/builtin.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { VALUE_BYTES = 32 };

static int counter_create(struct room *room, const void *options, size_t len)
{
    int64_t *value = room_alloc(room, sizeof(*value));
    room_set_user(room, value);
    return value ? 0 : ROOM_E_NO_MEMORY;
}

/* {"value": v} in the caller's bytes, which are enough, so that the buffer never asks for memory. */
static size_t value_of(const struct room *room, uint8_t out[VALUE_BYTES])
{
    struct buf text = {.data = out, .cap = VALUE_BYTES, .max = VALUE_BYTES, .alloc = &alloc_libc};
    mp_write_map(&text, 1);
    mp_write_text(&text, "value");
    mp_write_int(&text, *(const int64_t *)room_user(room));
    return text.len;
}

static int read_add(const void *data, size_t len, int64_t *out)
{
    struct mp_read r;
    struct mp_token map, key, n;
    mp_read_init(&r, data, len);
    if (mp_next(&r, &map, NULL) != 0 || map.type != MP_MAP || map.count != 1 || mp_next(&r, &key, NULL) != 0 ||
        key.type != MP_STR || !wire_str_is((struct wire_str){(const char *)key.data, key.len}, "add") ||
        mp_next(&r, &n, NULL) != 0 || n.type != MP_INT)
        return ROOM_E_INVALID;
    *out = n.i;
    return 0;
}

static int counter_message(struct room *room, const char *player, const void *data, size_t len)
{
    uint8_t text[VALUE_BYTES];
    int64_t add, *value = room_user(room), before = *value;
    int rc = read_add(data, len, &add);
    if (rc)
        return rc;
    if (__builtin_add_overflow(before, add, value)) {
        *value = before;
        return ROOM_E_FULL;
    }
    size_t size = value_of(room, text);
    rc = room_reply(room, text, size);
    if (rc) {
        *value = before;
        return rc;
    }
    room_broadcast(room, NULL, NULL, text, size);
    return 0;
}

static int counter_event(struct room *room, const struct room_event *event)
{
    bool message = event->kind == ROOM_EVENT_SEND || event->kind == ROOM_EVENT_TELL;
    return message ? counter_message(room, NULL, event->data, event->len) : 0;
}

static int counter_save(struct room *room)
{
    uint8_t value[VALUE_BYTES];
    return room_reply(room, value, value_of(room, value));
}

static int counter_state(struct room *room, const char *player)
{
    return counter_save(room);
}

static int counter_restore(struct room *room, const void *state, size_t len)
{
    struct mp_read r;
    struct mp_token map, key, n;
    mp_read_init(&r, state, len);
    if (mp_next(&r, &map, NULL) != 0 || map.type != MP_MAP || map.count != 1 || mp_next(&r, &key, NULL) != 0 ||
        mp_next(&r, &n, NULL) != 0 || n.type != MP_INT)
        return ROOM_E_BAD_FRAME;
    int rc = counter_create(room, NULL, 0);
    if (rc == 0)
        *(int64_t *)room_user(room) = n.i;
    return rc;
}

static void counter_dispose(struct room *room)
{
    room_free(room, room_user(room), sizeof(int64_t));
}

const struct room_type counter_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "counter",
    .max_players = 100,
    .durability = ROOM_DURABILITY_JOURNAL,
    .flags = ROOM_TYPE_AUTO_DISPOSE,
    .create = counter_create,
    .message = counter_message,
    .state = counter_state,
    .dispose = counter_dispose,
    .save = counter_save,
    .restore = counter_restore,
    .event = counter_event,
};
