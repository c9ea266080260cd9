/*
 * How players prove who they are at this node: the options that belong together, and the key file while it changes.
 *
 * Decides: whether a node may start that asks players for no token. Must not know what is in a token.
 */
#ifndef ROOMD_TOKENS_H
#define ROOMD_TOKENS_H

#include <uv.h>

#include "login/login.h"
#include "roomd/options.h"

struct tokens {
    struct login *login; /* NULL: whoever says a name is it */
    uv_timer_t timer;
};

/* `host` is what --listen names. On success the key file, if there is one, is looked at every second from now on. */
MUST_USE int tokens_open(struct tokens *t, uv_loop_t *loop, const struct options *o, const char *host,
                         struct err_detail *detail);
/* After the loop's last turn. */
void tokens_close(struct tokens *t);

#endif
