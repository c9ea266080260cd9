/* See err.h and room/error.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    int code;
    const char *name;
    const char *text;
    int retryable;
} table[] = {
#define ROW(symbol, number, name, text, retryable) {number, name, text, retryable},
    ROOM_ERROR_TABLE(ROW)
#undef ROW
};

#define ROWS (sizeof(table) / sizeof(table[0]))

static size_t row_of(int code)
{
    for (size_t i = 0; i < ROWS; i++)
        if (table[i].code == code)
            return i;
    return ROWS;
}

const char *room_error_name(int code)
{
    size_t i = row_of(code);
    return i < ROWS ? table[i].name : "unknown";
}

const char *room_error_text(int code)
{
    size_t i = row_of(code);
    return i < ROWS ? table[i].text : "unknown error";
}

int room_error_retryable(int code)
{
    size_t i = row_of(code);
    return i < ROWS ? table[i].retryable : 0;
}

int room_error_from_name(const char *name)
{
    for (size_t i = 0; i < ROWS; i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].code;
    return ROOM_E_INTERNAL;
}

int err_set(struct err_detail *detail, int code, const char *format, ...)
{
    if (detail) {
        va_list args;
        va_start(args, format);
        vsnprintf(detail->text, sizeof(detail->text), format, args);
        va_end(args);
    }
    return code;
}

_Noreturn void err_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "level=fatal msg=\"assertion failed\" cond=\"%s\" at=%s:%d\n", cond, file, line);
    abort();
}
