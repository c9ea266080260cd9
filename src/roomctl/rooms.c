/*
 * `rooms`, `room`, `lock`, `unlock`, `close`: rooms as the registry lists them, and as their owner knows them.
 *
 * Must not write the registry: orders go to the owner. Invariant: an order is done only when the owner said so.
 */
#include <string.h>

#include "base/id.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

static const struct table_column COLUMNS[] = {
    {"ID", "id", 0}, {"TYPE", "type", 1}, {"OWNER", "owner", 1}, {"EPOCH", "epoch", 5}, {"PLAYERS", "players", 0},
    {"SEATS", "seats", 4}, {"MAX", "max_players", 2}, {"LOCKED", "locked", 3}, {"PRIVATE", "private", 6},
    {"DURABILITY", "durability", 7}, {"STATE", "state", 3}, {"CREATED", "created", 8},
};
enum { COLUMN_COUNT = sizeof COLUMNS / sizeof COLUMNS[0] };

static bool text_is(json_t *room, const char *key, const char *want)
{
    const char *have = json_string_value(json_object_get(room, key));
    return !want || (have && strcmp(have, want) == 0);
}

static bool wanted(json_t *room, const struct options *o)
{
    if (!text_is(room, "type", o->type) || !text_is(room, "owner", o->server))
        return false;
    if (o->unlocked && json_is_true(json_object_get(room, "locked")))
        return false;
    return !o->has_space || json_integer_value(json_object_get(room, "seats")) <
                                json_integer_value(json_object_get(room, "max_players"));
}

static bool sort_ok(const char *field)
{
    const char *name = field[0] == '-' ? field + 1 : field;
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        if (strcmp(COLUMNS[i].key, name) == 0)
            return true;
    ctl_say("cannot sort by '%.40s': use id, type, owner, epoch, players, seats, max_players, locked, private, "
            "durability, state or created, with '-' in front for largest first", field);
    return false;
}

enum ctl_exit ctl_rooms(struct conn *conn, const struct options *o)
{
    json_t *rows = NULL;
    struct err_detail detail = {""};
    const char *sort = o->sort ? o->sort : "id";
    if ((o->type && !ctl_id_ok("type", o->type)) || (o->server && !ctl_id_ok("server", o->server)) || !sort_ok(sort))
        return CTL_USAGE;
    int err = view_load(conn, "rooms", &rows, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    rows = view_sorted(rows, sort);
    for (size_t i = json_array_size(rows); i-- > 0;)
        if (!wanted(json_array_get(rows, i), o))
            json_array_remove(rows, i);
    while (o->limit > 0 && json_array_size(rows) > (size_t)o->limit)
        json_array_remove(rows, json_array_size(rows) - 1);
    enum ctl_exit code = view_print(o, COLUMNS, COLUMN_COUNT, rows, "no rooms");
    json_decref(rows);
    return code;
}

/* The entry of a room and its owner's id (borrowed from it). */
static int find_room(struct conn *conn, const char *id, json_t **entry, const char **owner, struct err_detail *detail)
{
    detail->text[0] = 0;
    int err = conn_entry(conn, "rooms", id, entry, detail);
    if (err == ROOM_E_NOT_FOUND)
        return err_set(detail, err, "no room '%s': see roomctl rooms", id);
    if (err)
        return err;
    *owner = json_string_value(json_object_get(*entry, "owner"));
    if (*owner && id_valid(*owner))
        return 0;
    json_decref(*entry);
    return err_set(detail, ROOM_E_INVALID, "the entry of room '%s' names no owner: see roomctl check", id);
}

/* Asks the owner; a room that has just moved is looked up again, once. */
static int ask_owner(struct conn *conn, const char *op, const char *id, json_t **entry, json_t **result,
                     struct err_detail *detail)
{
    int err = ROOM_E_INTERNAL;
    char last[ID_SIZE] = "";
    for (int round = 0; round < 2; round++) {
        const char *owner = NULL;
        err = find_room(conn, id, entry, &owner, detail);
        if (err)
            return err;
        if (round > 0 && strcmp(owner, last) == 0) {
            err_set(detail, ROOM_E_UNAVAILABLE, "node '%s' is listed as owner of room '%s' but does not run it or "
                    "does not answer: see roomctl check", owner, id);
            json_decref(*entry); /* the owner's id was in it */
            return ROOM_E_UNAVAILABLE;
        }
        err = conn_ctl(conn, owner, json_pack("{s:s,s:s}", "op", op, "room", id), result, detail);
        if (err == 0)
            return 0;
        snprintf(last, sizeof last, "%s", owner);
        json_decref(*entry);
        if (err != ROOM_E_NOT_FOUND && err != ROOM_E_UNAVAILABLE && err != ROOM_E_FENCED)
            return err;
    }
    return err;
}

enum ctl_exit ctl_room(struct conn *conn, const struct options *o)
{
    json_t *entry = NULL, *live = NULL;
    struct err_detail detail = {""};
    if (!ctl_id_ok("room", o->args[0]))
        return CTL_USAGE;
    int err = ask_owner(conn, "room", o->args[0], &entry, &live, &detail);
    if (err == ROOM_E_UNAVAILABLE) { /* still show what the registry has */
        const char *owner;
        struct err_detail ignored = {""};
        if (find_room(conn, o->args[0], &entry, &owner, &ignored) == 0) {
            view_details(o, entry, NULL, "-- the owner does not answer --");
            json_decref(entry);
        }
    }
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    view_details(o, entry, live, "-- as the owner says now --");
    json_decref(entry);
    json_decref(live);
    return CTL_DONE;
}

static enum ctl_exit order(struct conn *conn, const struct options *o, const char *op, const char *done)
{
    json_t *entry = NULL, *result = NULL;
    struct err_detail detail = {""};
    const char *id = o->args[0];
    if (!ctl_id_ok("room", id))
        return CTL_USAGE;
    int err = ask_owner(conn, op, id, &entry, &result, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    const char *owner = json_string_value(json_object_get(entry, "owner"));
    if (o->json) {
        json_t *shown = json_pack("{s:s,s:s,s:s}", "id", id, "owner", owner, "done", op);
        table_json(stdout, shown);
        json_decref(shown);
    } else {
        printf("room '%s' is %s (server '%s')\n", id, done, owner);
    }
    json_decref(entry);
    json_decref(result);
    return CTL_DONE;
}

enum ctl_exit ctl_lock(struct conn *conn, const struct options *o)
{
    return order(conn, o, "lock", "locked");
}

enum ctl_exit ctl_unlock(struct conn *conn, const struct options *o)
{
    return order(conn, o, "unlock", "unlocked");
}

enum ctl_exit ctl_close(struct conn *conn, const struct options *o)
{
    return order(conn, o, "close", "closed");
}
