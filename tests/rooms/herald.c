/*
 * A herald: a room type for tests, which tells other rooms and asks for locks as its players say.
 *
 * A message is a string: "tell ROOM REQUEST", "lock NAME TTL WAIT REQUEST", "renew NAME TOKEN TTL REQUEST", "unlock NAME TOKEN
 * REQUEST", "player PLAYER REQUEST", "subscribe PATTERN", "unsubscribe PATTERN", "publish TOPIC". What is told is the number of messages so far. Whatever comes from elsewhere is told to everybody as a string, "KIND
 * FROM REQUEST CODE TOKEN"; how much came is the room's state, which outlives its node.
 */
#include <stdio.h>
#include <string.h>

#include "room/room_type.h"

struct herald {
    unsigned said, heard;
};

static int herald_create(struct room *room, const void *options, size_t len)
{
    struct herald *h = room_alloc(room, sizeof(*h));
    room_set_user(room, h);
    return h ? 0 : ROOM_E_NO_MEMORY;
}

static void herald_dispose(struct room *room)
{
    room_free(room, room_user(room), sizeof(struct herald));
}

/* An unsigned number of 32 bits. */
static size_t number(unsigned char out[5], unsigned n)
{
    out[0] = 0xCE;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (unsigned char)(n >> (24 - 8 * i));
    return 5;
}

static int herald_message(struct room *room, const char *player, const void *data, size_t len)
{
    struct herald *h = room_user(room);
    const unsigned char *head = data;
    size_t skip = len && head[0] == 0xD9 ? 2 : 1;
    char text[201], about[65];
    unsigned char count[5];
    long long a = 0, b = 0, request = 0;
    if (len <= skip || len - skip > 200)
        return ROOM_E_INVALID;
    memcpy(text, head + skip, len - skip);
    text[len - skip] = '\0';
    h->said++;
    if (sscanf(text, "tell %64s %lld", about, &request) == 2)
        return room_tell(room, about, count, number(count, h->said), (uint64_t)request);
    if (sscanf(text, "lock %64s %lld %lld %lld", about, &a, &b, &request) == 4)
        return room_lock_acquire(room, about, a, b, (uint64_t)request);
    if (sscanf(text, "renew %64s %lld %lld %lld", about, &a, &b, &request) == 4)
        return room_lock_renew(room, about, (uint64_t)a, b, (uint64_t)request);
    if (sscanf(text, "unlock %64s %lld %lld", about, &a, &request) == 3)
        return room_lock_release(room, about, (uint64_t)a, (uint64_t)request);
    if (sscanf(text, "player %64s %lld", about, &request) == 2)
        return room_tell_player(room, about, count, number(count, h->said), (uint64_t)request);
    if (sscanf(text, "subscribe %64s", about) == 1)
        return room_subscribe(room, about);
    if (sscanf(text, "unsubscribe %64s", about) == 1)
        return room_unsubscribe(room, about);
    if (sscanf(text, "publish %64s", about) == 1)
        return room_publish(room, about, count, number(count, h->said));
    return ROOM_E_INVALID;
}

static int herald_event(struct room *room, const struct room_event *event)
{
    static const char *const kinds[] = {"", "send", "tell", "told", "lock", "player", "topic"};
    struct herald *h = room_user(room);
    char text[256];
    unsigned char count[5];
    int n = snprintf(text + 2, sizeof(text) - 2, "%s %s %llu %s %llu", kinds[event->kind], event->from ? event->from : "-",
                     (unsigned long long)event->request, room_error_name(event->code), (unsigned long long)event->token);
    text[0] = (char)0xD9;
    text[1] = (char)n;
    h->heard++;
    (void)room_broadcast(room, NULL, NULL, text, (size_t)n + 2);
    if (event->kind != ROOM_EVENT_SEND && event->kind != ROOM_EVENT_TELL)
        return 0;
    return room_reply(room, count, number(count, h->heard));
}

static int herald_save(struct room *room)
{
    const struct herald *h = room_user(room);
    unsigned char pair[11] = {0x92};
    number(pair + 1, h->said);
    number(pair + 6, h->heard);
    return room_reply(room, pair, sizeof(pair));
}

static int herald_state(struct room *room, const char *player)
{
    return herald_save(room);
}

static int herald_restore(struct room *room, const void *state, size_t len)
{
    const unsigned char *p = state;
    if (len != 11 || herald_create(room, NULL, 0) != 0)
        return ROOM_E_BAD_FRAME;
    struct herald *h = room_user(room);
    h->said = (unsigned)p[2] << 24 | (unsigned)p[3] << 16 | (unsigned)p[4] << 8 | p[5];
    h->heard = (unsigned)p[7] << 24 | (unsigned)p[8] << 16 | (unsigned)p[9] << 8 | p[10];
    return 0;
}

const struct room_type room_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "herald",
    .max_players = 8,
    .durability = ROOM_DURABILITY_JOURNAL,
    .create = herald_create,
    .message = herald_message,
    .state = herald_state,
    .dispose = herald_dispose,
    .save = herald_save,
    .restore = herald_restore,
    .event = herald_event,
};
