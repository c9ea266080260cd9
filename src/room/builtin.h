/*
 * The room types every node has. Each is one file, and all but lobby use nothing but room/room_type.h and the msgpack
 * reader and writer.
 */
#ifndef ROOM_BUILTIN_H
#define ROOM_BUILTIN_H

#include "room/room_type.h"

extern const struct room_type relay_type;
extern const struct room_type state_type;
extern const struct room_type counter_type;
extern const struct room_type lobby_type;

#endif
