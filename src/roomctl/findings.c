/*
 * A list of remarks as a JSON array, which is also what --json prints.
 *
 * Must not judge. Weak spot: two findings are the same one if they are about the same thing and begin with the same words
 * up to a colon.
 */
#include "roomctl/findings.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "roomctl/table.h"

static const char *const LEVELS[] = {"ok", "note", "warn", "fail"};

json_t *findings_new(void)
{
    return json_array();
}

void findings_add(json_t *list, enum finding_level level, const char *about, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(list, json_pack("{s:s,s:s+,s:s+}", "level", LEVELS[level], "id", about, "", "text", text, ""));
}

size_t findings_count(json_t *list, enum finding_level level)
{
    size_t i, n = 0;
    json_t *one;
    json_array_foreach(list, i, one)
        n += strcmp(json_string_value(json_object_get(one, "level")), LEVELS[level]) == 0;
    return n;
}

json_t *findings_only(json_t *list, enum finding_level level)
{
    size_t i;
    json_t *one, *only = json_array();
    json_array_foreach(list, i, one)
    {
        if (strcmp(json_string_value(json_object_get(one, "level")), LEVELS[level]) == 0)
            json_array_append(only, one);
    }
    return only;
}

static bool same(json_t *a, json_t *b)
{
    const char *x = json_string_value(json_object_get(a, "text")), *y = json_string_value(json_object_get(b, "text"));
    size_t len = strcspn(x, ":");
    return json_equal(json_object_get(a, "id"), json_object_get(b, "id")) && len == strcspn(y, ":") &&
           memcmp(x, y, len) == 0;
}

json_t *findings_lasting(json_t *before, json_t *now)
{
    json_t *lasting = json_array(), *one, *old;
    size_t i, k;
    json_array_foreach(now, i, one)
    {
        json_array_foreach(before, k, old)
        {
            if (!same(old, one))
                continue;
            json_array_append(lasting, one);
            break;
        }
    }
    return lasting;
}

void findings_print(json_t *list)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one)
    {
        char *about = table_text(json_object_get(one, "id")), *text = table_text(json_object_get(one, "text"));
        printf("%-4s  %s: %s\n", json_string_value(json_object_get(one, "level")), about ? about : "?",
               text ? text : "?");
        free(about);
        free(text);
    }
}
