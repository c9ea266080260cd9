/* See lobby.h. A change is encoded once and sent to every member whose filter it touches. */
#include "room/lobby.h"

#include <string.h>

#include "room/builtin.h"
#include "room/room.h"
#include "wire/mp_read.h"
#include "wire/mp_write.h"

enum { ENTRY_BYTES = 512 + ROOM_METADATA_MAX, ENTRY_FIXED_BYTES = 272 /* three ids, numbers and names at their longest */ };
enum change { ADDED, UPDATED, REMOVED, CHANGES };

struct lobby {
    const struct alloc *alloc;
    struct map entries; /* room id -> struct listed */
    struct room *rooms; /* of the type lobby */
    unsigned max_entries;
    struct buf messages[CHANGES];
    struct buf scratch;
};

struct listed { /* one block: there is one for every room of the cluster */
    unsigned players, seats, max_players;
    uint16_t metadata_len, size;
    bool locked;
    const char *type, *server; /* after the id; server may be empty */
    const uint8_t *metadata;
    char id[];
};

_Static_assert(sizeof(struct listed) + 3 * ID_SIZE + ROOM_METADATA_MAX <= UINT16_MAX, "the size fits its field");

struct filter {
    struct id type; /* empty: any */
    bool has_space, unlocked;
};

struct lobby *lobby_create(const struct alloc *alloc, unsigned max_entries)
{
    struct lobby *l = alloc_get(alloc, sizeof(*l));
    if (!l)
        return NULL;
    l->alloc = alloc;
    l->max_entries = max_entries;
    map_init(&l->entries, alloc);
    for (int i = 0; i < CHANGES; i++)
        buf_init(&l->messages[i], alloc, ENTRY_BYTES);
    buf_init(&l->scratch, alloc, ENTRY_BYTES);
    return l;
}

static void free_listed(struct lobby *l, struct listed *e)
{
    if (e)
        alloc_put(l->alloc, e, e->size);
}

void lobby_destroy(struct lobby *l)
{
    if (!l)
        return;
    for (struct map_iter it = map_first(&l->entries); it.value; map_next(&it))
        free_listed(l, it.value);
    map_deinit(&l->entries);
    for (int i = 0; i < CHANGES; i++)
        buf_deinit(&l->messages[i]);
    buf_deinit(&l->scratch);
    alloc_put(l->alloc, l, sizeof(*l));
}

void lobby_room_ended(struct lobby *l, struct room *r)
{
    for (struct room **at = &l->rooms; *at; at = &(*at)->lobby_next)
        if (*at == r) {
            *at = r->lobby_next;
            return;
        }
}

static void write_room(struct buf *out, const struct listed *e)
{
    mp_write_map(out, 5 + (e->server[0] != 0) + (e->metadata_len != 0));
    mp_write_text(out, "room_id");
    mp_write_text(out, e->id);
    mp_write_text(out, "type");
    mp_write_text(out, e->type);
    if (e->server[0]) {
        mp_write_text(out, "server");
        mp_write_text(out, e->server);
    }
    mp_write_text(out, "players");
    mp_write_uint(out, e->players);
    mp_write_text(out, "max_players");
    mp_write_uint(out, e->max_players);
    mp_write_text(out, "locked");
    mp_write_bool(out, e->locked);
    if (e->metadata_len) {
        mp_write_text(out, "metadata");
        mp_write_raw(out, (struct wire_raw){e->metadata, e->metadata_len});
    }
}

/* All three messages of a change; `e` is the entry as it is, or was when it goes. */
static bool write_messages(struct lobby *l, const struct listed *e)
{
    static const char *const words[CHANGES] = {"added", "updated", "removed"};
    bool ok = true;
    for (int i = 0; i < CHANGES; i++) {
        struct buf *out = &l->messages[i];
        buf_reset(out);
        mp_write_map(out, 1);
        mp_write_text(out, words[i]);
        if (i == REMOVED)
            mp_write_text(out, e->id);
        else
            write_room(out, e);
        ok = ok && !out->failed;
    }
    return ok;
}

static bool matches(const struct filter *f, const struct listed *e)
{
    if (!e || !f)
        return e != NULL;
    return (!f->type.s[0] || strcmp(f->type.s, e->type) == 0) && (!f->has_space || e->seats < e->max_players) &&
           (!f->unlocked || !e->locked);
}

