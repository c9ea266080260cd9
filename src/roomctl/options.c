/*
 * One table of options and the walk over argv.
 *
 * Must not know what the options do. Weak spot: --server means NATS, as for the nats tool, and a node after the verbs that
 * filter by node; there a value with ':' cannot be a node's id and is taken for NATS.
 */
#include "roomctl/options.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, FLAG, NUMBER, DURATION, SPAN };

struct row {
    const char *name;
    char letter;
    enum kind kind;
    unsigned group;
    size_t offset;
    const char *arg;
    const char *help;
};

#define AT(member) offsetof(struct options, member)
static const struct row ROWS[] = {
    {"server", 's', TEXT, OPT_COMMON, AT(nats), "URLS", "NATS servers, comma separated (NATS_URL)"},
    {"nats", 0, TEXT, OPT_COMMON, AT(nats), "URLS", "the same, for verbs where --server names a node"},
    {"context", 0, TEXT, OPT_COMMON, AT(context), "NAME", "context of the nats tool (NATS_CONTEXT)"},
    {"prefix", 0, TEXT, OPT_COMMON, AT(prefix), "P", "prefix of the cluster (ROOMD_PREFIX)"},
    {"user", 0, TEXT, OPT_COMMON, AT(user), "NAME", "user name or token (NATS_USER)"},
    {"password", 0, TEXT, OPT_COMMON, AT(password), "TEXT", "password (NATS_PASSWORD)"},
    {"creds", 0, TEXT, OPT_COMMON, AT(creds), "FILE", "credentials file (NATS_CREDS)"},
    {"tlsca", 0, TEXT, OPT_COMMON, AT(tls_ca), "FILE", "certificate authority (NATS_CA)"},
    {"tlscert", 0, TEXT, OPT_COMMON, AT(tls_cert), "FILE", "client certificate (NATS_CERT)"},
    {"tlskey", 0, TEXT, OPT_COMMON, AT(tls_key), "FILE", "key of the client certificate (NATS_KEY)"},
    {"timeout", 0, DURATION, OPT_COMMON, AT(timeout_ms), "TIME", "wait this long for an answer, e.g. 500ms (2s)"},
    {"json", 0, FLAG, OPT_COMMON, AT(json), NULL, "print JSON"},
    {"help", 'h', FLAG, OPT_COMMON, AT(help), NULL, "print help, also of one verb"},
    {"version", 0, FLAG, OPT_COMMON, AT(version), NULL, "print the version"},
    {"type", 0, TEXT, OPT_TYPE, AT(type), "TYPE", "only rooms of this type"},
    {"has-space", 0, FLAG, OPT_FILTER, AT(has_space), NULL, "only rooms with a free seat"},
    {"unlocked", 0, FLAG, OPT_FILTER, AT(unlocked), NULL, "only rooms that are not locked"},
    {"server", 0, TEXT, OPT_SERVER, AT(server), "ID", "only this node (NATS is given with -s or --nats)"},
    {"room", 0, TEXT, OPT_ROOM, AT(room), "ID", "only this room"},
    {"sort", 0, TEXT, OPT_SORT, AT(sort), "FIELD", "sort by this field, -FIELD: largest first (id)"},
    {"limit", 0, NUMBER, OPT_LIMIT, AT(limit), "N", "print N at most"},
    {"count", 0, NUMBER, OPT_COUNT, AT(count), "N", "end after N events"},
    {"settle", 0, DURATION, OPT_SETTLE, AT(settle_ms), "TIME", "how long a difference may last before it counts (5s)"},
    {"deadline", 0, DURATION, OPT_DRAIN, AT(deadline_ms), "TIME", "wait this long until the node is empty (60s)"},
    {"no-wait", 0, FLAG, OPT_DRAIN, AT(no_wait), NULL, "do not wait: the node drains by itself"},
    {"player", 0, TEXT, OPT_REVOKE, AT(player), "ID", "all tokens of this player"},
    {"until", 0, SPAN, OPT_REVOKE | OPT_SET, AT(until_ms), "TIME", "for so long, e.g. 12h or 7d (for ever)"},
    {"reason", 0, TEXT, OPT_REVOKE | OPT_REASON, AT(reason), "TEXT", "why, for who reads of it"},
    {"undo", 0, FLAG, OPT_REVOKE, AT(undo), NULL, "not any more"},
    {"ls", 0, FLAG, OPT_REVOKE, AT(ls), NULL, "list what is revoked"},
    {"all", 0, FLAG, OPT_PUSH, AT(all), NULL, "to everybody who is connected"},
    {"id", 0, TEXT, OPT_PUSH, AT(push_id), "TEXT", "names this push: repeated with it, it is done once (a new one)"},
    {"if-absent", 0, FLAG, OPT_SET, AT(if_absent), NULL, "only if nothing is there"},
    {"revision", 0, TEXT, OPT_CONDITION, AT(revision), "N", "only if it has this revision still"},
    {"force", 0, FLAG, OPT_FORCE, AT(force), NULL, "also over what is there already"},
};
#undef AT
enum { SPAN_MAX_DAYS = 3650 };
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

