/*
 * Where NATS is and how to log in: flags, then environment, then a context of the nats tool.
 *
 * Decides: the order of precedence. Opens no connection. Invariant: what a context asks for and we cannot do is an error,
 * never silently left out.
 */
#ifndef ROOMCTL_SETTINGS_H
#define ROOMCTL_SETTINGS_H

#include "base/err.h"
#include "roomctl/options.h"

/* Owned strings; NULL: not set. `urls` bears user and password. */
struct settings {
    char *urls, *prefix, *creds, *tls_ca, *tls_cert, *tls_key;
};

MUST_USE int settings_load(const struct options *o, struct settings *out, struct err_detail *detail);
void settings_free(struct settings *s);

/* Replaces user and password of every URL in `text` by "***". */
void settings_redact(char *text, size_t size);

#endif
