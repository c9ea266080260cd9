/*
 * A clerk: a room type for tests, which uses shared data and asks services as its players say.
 *
 * A message is a string: "get KEY REQUEST", "set KEY TTL EXPECT REQUEST TEXT" (EXPECT -1: whatever is there), "delete KEY
 * EXPECT REQUEST", "add KEY BY TTL REQUEST", "insert KEY MEMBER TTL REQUEST", "remove KEY MEMBER REQUEST", "ask SERVICE TIMEOUT
 * REQUEST DO MS", which sends {"do": DO, "ms": MS, "error": {"code": "too_poor"}}, "big KEY BYTES", which sets so many, and
 * "run KEY TIMES", which adds 1 so often, WINDOW at a time. Every answer is told to everybody as [its data, "KIND FROM REQUEST
 * CODE TOKEN"], but those of a run, of which only the end is told: "ran OK UNKNOWN".
 * What is counted is the room's state [heard, ok, unknown, left, under way]; it is done again from the journal by the
 * callbacks.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "room/room_type.h"

enum { WINDOW = 8, RUN_REQUEST = 1000000 };

struct clerk {
    unsigned heard, ok, unknown, left, open;
    char key[ROOM_TOPIC_MAX + 1];
};

static int clerk_create(struct room *room, const void *options, size_t len)
{
    struct clerk *c = room_alloc(room, sizeof(*c));
    room_set_user(room, c);
    return c ? 0 : ROOM_E_NO_MEMORY;
}

static void clerk_dispose(struct room *room)
{
    room_free(room, room_user(room), sizeof(struct clerk));
}

static size_t text(unsigned char *out, const char *s)
{
    size_t n = strlen(s);
    out[0] = 0xD9;
    out[1] = (unsigned char)n;
    memcpy(out + 2, s, n);
    return n + 2;
}

static size_t number(unsigned char *out, unsigned n)
{
    out[0] = 0xCE;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (unsigned char)(n >> (24 - 8 * i));
    return 5;
}

static int ask(struct room *room, const char *service, long long timeout, const char *what, unsigned ms,
               unsigned long long request)
{
    unsigned char map[300] = {0x83};
    size_t n = 1;
    n += text(map + n, "do");
    n += text(map + n, what);
    n += text(map + n, "ms");
    n += number(map + n, ms);
    n += text(map + n, "error");
    map[n++] = 0x82;
    n += text(map + n, "code");
    n += text(map + n, "too_poor");
    n += text(map + n, "message");
    n += text(map + n, "12 gold");
    return room_request(room, service, map, n, timeout, request);
}

static int big(struct room *room, const char *key, unsigned bytes)
{
    static unsigned char value[100000];
    if (bytes < 6 || bytes > sizeof(value))
        return ROOM_E_INVALID;
    value[0] = 0xC6;
    for (int i = 0; i < 4; i++)
        value[1 + i] = (unsigned char)((bytes - 5) >> (24 - 8 * i));
    return room_shared_set(room, key, value, bytes, 0, ROOM_SHARED_ANY, 1);
}

static void run(struct room *room)
{
    struct clerk *c = room_user(room);
    for (; c->left && c->open < WINDOW && room_shared_add(room, c->key, 1, 0, RUN_REQUEST) == 0; c->left--)
        c->open++;
}

static int clerk_message(struct room *room, const char *player, const void *data, size_t len)
{
    struct clerk *c = room_user(room);
    const unsigned char *head = data;
    size_t skip = len && head[0] == 0xDA ? 3 : len && head[0] == 0xD9 ? 2 : 1, n;
    char words[301], a[201], b[201];
    unsigned char value[300];
    long long x = 0, y = 0;
    unsigned long long request = 0;
    unsigned times = 0;
    if (len <= skip || len - skip > 300)
        return ROOM_E_INVALID;
    memcpy(words, head + skip, len - skip);
    words[len - skip] = '\0';
    if (sscanf(words, "get %200s %llu", a, &request) == 2)
        return room_shared_get(room, a, request);
    if (sscanf(words, "set %200s %lld %lld %llu %200s", a, &x, &y, &request, b) == 5) {
        n = text(value, b);
        return room_shared_set(room, a, value, n, x, y < 0 ? ROOM_SHARED_ANY : (uint64_t)y, request);
    }
    if (sscanf(words, "delete %200s %lld %llu", a, &y, &request) == 3)
        return room_shared_delete(room, a, y < 0 ? ROOM_SHARED_ANY : (uint64_t)y, request);
    if (sscanf(words, "add %200s %lld %lld %llu", a, &x, &y, &request) == 4)
        return room_shared_add(room, a, x, y, request);
    if (sscanf(words, "insert %200s %200s %lld %llu", a, b, &x, &request) == 4)
        return room_shared_insert(room, a, b, x, request);
    if (sscanf(words, "remove %200s %200s %llu", a, b, &request) == 3)
        return room_shared_remove(room, a, b, request);
    if (sscanf(words, "ask %64s %lld %llu %64s %u", a, &x, &request, b, &times) == 5)
        return ask(room, a, x, b, times, request);
    if (sscanf(words, "big %200s %u", a, &times) == 2)
        return big(room, a, times);
    if (sscanf(words, "run %128s %u", a, &times) != 2)
        return ROOM_E_INVALID;
    c->left = times;
    memcpy(c->key, a, sizeof(c->key));
    run(room);
    return 0;
}

static void tell(struct room *room, const void *data, size_t len, const char *words)
{
    static unsigned char out[ROOM_DATA_MAX];
    size_t n = 1;
    out[0] = 0x92;
    if (len) {
        memcpy(out + n, data, len);
        n += len;
    } else {
        out[n++] = 0xC0;
    }
    n += text(out + n, words);
    (void)room_broadcast(room, NULL, NULL, out, n);
}

static int clerk_event(struct room *room, const struct room_event *event)
{
    struct clerk *c = room_user(room);
    char words[256];
    bool of_run = event->kind == ROOM_EVENT_SHARED && event->request == RUN_REQUEST;
    if (event->kind != ROOM_EVENT_SHARED && event->kind != ROOM_EVENT_SERVICE)
        return ROOM_E_UNSUPPORTED;
    c->heard++;
    if (!of_run) {
        snprintf(words, sizeof(words), "%s %s %llu %s %llu", event->kind == ROOM_EVENT_SHARED ? "shared" : "service",
                 event->from, (unsigned long long)event->request, room_error_name(event->code),
                 (unsigned long long)event->token);
        tell(room, event->data, event->len < ROOM_DATA_MAX - 300 ? event->len : 0, words);
        return 0;
    }
    c->open--;
    c->ok += event->code == 0;
    c->unknown += event->code == ROOM_E_UNKNOWN_RESULT;
    c->left += event->code != 0 && event->code != ROOM_E_UNKNOWN_RESULT; /* it was not done */
    run(room);
    if (!c->open) {
        snprintf(words, sizeof(words), "ran %u %u", c->ok, c->unknown);
        tell(room, NULL, 0, words);
    }
    return 0;
}

