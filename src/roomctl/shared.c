/*
 * `shared`: the data that rooms and backends share.
 *
 * Decides: that a list is read from the bucket, and anything about one key goes through a node, so that what a node knows of
 * repeats and expiry holds. Must not write the bucket.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

enum { SHOWN = 60, DONE_WITHIN_MS = 12000 /* a node tries for 10 s */ };

static const struct table_column COLUMNS[] = {
    {"KEY", "id", 0}, {"VALUE", "shown", 0}, {"REVISION", "revision", 1}, {"EXPIRES", "expires", 2}, {"CHANGED", "changed", 3},
};

static bool over(const json_t *entry)
{
    const char *expires = json_string_value(json_object_get(entry, "expires"));
    struct wall at;
    return !json_object_get(entry, "value") ||
           (expires && time_from_rfc3339(expires, strlen(expires), &at) && at.ms <= time_wall_now().ms);
}

/* A value in a table is one short line. */
static void shorten(json_t *row)
{
    char *text = json_dumps(json_object_get(row, "value"), JSON_COMPACT | JSON_ENCODE_ANY);
    if (text && strlen(text) > SHOWN) {
        size_t cut = SHOWN - 3;
        while (cut && ((unsigned char)text[cut] & 0xC0) == 0x80)
            cut--;
        memcpy(text + cut, "...", 4);
    }
    json_object_set_new(row, "shown", json_string(text ? text : "?"));
    free(text);
}

/* Those that are there; without what the entry remembers of its changes. Keeps `all`. */
static json_t *rows_of(json_t *all, bool shown)
{
    json_t *rows = json_array(), *row;
    size_t i;
    json_array_foreach(all, i, row)
    {
        if (over(row))
            continue;
        json_object_del(row, "done");
        if (shown)
            shorten(row);
        json_array_append(rows, row);
    }
    return rows;
}

enum ctl_exit ctl_shared_ls(struct conn *conn, const struct options *o)
{
    json_t *all = NULL;
    struct err_detail detail = {""};
    conn->with_revisions = true;
    int err = view_load(conn, "shared", &all, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    json_t *rows = view_sorted(rows_of(all, !o->json), "id");
    json_decref(all);
    enum ctl_exit code = view_print(o, COLUMNS, sizeof COLUMNS / sizeof COLUMNS[0], rows, "no shared data");
    json_decref(rows);
    return code;
}

/* Asks the first node that answers a ping; no second one, where a change could meet its own doing. Takes `request`. */
static int ask(struct conn *conn, json_t *request, json_t **result, struct err_detail *detail)
{
    json_t *servers = NULL, *server, *ping = NULL;
    const char *id = NULL;
    size_t i;
    int err = view_load(conn, "servers", &servers, detail);
    if (!err)
        err = err_set(detail, ROOM_E_UNAVAILABLE, "no node of this cluster is up: see roomctl servers");
    json_array_foreach(servers, i, server)
    {
        const char *status = json_string_value(json_object_get(server, "status"));
        if (status && strcmp(status, "down") == 0)
            continue;
        id = json_string_value(json_object_get(server, "id"));
        err = conn_ping(conn, id, &ping, detail);
        if (err == 0)
            break;
    }
    json_decref(ping);
    conn->timeout_ms = conn->timeout_ms > DONE_WITHIN_MS ? conn->timeout_ms : DONE_WITHIN_MS;
    if (!err)
        err = conn_ctl(conn, id, json_incref(request), result, detail);
    json_decref(servers);
    json_decref(request);
    return err;
}

static enum ctl_exit failed(const struct conn *conn, const char *key, int err, const struct err_detail *detail)
{
    ctl_say("shared key '%s': %s", key, detail->text);
    return err == ROOM_E_NOT_FOUND ? CTL_NOT_FOUND : ctl_exit_asked(conn, err);
}

enum ctl_exit ctl_shared_get(struct conn *conn, const struct options *o)
{
    json_t *result = NULL;
    struct err_detail detail = {""};
    int err = ask(conn, json_pack("{s:s,s:s}", "op", "shared_get", "key", o->args[0]), &result, &detail);
    if (err)
        return failed(conn, o->args[0], err, &detail);
    char *text = json_dumps(json_object_get(result, "value"), JSON_COMPACT | JSON_ENCODE_ANY);
    if (o->json)
        table_json(stdout, result);
    else
        printf("%s\n", text ? text : "null");
    free(text);
    json_decref(result);
    return CTL_DONE;
}

/* --if-absent, --revision: adds what is expected. False, with a line said: nonsense. */
static bool add_condition(json_t *request, const struct options *o)
{
    char *end = NULL;
    errno = 0;
    long long revision = o->revision ? strtoll(o->revision, &end, 10) : 0;
    if (o->if_absent && o->revision) {
        ctl_say("give --if-absent or --revision, not both");
        return false;
    }
    if (o->revision && (*end || revision < 1 || errno)) {
        ctl_say("invalid --revision '%.40s': give the number that roomctl shared ls shows", o->revision);
        return false;
    }
    if (o->if_absent || o->revision)
        json_object_set_new(request, "expect", json_integer(revision));
    return true;
}

static enum ctl_exit change(struct conn *conn, const struct options *o, json_t *request, const char *done)
{
    json_t *result = NULL;
    struct err_detail detail = {""};
    if (!add_condition(request, o)) {
        json_decref(request);
        return CTL_USAGE;
    }
    int err = ask(conn, request, &result, &detail);
    if (err)
        return failed(conn, o->args[0], err, &detail);
    if (o->json)
        table_json(stdout, result);
    else
        printf("shared key '%s' is %s\n", o->args[0], done);
    json_decref(result);
    return CTL_DONE;
}

enum ctl_exit ctl_shared_set(struct conn *conn, const struct options *o)
{
    json_t *value = json_loads(o->args[1], JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (!value || json_is_null(value)) {
        json_decref(value);
        ctl_say("invalid VALUE '%.60s': give JSON that is not null, for example 5, '\"text\"' or '{\"a\":1}'", o->args[1]);
        return CTL_USAGE;
    }
    json_t *request = json_pack("{s:s,s:s,s:o}", "op", "shared_set", "key", o->args[0], "value", value);
    if (request && o->until_ms)
        json_object_set_new(request, "expires_ms", json_integer(o->until_ms));
    return change(conn, o, request, "set");
}

enum ctl_exit ctl_shared_del(struct conn *conn, const struct options *o)
{
    return change(conn, o, json_pack("{s:s,s:s}", "op", "shared_delete", "key", o->args[0]), "deleted");
}
