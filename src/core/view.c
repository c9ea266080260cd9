/* See view.h. */
#include "core/view.h"

#include <string.h>

void view_init(struct view *v, const struct alloc *alloc)
{
    *v = (struct view){.alloc = alloc};
    map_init(&v->servers, alloc);
    map_init(&v->rooms, alloc);
    map_init(&v->types, alloc);
}

static void free_values(struct map *m, size_t size)
{
    for (struct map_iter it = map_first(m); it.value; map_next(&it))
        alloc_put(m->alloc, it.value, size);
    map_deinit(m);
}

void view_deinit(struct view *v)
{
    if (!v->alloc)
        return;
    free_values(&v->servers, sizeof(struct view_server));
    free_values(&v->rooms, sizeof(struct view_room));
    free_values(&v->types, sizeof(struct view_type));
    *v = (struct view){0};
}

struct view_server *view_server(const struct view *v, const char *id)
{
    return map_get(&v->servers, id);
}

struct view_room *view_room(const struct view *v, const char *id)
{
    return map_get(&v->rooms, id);
}

static void *add(struct map *m, const char *key, size_t size)
{
    void *value = alloc_get(m->alloc, size);
    if (value && !map_put(m, key, value)) {
        alloc_put(m->alloc, value, size);
        return NULL;
    }
    return value;
}

static struct view_room *add_room(struct view *v, const struct id *id)
{
    struct view_room *r = alloc_get(v->alloc, sizeof(*r));
    if (!r)
        return NULL;
    r->info.id = *id;
    if (map_put_borrowed(&v->rooms, r->info.id.s, r))
        return r;
    alloc_put(v->alloc, r, sizeof(*r));
    return NULL;
}

bool view_server_usable(const struct view_server *s)
{
    return s && s->info.status != SERVER_DOWN && !s->suspect;
}

static bool room_is_open(const struct view *v, const struct view_room *r)
{
    return r->info.state == ROOM_RUNNING && !r->hidden && !r->info.locked && !r->info.is_private &&
           r->info.seats + r->in_flight < r->info.max_players && view_server_usable(view_server(v, r->info.owner.s));
}

static void unlink_open(struct view_room *r)
{
    struct view_type *t = r->type;
    *(r->open_prev ? &r->open_prev->open_next : &t->open_head) = r->open_next;
    *(r->open_next ? &r->open_next->open_prev : &t->open_tail) = r->open_prev;
    r->open_prev = r->open_next = NULL;
    r->open = false;
}

void view_reindex(struct view *v, struct view_room *r)
{
    bool open = room_is_open(v, r);
    if (open == r->open)
        return;
    if (!open) {
        unlink_open(r);
        return;
    }
    struct view_type *t = r->type;
    r->open_prev = t->open_tail;
    *(t->open_tail ? &t->open_tail->open_next : &t->open_head) = r;
    t->open_tail = r;
    r->open = true;
}

void view_reindex_server(struct view *v, const char *server)
{
    for (struct map_iter it = map_first(&v->rooms); it.value; map_next(&it)) {
        struct view_room *r = it.value;
        if (strcmp(r->info.owner.s, server) == 0)
            view_reindex(v, r);
    }
}

static struct view_type *type_of(struct view *v, const struct id *name)
{
    struct view_type *t = map_get(&v->types, name->s);
    if (!t && (t = add(&v->types, name->s, sizeof(*t))))
        t->name = *name;
    return t;
}

struct view_server *view_put_server(struct view *v, const struct server_info *info, uint64_t revision)
{
    struct view_server *s = view_server(v, info->id.s);
    if (!s && !(s = add(&v->servers, info->id.s, sizeof(*s))))
        return NULL;
    s->sweep = v->sweep_servers;
    if (revision < s->revision)
        return s;
    bool usable = view_server_usable(s), fresh = s->info.status == 0;
    if (strcmp(s->info.boot, info->boot) != 0) {
        s->suspect = false;
        s->handed_out = 0;
    }
    s->info = *info;
    s->revision = revision;
    if (fresh || usable != view_server_usable(s))
        view_reindex_server(v, info->id.s);
    return s;
}

void view_del_server(struct view *v, const char *id, uint64_t revision)
{
    struct view_server *s = view_server(v, id);
    if (!s || (revision && revision < s->revision))
        return;
    struct id gone = s->info.id; /* `id` may be the table's own key */
    map_del(&v->servers, id);
    alloc_put(v->alloc, s, sizeof(*s));
    view_reindex_server(v, gone.s);
}

