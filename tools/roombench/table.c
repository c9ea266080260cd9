/* See table.h. Invariant: every row is printed, whether its target is met or not. */
#include "tools/roombench/table.h"

#include <stdio.h>

static void add(struct table *t, const char *name, const char *unit, const struct table_row *row, const char *floor_name)
{
    if (t->count++ >= TABLE_ROWS)
        return;
    struct table_row *r = &t->rows[t->count - 1];
    *r = *row;
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(r->unit, sizeof r->unit, "%s", unit);
    snprintf(r->floor_name, sizeof r->floor_name, "%s", floor_name);
}

void table_ratio(struct table *t, const char *name, const char *unit, double value, const char *floor_name, double floor,
                 double target, bool more_is_better)
{
    struct table_row row = {.value = value, .floor = floor, .target = target, .more_is_better = more_is_better};
    add(t, name, unit, &row, floor_name);
}

void table_limit(struct table *t, const char *name, const char *unit, double value, double target)
{
    add(t, name, unit, &(struct table_row){.value = value, .target = target}, "");
}

void table_add(struct table *t, const char *name, const char *unit, double value)
{
    table_limit(t, name, unit, value, 0);
}

static double ratio(const struct table_row *r)
{
    return r->floor > 0 ? r->value / r->floor : 0;
}

static bool met(const struct table_row *r)
{
    double judged = r->floor_name[0] ? ratio(r) : r->value;
    return r->more_is_better ? judged >= r->target : judged <= r->target;
}

static void print_json(const struct table_row *r)
{
    printf("{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.3f", r->name, r->unit, r->value);
    if (r->floor_name[0])
        printf(",\"floor\":\"%s\",\"floor_value\":%.3f,\"ratio\":%.3f", r->floor_name, r->floor, ratio(r));
    if (r->target > 0)
        printf(",\"target\":%.3f,\"%s\":true,\"ok\":%s", r->target, r->more_is_better ? "at_least" : "at_most",
               met(r) ? "true" : "false");
    printf("}");
}

static void print_line(const struct table_row *r)
{
    printf("%-50s %12.1f %-8s ", r->name, r->value, r->unit);
    if (r->floor_name[0])
        printf("%-28s %12.1f %7.2f ", r->floor_name, r->floor, ratio(r));
    else
        printf("%-28s %12s %7s ", "", "", "");
    if (r->target > 0)
        printf("%s %8.1f %s", r->more_is_better ? ">=" : "<=", r->target, met(r) ? "ok" : "missed");
    printf("\n");
}

void table_print(const struct table *t, bool json)
{
    unsigned count = t->count < TABLE_ROWS ? t->count : TABLE_ROWS, targets = 0, good = 0;
    if (json)
        printf("[");
    else
        printf("%-50s %12s %-8s %-28s %12s %7s %11s\n", "measured", "value", "unit", "beside", "its value", "ratio",
               "target");
    for (unsigned i = 0; i < count; i++) {
        const struct table_row *r = &t->rows[i];
        if (json)
            print_json(r);
        else
            print_line(r);
        if (json && i + 1 < count)
            printf(",\n ");
        targets += r->target > 0;
        good += r->target > 0 && met(r);
    }
    if (json)
        printf("]\n");
    else
        printf("%u of %u targets met\n", good, targets);
    if (t->count > count)
        fprintf(stderr, "roombench: %u rows did not fit the table\n", t->count - count);
}
