/* See tokens.h. */
#include "roomd/tokens.h"

#include <stdbool.h>

#include "base/log.h"
#include "roomd/address.h"

enum { LOOK_MS = 1000 };

static void look(uv_timer_t *timer)
{
    struct tokens *t = timer->data;
    struct err_detail detail = {{0}};
    int rc = login_refresh(t->login, &detail);
    if (rc == 1)
        LOG_INF("new token keys", "keys=%u", login_key_count(t->login));
    else if (rc)
        LOG_ERR("the new token keys cannot be used; those before stay in force", "err=%s detail=\"%s\"", room_error_name(rc),
                detail.text);
}

int tokens_open(struct tokens *t, uv_loop_t *loop, const struct options *o, const char *host, struct err_detail *detail)
{
    if (o->token_keys[0] && o->insecure_no_login)
        return err_set(detail, ROOM_E_INVALID, "--token-keys and --insecure-no-login contradict each other: give one of them");
    if (o->token_audience[0] && !o->token_keys[0])
        return err_set(detail, ROOM_E_INVALID, "--token-audience is of no use without --token-keys");
    if (!o->token_keys[0] && !o->insecure_no_login && address_from_elsewhere(host))
        return err_set(detail, ROOM_E_INVALID,
                       "--listen %.64s can be reached from elsewhere, and players would need no token: give --token-keys FILE, "
                       "or --insecure-no-login if anybody may play under any name",
                       host);
    if (!o->token_keys[0])
        return 0;
    struct login_config lc = {.path = o->token_keys, .audience = o->token_audience[0] ? o->token_audience : NULL,
                              .leeway_ms = o->token_leeway_ms};
    int rc = login_open(&lc, &t->login, detail);
    if (rc)
        return rc;
    uv_timer_init(loop, &t->timer);
    t->timer.data = t;
    uv_timer_start(&t->timer, look, LOOK_MS, LOOK_MS);
    return 0;
}

void tokens_close(struct tokens *t)
{
    login_close(t->login);
    t->login = NULL;
}
