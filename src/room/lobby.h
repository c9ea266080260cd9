/*
 * The cluster's listing as lobby rooms show it (host_lobby_change() in host.h) and the built-in type `lobby`.
 *
 * A member's options are a filter, {"type": T, "has_space": BOOL, "unlocked": BOOL}, all optional; others are refused. The
 * state is an array of rooms; then {"added": ROOM}, {"updated": ROOM} and {"removed": ID} follow in the order of the changes,
 * as the member's filter sees them. ROOM is {"room_id", "type", "server", "players", "max_players", "locked", "metadata"?}.
 * The state holds LOBBY_STATE_ROOMS rooms and LOBBY_STATE_BYTES at the most; an update of a room that was not in it adds it.
 */
#ifndef ROOM_LOBBY_H
#define ROOM_LOBBY_H

#include "room/host.h"

enum { LOBBY_STATE_ROOMS = 1000, LOBBY_STATE_BYTES = 524288 };

struct lobby;

/* NULL: no memory. */
struct lobby *lobby_create(const struct alloc *alloc, unsigned max_entries);
void lobby_destroy(struct lobby *l);
/* A room of any type has ended: forget it if it is a lobby room. */
void lobby_room_ended(struct lobby *l, struct room *r);

#endif
