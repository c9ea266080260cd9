/*
 * See host.h. Taking a seat, leaving it, holding it while its player is away.
 *
 * Decides: in which order the type, the journal and the node hear of a seat. Must not decide who may have one: seats.c does.
 */
#include <string.h>

#include "room/journal.h"

static int check_options(const void *data, size_t len)
{
    return len ? room_check_value(data, len, HOST_OPTIONS_MAX, NULL) : 0;
}

/* A player comes back to its seat: nothing but the holder changes, and only once the state is there. */
static int move_seat(struct room *r, struct seat *seat, const struct host_join *j)
{
    uint64_t former = seat->who;
    int rc = run_state(r, seat->player);
    if (rc)
        return rc;
    journal_open(r);
    if (former && journal_holds(r) && !seats_ghost(&r->seats, seat))
        return ROOM_E_NO_MEMORY;
    journal_join(r, j, 0);
    r->changes++;
    seats_seat(&r->seats, seat, j->who, j->session);
    seat->told = false;
    if (former)
        out_left(r, former, seat->player, "replaced");
    return 0;
}

static int new_seat(struct room *r, struct seat *seat, const struct host_join *j)
{
    journal_open(r);
    r->changes++;
    int rc = run_join(r, j->player, j->options, j->options_len);
    journal_join(r, j, rc);
    if (rc) {
        seats_drop(&r->seats, seat);
        return rc;
    }
    rc = run_state(r, j->player);
    if (rc) {
        seats_drop(&r->seats, seat);
        journal_leave(r, j->player, "refused");
        run_leave(r, j->player, "refused");
        return rc;
    }
    seats_seat(&r->seats, seat, j->who, j->session);
    r->host->players++;
    return 0;
}

static int check_join(const struct room *r, const struct host_join *join)
{
    int rc = room_usable(r);
    if (rc)
        return rc;
    if (!join->player || !id_valid(join->player) || !join->who || (join->session && !id_valid(join->session)))
        return ROOM_E_INVALID;
    rc = check_options(join->options, join->options_len);
    if (rc)
        return rc;
    return seats_by_who(&r->seats, join->who) ? ROOM_E_ALREADY : 0;
}

/* After a seat was taken: what the type asked for is carried out, and then, if the seat is still there, its player hears of
 * it. The state waits in host.reply, which no leave() can write to. */
static int seated(struct room *r, uint64_t who, bool again, int rc)
{
    if (!run_carry_out(r))
        return rc;
    struct seat *seat = seats_by_who(&r->seats, who);
    if (rc == 0 && seat)
        out_joined(r, seat, again, r->host->reply.data, r->host->reply.len);
    run_refresh(r);
    return rc;
}

int host_join(struct host *h, const struct host_join *join, struct mono now)
{
    struct room *r = room_of(h, join->id, now);
    struct host_join plain = *join;
    struct seat *seat;
    int rc = check_join(r, join);
    if (rc)
        return rc;
    if (room_is_nil(join->options, join->options_len))
        plain.options_len = 0;
    join = &plain;
    seats_expire(&r->seats, now);
    if (journal_busy(r))
        return ROOM_E_RATE_LIMITED;
    rc = journal_reserve(r, join->options_len) ? 0 : ROOM_E_NO_MEMORY;
    if (!rc)
        rc = seats_claim(&r->seats, join->player, join->ticket, r->locked, now, &seat);
    if (!rc)
        rc = seat->taken ? move_seat(r, seat, join) : new_seat(r, seat, join);
    return seated(r, join->who, false, rc);
}

int host_attach(struct host *h, const char *id, const char *player, const char *session, uint64_t who, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r && player ? seats_by_player(&r->seats, player) : NULL;
    int rc = room_usable(r);
    if (rc)
        return rc;
    if (!seat || !seat->taken || !session || !*session || strcmp(seat->session.s, session) != 0)
        return ROOM_E_NOT_FOUND;
    if (!who || (seats_by_who(&r->seats, who) && seat->who != who))
        return who ? ROOM_E_ALREADY : ROOM_E_INVALID;
    if (journal_busy(r))
        return ROOM_E_RATE_LIMITED;
    rc = run_state(r, seat->player);
    if (rc == 0 && seat->who != who)
        seats_seat(&r->seats, seat, who, session);
    if (rc == 0)
        seat->told = false;
    return seated(r, who, true, rc);
}

int host_hold(struct host *h, const char *id, uint64_t who, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r ? seats_by_who(&r->seats, who) : NULL;
    if (!seat)
        return ROOM_E_NOT_FOUND;
    seats_hold(&r->seats, seat, mono_add_ms(now, h->config.hold_ms));
    run_settle(r);
    return 0;
}

/* A seat ends by somebody's word or by its time, and the type hears of it. */
static void end_seat(struct room *r, struct seat *seat, const char *reason, bool tell)
{
    struct id player;
    id_set(&player, seat->player);
    journal_split(r);
    journal_leave(r, player.s, reason);
    seats_drop(&r->seats, seat);
    r->host->players--;
    r->changes++;
    if (tell)
        out_left(r, 0, player.s, reason);
    run_leave(r, player.s, reason);
}

void member_expire(struct room *r)
{
    struct seat *seat;
    while (!run_verdict(r) && (seat = seats_due_held(&r->seats, r->host->now)))
        end_seat(r, seat, "timeout", true);
}

int host_leave(struct host *h, const char *id, uint64_t who, const char *reason, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r ? seats_by_who(&r->seats, who) : NULL;
    char why[ROOM_REASON_MAX + 1];
    if (!seat)
        return ROOM_E_NOT_FOUND;
    run_reason(why, reason, "left");
    end_seat(r, seat, why, false);
    run_settle(r);
    return 0;
}

int host_kick(struct host *h, const char *id, const char *player, const char *reason, struct mono now)
{
    struct room *r = room_of(h, id, now);
    struct seat *seat = r && player ? seats_by_player(&r->seats, player) : NULL;
    if (!seat)
        return ROOM_E_NOT_FOUND;
    if (!r->running)
        return ROOM_E_UNAVAILABLE;
    r->changes++;
    if (seat->taken)
        room_kick(r, player, reason);
    else
        seats_drop(&r->seats, seat);
    run_settle(r);
    return 0;
}
