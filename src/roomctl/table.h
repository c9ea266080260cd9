/*
 * Tables for people and JSON for programs.
 *
 * Decides: column widths, what is cut or left out on a narrow terminal. Knows nothing of rooms. Invariant: no control
 * character from outside reaches the terminal; a line is never wider than `width`.
 */
#ifndef ROOMCTL_TABLE_H
#define ROOMCTL_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct table_column {
    const char *title;
    const char *key; /* member of the row's object */
    int drop;        /* the highest is left out first where it is too narrow; 0: never */
};

/* Columns the output may have: the terminal's width, or 0 (no limit) if it is not a terminal. */
int table_width(FILE *to);

/* `rows` is an array of objects; all columns but the last are padded. `width` 0: no limit. Nothing but the titles if it is
 * empty. False: no memory. */
bool table_print(FILE *to, const struct table_column *columns, size_t column_count, json_t *rows, int width);

/* One `key: value` line per member, in order. */
void table_details(FILE *to, json_t *object);

/* The value as a person reads it; "-" for null or absent. Owned by the caller (free); NULL: no memory. */
char *table_text(json_t *value);

/* Indented, members in their order, and a newline. */
void table_json(FILE *to, json_t *value);

#endif
