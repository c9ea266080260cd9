/*
 * Calling into a room type, and carrying out what follows from it.
 *
 * Decides: when a room has to end (it asked, its memory limit, a callback that ran too long) and in which order the node is
 * told. See room.h for the invariant.
 *
 * Weakness: a callback that never returns hangs its node; the watchdog only sees those that come back.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "room/lobby.h"
#include "room/room.h"
#include "wire/mp_read.h"

void run_reason(char out[ROOM_REASON_MAX + 1], const char *reason, const char *otherwise)
{
    snprintf(out, ROOM_REASON_MAX + 1, "%s", reason && *reason ? reason : otherwise);
}

void run_enter(struct room *r)
{
    const struct host_config *c = &r->host->config;
    ASSERT(!r->in_callback);
    r->in_callback = true;
    if (c->cpu_us)
        r->entered_us = c->cpu_us(c->cpu_arg);
}

void run_exit(struct room *r)
{
    const struct host_config *c = &r->host->config;
    r->in_callback = false;
    if (c->cpu_us && c->cpu_us(c->cpu_arg) - r->entered_us > c->callback_max_us)
        r->stuck = true;
}

/* What a callback may answer: 0 or a negative code. */
static int answer(int rc)
{
    return rc > 0 ? ROOM_E_INTERNAL : rc;
}

/* A callback that may reply. */
static int with_reply(struct room *r, struct buf *out, const char *player, const void *data, size_t len, bool message)
{
    size_t mark = out->len;
    bool failed = out->failed;
    r->reply = out;
    r->reply_at = mark;
    r->reply_error = 0;
    run_enter(r);
    int rc = answer(message ? r->def->impl->message(r, player, data, len) : r->def->impl->state(r, player));
    run_exit(r);
    r->reply = NULL;
    if (rc == 0)
        rc = r->reply_error;
    if (rc == 0 && out->len > mark && mp_check(out->data + mark, out->len - mark, WIRE_VALUE_DEPTH, NULL) != 0) {
        LOG_WRN("room type answered with what is no value", "room=%s type=%s", r->id, r->def->name.s);
        rc = ROOM_E_INTERNAL;
    }
    if (rc) {
        out->len = mark;
        out->failed = failed;
    }
    return rc;
}

int run_state(struct room *r, const char *player, struct buf *out)
{
    return r->def->impl->state ? with_reply(r, out, player, NULL, 0, false) : 0;
}

int run_message(struct room *r, const char *player, const void *data, size_t len, struct buf *out)
{
    return r->def->impl->message ? with_reply(r, out, player, data, len, true) : 0;
}

void run_leave(struct room *r, const char *player, const char *reason)
{
    if (!r->def->impl->leave)
        return;
    run_enter(r);
    r->def->impl->leave(r, player, reason);
    run_exit(r);
}

/* Ends one seat and says so; the type is not told. */
static void report_left(struct room *r, struct seat *seat, const char *reason, struct id *player)
{
    struct host *h = r->host;
    uint64_t who = seat->who;
    id_set(player, seat->player);
    seats_drop(&r->seats, seat);
    if (who) {
        h->players--;
        h->config.out->left(h->config.out_arg, r, who, player->s, reason);
    }
}

static void settle_kicks(struct room *r)
{
    while (r->kicks && !r->stuck && !r->over_memory) {
        r->kicks = false;
        for (struct seat *seat = r->seats.head, *next; seat; seat = next) {
            next = seat->next;
            if (!seat->kicked)
                continue;
            struct id player;
            char reason[ROOM_REASON_MAX + 1];
            bool was_taken = seat->who != 0;
            run_reason(reason, seat->kick, "kicked");
            report_left(r, seat, reason, &player);
            if (was_taken)
                run_leave(r, player.s, reason);
        }
    }
}

static void unlink_room(struct room *r)
{
    struct host *h = r->host;
    due_remove(r);
    lobby_room_ended(h->lobby, r);
    *(r->prev ? &r->prev->next : &h->head) = r->next;
    *(r->next ? &r->next->prev : &h->tail) = r->prev;
    map_del(&h->rooms, r->id);
}

void run_discard(struct room *r, bool created)
{
    struct host *h = r->host;
    seats_deinit(&r->seats);
    if (created && r->def->impl->dispose) {
        run_enter(r);
        r->def->impl->dispose(r);
        run_exit(r);
    }
    unlink_room(r);
    alloc_put(&r->budget.alloc, r->metadata, r->metadata_len);
    if (r->budget.used_bytes)
        LOG_WRN("room type did not free its memory", "room=%s type=%s bytes=%zu", r->id, r->def->name.s,
                 r->budget.used_bytes);
    alloc_put_str(h->config.alloc, r->reason);
    alloc_put(h->config.alloc, r, sizeof(*r) + strlen(r->id) + 1);
}

void run_end(struct room *r, const char *reason)
{
    struct host *h = r->host;
    struct id id, player;
    char why[ROOM_REASON_MAX + 1];
    run_reason(why, reason, "closed");
    id_set(&id, r->id);
    while (r->seats.head)
        report_left(r, r->seats.head, why, &player);
    run_discard(r, true);
    h->config.out->ended(h->config.out_arg, id.s, why);
}

int run_settle(struct room *r)
{
    struct host *h = r->host;
    settle_kicks(r);
    if (r->over_memory) {
        LOG_WRN("room ended at its memory limit", "room=%s type=%s bytes=%zu", r->id, r->def->name.s,
                 r->budget.used_bytes);
        run_end(r, "room_memory");
        return ROOM_E_NO_MEMORY;
    }
    if (r->stuck) {
        LOG_WRN("room ended because a callback ran too long", "room=%s type=%s", r->id, r->def->name.s);
        run_end(r, "room_stuck");
        return ROOM_E_INTERNAL;
    }
    if (r->closing) {
        run_end(r, r->reason);
        return ROOM_E_CANCELLED;
    }
    bool changed = r->dirty || r->told_version != r->seats.version;
    if (r->told_version != r->seats.version && r->seats.taken + r->seats.reserved == 0)
        r->empty_since = h->now;
    r->told_version = r->seats.version;
    r->dirty = false;
    due_update(r);
    if (changed)
        h->config.out->changed(h->config.out_arg, r);
    return 0;
}
