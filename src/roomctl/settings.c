/*
 * Flags, environment and the context files of the nats tool (`~/.config/nats/context/NAME.json`).
 *
 * Must not know what is asked of NATS. Weak spot: nats.c takes user and password in the URL only and does not decode it,
 * so that blanks, commas and percent signs in them cannot be used.
 */
#include "roomctl/settings.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 1024, CONTEXT_BYTES = 65536, URLS_SIZE = 4096 };

static const char *const CANNOT[] = {"nkey", "user_jwt", "user_seed", "nsc", "socks_proxy"};

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool config_path(char out[PATH_SIZE], const char *rest)
{
    const char *base = env("XDG_CONFIG_HOME"), *home = env("HOME");
    if (!base && !home)
        return false;
    int n = base ? snprintf(out, PATH_SIZE, "%s/nats/%s", base, rest)
                 : snprintf(out, PATH_SIZE, "%s/.config/nats/%s", home, rest);
    return n > 0 && n < PATH_SIZE;
}

/* The context chosen with `nats context select`; "" if none. */
static void selected(char out[128])
{
    char path[PATH_SIZE];
    FILE *f = config_path(path, "context.txt") ? fopen(path, "r") : NULL;
    out[0] = 0;
    if (f && fgets(out, 128, f))
        out[strcspn(out, " \t\r\n")] = 0;
    if (f)
        fclose(f);
}

/* *out is the caller's to release, after an error too. */
static int read_context(const char *name, json_t **out, struct err_detail *detail)
{
    char path[PATH_SIZE], rest[256];
    static char text[CONTEXT_BYTES];
    json_error_t error;
    if (strchr(name, '/') || strlen(name) > 100)
        return err_set(detail, ROOM_E_INVALID, "invalid context '%.60s': give a name as 'nats context ls' shows it", name);
    snprintf(rest, sizeof rest, "context/%s.json", name);
    FILE *f = config_path(path, rest) ? fopen(path, "r") : NULL;
    if (!f)
        return err_set(detail, ROOM_E_INVALID, "no context '%.60s': %s: see 'nats context ls'", name, strerror(errno));
    size_t len = fread(text, 1, sizeof text, f);
    fclose(f);
    *out = len < sizeof text ? json_loadb(text, len, 0, &error) : NULL;
    if (!json_is_object(*out)) {
        return err_set(detail, ROOM_E_INVALID, "context '%.60s' is not a JSON object: repair it with 'nats context edit'",
                       name);
    }
    for (size_t i = 0; i < sizeof CANNOT / sizeof CANNOT[0]; i++)
        if (json_string_length(json_object_get(*out, CANNOT[i]))) {
            return err_set(detail, ROOM_E_INVALID,
                           "context '%.60s' sets '%s', which roomctl does not support: use creds, user, token or cert",
                           name, CANNOT[i]);
        }
    return 0;
}

static const char *first(const char *flag, const char *variable, json_t *context, const char *member)
{
    const char *value = flag ? flag : variable ? env(variable) : NULL;
    if (value)
        return value;
    value = json_string_value(json_object_get(context, member));
    return value && *value ? value : NULL;
}

static bool copy(char **out, const char *value)
{
    *out = value ? strdup(value) : NULL;
    return !value || *out;
}

/* "~/x" as the nats tool reads it. */
static bool copy_path(char **out, const char *value)
{
    char path[PATH_SIZE];
    const char *home = env("HOME");
    if (value && strncmp(value, "~/", 2) == 0 && home &&
        snprintf(path, sizeof path, "%s%s", home, value + 1) < (int)sizeof path)
        value = path;
    return copy(out, value);
}

static int join_urls(const char *urls, const char *user, const char *password, char **out, struct err_detail *detail)
{
    char all[URLS_SIZE] = "", *list = strdup(urls), *save = NULL;
    size_t len = 0;
    for (char *url = list ? strtok_r(list, ", ", &save) : NULL; url && len < sizeof all;
         url = strtok_r(NULL, ", ", &save)) {
        char *mark = strstr(url, "://");
        const char *host = mark ? mark + 3 : url;
        const char *scheme = mark ? url : "nats";
        bool login = user && !strchr(host, '@');
        if (mark)
            *mark = 0;
        len += (size_t)snprintf(all + len, sizeof all - len, "%s%s://%s%s%s%s%s", len ? "," : "", scheme,
                                login ? user : "", login && password ? ":" : "", login && password ? password : "",
                                login ? "@" : "", host);
    }
    free(list);
    if (!list || len == 0 || len >= sizeof all)
        return err_set(detail, ROOM_E_INVALID, "no usable NATS URL in '%.60s': give e.g. nats://127.0.0.1:4222", urls);
    return copy(out, all) ? 0 : ROOM_E_NO_MEMORY;
}

static int fill(const struct options *o, json_t *context, struct settings *out, struct err_detail *detail)
{
    const char *urls = first(o->nats, "NATS_URL", context, "url");
    const char *user = first(o->user, "NATS_USER", context, "user");
    const char *password = first(o->password, "NATS_PASSWORD", context, "password");
    const char *token = first(NULL, NULL, context, "token");
    if (!user && token) {
        user = token;
        password = NULL;
    }
    if ((user && strpbrk(user, " ,%\t")) || (password && strpbrk(password, " ,%\t")))
        return err_set(detail, ROOM_E_INVALID,
                       "user, password or token has a blank, comma or '%%', which cannot be sent: use a creds file");
    const char *prefix = first(o->prefix, "ROOMD_PREFIX", NULL, "");
    int err = join_urls(urls ? urls : "nats://127.0.0.1:4222", user, password, &out->urls, detail);
    if (err)
        return err;
    bool ok = copy(&out->prefix, prefix) &&
              copy_path(&out->creds, first(o->creds, "NATS_CREDS", context, "creds")) &&
              copy_path(&out->tls_ca, first(o->tls_ca, "NATS_CA", context, "ca")) &&
              copy_path(&out->tls_cert, first(o->tls_cert, "NATS_CERT", context, "cert")) &&
              copy_path(&out->tls_key, first(o->tls_key, "NATS_KEY", context, "key"));
    return ok ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
}

int settings_load(const struct options *o, struct settings *out, struct err_detail *detail)
{
    char chosen[128];
    json_t *context = NULL;
    const char *name = o->context ? o->context : env("NATS_CONTEXT");
    memset(out, 0, sizeof *out);
    selected(chosen);
    if (!name && chosen[0] && !o->nats && !env("NATS_URL"))
        name = chosen;
    int err = name ? read_context(name, &context, detail) : 0;
    if (err == 0)
        err = fill(o, context, out, detail);
    json_decref(context);
    if (err)
        settings_free(out);
    return err;
}

void settings_free(struct settings *s)
{
    free(s->urls);
    free(s->prefix);
    free(s->creds);
    free(s->tls_ca);
    free(s->tls_cert);
    free(s->tls_key);
    memset(s, 0, sizeof *s);
}

void settings_redact(char *text, size_t size)
{
    for (char *at = text; (at = strstr(at, "://")); at++) {
        char *start = at + 3;
        size_t len = strcspn(start, " ,");
        bool cut = start[len] == 0 && strlen(text) + 1 >= size;
        char *end = memrchr(start, '@', len);
        if (end && (size_t)(end - start) >= 3) {
            memcpy(start, "***", 3);
            memmove(start + 3, end, strlen(end) + 1);
        } else if (end || cut) {
            *start = 0; /* too short to hide, or cut off before the '@' */
        }
    }
}
