/*
 * roomctl's tables: they fit, lose the least important columns first, and never drive the terminal.
 *
 * Pure: prints into memory.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "roomctl/findings.h"
#include "roomctl/table.h"

static const struct table_column COLUMNS[] = {{"ID", "id", 0}, {"TYPE", "type", 1}, {"N", "n", 2}, {"NOTE", "note", 3}};

static char *printed(json_t *rows, int width)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    cr_assert(table_print(f, COLUMNS, 4, rows, width));
    fclose(f);
    return text;
}

static json_t *example(void)
{
    return json_pack("[{s:s,s:s,s:i,s:n},{s:s,s:s,s:f,s:b}]", "id", "a", "type", "relay", "n", 12, "note", "id",
                     "a-room-with-a-very-long-name", "type", "st", "n", 0.5, "note", 1);
}

static size_t widest(const char *text)
{
    size_t most = 0;
    for (; *text; text += strcspn(text, "\n") + (text[strcspn(text, "\n")] == '\n'))
        most = strcspn(text, "\n") > most ? strcspn(text, "\n") : most;
    return most;
}

Test(roomctl_table, unlimited)
{
    json_t *rows = example();
    char *text = printed(rows, 0);
    cr_assert_str_eq(text, "ID                            TYPE   N     NOTE\n"
                           "a                             relay  12    -\n"
                           "a-room-with-a-very-long-name  st     0.50  yes\n");
    free(text);
    json_decref(rows);
}

Test(roomctl_table, fits_every_width)
{
    json_t *rows = example();
    for (int width = 1; width < 60; width++) {
        char *text = printed(rows, width);
        cr_assert(widest(text) <= (size_t)width, "%d: %s", width, text);
        cr_assert(strncmp(text, "ID", width < 2 ? 0 : 2) == 0);
        cr_assert((strstr(text, "NOTE") != NULL) == (width >= 35), "%d: %s", width, text);
        free(text);
    }
    json_decref(rows);
}

Test(roomctl_table, control_characters)
{
    json_t *value = json_string("a\x1b[2Jb\xc2\x9b\x7f\n");
    char *text = table_text(value);
    cr_assert_str_eq(text, "a?[2Jb????");
    free(text);
    json_decref(value);
}

Test(roomctl_table, cut_between_code_points)
{
    json_t *rows = json_pack("[{s:s}]", "id", "\u00e4\u00f6\u00fc\u00e4\u00f6\u00fc\u00e4\u00f6\u00fc");
    struct table_column one = {"ID", "id", 0};
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    cr_assert(table_print(f, &one, 1, rows, 4));
    fclose(f);
    cr_assert(strstr(text, "\u00e4\u00f6\u00fc~\n"), "%s", text);
    free(text);
    json_decref(rows);
}

Test(roomctl_table, only_lasting_findings_count)
{
    json_t *first = findings_new(), *second = findings_new(), *both;
    findings_add(first, FINDING_FAIL, "room a", "players differs: listed %d", 1);
    findings_add(first, FINDING_FAIL, "room b", "not listed: x");
    findings_add(second, FINDING_FAIL, "room a", "players differs: listed %d", 2);
    findings_add(second, FINDING_FAIL, "room b", "two owners: x");
    both = findings_lasting(first, second);
    cr_assert_eq(json_array_size(both), 1);
    cr_assert_eq(findings_count(both, FINDING_FAIL), 1);
    json_decref(first);
    json_decref(second);
    json_decref(both);
}
