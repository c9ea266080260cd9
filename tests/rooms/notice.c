/*
 * A notice board: a room type for tests, whose messages become what the room shows in listings.
 *
 * A message of at most ROOM_METADATA_MAX bytes is the new metadata, nil takes it away. "close" as a message ends the room.
 */
#include <string.h>

#include "room/room_type.h"

static int notice_message(struct room *room, const char *player, const void *data, size_t len)
{
    if (len == 6 && memcmp(data, "\xa5" "close", 6) == 0) {
        room_close(room, "taken_down");
        return 0;
    }
    int nil = len == 1 && *(const unsigned char *)data == 0xC0;
    return room_set_metadata(room, data, nil ? 0 : len);
}

const struct room_type room_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "notice",
    .max_players = 8,
    .message = notice_message,
};
