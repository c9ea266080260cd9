/*
 * `players`: who is connected to which node and sits in which rooms; with --room who has a seat there.
 *
 * Must not read the registry for what only nodes know. Invariant: if a node does not answer, the list says that it is not
 * whole, and so does the exit code.
 */
#include <string.h>

#include "base/id.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

static const struct table_column COLUMNS[] = {
    {"PLAYER", "id", 0}, {"SERVER", "server", 1}, {"STATUS", "status", 2}, {"VIA", "via", 4}, {"ROOMS", "rooms", 3},
    {"SINCE", "since", 5}, {"SESSION", "session", 6},
};
enum { COLUMN_COUNT = sizeof COLUMNS / sizeof COLUMNS[0] };

/* {id, server, ...what the node said}; takes nothing. */
static void add_row(json_t *rows, const char *server, json_t *player)
{
    json_t *id = json_object_get(player, "player");
    json_t *row = json_is_string(id) ? json_pack("{s:O,s:s}", "id", id, "server", server) : NULL;
    if (row)
        json_object_update_missing(row, player);
    if (row)
        json_array_append_new(rows, row);
}

/* Returns the exit code of this one node. */
static enum ctl_exit add_node(struct conn *conn, const char *server, json_t *rows)
{
    json_t *list = NULL, *player;
    struct err_detail detail = {""};
    size_t i;
    int err = conn_ctl_pages(conn, server, "players", "players", &list, &detail);
    if (err) {
        ctl_say("%s: its players are not listed", detail.text);
        return ctl_exit_of(err);
    }
    json_array_foreach(list, i, player)
        add_row(rows, server, player);
    json_decref(list);
    return CTL_DONE;
}

static enum ctl_exit add_all(struct conn *conn, json_t *rows)
{
    json_t *servers = NULL, *server;
    struct err_detail detail = {""};
    enum ctl_exit code = CTL_DONE;
    size_t i;
    int err = view_load(conn, "servers", &servers, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    json_array_foreach(servers, i, server)
    {
        const char *status = json_string_value(json_object_get(server, "status"));
        if (status && strcmp(status, "down") == 0)
            continue;
        enum ctl_exit one = add_node(conn, json_string_value(json_object_get(server, "id")), rows);
        code = one != CTL_DONE ? one : code;
    }
    json_decref(servers);
    return code;
}

static bool sits_in(json_t *row, const char *room)
{
    json_t *rooms = json_object_get(row, "rooms"), *id;
    size_t i;
    json_array_foreach(rooms, i, id)
    {
        if (json_is_string(id) && strcmp(json_string_value(id), room) == 0)
            return true;
    }
    return false;
}

/* The members as the owner knows them; those whose gateway did not tell are added without a node. */
static enum ctl_exit only_room(struct conn *conn, const struct options *o, json_t *rows)
{
    json_t *entry = NULL, *live = NULL, *member;
    struct err_detail detail = {""};
    size_t i;
    int err = conn_entry(conn, "rooms", o->room, &entry, &detail);
    if (err == ROOM_E_NOT_FOUND)
        err_set(&detail, err, "no room '%s': see roomctl rooms", o->room);
    const char *owner = err ? NULL : json_string_value(json_object_get(entry, "owner"));
    if (err == 0 && (!owner || !id_valid(owner)))
        err = err_set(&detail, ROOM_E_INVALID, "the entry of room '%s' names no owner: see roomctl check", o->room);
    if (err == 0)
        err = conn_ctl(conn, owner, json_pack("{s:s,s:s}", "op", "room", "room", o->room), &live, &detail);
    if (err)
        ctl_say("%s", detail.text);
    for (i = json_array_size(rows); i-- > 0;)
        if (!sits_in(json_array_get(rows, i), o->room))
            json_array_remove(rows, i);
    json_array_foreach(json_object_get(live, "members"), i, member)
    {
        bool known = o->server != NULL || !json_is_string(member);
        for (size_t k = 0; !known && k < json_array_size(rows); k++)
            known = json_equal(json_object_get(json_array_get(rows, k), "id"), member);
        if (!known)
            json_array_append_new(rows, json_pack("{s:O,s:n,s:[s]}", "id", member, "server", "rooms", o->room));
    }
    json_decref(entry);
    json_decref(live);
    return ctl_exit_of(err);
}

enum ctl_exit ctl_players(struct conn *conn, const struct options *o)
{
    if ((o->room && !ctl_id_ok("room", o->room)) || (o->server && !ctl_id_ok("server", o->server)))
        return CTL_USAGE;
    json_t *rows = json_array(), *entry = NULL;
    struct err_detail detail = {""};
    enum ctl_exit code;
    int err = o->server ? conn_entry(conn, "servers", o->server, &entry, &detail) : 0;
    json_decref(entry);
    if (err == ROOM_E_NOT_FOUND)
        err_set(&detail, err, "no server '%s': see roomctl servers", o->server);
    if (err) {
        ctl_say("%s", detail.text);
        json_decref(rows);
        return ctl_exit_of(err);
    }
    code = o->server ? add_node(conn, o->server, rows) : add_all(conn, rows);
    if (o->room) {
        enum ctl_exit room = only_room(conn, o, rows);
        code = room != CTL_DONE ? room : code;
    }
    rows = view_sorted(rows, "id");
    if (code != CTL_NOT_FOUND) {
        enum ctl_exit printed = view_print(o, COLUMNS, COLUMN_COUNT, rows, "no players");
        code = code == CTL_DONE ? printed : code;
    }
    json_decref(rows);
    return code;
}
