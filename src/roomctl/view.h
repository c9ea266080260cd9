/*
 * What the listing verbs share: loading, sorting, printing rows.
 *
 * Decides: table or JSON, and what happens to entries nobody can read. Knows no bucket by name. One thread.
 */
#ifndef ROOMCTL_VIEW_H
#define ROOMCTL_VIEW_H

#include "roomctl/ctl.h"
#include "roomctl/table.h"

/* An array of the bucket's entries; unreadable ones are left out and said. */
MUST_USE int view_load(struct conn *conn, const char *bucket, json_t **rows, struct err_detail *detail);

/* By `field` ("-field": largest first), equal ones by id. Takes `rows`, returns owned; NULL: no memory. */
json_t *view_sorted(json_t *rows, const char *field);

/* The rows as table or JSON; `none` is said instead of an empty table. Borrows `rows`. */
enum ctl_exit view_print(const struct options *o, const struct table_column *columns, size_t count, json_t *rows,
                         const char *none);

/* One entry with what its node says (`live`, may be NULL), below the line `heading`. Borrows both. */
void view_details(const struct options *o, json_t *entry, json_t *live, const char *heading);

#endif