static const struct row *find(const char *name, size_t len, unsigned groups)
{
    for (size_t i = ROW_COUNT; i-- > 0;)
        if ((ROWS[i].group & groups) && strlen(ROWS[i].name) == len && memcmp(ROWS[i].name, name, len) == 0)
            return &ROWS[i];
    return NULL;
}

static const struct row *find_letter(char letter)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (ROWS[i].letter && ROWS[i].letter == letter)
            return &ROWS[i];
    return NULL;
}

int options_duration(const char *text, int *ms)
{
    char *end;
    if (*text < '0' || *text > '9')
        return ROOM_E_INVALID;
    double value = strtod(text, &end);
    if (strcmp(end, "ms") == 0)
        ;
    else if (*end == 0 || strcmp(end, "s") == 0)
        value *= 1000;
    else if (strcmp(end, "m") == 0)
        value *= 60000;
    else
        return ROOM_E_INVALID;
    if (!(value >= 1 && value <= 3600000))
        return ROOM_E_INVALID;
    *ms = (int)value;
    return 0;
}

int options_span(const char *text, int64_t *ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    long value = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
    for (size_t i = 0; value >= 1 && value <= INT_MAX && i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0 && value * units[i].ms <= SPAN_MAX_DAYS * units[3].ms) {
            *ms = value * units[i].ms;
            return 0;
        }
    return ROOM_E_INVALID;
}

static int set_number(const char *text, int *out)
{
    char *end;
    long value = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
    if (value < 1 || value > INT_MAX || *end)
        return ROOM_E_INVALID;
    *out = (int)value;
    return 0;
}

static int store(struct options *out, const struct row *row, const char *value, struct err_detail *detail)
{
    char *at = (char *)out + row->offset;
    switch (row->kind) {
    case FLAG:
        *(bool *)at = true;
        return 0;
    case NUMBER:
        if (set_number(value, (int *)(void *)at) != 0)
            return err_set(detail, ROOM_E_INVALID, "invalid --%s '%.40s': give a number from 1 on", row->name, value);
        return 0;
    case DURATION:
        if (options_duration(value, (int *)(void *)at) != 0)
            return err_set(detail, ROOM_E_INVALID, "invalid --%s '%.40s': give a time such as 500ms, 2s or 1m", row->name,
                           value);
        return 0;
    case SPAN:
        if (options_span(value, (int64_t *)(void *)at) != 0)
            return err_set(detail, ROOM_E_INVALID, "invalid --%s '%.40s': give a time such as 30s, 5m, 12h or 7d", row->name,
                           value);
        return 0;
    case TEXT:
        if (!*value)
            return err_set(detail, ROOM_E_INVALID, "empty --%s: give %s", row->name, row->arg);
        *(const char **)(void *)at = value;
        return 0;
    }
    return ROOM_E_INTERNAL;
}

