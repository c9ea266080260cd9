/*
 * The room types of a node: built in, loaded from shared objects, and named variants of either.
 *
 * Decides: what a type's name stands for, and whether a loaded type or a variant's options are acceptable. Filled at
 * start-up, read-only afterwards; knows nothing of rooms. Invariant: a definition's limits lie within those of
 * room/room_type.h, and a pointer to one stays valid until types_destroy().
 */
#ifndef ROOM_TYPES_H
#define ROOM_TYPES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/id.h"
#include "room/room_type.h"

enum { TYPES_MAX = 256 };

/* What rooms do while nobody can reach their node. By default those that keep nothing play on, and others stand still. */
enum on_isolation { ON_ISOLATION_DEFAULT, ON_ISOLATION_FREEZE, ON_ISOLATION_PLAY };

struct room_type_def {
    struct id name;
    const struct room_type *impl; /* the callbacks; its limits are overruled by those below */
    unsigned max_players;
    unsigned tick_ms;
    enum room_durability durability; /* other than none only if the type can save and restore itself */
    bool private_room;
    bool auto_dispose;
    bool failover; /* when its node dies, another one may take a room of this type */
    enum on_isolation on_isolation; /* never PLAY with a journal, which acknowledges nothing meanwhile */
};

struct types;

/* With the built-ins relay, state, counter and lobby. NULL: no memory. `alloc` is borrowed until types_destroy(). */
struct types *types_create(const struct alloc *alloc);
/* Unloads what was loaded: no room of these types may exist any more. NULL is fine. */
void types_destroy(struct types *t);

/* Adds the type of a shared object. INVALID (the text says what is wrong with it), EXISTS, FULL, NO_MEMORY. */
MUST_USE int types_load(struct types *t, const char *path, struct err_detail *detail);

/* Adds a variant: NAME=TYPE[,max_players=N][,tick_ms=N][,durability=none|snapshot|journal][,private=BOOL]
 * [,auto_dispose=BOOL][,failover=BOOL][,on_isolation=freeze|play] where TYPE is a type known already and BOOL is true or
 * false. A variant may bear the name of the built-in it changes (`relay=relay,max_players=4`) and then takes its place.
 * INVALID, UNKNOWN_TYPE, EXISTS, FULL, NO_MEMORY. */
MUST_USE int types_variant(struct types *t, const char *spec, struct err_detail *detail);

/* Adds a type that is linked in. `impl` is borrowed until types_destroy(). Same errors as types_load(). */
MUST_USE int types_add(struct types *t, const struct room_type *impl, struct err_detail *detail);

/* NULL: no such type. Borrowed until types_destroy(). */
const struct room_type_def *types_find(const struct types *t, const char *name);

/* In the order they were added; NULL past the end. */
const struct room_type_def *types_at(const struct types *t, size_t i);

/* "none", "snapshot", "journal". Static. */
const char *types_durability_name(enum room_durability durability);

#endif
