/*
 * Reading the host: the functions of host.h that change nothing and may be used from inside host_out.
 */
#include "room/journal.h"

#include <string.h>

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
    const struct host_config *c = &r->host->config;
    enum room_durability most = c->journal ? ROOM_DURABILITY_JOURNAL : c->snapshots ? ROOM_DURABILITY_SNAPSHOT
                                                                                    : ROOM_DURABILITY_NONE;
    return types_durability_name(r->def->durability < most ? r->def->durability : most);
}

bool host_room_freezes(const struct room *r)
{
    if (r->def->on_isolation != ON_ISOLATION_DEFAULT)
        return r->def->on_isolation == ON_ISOLATION_FREEZE;
    return strcmp(host_room_durability(r), "none") != 0;
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
    const struct journal *j = r->journal;
    return sizeof(*r) + r->budget.used_bytes + (j ? sizeof(*j) + j->pending.cap + j->held_bytes + j->image.cap : 0);
}

bool host_room_member(const struct room *r, const void **cursor, struct host_member *out)
{
    const struct seat *last = *cursor;
    const struct seat *seat = last ? last->next : r->seats.head;
    bool gone = last && last->gone;
    for (;; seat = seat->next) {
        if (!seat && !gone) {
            gone = true;
            seat = r->seats.gone;
        }
        if (!seat)
            return false;
        if (seat->told || (seat->taken && !seat->who))
            break;
    }
    *cursor = seat;
    *out = (struct host_member){seat->who, seat->player};
    return true;
}

uint64_t host_room_who(const struct room *r, const char *player)
{
    const struct seat *seat = seats_by_player(&r->seats, player);
    return seat ? seat->who : 0;
}

bool host_room_running(const struct room *r)
{
    return r->running && !r->ending;
}

bool host_room_unsaved(const struct room *r)
{
    return r->def->impl->save && r->changes != r->image_changes;
}

bool host_room_waits(const struct room *r)
{
    return journal_holds(r) || (r->journal && r->journal->imaging);
}

bool host_next_due(const struct host *h, struct mono *due)
{
    if (h->heap_len)
        *due = h->heap[0]->due;
    return h->heap_len > 0;
}