static int unknown(const char *arg, size_t len, const struct options *out, struct err_detail *detail)
{
    if (len > 60)
        len = 60;
    if (out->verb && len > 2 && find(arg + 2, len - 2, ~0u))
        return err_set(detail, ROOM_E_INVALID, "'%s%s%s' takes no option '%.*s': see roomctl %s --help", out->verb,
                       out->sub ? " " : "", out->sub ? out->sub : "", (int)len, arg, out->verb);
    return err_set(detail, ROOM_E_INVALID, "unknown option '%.*s': see roomctl %s%s--help", (int)len, arg,
                   out->verb ? out->verb : "", out->verb ? " " : "");
}

/* One option at argv[*i]; moves *i over its value. */
static int take_option(int argc, char *const argv[], int *i, unsigned groups, struct options *out,
                       struct err_detail *detail)
{
    const char *arg = argv[*i], *value = NULL;
    size_t len = strlen(arg);
    const struct row *row;
    if (arg[1] == '-') {
        const char *equals = strchr(arg, '=');
        len = equals ? (size_t)(equals - arg) : len;
        value = equals ? equals + 1 : NULL;
        row = find(arg + 2, len - 2, groups);
    } else {
        row = find_letter(arg[1]);
        value = arg[2] ? arg + 2 : NULL;
        if (row && row->kind == FLAG && value)
            row = NULL;
    }
    if (!row)
        return unknown(arg, len, out, detail);
    if (row->kind == FLAG && value)
        return err_set(detail, ROOM_E_INVALID, "option '--%s' takes no value", row->name);
    if (row->kind != FLAG && !value && *i + 1 >= argc)
        return err_set(detail, ROOM_E_INVALID, "option '--%s' needs a value: --%s %s", row->name, row->name, row->arg);
    if (row->kind != FLAG && !value)
        value = argv[++*i];
    if (row->group == OPT_SERVER && strchr(value, ':'))
        row = find_letter('s');
    return store(out, row, value, detail);
}

/* The first word, and the second one of a family. */
static int take_verb(const char *word, options_verb *verb, struct options *o, unsigned *groups, struct err_detail *detail)
{
    const char **at = o->verb ? &o->sub : &o->verb;
    *at = word;
    *groups = verb(o->verb, o->sub);
    if (*groups) {
        *groups |= OPT_COMMON;
        return 0;
    }
    return o->sub ? err_set(detail, ROOM_E_INVALID, "unknown verb '%.40s %.40s': see roomctl %.40s --help", o->verb, o->sub, o->verb)
                  : err_set(detail, ROOM_E_INVALID, "unknown verb '%.40s': see roomctl --help", o->verb);
}

int options_parse(int argc, char *const argv[], options_verb *verb, struct options *out, struct err_detail *detail)
{
    struct options o = {.timeout_ms = OPTIONS_TIMEOUT_MS, .settle_ms = OPTIONS_SETTLE_MS, .deadline_ms = OPTIONS_DEADLINE_MS};
    unsigned groups = OPT_COMMON;
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        int err = 0;
        if (!only_args && strcmp(arg, "--") == 0)
            only_args = true;
        else if (!only_args && arg[0] == '-' && arg[1])
            err = take_option(argc, argv, &i, groups, &o, detail);
        else if (!o.verb || ((groups & OPT_FAMILY) && !o.sub))
            err = take_verb(arg, verb, &o, &groups, detail);
        else if (o.arg_count == OPTIONS_ARGS)
            err = err_set(detail, ROOM_E_INVALID, "too many arguments at '%.40s': see roomctl %s --help", arg, o.verb);
        else
            o.args[o.arg_count++] = arg;
        if (err)
            return err;
    }
    *out = o;
    return 0;
}

void options_help(FILE *to, unsigned groups)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &ROWS[i];
        char left[40];
        if (!(row->group & groups))
            continue;
        if (row->group == OPT_COMMON && (groups & OPT_SERVER) && strcmp(row->name, "server") == 0)
            snprintf(left, sizeof left, "-s URLS");
        else if (row->letter)
            snprintf(left, sizeof left, "-%c, --%s%s%s", row->letter, row->name, row->arg ? " " : "",
                     row->arg ? row->arg : "");
        else
            snprintf(left, sizeof left, "--%s%s%s", row->name, row->arg ? " " : "", row->arg ? row->arg : "");
        fprintf(to, "  %-22s %s\n", left, row->help);
    }
}
