/*
 * `queues`: who waits to be matched, by queue.
 *
 * Counts the entries of the bucket `matchmaking`; queues in which nobody waits are known from the nodes' own entries. Must not
 * judge who fits whom. Ages are by this machine's clock and the gateways', for people only.
 */
#include <string.h>

#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

static const struct table_column COLUMNS[] = {
    {"QUEUE", "id", 0}, {"WAITING", "waiting", 0}, {"PLAYERS", "players", 0}, {"ROOMS", "rooms", 4}, {"MATCHED", "matched", 3},
    {"OLDEST_MS", "oldest_ms", 2}, {"NODES", "nodes", 1},
};

static json_t *row_of(json_t *rows, const char *queue)
{
    json_t *row = json_object_get(rows, queue);
    if (row)
        return row;
    row = json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i}", "id", queue, "waiting", 0, "players", 0, "rooms", 0, "matched", 0,
                    "oldest_ms", 0, "nodes", 0);
    json_object_set_new(rows, queue, row);
    return row;
}

static void add(json_t *row, const char *key, json_int_t by)
{
    json_object_set_new(row, key, json_integer(json_integer_value(json_object_get(row, key)) + by));
}

static void add_ticket(json_t *rows, json_t *ticket)
{
    const char *queue = json_string_value(json_object_get(ticket, "queue"));
    const char *state = json_string_value(json_object_get(ticket, "state"));
    const char *since = json_string_value(json_object_get(ticket, "since"));
    json_t *row = queue && state && !json_object_get(ticket, "tickets") ? row_of(rows, queue) : NULL;
    struct wall at;
    if (!row)
        return; /* the entry of a match: its tickets tell of it */
    if (strcmp(state, "matched") == 0) {
        add(row, "matched", 1);
        return;
    }
    size_t players = json_array_size(json_object_get(ticket, "players"));
    add(row, "waiting", 1);
    add(row, players ? "players" : "rooms", players ? (json_int_t)players : 1);
    int64_t age = since && time_from_rfc3339(since, strlen(since), &at) ? time_wall_now().ms - at.ms : 0;
    if (age > json_integer_value(json_object_get(row, "oldest_ms")))
        json_object_set_new(row, "oldest_ms", json_integer(age));
}

/* Queues of nodes that are not down. */
static void add_server(json_t *rows, json_t *server)
{
    const char *status = json_string_value(json_object_get(server, "status"));
    json_t *names = json_object_get(server, "queues"), *name;
    size_t i;
    if (status && strcmp(status, "down") == 0)
        return;
    json_array_foreach(names, i, name)
    {
        if (json_is_string(name))
            add(row_of(rows, json_string_value(name)), "nodes", 1);
    }
}

enum ctl_exit ctl_queues(struct conn *conn, const struct options *o)
{
    json_t *servers = NULL, *tickets = NULL, *entry, *row, *rows = json_object(), *list = json_array();
    struct err_detail detail = {""};
    const char *queue;
    size_t i;
    int err = view_load(conn, "servers", &servers, &detail);
    json_array_foreach(servers, i, entry)
        add_server(rows, entry);
    if (!err && json_object_size(rows)) /* without queues there is no bucket */
        err = view_load(conn, "matchmaking", &tickets, &detail);
    json_array_foreach(tickets, i, entry)
        add_ticket(rows, entry);
    json_object_foreach(rows, queue, row)
        json_array_append(list, row);
    json_decref(servers);
    json_decref(tickets);
    json_decref(rows);
    if (err) {
        ctl_say("%s", detail.text);
        json_decref(list);
        return ctl_exit_of(err);
    }
    list = view_sorted(list, "id");
    enum ctl_exit code = view_print(o, COLUMNS, sizeof COLUMNS / sizeof COLUMNS[0], list, "no queues: no node was started with --queue");
    json_decref(list);
    return code;
}
