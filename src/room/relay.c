/*
 * The built-in room type `relay`: a message goes to everyone else in the room, with its sender's name. No state.
 */
#include "room/builtin.h"

static int relay_message(struct room *room, const char *player, const void *data, size_t len)
{
    return room_broadcast(room, player, player, data, len);
}

const struct room_type relay_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "relay",
    .max_players = 100,
    .flags = ROOM_TYPE_AUTO_DISPOSE,
    .message = relay_message,
};
