/* The texts a person reads when a room type or a variant is not acceptable. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "room/types.h"

static struct types *types;

static void setup(void)
{
    types = types_create(&alloc_libc);
}

static void teardown(void)
{
    types_destroy(types);
}

TestSuite(room_types, .init = setup, .fini = teardown);

Test(room_types, variants)
{
    struct err_detail why;
    cr_assert_eq(types_variant(types, "duel=relay,max_players=2,tick_ms=50,durability=snapshot,private=true,"
                                      "auto_dispose=false,failover=false,on_isolation=play", &why), 0, "%s", why.text);
    const struct room_type_def *d = types_find(types, "duel");
    cr_assert_eq(d->max_players, 2);
    cr_assert_eq(d->tick_ms, 50);
    cr_assert_str_eq(types_durability_name(d->durability), "snapshot");
    cr_assert(d->private_room && !d->auto_dispose && !d->failover);
    cr_assert_eq(d->on_isolation, ON_ISOLATION_PLAY);
    cr_assert(types_find(types, "relay")->failover);
    cr_assert_eq(types_find(types, "relay")->on_isolation, ON_ISOLATION_DEFAULT);
    cr_assert_eq(d->impl, types_find(types, "relay")->impl);
    cr_assert_eq(types_variant(types, "relay=relay,max_players=4", &why), 0);
    cr_assert_eq(types_find(types, "relay")->max_players, 4);
    cr_assert_eq(types_variant(types, "twin=duel", &why), 0);
    cr_assert_eq(types_find(types, "twin")->max_players, 2);
    cr_assert_str_eq(types_at(types, 0)->name.s, "relay");
    cr_assert_null(types_at(types, 6));
    cr_assert_null(types_find(types, "chess"));
}

Test(room_types, wrong_variants_by_text)
{
    static const struct {
        const char *spec;
        int code;
        const char *text;
    } rows[] = {
        {"duel", ROOM_E_INVALID, "room type 'duel': 'duel' is not NAME=TYPE[,option=value...]"},
        {"duel=chess", ROOM_E_UNKNOWN_TYPE,
         "room type 'duel=chess': 'duel' is to be a 'chess', but there is no such room type"},
        {"a.b=relay", ROOM_E_INVALID, "room type 'a.b=relay': 'a.b' is not a name for a room type"},
        {"x=relay,max_player=2", ROOM_E_INVALID,
         "room type 'x=relay,max_player=2': unknown option 'max_player'; known are max_players, tick_ms, durability, "
         "private, auto_dispose, failover, on_isolation"},
        {"x=relay,max_players", ROOM_E_INVALID, "room type 'x=relay,max_players': option 'max_players' has no value"},
        {"x=relay,", ROOM_E_INVALID, "room type 'x=relay,': option '' has no value"},
        {"x=relay,max_players=0", ROOM_E_INVALID,
         "room type 'x=relay,max_players=0': max_players='0' is not a number in 1..10000"},
        {"x=relay,max_players=-1", ROOM_E_INVALID,
         "room type 'x=relay,max_players=-1': max_players='-1' is not a number in 1..10000"},
        {"x=relay,tick_ms=9z", ROOM_E_INVALID,
         "room type 'x=relay,tick_ms=9z': tick_ms='9z' is not a number in 0..3600000"},
        {"x=relay,durability=disk", ROOM_E_INVALID,
         "room type 'x=relay,durability=disk': durability='disk' is none of none, snapshot, journal"},
        {"x=relay,private=yes", ROOM_E_INVALID,
         "room type 'x=relay,private=yes': private='yes' is neither true nor false"},
        {"x=relay,failover=1", ROOM_E_INVALID, "room type 'x=relay,failover=1': failover='1' is neither true nor false"},
        {"x=relay,on_isolation=no", ROOM_E_INVALID,
         "room type 'x=relay,on_isolation=no': on_isolation='no' is neither freeze nor play"},
        {"x=counter,on_isolation=play", ROOM_E_INVALID,
         "room type 'x=counter,on_isolation=play': on_isolation='play' is not for journal rooms, which acknowledge nothing "
         "without NATS"},
        {"x=lobby,durability=journal", ROOM_E_INVALID,
         "room type 'x=lobby,durability=journal': durability='journal' is not for 'lobby', which cannot save its rooms"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err_detail why;
        cr_assert_eq(types_variant(types, rows[i].spec, &why), rows[i].code, "%s", rows[i].spec);
        cr_assert_str_eq(why.text, rows[i].text);
    }
    cr_assert_eq(types_variant(types, "x=relay", NULL), 0);
    struct err_detail why;
    cr_assert_eq(types_variant(types, "x=relay", &why), ROOM_E_EXISTS);
    cr_assert_str_eq(why.text, "room type 'x=relay': room type 'x' exists already");
    char many[300];
    memset(many, 'a', sizeof(many));
    many[299] = '\0';
    cr_assert_eq(types_variant(types, many, &why), ROOM_E_INVALID);
}

Test(room_types, shared_objects_by_text)
{
    struct err_detail why;
    char text[512];
    cr_assert_eq(types_load(types, TICTACTOE, &why), 0, "%s", why.text);
    cr_assert_eq(types_find(types, "tictactoe")->max_players, 2);
    cr_assert_eq(types_load(types, TICTACTOE, &why), ROOM_E_EXISTS);
    cr_assert_str_eq(why.text, "room type 'tictactoe' exists already");
    cr_assert_eq(types_load(types, NO_SYMBOL, &why), ROOM_E_INVALID);
    snprintf(text, sizeof(text), "cannot load room type '%s': symbol 'room_type' not found", NO_SYMBOL);
    cr_assert_str_eq(why.text, text);
    cr_assert_eq(types_load(types, OLD_VERSION, &why), ROOM_E_INVALID);
    snprintf(text, sizeof(text),
             "cannot load room type '%s': it was built for version 6 of room/room_type.h, this is version 5; build it again",
             OLD_VERSION);
    cr_assert_str_eq(why.text, text);
    cr_assert_eq(types_load(types, "./nothing.so", &why), ROOM_E_INVALID);
    cr_assert(strstr(why.text, "cannot load room type './nothing.so': ") == why.text);
}

Test(room_types, linked_in)
{
    struct err_detail why;
    static const struct room_type crowd = {.api_version = ROOM_TYPE_API_VERSION, .name = "crowd", .max_players = 20000};
    static const struct room_type nameless = {.api_version = ROOM_TYPE_API_VERSION, .name = "a b", .max_players = 2};
    static const struct room_type flagged = {.api_version = ROOM_TYPE_API_VERSION, .name = "f", .max_players = 2, .flags = 64};
    static const struct room_type older = {.api_version = ROOM_TYPE_API_OLDEST, .name = "older", .max_players = 2};
    static const struct room_type too_old = {.api_version = ROOM_TYPE_API_OLDEST - 1, .name = "old", .max_players = 2};
    static const struct room_type forgetful = {.api_version = ROOM_TYPE_API_VERSION, .name = "g", .max_players = 2,
                                               .durability = ROOM_DURABILITY_SNAPSHOT};
    cr_assert_eq(types_add(types, &crowd, &why), ROOM_E_INVALID);
    cr_assert_str_eq(why.text, "cannot load room type 'crowd': max_players 20000 is not in 1..10000");
    cr_assert_eq(types_add(types, &nameless, &why), ROOM_E_INVALID);
    cr_assert_eq(types_add(types, &flagged, &why), ROOM_E_INVALID);
    cr_assert_eq(types_add(types, &older, &why), 0, "%s", why.text);
    cr_assert_eq(types_add(types, &too_old, &why), ROOM_E_INVALID);
    cr_assert_eq(types_add(types, &forgetful, &why), ROOM_E_INVALID);
    cr_assert_str_eq(why.text,
                     "cannot load room type 'g': its durability is snapshot, but it has not both save() and restore()");
}
