/*
 * A heap of bytes: a room type for tests, whose state is far bigger than a message.
 *
 * The message n (an integer) makes the state n bytes, each different from run to run of n; nil changes nothing. The result
 * is [n, checksum] of what is there: somebody who knows n knows both.
 */
#include <string.h>

#include "room/room_type.h"

enum { HEAD = 5, BYTES_MAX = 8000000 };

struct blob {
    uint32_t bytes;
    uint8_t *data;
};

static uint64_t sum_of(const struct blob *b)
{
    uint64_t sum = 1469598103934665603u; /* FNV-1a */
    for (uint32_t i = 0; i < b->bytes; i++)
        sum = (sum ^ b->data[i]) * 1099511628211u;
    return sum >> 1;
}

static void put32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static int reply(struct room *room, const struct blob *b)
{
    uint8_t out[1 + HEAD + 9] = {0x92, 0xce};
    uint64_t sum = sum_of(b);
    put32(out + 2, b->bytes);
    out[1 + HEAD] = 0xcf;
    put32(out + 2 + HEAD, (uint32_t)(sum >> 32));
    put32(out + 6 + HEAD, (uint32_t)sum);
    return room_reply(room, out, sizeof(out));
}

static int take(struct room *room, struct blob *b, uint32_t bytes)
{
    uint8_t *data = bytes ? room_alloc(room, bytes) : NULL;
    if (bytes && !data)
        return ROOM_E_NO_MEMORY;
    room_free(room, b->data, b->bytes);
    b->data = data;
    b->bytes = bytes;
    return 0;
}

static int blob_create(struct room *room, const void *options, size_t len)
{
    (void)options;
    (void)len;
    room_set_user(room, room_alloc(room, sizeof(struct blob)));
    return room_user(room) ? 0 : ROOM_E_NO_MEMORY;
}

static int blob_message(struct room *room, const char *player, const void *data, size_t len)
{
    struct blob *b = room_user(room);
    const uint8_t *in = data;
    (void)player;
    if (len == HEAD && in[0] == 0xce) { /* uint 32 */
        uint32_t bytes = (uint32_t)in[1] << 24 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 8 | in[4];
        int rc = bytes > BYTES_MAX ? ROOM_E_TOO_BIG : take(room, b, bytes);
        if (rc)
            return rc;
        for (uint32_t i = 0, x = bytes; i < bytes; i++) {
            x = x * 1664525u + 1013904223u;
            b->data[i] = (uint8_t)(x >> 24);
        }
    } else if (len != 1 || in[0] != 0xc0) {
        return ROOM_E_INVALID;
    }
    return reply(room, b);
}

static int blob_save(struct room *room)
{
    const struct blob *b = room_user(room);
    uint8_t head[HEAD] = {0xc6}; /* bin 32 */
    put32(head + 1, b->bytes);
    int rc = room_reply(room, head, sizeof(head));
    return rc ? rc : room_reply(room, b->data, b->bytes);
}

static int blob_restore(struct room *room, const void *state, size_t len)
{
    int rc = blob_create(room, NULL, 0);
    if (rc)
        return rc;
    struct blob *b = room_user(room);
    rc = len < HEAD ? ROOM_E_INVALID : take(room, b, (uint32_t)(len - HEAD));
    if (rc) {
        room_free(room, b, sizeof(*b));
        return rc;
    }
    memcpy(b->data, (const uint8_t *)state + HEAD, b->bytes);
    return 0;
}

static void blob_dispose(struct room *room)
{
    struct blob *b = room_user(room);
    room_free(room, b->data, b->bytes);
    room_free(room, b, sizeof(*b));
}

const struct room_type room_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "blob",
    .max_players = 100,
    .durability = ROOM_DURABILITY_SNAPSHOT,
    .create = blob_create,
    .message = blob_message,
    .save = blob_save,
    .restore = blob_restore,
    .dispose = blob_dispose,
};
