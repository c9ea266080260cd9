/*
 * Reading the host: the functions of host.h that change nothing and may be used from inside host_out.
 */
#include "room/room.h"

const struct room *host_find(const struct host *h, const char *id)
{
    return id ? map_get(&h->rooms, id) : NULL;
}

unsigned host_room_count(const struct host *h)
{
    return (unsigned)h->rooms.count;
}

uint64_t host_player_count(const struct host *h)
{
    return h->players;
}

const struct room *host_room_next(const struct host *h, const struct room *room)
{
    return room ? room->next : h->head;
}

const char *host_room_id(const struct room *r)
{
    return r->id;
}

const struct room_type_def *host_room_type(const struct room *r)
{
    return r->def;
}

uint64_t host_room_epoch(const struct room *r)
{
    return r->epoch;
}

unsigned host_room_players(const struct room *r)
{
    return r->seats.taken;
}

unsigned host_room_seats(const struct room *r)
{
    return r->seats.taken + r->seats.reserved;
}

uint64_t host_room_seats_version(const struct room *r)
{
    return r->seats.version;
}

unsigned host_room_max_players(const struct room *r)
{
    return r->seats.max;
}

bool host_room_locked(const struct room *r)
{
    return r->locked;
}

bool host_room_private(const struct room *r)
{
    return r->private_room;
}

const char *host_room_durability(const struct room *r)
{
    (void)r;
    return types_durability_name(ROOM_DURABILITY_NONE);
}

struct wall host_room_created(const struct room *r)
{
    return r->created;
}

const void *host_room_metadata(const struct room *r, size_t *len)
{
    *len = r->metadata_len;
    return r->metadata;
}

uint32_t host_room_metadata_version(const struct room *r)
{
    return r->metadata_version;
}

size_t host_room_bytes(const struct room *r)
{
    return sizeof(*r) + r->budget.used_bytes;
}

bool host_room_member(const struct room *r, const void **cursor, struct host_member *out)
{
    const struct seat *last = *cursor;
    const struct seat *seat = last ? last->next : r->seats.head;
    while (seat && !seat->who)
        seat = seat->next;
    if (!seat)
        return false;
    *cursor = seat;
    *out = (struct host_member){seat->who, seat->player};
    return true;
}

uint64_t host_room_who(const struct room *r, const char *player)
{
    const struct seat *seat = seats_by_player(&r->seats, player);
    return seat ? seat->who : 0;
}

bool host_next_due(const struct host *h, struct mono *due)
{
    if (h->heap_len)
        *due = h->heap[0]->due;
    return h->heap_len > 0;
}
