/*
 * `locks`: the locks of the cluster, as the bucket has them.
 *
 * Must not judge whether one is over: that is for whoever has watched it for its ttl. Ages are by this machine's clock and
 * the writer's, for people only. Invariant: the token shown is the one that renewing and unlocking ask for.
 */
#include <string.h>

#include "base/time.h"
#include "roomctl/ctl.h"
#include "roomctl/table.h"
#include "roomctl/view.h"

static const struct table_column COLUMNS[] = {
    {"NAME", "id", 0}, {"HOLDER", "holder", 0}, {"TOKEN", "token", 0}, {"TTL_MS", "ttl_ms", 1}, {"AGE_MS", "age_ms", 2},
};

static void complete(json_t *row)
{
    const char *since = json_string_value(json_object_get(row, "since"));
    json_t *token = json_object_get(row, "token");
    struct wall at;
    if (!token)
        json_object_set(row, "token", json_object_get(row, "revision"));
    if (since && time_from_rfc3339(since, strlen(since), &at)) {
        int64_t age = time_wall_now().ms - at.ms;
        json_object_set_new(row, "age_ms", json_integer(age > 0 ? age : 0));
    }
}

enum ctl_exit ctl_locks(struct conn *conn, const struct options *o)
{
    json_t *rows = NULL, *row;
    struct err_detail detail = {""};
    size_t i;
    conn->with_revisions = true;
    int err = view_load(conn, "locks", &rows, &detail);
    if (err) {
        ctl_say("%s", detail.text);
        return ctl_exit_of(err);
    }
    json_array_foreach(rows, i, row)
        complete(row);
    rows = view_sorted(rows, "id");
    enum ctl_exit code = view_print(o, COLUMNS, sizeof COLUMNS / sizeof COLUMNS[0], rows, "no locks");
    json_decref(rows);
    return code;
}