static int clerk_save(struct room *room)
{
    const struct clerk *c = room_user(room);
    const unsigned counts[] = {c->heard, c->ok, c->unknown, c->left, c->open};
    unsigned char out[200] = {0x96};
    size_t n = 1;
    for (size_t i = 0; i < 5; i++)
        n += number(out + n, counts[i]);
    n += text(out + n, c->key);
    return room_reply(room, out, n);
}

static int clerk_state(struct room *room, const char *player)
{
    return clerk_save(room);
}

static int clerk_restore(struct room *room, const void *state, size_t len)
{
    const unsigned char *p = state;
    if (len < 28 || len - 28 > ROOM_TOPIC_MAX || p[0] != 0x96 || clerk_create(room, NULL, 0) != 0)
        return ROOM_E_BAD_FRAME;
    struct clerk *c = room_user(room);
    unsigned *const counts[] = {&c->heard, &c->ok, &c->unknown, &c->left, &c->open};
    for (size_t i = 0; i < 5; i++) {
        const unsigned char *at = p + 2 + 5 * i;
        *counts[i] = (unsigned)at[0] << 24 | (unsigned)at[1] << 16 | (unsigned)at[2] << 8 | at[3];
    }
    memcpy(c->key, p + 28, len - 28);
    return 0;
}

const struct room_type room_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "clerk",
    .max_players = 16,
    .durability = ROOM_DURABILITY_JOURNAL,
    .create = clerk_create,
    .message = clerk_message,
    .state = clerk_state,
    .dispose = clerk_dispose,
    .save = clerk_save,
    .restore = clerk_restore,
    .event = clerk_event,
};
