/*
 * The built-in room type `relay`: a message goes to everyone else in the room, with its sender's name. No state.
 */
#include <stdbool.h>

#include "room/builtin.h"

static int relay_message(struct room *room, const char *player, const void *data, size_t len)
{
    return room_broadcast(room, player, player, data, len);
}

static int relay_event(struct room *room, const struct room_event *event)
{
    bool message = event->kind == ROOM_EVENT_SEND || event->kind == ROOM_EVENT_TELL;
    return message ? room_broadcast(room, NULL, NULL, event->data, event->len) : 0;
}

static int relay_save(struct room *room)
{
    return room_reply(room, "\xc0", 1);
}

static int relay_restore(struct room *room, const void *state, size_t len)
{
    return 0;
}

const struct room_type relay_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "relay",
    .max_players = 100,
    .flags = ROOM_TYPE_AUTO_DISPOSE,
    .message = relay_message,
    .save = relay_save,
    .restore = relay_restore,
    .event = relay_event,
};
