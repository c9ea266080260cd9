/*
 * The table of results: each figure beside its floor, and the target for it or for their ratio.
 *
 * Decides: how figures look to a person and as JSON. Knows nothing of what they mean.
 */
#ifndef ROOMBENCH_TABLE_H
#define ROOMBENCH_TABLE_H

#include <stdbool.h>

enum { TABLE_ROWS = 160 };

struct table_row {
    char name[64];
    char unit[16];
    double value;
    char floor_name[48]; /* "": there is none */
    double floor;
    double target; /* of value / floor, or of the value where there is no floor; 0: none */
    bool more_is_better; /* the target is then a least, else a most */
};

struct table {
    struct table_row rows[TABLE_ROWS];
    unsigned count;
};

/* Past TABLE_ROWS rows are left out, and table_print() says so. */
/* A figure by itself. */
void table_add(struct table *t, const char *name, const char *unit, double value);
/* A figure that may be `target` at most. */
void table_limit(struct table *t, const char *name, const char *unit, double value, double target);
/* A figure beside its floor; `target` is for their ratio. */
void table_ratio(struct table *t, const char *name, const char *unit, double value, const char *floor_name, double floor,
                 double target, bool more_is_better);
/* All rows, and on the terminal how many targets were met. */
void table_print(const struct table *t, bool json);

#endif
