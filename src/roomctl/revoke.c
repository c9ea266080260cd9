/*
 * `revoke`: tokens and players that nodes let in no more.
 *
 * Decides: the bucket's keys, and that entries whose time is over are removed by whoever revokes something. Must not know what
 * nodes do about it. Invariant: an entry is only removed at the revision that was seen to be over.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/stream.h"
#include "roomctl/table.h"
#include "roomctl/view.h"
#include "wire/wire_gen.h"

enum {
    ENTRIES_MAX = 100000, /* as many as a node holds */
    PURGE_MAX = 1000,     /* in one run */
    SCRATCH_BYTES = 4096,
    KEY_SIZE = ID_SIZE + 8,
};

static const struct table_column COLUMNS[] = {{"REVOKED", "id", 0}, {"UNTIL", "until", 0}, {"REASON", "reason", 1}};

static bool over(const char *until, struct wall now)
{
    struct wall end;
    return until && time_from_rfc3339(until, strlen(until), &end) && end.ms <= now.ms;
}

static int explain(const struct conn *conn, int err, struct err_detail *detail)
{
    if (err == ROOM_E_NOT_FOUND)
        err_set(detail, err, "there is no bucket '%srevoked': no node of this cluster asks for tokens; see roomd --token-keys",
                conn->prefix);
    return err;
}

/* What is in force. An entry that nobody can read is, for ever. */
static int load(struct conn *conn, json_t **rows, struct err_detail *detail)
{
    json_t *all = NULL, *entry, *list = json_array();
    const char *key;
    int err = list ? explain(conn, conn_list(conn, "revoked", &all, detail), detail)
                   : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    json_object_foreach(all, key, entry)
    {
        json_object_del(entry, "broken");
        if (!over(json_string_value(json_object_get(entry, "until")), time_wall_now()) && json_array_append(list, entry) != 0)
            err = err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    }
    json_decref(all);
    if (err)
        json_decref(list);
    else
        *rows = list;
    return err;
}

static enum ctl_exit list(struct conn *conn, const struct options *o)
{
    json_t *rows = NULL;
    struct err_detail detail = {""};
    int err = load(conn, &rows, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    rows = view_sorted(rows, "id");
    enum ctl_exit code = view_print(o, COLUMNS, sizeof COLUMNS / sizeof COLUMNS[0], rows, "nothing is revoked");
    json_decref(rows);
    return code;
}

/* If it is over, and still is the entry that was seen to be. */
static int purge_one(struct conn *conn, const char *key, struct err_detail *detail)
{
    struct conn_answer a;
    int err = stream_value(conn, "revoked", key, &a, detail);
    if (err)
        return err == ROOM_E_NOT_FOUND ? 0 : err;
    json_t *entry = json_loadb(a.data, a.len, 0, NULL);
    bool gone = over(json_string_value(json_object_get(entry, "until")), time_wall_now());
    json_decref(entry);
    if (gone)
        err = stream_delete_at(conn, "revoked", key, a.revision, detail);
    conn_answer_free(&a);
    return err;
}

/* *left: entries afterwards. */
static int purge(struct conn *conn, size_t *left, struct err_detail *detail)
{
    json_t *all = NULL, *entry;
    const char *key;
    int purged = 0, err = explain(conn, conn_list(conn, "revoked", &all, detail), detail);
    if (err)
        return err;
    struct wall now = time_wall_now();
    json_object_foreach(all, key, entry)
    {
        if (err || purged == PURGE_MAX || !over(json_string_value(json_object_get(entry, "until")), now))
            continue;
        err = purge_one(conn, key, detail);
        purged++;
    }
    *left = json_object_size(all) - (size_t)purged;
    json_decref(all);
    return err;
}

static int write(struct conn *conn, const struct options *o, const char *key, char until[TIME_RFC3339_SIZE],
                 struct err_detail *detail)
{
    struct wire_revoked_entry e = {.reason = wire_str(o->reason)};
    struct buf json;
    if (o->until_ms) {
        time_rfc3339((struct wall){time_wall_now().ms + o->until_ms}, until);
        e.until = wire_str(until);
    }
    buf_init(&json, &alloc_libc, SCRATCH_BYTES);
    int err = wire_revoked_entry_to_json(&e, &json);
    if (err)
        err_set(detail, err, "--reason is longer than 128 characters, or no UTF-8");
    else
        err = stream_put(conn, "revoked", key, BUS_ANY_REVISION, json.data, json.len, NULL, detail);
    buf_deinit(&json);
    return err;
}

static enum ctl_exit add(struct conn *conn, const struct options *o, const char *what, const char *id, const char *key)
{
    struct err_detail detail = {""};
    char until[TIME_RFC3339_SIZE] = "";
    size_t count = 0;
    int err = purge(conn, &count, &detail);
    if (!err && count >= ENTRIES_MAX)
        err = err_set(&detail, ROOM_E_FULL, "%zu entries are there, as many as nodes hold: see roomctl revoke --ls, and --undo some", count);
    if (!err)
        err = write(conn, o, key, until, &detail);
    if (err) {
        ctl_say("%s '%s' is not revoked: %s", what, id, detail.text);
        return ctl_exit_of(err);
    }
    if (o->json) {
        json_t *row = json_pack("{s:s,s:s*,s:s*}", "id", key, "until", *until ? until : NULL, "reason", o->reason);
        table_json(stdout, row);
        json_decref(row);
    } else {
        printf("%s '%s' is revoked%s%s\n", what, id, *until ? " until " : "", until);
    }
    return CTL_DONE;
}

static enum ctl_exit undo(struct conn *conn, const struct options *o, const char *what, const char *id, const char *key)
{
    struct err_detail detail = {""};
    struct conn_answer a;
    json_t *info = NULL;
    int err = explain(conn, conn_bucket_info(conn, "revoked", &info, &detail), &detail);
    json_decref(info);
    if (!err) {
        err = stream_value(conn, "revoked", key, &a, &detail);
        if (err == ROOM_E_NOT_FOUND)
            err_set(&detail, err, "%s '%s' is not revoked: see roomctl revoke --ls", what, id);
        else if (!err)
            conn_answer_free(&a);
    }
    if (!err)
        err = stream_delete(conn, "revoked", key, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    if (o->json)
        printf("{\"id\": \"%s\"}\n", key);
    else
        printf("%s '%s' is not revoked any more\n", what, id);
    return CTL_DONE;
}

enum ctl_exit ctl_revoke(struct conn *conn, const struct options *o)
{
    char key[KEY_SIZE];
    const char *what = o->player ? "player" : "token", *id = o->player ? o->player : o->args[0];
    bool more = o->until_ms || o->reason;
    if (o->ls && !id && !o->undo && !more)
        return list(conn, o);
    if (o->ls || (o->player && o->arg_count) || !id || (o->undo && more)) {
        ctl_say("wanted JTI or --player ID, with --until and --reason or with --undo, or --ls alone: see roomctl revoke --help");
        return CTL_USAGE;
    }
    if (!ctl_id_ok(what, id))
        return CTL_USAGE;
    snprintf(key, sizeof key, "%s%s", o->player ? "player." : "", id);
    return o->undo ? undo(conn, o, what, id, key) : add(conn, o, what, id, key);
}
