/*
 * Error codes and the text that goes with one failure.
 *
 * Decides: the one list of codes of the whole project, and which of them are worth a retry. The codes, names and texts
 * come from the public table in room/error.h. A caller that wants to know more than the code hands down a
 * `struct err_detail`, which is filled by whoever stands nearest to the cause: lower case, cause first, the offending
 * value quoted, what to do if it is known.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "room/error.h"

#define MUST_USE __attribute__((warn_unused_result))

struct err_detail {
    char text[320];
};

/* Writes the text, cut at the size of the buffer. `detail` may be NULL. Returns `code`, so that a failing function can
 * end with `return err_set(...)`. */
int err_set(struct err_detail *detail, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Always-on check of our own assumptions; never for input from outside. */
#define ASSERT(cond)                                                                                                 \
    do {                                                                                                             \
        if (__builtin_expect(!(cond), 0))                                                                            \
            err_assert_failed(#cond, __FILE__, __LINE__);                                                            \
    } while (0)

_Noreturn void err_assert_failed(const char *cond, const char *file, int line);

#endif