static void tell_member(struct lobby *l, struct room *r, const char *player, bool was, bool is)
{
    if (!was && !is)
        return;
    const struct buf *msg = &l->messages[!was ? ADDED : is ? UPDATED : REMOVED];
    room_send(r, player, msg->data, msg->len);
}

static void tell(struct lobby *l, const struct listed *old, const struct listed *new)
{
    for (struct room *r = l->rooms; r; r = r->lobby_next) {
        const struct map *filters = room_user(r);
        struct host_member m;
        const void *cursor = NULL;
        if (filters->count == 0) {
            const struct buf *msg = &l->messages[!old ? ADDED : new ? UPDATED : REMOVED];
            room_broadcast(r, NULL, NULL, msg->data, msg->len);
            continue;
        }
        while (host_room_member(r, &cursor, &m)) {
            const struct filter *f = map_get(filters, m.player);
            tell_member(l, r, m.player, matches(f, old), matches(f, new));
        }
    }
}

static bool same(const struct listed *a, const struct listed *b)
{
    return strcmp(a->type, b->type) == 0 && strcmp(a->server, b->server) == 0 && a->players == b->players &&
           a->seats == b->seats && a->max_players == b->max_players && a->locked == b->locked &&
           a->metadata_len == b->metadata_len && memcmp(a->metadata, b->metadata, a->metadata_len) == 0;
}

static const char *append(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *start = memcpy(*at, text, size);
    *at += size;
    return start;
}

static int make_listed(struct lobby *l, const struct lobby_entry *in, struct listed **out)
{
    const char *server = in->server ? in->server : "";
    if (in->metadata_len > ROOM_METADATA_MAX || !in->type || !id_valid(in->type) || (*server && !id_valid(server)) ||
        (in->metadata_len && mp_check(in->metadata, in->metadata_len, WIRE_VALUE_DEPTH, NULL) != 0))
        return ROOM_E_INVALID;
    size_t size = sizeof(struct listed) + strlen(in->id) + strlen(in->type) + strlen(server) + 3 + in->metadata_len;
    struct listed *e = alloc_get(l->alloc, size);
    if (!e)
        return ROOM_E_NO_MEMORY;
    char *at = e->id;
    append(&at, in->id);
    e->type = append(&at, in->type);
    e->server = append(&at, server);
    e->metadata = (const uint8_t *)at;
    if (in->metadata_len)
        memcpy(at, in->metadata, in->metadata_len);
    e->metadata_len = (uint16_t)in->metadata_len;
    e->size = (uint16_t)size;
    e->players = in->players;
    e->seats = in->seats;
    e->max_players = in->max_players;
    e->locked = in->locked;
    *out = e;
    return 0;
}

static int change(struct lobby *l, const struct lobby_entry *in, struct listed *old)
{
    struct listed *new = NULL;
    int rc = make_listed(l, in, &new);
    if (rc)
        return rc;
    if (!old && l->entries.count >= l->max_entries)
        rc = ROOM_E_FULL;
    else if (l->rooms && !write_messages(l, new))
        rc = ROOM_E_NO_MEMORY;
    else if (!(old && same(old, new)) && !map_put_borrowed(&l->entries, new->id, new))
        rc = ROOM_E_NO_MEMORY;
    if (rc || (old && same(old, new))) {
        free_listed(l, new);
        return rc;
    }
    tell(l, old, new);
    free_listed(l, old);
    return 0;
}

int host_lobby_change(struct host *h, const struct lobby_entry *entry, struct mono now)
{
    struct lobby *l = h->lobby;
    h->now = now;
    if (!entry->id || !id_valid(entry->id))
        return ROOM_E_INVALID;
    struct listed *old = map_get(&l->entries, entry->id);
    if (!entry->removed)
        return change(l, entry, old);
    if (!old)
        return 0;
    if (l->rooms && !write_messages(l, old))
        return ROOM_E_NO_MEMORY;
    map_del(&l->entries, entry->id);
    tell(l, old, NULL);
    free_listed(l, old);
    return 0;
}

void host_lobby_keep(struct host *h, bool (*listed)(void *arg, const char *id), void *arg, struct mono now)
{
    for (struct map_iter it = map_first(&h->lobby->entries); it.value; map_next(&it)) {
        struct lobby_entry gone = {.id = it.key, .removed = true};
        if (!listed(arg, it.key))
            (void)host_lobby_change(h, &gone, now); /* no memory to tell it: the next listing finds it again */
    }
}

