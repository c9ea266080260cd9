/* See log.h. A value is quoted by the caller with \"%s\"; control characters in the finished line are blanked here, so
 * that no input can forge a line. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

static struct {
    enum log_level level;
    enum log_format format;
    char server[65];
} setup = {LOG_INFO, LOG_LOGFMT, "-"};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level level, enum log_format format, const char *server)
{
    setup.level = level;
    setup.format = format;
    snprintf(setup.server, sizeof(setup.server), "%s", server);
}

static int admitted(struct log_site *site, struct wall now, unsigned *left_out)
{
    if (site->second != now.ms / 1000) {
        site->second = now.ms / 1000;
        site->in_second = 0;
    }
    if (site->in_second++ >= LOG_PER_SECOND) {
        site->left_out++;
        return 0;
    }
    *left_out = site->left_out;
    site->left_out = 0;
    return 1;
}

/* Turns `key=value key="a b"` into `,"key":"value","key":"a b"`. */
static void put_json_pairs(FILE *f, const char *p)
{
    while (*p) {
        size_t key = strcspn(p, "= ");
        fprintf(f, ",\"%.*s\":\"", (int)key, p);
        p += key;
        if (*p == '=')
            p++;
        int quoted = *p == '"';
        p += quoted;
        for (; *p && *p != (quoted ? '"' : ' '); p++)
            if (*p == '\\' || *p == '"')
                fprintf(f, "\\%c", *p);
            else
                fputc(*p, f);
        p += quoted && *p == '"';
        fputc('"', f);
        p += strspn(p, " ");
    }
}

void log_write(struct log_site *site, enum log_level level, const char *msg, const char *pairs, ...)
{
    unsigned left_out = 0;
    struct wall now = time_wall_now();
    if (level < setup.level || !admitted(site, now, &left_out))
        return;
    char time[TIME_RFC3339_SIZE], line[1024];
    time_rfc3339(now, time);
    va_list args;
    va_start(args, pairs);
    vsnprintf(line, sizeof(line), pairs, args);
    va_end(args);
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    flockfile(stderr);
    if (setup.format == LOG_JSON) {
        fprintf(stderr, "{\"time\":\"%s\",\"level\":\"%s\",\"server\":\"%s\",\"msg\":\"%s\"", time, level_names[level],
                setup.server, msg);
        put_json_pairs(stderr, line);
        fputs("}\n", stderr);
    } else {
        fprintf(stderr, "time=%s level=%s server=%s msg=\"%s\" %s", time, level_names[level], setup.server, msg, line);
        if (left_out)
            fprintf(stderr, " left_out=%u", left_out);
        fputc('\n', stderr);
    }
    funlockfile(stderr);
}
