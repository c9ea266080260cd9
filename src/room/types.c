/* See types.h. */
#include "room/types.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "room/builtin.h"

struct entry {
    struct room_type_def def;
    void *library; /* from dlopen(), or NULL */
    bool builtin;  /* may be replaced by a variant of its own name */
};

struct types {
    const struct alloc *alloc;
    size_t count;
    struct entry *entries[TYPES_MAX];
};

static struct entry *find(const struct types *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->entries[i]->def.name.s, name) == 0)
            return t->entries[i];
    return NULL;
}

const struct room_type_def *types_find(const struct types *t, const char *name)
{
    const struct entry *e = find(t, name);
    return e ? &e->def : NULL;
}

const struct room_type_def *types_at(const struct types *t, size_t i)
{
    return i < t->count ? &t->entries[i]->def : NULL;
}

static const char *const durabilities[] = {"none", "snapshot", "journal"};

const char *types_durability_name(enum room_durability durability)
{
    return durabilities[durability];
}

static int add_entry(struct types *t, const struct room_type_def *def, void *library, struct err_detail *detail)
{
    if (find(t, def->name.s))
        return err_set(detail, ROOM_E_EXISTS, "room type '%s' exists already", def->name.s);
    if (t->count >= TYPES_MAX)
        return err_set(detail, ROOM_E_FULL, "no place for room type '%s': %d types are the limit", def->name.s,
                       TYPES_MAX);
    struct entry *e = alloc_get(t->alloc, sizeof(*e));
    if (!e)
        return err_set(detail, ROOM_E_NO_MEMORY, "no memory for room type '%s'", def->name.s);
    e->def = *def;
    e->library = library;
    t->entries[t->count++] = e;
    return 0;
}

/* What is to survive its node must be able to save itself. */
static bool can_last(const struct room_type_def *def)
{
    return def->durability == ROOM_DURABILITY_NONE || (def->impl->save && def->impl->restore);
}

/* `from` says where the type comes from, for the text. */
static int define(const struct room_type *impl, const char *from, struct room_type_def *out, struct err_detail *detail)
{
    /* The version comes first in every version: nothing else of a foreign struct may be looked at. */
    if (impl->api_version < ROOM_TYPE_API_OLDEST || impl->api_version > ROOM_TYPE_API_VERSION)
        return err_set(detail, ROOM_E_INVALID,
                       "cannot load room type '%s': it was built for version %u of room/room_type.h, this is version %u; "
                       "build it again",
                       from, impl->api_version, ROOM_TYPE_API_VERSION);
    if (!impl->name || !id_set(&out->name, impl->name))
        return err_set(detail, ROOM_E_INVALID, "cannot load room type '%s': its name '%.80s' is not valid", from,
                       impl->name ? impl->name : "");
    if (impl->max_players < 1 || impl->max_players > ROOM_TYPE_MAX_PLAYERS)
        return err_set(detail, ROOM_E_INVALID, "cannot load room type '%s': max_players %u is not in 1..%d", from,
                       impl->max_players, ROOM_TYPE_MAX_PLAYERS);
    if (impl->tick_ms > ROOM_TYPE_MAX_TICK_MS)
        return err_set(detail, ROOM_E_INVALID, "cannot load room type '%s': tick_ms %u is above %d", from,
                       impl->tick_ms, ROOM_TYPE_MAX_TICK_MS);
    if ((unsigned)impl->durability > ROOM_DURABILITY_JOURNAL ||
        impl->flags & ~(unsigned)(ROOM_TYPE_PRIVATE | ROOM_TYPE_AUTO_DISPOSE))
        return err_set(detail, ROOM_E_INVALID, "cannot load room type '%s': its durability or flags are unknown", from);
    out->impl = impl;
    out->max_players = impl->max_players;
    out->tick_ms = impl->tick_ms;
    out->durability = impl->durability;
    out->private_room = impl->flags & ROOM_TYPE_PRIVATE;
    out->auto_dispose = impl->flags & ROOM_TYPE_AUTO_DISPOSE;
    out->failover = true;
    out->on_isolation = ON_ISOLATION_DEFAULT;
    if (!can_last(out))
        return err_set(detail, ROOM_E_INVALID,
                       "cannot load room type '%s': its durability is %s, but it has not both save() and restore()", from,
                       durabilities[out->durability]);
    return 0;
}

int types_add(struct types *t, const struct room_type *impl, struct err_detail *detail)
{
    struct room_type_def def;
    int rc = define(impl, impl->name ? impl->name : "", &def, detail);
    return rc ? rc : add_entry(t, &def, NULL, detail);
}

int types_load(struct types *t, const char *path, struct err_detail *detail)
{
    struct room_type_def def;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(detail, ROOM_E_INVALID, "cannot load room type '%s': %s", path, dlerror());
    const struct room_type *impl = dlsym(library, "room_type");
    int rc = impl ? define(impl, path, &def, detail)
                  : err_set(detail, ROOM_E_INVALID, "cannot load room type '%s': symbol 'room_type' not found", path);
    if (rc == 0)
        rc = add_entry(t, &def, library, detail);
    if (rc)
        dlclose(library);
    return rc;
}

static int read_number(const char *key, const char *text, unsigned min, unsigned max, unsigned *out,
                       struct err_detail *detail)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n < min || n > max)
        return err_set(detail, ROOM_E_INVALID, "%s='%s' is not a number in %u..%u", key, text, min, max);
    *out = (unsigned)n;
    return 0;
}

