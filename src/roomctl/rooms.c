/*
 * `rooms`, `room`, `lock`, `unlock`, `close`, `migrate`: rooms as the registry lists them, and as their owner knows them.
 *
 * Must not write the registry: orders go to the owner. Invariant: an order is done only when the owner said so.
 */
#include <string.h>

#include "base/id.h"
#include "roomctl/ctl.h"
#include "roomctl/owner.h"
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

enum ctl_exit ctl_room(struct conn *conn, const struct options *o)
{
    json_t *entry = NULL, *live = NULL;
    struct err_detail detail = {""};
    if (!ctl_id_ok("room", o->args[0]))
        return CTL_USAGE;
    int err = owner_ask(conn, o->args[0], json_pack("{s:s,s:s}", "op", "room", "room", o->args[0]), &entry, &live, &detail);
    if (err == ROOM_E_UNAVAILABLE) { /* still show what the registry has */
        const char *owner;
        struct err_detail ignored = {""};
        if (owner_find(conn, o->args[0], &entry, &owner, &ignored) == 0) {
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
    int err = owner_ask(conn, id, json_pack("{s:s,s:s}", "op", op, "room", id), &entry, &result, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_asked(conn, err);
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

/* What a refusal means for whoever gave the order. */
static const char *why_not_moved(int err)
{
    switch (err) {
    case ROOM_E_UNSUPPORTED:
        return "rooms of its type cannot be saved, so they cannot be moved";
    case ROOM_E_UNAVAILABLE:
        return "no other node can take it, or it has only just begun to run";
    case ROOM_E_FULL:
        return "the other node is full, or too many rooms move now";
    case ROOM_E_ALREADY:
        return "it is on its way already";
    case ROOM_E_NO_RESPONDERS:
        return "the other node is not there";
    case ROOM_E_TIMEOUT:
        return "it took too long; see roomctl room for where it is";
    case ROOM_E_UNKNOWN_TYPE:
        return "the other node does not know its type";
    default:
        return "it goes on where it is";
    }
}

/* The exit code if the room cannot go there, or need not: CTL_DONE with `there`. */
static enum ctl_exit target_ok(struct conn *conn, const char *room, const char *server, bool *there)
{
    json_t *entry = NULL, *target = NULL;
    struct err_detail detail = {""};
    const char *owner = NULL;
    int err = owner_find(conn, room, &entry, &owner, &detail);
    *there = err == 0 && strcmp(owner, server) == 0;
    if (err == 0 && !*there && strcmp(server, "any") != 0) {
        detail.text[0] = 0;
        err = conn_entry(conn, "servers", server, &target, &detail);
        if (err == ROOM_E_NOT_FOUND)
            err_set(&detail, err, "no server '%s': see roomctl servers", server);
    }
    if (err)
        ctl_say("%s", detail.text);
    json_decref(entry);
    json_decref(target);
    return ctl_exit_of(err);
}

enum ctl_exit ctl_migrate(struct conn *conn, const struct options *o)
{
    json_t *entry = NULL, *result = NULL;
    struct err_detail detail = {""};
    const char *id = o->args[0], *server = o->args[1];
    bool any = strcmp(server, "any") == 0, there = false;
    if (!ctl_id_ok("room", id) || !ctl_id_ok("server", server))
        return CTL_USAGE;
    enum ctl_exit code = target_ok(conn, id, server, &there);
    if (code != CTL_DONE)
        return code;
    json_t *request = json_pack("{s:s,s:s,s:s*}", "op", "migrate", "room", id, "server", any ? NULL : server);
    int err = there ? 0 : owner_ask_long(conn, id, json_incref(request), &entry, &result, &detail);
    json_decref(request);
    if (err) {
        ctl_say("room '%s' was not moved: %s%s%s", id, detail.text, conn->refused ? "; " : "",
                conn->refused ? why_not_moved(err) : "");
        return ctl_exit_asked(conn, err);
    }
    if (there)
        result = json_pack("{s:s,s:s}", "room", id, "server", server);
    if (o->json)
        table_json(stdout, result);
    else
        printf("room '%s' %s server '%s'\n", id, there ? "is already on" : "has moved to",
               json_string_value(json_object_get(result, "server")));
    json_decref(entry);
    json_decref(result);
    return CTL_DONE;
}