static void heard(struct view *v, uint64_t revision)
{
    v->rooms_revision = revision > v->rooms_revision ? revision : v->rooms_revision;
}

struct view_room *view_put_room(struct view *v, const struct room_info *info, uint64_t revision)
{
    struct view_room *r = view_room(v, info->id.s);
    struct view_type *t = type_of(v, &info->type);
    heard(v, revision);
    if (!t || (!r && !(r = add_room(v, &info->id))))
        return NULL;
    r->sweep = v->sweep_rooms;
    if (r->type && (revision < r->revision || info->epoch < r->info.epoch))
        return r;
    if (r->type != t) {
        if (r->open)
            unlink_open(r);
        if (r->type)
            r->type->rooms--;
        r->type = t;
        t->rooms++;
    }
    /* The owner's own answers may be ahead of what it has listed. */
    bool ahead = r->info.epoch == info->epoch && r->info.seats_version > info->seats_version;
    uint32_t seats = r->info.seats;
    uint64_t seats_version = r->info.seats_version;
    r->info = *info;
    if (ahead) {
        r->info.seats = seats;
        r->info.seats_version = seats_version;
    }
    r->revision = revision;
    r->hidden = r->unknown = false;
    view_reindex(v, r);
    return r;
}

bool view_keep(struct view *v, bool rooms, const char *id, uint64_t revision)
{
    struct view_server *s = rooms ? NULL : view_server(v, id);
    struct view_room *r = rooms ? view_room(v, id) : NULL;
    if (s && s->revision >= revision) {
        s->sweep = v->sweep_servers;
        return true;
    }
    if (!r || r->revision < revision)
        return false;
    r->sweep = v->sweep_rooms;
    if (r->hidden || r->unknown) {
        r->hidden = r->unknown = false; /* as the entry itself would */
        view_reindex(v, r);
    }
    return true;
}

void view_del_room(struct view *v, const char *id, uint64_t revision)
{
    struct view_room *r = view_room(v, id);
    heard(v, revision);
    if (!r || (revision && revision < r->revision))
        return;
    if (r->open)
        unlink_open(r);
    struct view_type *t = r->type;
    map_del(&v->rooms, id);
    alloc_put(v->alloc, r, sizeof(*r));
    if (t && --t->rooms == 0) {
        map_del(&v->types, t->name.s);
        alloc_put(v->alloc, t, sizeof(*t));
    }
}

void view_seats(struct view *v, struct view_room *r, uint32_t seats, uint64_t seats_version, uint32_t max_players)
{
    if (seats_version >= r->info.seats_version) {
        r->info.seats = seats;
        r->info.seats_version = seats_version;
        r->info.max_players = max_players;
    }
    view_reindex(v, r);
}

void view_hide(struct view *v, struct view_room *r, bool unknown)
{
    struct view_server *s = view_server(v, r->info.owner.s);
    r->hidden = true;
    r->unknown |= unknown;
    if (s)
        s->hides = true;
    view_reindex(v, r);
}

void view_unhide(struct view *v, struct view_server *s)
{
    if (!s->hides)
        return;
    s->hides = false;
    for (struct map_iter it = map_first(&v->rooms); it.value; map_next(&it)) {
        struct view_room *r = it.value;
        if (r->hidden && !r->unknown && strcmp(r->info.owner.s, s->info.id.s) == 0) {
            r->hidden = false;
            view_reindex(v, r);
        }
    }
}

void view_sync_begin(struct view *v, bool rooms)
{
    if (rooms)
        v->sweep_rooms++;
    else
        v->sweep_servers++;
}

void view_sync_end(struct view *v, bool rooms)
{
    struct map *m = rooms ? &v->rooms : &v->servers;
    for (struct map_iter it = map_first(m); it.value; map_next(&it)) {
        if (rooms && ((struct view_room *)it.value)->sweep != v->sweep_rooms)
            view_del_room(v, it.key, 0);
        else if (!rooms && ((struct view_server *)it.value)->sweep != v->sweep_servers &&
                 ((struct view_server *)it.value)->revision)
            view_del_server(v, it.key, 0);
    }
    *(rooms ? &v->rooms_synced : &v->servers_synced) = true;
}

struct view_room *view_open_room(const struct view *v, const char *type)
{
    struct view_type *t = map_get(&v->types, type);
    return t ? t->open_head : NULL;
}

uint64_t view_rank(const char *subject, const char *candidate)
{
    return id_hash(candidate, id_hash(subject, 0x726f6f6d64u));
}
