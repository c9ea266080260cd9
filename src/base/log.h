/*
 * Log lines in logfmt, one per event, on standard error.
 *
 * Decides: the shape of a line and how often one place may repeat itself. Keys are the same everywhere: room= epoch=
 * peer= err= ms=. Lower layers return errors; the layer that handles one logs it, once. Loop thread and start-up only;
 * other threads hand their errors over as events.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* `server` is copied (65 characters at most) and appears on each line as server=. */
void log_setup(enum log_level level, enum log_format format, const char *server);

/* One line a second and place at the most; what was left out is counted and said on the next one.
 * `pairs` is a printf format of key=value pairs; values with spaces are written as key=\"%s\". */
struct log_site {
    int64_t second;
    unsigned in_second;
    unsigned left_out;
};
enum { LOG_PER_SECOND = 20 };

void log_write(struct log_site *site, enum log_level level, const char *msg, const char *pairs, ...)
    __attribute__((format(printf, 4, 5)));

#define LOG_AT(level, msg, ...)                                                                                      \
    do {                                                                                                             \
        static struct log_site log_site_;                                                                            \
        log_write(&log_site_, level, msg, __VA_ARGS__);                                                              \
    } while (0)
#define LOG_DBG(msg, ...) LOG_AT(LOG_DEBUG, msg, __VA_ARGS__)
#define LOG_INF(msg, ...) LOG_AT(LOG_INFO, msg, __VA_ARGS__)
#define LOG_WRN(msg, ...) LOG_AT(LOG_WARN, msg, __VA_ARGS__)
#define LOG_ERR(msg, ...) LOG_AT(LOG_ERROR, msg, __VA_ARGS__)

#endif
