/*
 * The command line of roomctl.
 *
 * Decides: which options there are, what they take, and which verb takes which. Reads no environment and no file; that is
 * for connect.c. Invariant: after success every value is within its limits; nothing unknown was passed over.
 */
#ifndef ROOMCTL_OPTIONS_H
#define ROOMCTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum { OPTIONS_ARGS = 2, OPTIONS_TIMEOUT_MS = 2000, OPTIONS_SETTLE_MS = 5000, OPTIONS_DEADLINE_MS = 60000 };

/* Groups of options, one bit each; a verb names the groups it takes. */
enum {
    OPT_COMMON = 1,
    OPT_TYPE = 2,
    OPT_FILTER = 4, /* --has-space --unlocked */
    OPT_SERVER = 8, /* --server ID after the verb */
    OPT_LIMIT = 16,
    OPT_SORT = 32,
    OPT_ROOM = 64,
    OPT_COUNT = 128,
    OPT_SETTLE = 256,
    OPT_DRAIN = 512, /* --deadline --no-wait */
    OPT_FORCE = 1024,
    OPT_REVOKE = 4096, /* --player --until --reason --undo --ls */
    OPT_PUSH = 8192, /* --all --id */
    OPT_REASON = 16384, /* --reason */
    OPT_SET = 32768,       /* --until --if-absent */
    OPT_CONDITION = 65536, /* --revision */
    OPT_FAMILY = 2048 /* none of its own: a second word says which verb it is */
};

/* Strings are borrowed from argv; NULL: not given. */
struct options {
    const char *verb, *sub; /* sub: the second word of `snapshot ls` */
    const char *args[OPTIONS_ARGS];
    int arg_count;
    const char *nats, *context, *prefix;
    const char *user, *password, *creds, *tls_ca, *tls_cert, *tls_key;
    int timeout_ms;
    bool json, help, version;
    const char *type, *server, *room, *sort;
    bool has_space, unlocked;
    int limit; /* 0: all */
    int count; /* 0: no end */
    int settle_ms;
    int deadline_ms;
    bool no_wait, force;
    const char *player, *reason;
    int64_t until_ms; /* 0: for ever */
    bool undo, ls;
    bool all;
    const char *push_id;
    bool if_absent;
    const char *revision;
};

/* Says which groups a verb takes; 0 if there is no such verb. For a first word that needs a second one: OPT_FAMILY while `sub`
 * is NULL. */
typedef unsigned options_verb(const char *name, const char *sub);

/* Fills `out`. ROOM_E_INVALID with a text that names the option and what to do. */
MUST_USE int options_parse(int argc, char *const argv[], options_verb *verb, struct options *out,
                           struct err_detail *detail);

/* "250ms", "2s", "1m" or seconds without a unit; 1 ms to 1 h. */
MUST_USE int options_duration(const char *text, int *ms);

/* "30s", "5m", "12h" or "7d"; 1 s to 3650 days. */
MUST_USE int options_span(const char *text, int64_t *ms);

/* The lines for --help of all options in `groups`. */
void options_help(FILE *to, unsigned groups);

#endif
