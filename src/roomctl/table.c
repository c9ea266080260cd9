/*
 * The column table: measure, cut, drop, print.
 *
 * Must not know what the columns mean. Weak spot: one code point counts as one column, so that wide characters push
 * the rest of their line to the right.
 */
#include "roomctl/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { CUT_MIN = 8, GAP = 2, COLUMNS_MAX = 24, WIDTH_MAX = 10000 };

int table_width(FILE *to)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    int n = columns ? atoi(columns) : 0;
    if (!isatty(fileno(to)))
        return 0;
    if (ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return n > 0 && n < WIDTH_MAX ? n : 80;
}

static void clean(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        if (*p < ' ' || *p == 0x7f)
            *p = '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
            p[0] = p[1] = '?'; /* C1 controls: some terminals obey them too */
    }
}

char *table_text(json_t *value)
{
    char *text = NULL, number[40];
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_NULL:
        return strdup("-");
    case JSON_TRUE:
        return strdup("yes");
    case JSON_FALSE:
        return strdup("no");
    case JSON_STRING:
        text = strdup(json_string_length(value) ? json_string_value(value) : "-");
        break;
    case JSON_REAL:
        snprintf(number, sizeof number, "%.2f", json_real_value(value));
        return strdup(number);
    case JSON_ARRAY:
    case JSON_OBJECT:
    case JSON_INTEGER:
        text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        break;
    }
    if (text)
        clean(text);
    return text;
}

static int columns_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static size_t bytes_of(const char *s, int columns)
{
    const char *at = s;
    while (*at && (columns > 0 || ((unsigned char)*at & 0xc0) == 0x80)) {
        columns -= ((unsigned char)*at & 0xc0) != 0x80;
        at++;
        while (((unsigned char)*at & 0xc0) == 0x80)
            at++;
    }
    return (size_t)(at - s);
}

static int total(const int *widths, size_t n)
{
    int sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += widths[i] > 0 ? widths[i] + (sum > 0 ? GAP : 0) : 0;
    return sum;
}

/* First the widest columns are cut, down to CUT_MIN; then columns are left out (width 0). */
static void fit(const struct table_column *columns, int *widths, size_t n, int width)
{
    while (total(widths, n) > width) {
        size_t widest = 0, victim = n;
        for (size_t i = 1; i < n; i++)
            widest = widths[i] > widths[widest] ? i : widest;
        for (size_t i = 0; i < n; i++)
            if (widths[i] > 0 && columns[i].drop > 0 && (victim == n || columns[i].drop > columns[victim].drop))
                victim = i;
        if (widths[widest] > 2 * CUT_MIN || (victim == n && widths[widest] > 1))
            widths[widest]--;
        else if (victim < n)
            widths[victim] = 0;
        else
            return;
    }
}

static void print_cell(FILE *to, const char *text, int width, bool last)
{
    int have = columns_of(text);
    if (have > width)
        fprintf(to, "%.*s%s", (int)bytes_of(text, width - 1), text, "~");
    else
        fprintf(to, "%s%*s", text, last ? 0 : width - have, "");
}

static void print_line(FILE *to, char *const *cells, const int *widths, size_t n)
{
    size_t last = 0;
    bool first = true;
    for (size_t i = 0; i < n; i++)
        last = widths[i] > 0 ? i : last;
    for (size_t i = 0; i < n; i++) {
        if (widths[i] == 0)
            continue;
        fprintf(to, "%*s", first ? 0 : GAP, "");
        print_cell(to, cells[i], widths[i], i == last);
        first = false;
    }
    fputc('\n', to);
}

bool table_print(FILE *to, const struct table_column *columns, size_t n, json_t *rows, int width)
{
    size_t lines = json_array_size(rows) + 1;
    int widths[COLUMNS_MAX] = {0};
    char **cells = n <= COLUMNS_MAX ? calloc(lines * n, sizeof *cells) : NULL;
    bool ok = cells != NULL;
    for (size_t k = 0; ok && k < lines * n; k++) {
        const struct table_column *column = &columns[k % n];
        json_t *row = k < n ? NULL : json_array_get(rows, k / n - 1);
        cells[k] = k < n ? strdup(column->title) : table_text(json_object_get(row, column->key));
        ok = cells[k] != NULL;
        int have = ok ? columns_of(cells[k]) : 0;
        widths[k % n] = have > widths[k % n] ? have : widths[k % n];
    }
    if (ok && width > 0)
        fit(columns, widths, n, width);
    for (size_t line = 0; ok && line < lines; line++)
        print_line(to, cells + line * n, widths, n);
    for (size_t k = 0; cells && k < lines * n; k++)
        free(cells[k]);
    free(cells);
    return ok;
}

void table_details(FILE *to, json_t *object)
{
    const char *key;
    json_t *value;
    int widest = 0;
    json_object_foreach(object, key, value)
        widest = columns_of(key) > widest ? columns_of(key) : widest;
    json_object_foreach(object, key, value)
    {
        char *text = table_text(value), *name = strdup(key);
        if (name)
            clean(name);
        fprintf(to, "%s:%*s %s\n", name ? name : "?", widest - columns_of(key), "", text ? text : "?");
        free(name);
        free(text);
    }
}

void table_json(FILE *to, json_t *value)
{
    json_dumpf(value, to, JSON_INDENT(2) | JSON_ENCODE_ANY);
    fputc('\n', to);
}
