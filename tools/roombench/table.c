/* See table.h. Invariant: every row is printed, whether its target is met or not. */
#include "tools/roombench/table.h"

#include <stdio.h>

void table_ratio(struct table *t, const char *name, const char *unit, double value, const char *floor_name, double floor,
                 double target, bool more_is_better)
{
    if (t->count == TABLE_ROWS)
        return;
    struct table_row *r = &t->rows[t->count++];
    *r = (struct table_row){.value = value, .floor = floor, .target = target, .more_is_better = more_is_better};
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(r->unit, sizeof r->unit, "%s", unit);
    snprintf(r->floor_name, sizeof r->floor_name, "%s", floor_name);
}

void table_add(struct table *t, const char *name, const char *unit, double value)
{
    table_ratio(t, name, unit, value, "", 0, 0, false);
}

static double ratio(const struct table_row *r)
{
    return r->floor > 0 ? r->value / r->floor : 0;
}

static const char *verdict(const struct table_row *r)
{
    if (r->target <= 0 || r->floor <= 0)
        return "";
    return (r->more_is_better ? ratio(r) >= r->target : ratio(r) <= r->target) ? "ok" : "missed";
}

void table_print(const struct table *t, bool json)
{
    if (json)
        printf("[");
    else
        printf("%-44s %12s %-8s %-30s %12s %8s %8s\n", "measured", "value", "unit", "floor", "floor value", "ratio", "target");
    for (unsigned i = 0; i < t->count; i++) {
        const struct table_row *r = &t->rows[i];
        if (json) {
            printf("%s{\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.3f", i ? ",\n " : "", r->name, r->unit, r->value);
            if (r->floor_name[0])
                printf(",\"floor\":\"%s\",\"floor_value\":%.3f,\"ratio\":%.3f", r->floor_name, r->floor, ratio(r));
            if (r->target > 0)
                printf(",\"target\":%.3f,\"verdict\":\"%s\"", r->target, verdict(r));
            printf("}");
        } else if (r->floor_name[0]) {
            printf("%-44s %12.1f %-8s %-30s %12.1f %8.2f ", r->name, r->value, r->unit, r->floor_name, r->floor, ratio(r));
            if (r->target > 0)
                printf("%s%7.2f %s", r->more_is_better ? ">" : "<", r->target, verdict(r));
            printf("\n");
        } else {
            printf("%-44s %12.1f %-8s\n", r->name, r->value, r->unit);
        }
    }
    if (json)
        printf("]\n");
}
