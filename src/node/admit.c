/*
 * Who is let in by a token, and for how long.
 *
 * Decides: whether a hello may lead to a session, and when a session ends because its token does, or was revoked. Must not know
 * how a token is made (login/), nor what a session does. A node without keys lets in whoever says a name.
 */
#include "node/state.h"

#include <string.h>

enum { LOOK_MS = 250, ENDS_PER_TICK = 512 };

static int judge(const struct node *n, const struct wire_frame_hello *m, struct login_claims *out, struct err_detail *detail)
{
    if (!n->config.login) {
        *out = (struct login_claims){.player = m->player};
        return 0;
    }
    if (!m->token.len)
        return err_set(detail, ROOM_E_UNAUTHORIZED, "this server lets nobody in without a token: send the JWT in hello.token");
    int rc = login_check(n->config.login, m->token.data, m->token.len, n->wall, out, detail);
    if (!rc && strcmp(out->player.s, m->player.s) != 0)
        rc = err_set(detail, ROOM_E_TOKEN_PLAYER, "the token is of player '%s', and hello says '%s'", out->player.s,
                     m->player.s);
    if (!rc && (!n->revoked.known || n->revoked.missed))
        rc = err_set(detail, ROOM_E_UNAVAILABLE, "this server does not know yet which tokens were revoked; try again");
    if (!rc && revoked_has(n, &out->player, &out->jti))
        rc = err_set(detail, ROOM_E_TOKEN_REVOKED, "%s", room_error_text(ROOM_E_TOKEN_REVOKED));
    return rc;
}

bool admit(struct node *n, uint64_t conn, const struct wire_frame_hello *m, struct login_claims *out)
{
    struct err_detail detail = {{0}};
    int rc = judge(n, m, out, &detail);
    if (!rc)
        return true;
    if (n->config.log)
        LOG_INF("login refused", "player=%s err=%s", m->player.s, room_error_name(rc));
    session_conn_error(n, conn, 0, rc, detail.text, "unauthorized");
    return false;
}

void admit_session(struct node *n, struct session *s, const struct login_claims *claims)
{
    struct wall *first = &n->admission.first_expiry;
    s->jti = claims->jti;
    s->expires = claims->expires;
    if (s->expires.ms && (!first->ms || s->expires.ms < first->ms))
        *first = s->expires;
}

/* Ends what is over; false: there is more. */
static bool look(struct node *n, bool revoked)
{
    struct wall *first = &n->admission.first_expiry;
    int left = ENDS_PER_TICK;
    first->ms = 0;
    for (struct umap_iter it = umap_first(&n->sessions); it.value;) {
        struct session *s = it.value;
        umap_next(&it);
        const char *over = s->expires.ms && n->wall.ms >= s->expires.ms            ? "token_expired"
                           : revoked && revoked_has(n, &s->player, &s->jti) ? "revoked"
                                                                            : NULL;
        if (over && left-- > 0)
            session_kick(n, s, over, NULL);
        else if (s->expires.ms && (!first->ms || s->expires.ms < first->ms))
            *first = s->expires;
    }
    return left >= 0;
}

void admit_tick(struct node *n)
{
    struct admission *a = &n->admission;
    bool expired = a->first_expiry.ms && n->wall.ms >= a->first_expiry.ms;
    if ((!expired && !n->revoked.changed) || !mono_reached(n->now, a->next_look))
        return;
    bool done = look(n, n->revoked.changed);
    n->revoked.changed &= !done;
    a->next_look = mono_add_ms(n->now, done ? LOOK_MS : 0);
}
