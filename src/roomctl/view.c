/*
 * Rows for people and programs.
 *
 * Must not know what a row means. Invariant: standard output bears data only; remarks go to standard error.
 */
#include "roomctl/view.h"

#include <stdlib.h>
#include <string.h>

int view_load(struct conn *conn, const char *bucket, json_t **rows, struct err_detail *detail)
{
    json_t *all = NULL, *entry;
    const char *key;
    int err = conn_list(conn, bucket, &all, detail);
    if (err)
        return err;
    json_t *list = json_array();
    json_object_foreach(all, key, entry)
    {
        if (json_object_get(entry, "broken"))
            ctl_say("entry '%s' in bucket '%s' is not a JSON object: left out; see roomctl check", key, bucket);
        else
            json_array_append(list, entry);
    }
    json_decref(all);
    if (!list)
        return err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    *rows = list;
    return 0;
}

static const char *sort_field;

static int compare_values(json_t *a, json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        return (x > y) - (x < y);
    }
    if (json_is_string(a) && json_is_string(b))
        return strcmp(json_string_value(a), json_string_value(b));
    return (int)(a ? json_typeof(a) : JSON_NULL) - (int)(b ? json_typeof(b) : JSON_NULL);
}

static int compare(const void *left, const void *right)
{
    json_t *a = *(json_t *const *)left, *b = *(json_t *const *)right;
    bool down = sort_field[0] == '-';
    int order = compare_values(json_object_get(a, sort_field + down), json_object_get(b, sort_field + down));
    if (order == 0)
        return compare_values(json_object_get(a, "id"), json_object_get(b, "id"));
    return down ? -order : order;
}

json_t *view_sorted(json_t *rows, const char *field)
{
    size_t n = json_array_size(rows);
    json_t **list = calloc(n + 1, sizeof *list), *sorted = json_array();
    for (size_t i = 0; list && i < n; i++)
        list[i] = json_array_get(rows, i);
    if (list && sorted) {
        sort_field = field;
        qsort(list, n, sizeof *list, compare);
        for (size_t i = 0; i < n; i++)
            json_array_append(sorted, list[i]);
    }
    free(list);
    json_decref(rows);
    return sorted;
}

enum ctl_exit view_print(const struct options *o, const struct table_column *columns, size_t count, json_t *rows,
                         const char *none)
{
    bool ok = rows != NULL;
    if (ok && o->json)
        table_json(stdout, rows);
    else if (ok && json_array_size(rows) == 0)
        fprintf(stderr, "%s\n", none);
    else if (ok)
        ok = table_print(stdout, columns, count, rows, table_width(stdout));
    if (!ok)
        ctl_say("out of memory");
    return ok ? CTL_DONE : CTL_FAILED;
}

void view_details(const struct options *o, json_t *entry, json_t *live, const char *heading)
{
    if (o->json) {
        json_t *all = json_copy(entry);
        json_object_set_new(all, "live", live ? json_incref(live) : json_null());
        table_json(stdout, all);
        json_decref(all);
        return;
    }
    table_details(stdout, entry);
    printf("%s\n", heading);
    if (live)
        table_details(stdout, live);
}
