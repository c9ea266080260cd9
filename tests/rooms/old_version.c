/* A room type of another API version: the node must refuse it without looking further. */
#include "room/room_type.h"

const struct room_type room_type = {.api_version = ROOM_TYPE_API_VERSION + 1, .name = (const char *)1};
