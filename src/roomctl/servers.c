/*
 * `servers` and `server`: the nodes as the registry has them, one of them also as it says itself.
 *
 * Must not write anything. Invariant: a node that does not answer is still shown; the exit code tells.
 */
#include <string.h>

#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

static const struct table_column COLUMNS[] = {
    {"ID", "id", 0}, {"STATUS", "status", 0}, {"ADDRESS", "address", 3}, {"PORT", "port", 3}, {"REGION", "region", 6},
    {"ROOMS", "rooms", 1}, {"PLAYERS", "players", 1}, {"CONNS", "connections", 4}, {"CAPACITY", "capacity", 5},
    {"LOAD", "load", 2}, {"VERSION", "version", 7}, {"SEEN", "seen", 8},
};

enum ctl_exit ctl_servers(struct conn *conn, const struct options *o)
{
    json_t *rows = NULL;
    struct err_detail detail = {""};
    int err = view_load(conn, "servers", &rows, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    rows = view_sorted(rows, "id");
    enum ctl_exit code = view_print(o, COLUMNS, sizeof COLUMNS / sizeof COLUMNS[0], rows, "no servers");
    json_decref(rows);
    return code;
}

enum ctl_exit ctl_server(struct conn *conn, const struct options *o)
{
    json_t *entry = NULL, *live = NULL;
    struct err_detail detail = {""};
    const char *id = o->args[0];
    if (!ctl_id_ok("server", id))
        return CTL_USAGE;
    int err = conn_entry(conn, "servers", id, &entry, &detail);
    if (err) {
        if (err == ROOM_E_NOT_FOUND)
            ctl_say("no server '%s': see roomctl servers", id);
        else
            ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    err = conn_ctl(conn, id, json_pack("{s:s}", "op", "info"), &live, &detail);
    const char *status = json_string_value(json_object_get(entry, "status"));
    bool down = status && strcmp(status, "down") == 0;
    view_details(o, entry, live, err ? "-- the node does not answer --" : "-- as the node says now --");
    if (err && !down)
        ctl_say("%s", detail.text);
    json_decref(entry);
    json_decref(live);
    return err && !down ? ctl_exit_of(err) : CTL_DONE;
}