static int read_bool(const char *key, const char *text, bool *out, struct err_detail *detail)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return err_set(detail, ROOM_E_INVALID, "%s='%s' is neither true nor false", key, text);
    *out = *text == 't';
    return 0;
}

static int read_durability(const char *text, enum room_durability *out, struct err_detail *detail)
{
    for (size_t i = 0; i < sizeof(durabilities) / sizeof(durabilities[0]); i++)
        if (strcmp(text, durabilities[i]) == 0) {
            *out = (enum room_durability)i;
            return 0;
        }
    return err_set(detail, ROOM_E_INVALID, "durability='%s' is none of none, snapshot, journal", text);
}

static int read_isolation(const char *text, enum on_isolation *out, struct err_detail *detail)
{
    if (strcmp(text, "freeze") != 0 && strcmp(text, "play") != 0)
        return err_set(detail, ROOM_E_INVALID, "on_isolation='%s' is neither freeze nor play", text);
    *out = *text == 'f' ? ON_ISOLATION_FREEZE : ON_ISOLATION_PLAY;
    return 0;
}

static int read_option(struct room_type_def *def, char *option, struct err_detail *detail)
{
    char *text = strchr(option, '=');
    if (!text)
        return err_set(detail, ROOM_E_INVALID, "option '%s' has no value", option);
    *text++ = '\0';
    if (strcmp(option, "max_players") == 0)
        return read_number(option, text, 1, ROOM_TYPE_MAX_PLAYERS, &def->max_players, detail);
    if (strcmp(option, "tick_ms") == 0)
        return read_number(option, text, 0, ROOM_TYPE_MAX_TICK_MS, &def->tick_ms, detail);
    if (strcmp(option, "durability") == 0)
        return read_durability(text, &def->durability, detail);
    if (strcmp(option, "private") == 0)
        return read_bool(option, text, &def->private_room, detail);
    if (strcmp(option, "auto_dispose") == 0)
        return read_bool(option, text, &def->auto_dispose, detail);
    if (strcmp(option, "failover") == 0)
        return read_bool(option, text, &def->failover, detail);
    if (strcmp(option, "on_isolation") == 0)
        return read_isolation(text, &def->on_isolation, detail);
    return err_set(detail, ROOM_E_INVALID,
                   "unknown option '%s'; known are max_players, tick_ms, durability, private, auto_dispose, failover, "
                   "on_isolation", option);
}

/* `text` is the caller's copy and is cut up. */
static int variant(struct types *t, char *text, struct err_detail *detail)
{
    char *rest = strchr(text, '='), *base, *option;
    struct room_type_def def;
    if (!rest)
        return err_set(detail, ROOM_E_INVALID, "'%s' is not NAME=TYPE[,option=value...]", text);
    *rest++ = '\0';
    base = strsep(&rest, ",");
    struct entry *of = find(t, base), *own = find(t, text);
    if (!of)
        return err_set(detail, ROOM_E_UNKNOWN_TYPE, "'%s' is to be a '%s', but there is no such room type", text, base);
    def = of->def;
    if (!id_set(&def.name, text))
        return err_set(detail, ROOM_E_INVALID, "'%s' is not a name for a room type", text);
    while ((option = strsep(&rest, ","))) {
        int rc = read_option(&def, option, detail);
        if (rc)
            return rc;
    }
    if (!can_last(&def))
        return err_set(detail, ROOM_E_INVALID, "durability='%s' is not for '%s', which cannot save its rooms",
                       durabilities[def.durability], base);
    if (def.durability == ROOM_DURABILITY_JOURNAL && def.on_isolation == ON_ISOLATION_PLAY)
        return err_set(detail, ROOM_E_INVALID,
                       "on_isolation='play' is not for journal rooms, which acknowledge nothing without NATS");
    if (!own || !own->builtin)
        return add_entry(t, &def, NULL, detail);
    own->def = def;
    own->builtin = false;
    return 0;
}

int types_variant(struct types *t, const char *spec, struct err_detail *detail)
{
    struct err_detail why = {""};
    char text[256];
    if (strlen(spec) >= sizeof(text))
        return err_set(detail, ROOM_E_INVALID, "room type '%.80s...' is described in more than %zu characters", spec,
                       sizeof(text) - 1);
    memcpy(text, spec, strlen(spec) + 1);
    int rc = variant(t, text, &why);
    return rc ? err_set(detail, rc, "room type '%.120s': %.180s", spec, why.text) : 0;
}

struct types *types_create(const struct alloc *alloc)
{
    static const struct room_type *const builtins[] = {&relay_type, &state_type, &counter_type, &lobby_type};
    struct types *t = alloc_get(alloc, sizeof(*t));
    if (!t)
        return NULL;
    t->alloc = alloc;
    for (size_t i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
        if (types_add(t, builtins[i], NULL) != 0) {
            types_destroy(t);
            return NULL;
        }
        t->entries[i]->builtin = true;
    }
    return t;
}

void types_destroy(struct types *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++) {
        if (t->entries[i]->library)
            dlclose(t->entries[i]->library);
        alloc_put(t->alloc, t->entries[i], sizeof(*t->entries[i]));
    }
    alloc_put(t->alloc, t, sizeof(*t));
}