static int read_filter(const void *options, size_t len, struct filter *f)
{
    struct mp_read r;
    struct mp_token t, key;
    *f = (struct filter){0};
    mp_read_init(&r, options, len);
    if (mp_next(&r, &t, NULL) != 0 || t.type != MP_MAP)
        return ROOM_E_INVALID;
    for (uint32_t n = t.count; n > 0; n--) {
        if (mp_next(&r, &key, NULL) != 0 || key.type != MP_STR || mp_next(&r, &t, NULL) != 0)
            return ROOM_E_INVALID;
        struct wire_str word = {(const char *)key.data, key.len};
        if (wire_str_is(word, "type") && t.type == MP_STR) {
            if (!id_set_n(&f->type, (const char *)t.data, t.len))
                return ROOM_E_INVALID;
        } else if (wire_str_is(word, "has_space") && t.type == MP_BOOL) {
            f->has_space = t.b;
        } else if (wire_str_is(word, "unlocked") && t.type == MP_BOOL) {
            f->unlocked = t.b;
        } else {
            return ROOM_E_INVALID;
        }
    }
    return 0;
}

/* The room's user is its map of filters: player -> struct filter, without those that want everything. */
static int lobby_begin(struct room *room, const void *options, size_t len)
{
    struct map *filters = room_alloc(room, sizeof(*filters));
    if (!filters)
        return ROOM_E_NO_MEMORY;
    map_init(filters, &room->budget.alloc);
    room_set_user(room, filters);
    room->lobby_next = room->host->lobby->rooms;
    room->host->lobby->rooms = room;
    return 0;
}

static int lobby_join(struct room *room, const char *player, const void *options, size_t len)
{
    struct filter wanted, *f;
    if (len == 0)
        return 0;
    int rc = read_filter(options, len, &wanted);
    if (rc || (!wanted.type.s[0] && !wanted.has_space && !wanted.unlocked))
        return rc;
    f = room_alloc(room, sizeof(*f));
    if (!f)
        return ROOM_E_NO_MEMORY;
    *f = wanted;
    if (!map_put(room_user(room), player, f)) {
        room_free(room, f, sizeof(*f));
        return ROOM_E_NO_MEMORY;
    }
    return 0;
}

static void lobby_leave(struct room *room, const char *player, const char *reason)
{
    room_free(room, map_del(room_user(room), player), sizeof(struct filter));
}

/* A lobby only tells. */
static int lobby_message(struct room *room, const char *player, const void *data, size_t len)
{
    return ROOM_E_UNSUPPORTED;
}

static int lobby_state(struct room *room, const char *player)
{
    struct lobby *l = room->host->lobby;
    const struct filter *f = map_get(room_user(room), player);
    uint32_t count = 0;
    int rc;
    size_t bytes = 0;
    for (struct map_iter it = map_first(&l->entries); it.value && count < LOBBY_STATE_ROOMS; map_next(&it)) {
        if (!matches(f, it.value))
            continue;
        bytes += ENTRY_FIXED_BYTES + ((const struct listed *)it.value)->metadata_len;
        if (bytes > LOBBY_STATE_BYTES)
            break;
        count++;
    }
    buf_reset(&l->scratch);
    mp_write_array(&l->scratch, count);
    for (struct map_iter it = map_first(&l->entries); it.value && count > 0; map_next(&it)) {
        if (!matches(f, it.value))
            continue;
        write_room(&l->scratch, it.value);
        count--;
        if (l->scratch.failed || (rc = room_reply(room, l->scratch.data, l->scratch.len)) == ROOM_E_NO_MEMORY)
            return ROOM_E_NO_MEMORY;
        if (rc)
            return rc;
        buf_reset(&l->scratch);
    }
    if (l->scratch.failed)
        return ROOM_E_NO_MEMORY;
    return room_reply(room, l->scratch.data, l->scratch.len);
}

static void lobby_dispose(struct room *room)
{
    struct map *filters = room_user(room);
    for (struct map_iter it = map_first(filters); it.value; map_next(&it))
        room_free(room, it.value, sizeof(struct filter));
    map_deinit(filters);
    room_free(room, filters, sizeof(*filters));
}

const struct room_type lobby_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "lobby",
    .max_players = ROOM_TYPE_MAX_PLAYERS,
    .flags = ROOM_TYPE_AUTO_DISPOSE,
    .create = lobby_begin,
    .join = lobby_join,
    .leave = lobby_leave,
    .message = lobby_message,
    .state = lobby_state,
    .dispose = lobby_dispose,
};
