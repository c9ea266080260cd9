/*
 * A room that kills whoever brings it back: a room type for tests.
 */
#include <stdlib.h>

#include "room/room_type.h"

static int poison_save(struct room *room)
{
    return room_reply(room, "\xc0", 1);
}

static int poison_restore(struct room *room, const void *state, size_t len)
{
    (void)room;
    (void)state;
    (void)len;
    abort();
}

const struct room_type room_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "poison",
    .max_players = 8,
    .durability = ROOM_DURABILITY_SNAPSHOT,
    .save = poison_save,
    .restore = poison_restore,
};
