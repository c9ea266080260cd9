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
#include "room/journal.h"
#include "wire/mp_read.h"

void run_reason(char out[ROOM_REASON_MAX + 1], const char *reason, const char *otherwise)
{
    snprintf(out, ROOM_REASON_MAX + 1, "%s", reason && *reason ? reason : otherwise);
}

static void enter_callback(struct room *r)
{
    const struct host_config *c = &r->host->config;
    ASSERT(!r->in_callback);
    r->in_callback = true;
    r->asks = 0;
    if (c->cpu_us)
        r->entered_us = c->cpu_us(c->cpu_arg);
}

static void exit_callback(struct room *r)
{
    const struct host_config *c = &r->host->config;
    r->in_callback = false;
    if (r->running && c->cpu_us && c->cpu_us(c->cpu_arg) - r->entered_us > c->callback_max_us)
        r->stuck = true;
}

/* What a callback may answer: 0 or a negative code. */
static int answer(int rc)
{
    return rc > 0 ? ROOM_E_INTERNAL : rc;
}

int run_create(struct room *r, const void *options, size_t len)
{
    if (!r->def->impl->create)
        return 0;
    r->creating = true;
    enter_callback(r);
    int rc = r->def->impl->create(r, options, len);
    exit_callback(r);
    r->creating = false;
    return answer(rc);
}

int run_restore(struct room *r, const void *state, size_t len)
{
    enter_callback(r);
    int rc = r->def->impl->restore(r, state, len);
    exit_callback(r);
    return answer(rc);
}

int run_join(struct room *r, const char *player, const void *options, size_t len)
{
    if (!r->def->impl->join)
        return 0;
    r->recording = true;
    enter_callback(r);
    int rc = r->def->impl->join(r, player, options, len);
    exit_callback(r);
    r->recording = false;
    return answer(rc);
}

void run_leave(struct room *r, const char *player, const char *reason)
{
    if (!r->def->impl->leave)
        return;
    r->recording = true;
    enter_callback(r);
    r->def->impl->leave(r, player, reason);
    exit_callback(r);
    r->recording = false;
}

void run_tick(struct room *r, int64_t now_ms, int64_t dt_ms)
{
    if (!r->def->impl->tick)
        return;
    r->recording = true;
    enter_callback(r);
    r->def->impl->tick(r, now_ms, dt_ms);
    exit_callback(r);
    r->recording = false;
}

int run_apply(struct room *r, const void *data, size_t len)
{
    enter_callback(r);
    int rc = r->def->impl->apply(r, data, len);
    exit_callback(r);
    return answer(rc);
}

enum ask { ASK_STATE, ASK_MESSAGE, ASK_SAVE, ASK_EVENT };

static int call(struct room *r, enum ask what, const char *player, const void *data, size_t len)
{
    const struct room_type *impl = r->def->impl;
    switch (what) {
    case ASK_STATE:   return impl->state(r, player);
    case ASK_MESSAGE: return impl->message(r, player, data, len);
    case ASK_SAVE:    return impl->save(r);
    case ASK_EVENT:   return impl->event(r, data);
    }
    return ROOM_E_INTERNAL;
}

/* A callback that may reply. Only message() and event() may use up random numbers: the others are not done again from a
 * journal. */
static int with_reply(struct room *r, struct buf *out, enum ask what, const char *player, const void *data, size_t len)
{
    bool acts = what == ASK_MESSAGE || what == ASK_EVENT;
    struct rng before = r->rng;
    size_t mark = out->len;
    r->reply = out;
    r->reply_at = mark;
    r->reply_max = what == ASK_SAVE ? ROOM_IMAGE_MAX : ROOM_DATA_MAX;
    r->reply_error = 0;
    r->recording = acts;
    enter_callback(r);
    int rc = call(r, what, player, data, len);
    exit_callback(r);
    r->recording = false;
    r->reply = NULL;
    if (!acts)
        r->rng = before;
    rc = answer(rc);
    if (rc == 0)
        rc = r->reply_error;
    if (rc == 0 && (out->len > mark || what == ASK_SAVE) &&
        mp_check(out->data + mark, out->len - mark, WIRE_VALUE_DEPTH, NULL) != 0) {
        LOG_WRN("room type answered with what is no value", "room=%s type=%s", r->id, r->def->name.s);
        rc = ROOM_E_INTERNAL;
    }
    bool nil = acts && out->len == mark + 1 && out->data[mark] == 0xC0;
    if (rc || nil) /* on the wire a result of nil is none */
        out->len = mark;
    return rc;
}

int run_state(struct room *r, const char *player)
{
    buf_reset(&r->host->reply);
    return r->def->impl->state ? with_reply(r, &r->host->reply, ASK_STATE, player, NULL, 0) : 0;
}

int run_message(struct room *r, const char *player, const void *data, size_t len)
{
    buf_reset(&r->host->reply);
    return r->def->impl->message ? with_reply(r, &r->host->reply, ASK_MESSAGE, player, data, len) : 0;
}

int run_event(struct room *r, const struct room_event *event)
{
    buf_reset(&r->host->reply);
    return with_reply(r, &r->host->reply, ASK_EVENT, NULL, event, 0);
}

int run_save(struct room *r, struct buf *out)
{
    return with_reply(r, out, ASK_SAVE, NULL, NULL, 0);
}

/* Ends one seat and says so; the type is not told. */
static void report_left(struct room *r, struct seat *seat, const char *reason, struct id *player)
{
    uint64_t who = seat->who;
    bool taken = seat->taken;
    id_set(player, seat->player);
    if (who && journal_holds(r))
        seats_retire(&r->seats, seat); /* what was said before goes to it, too */
    else
        seats_drop(&r->seats, seat);
    if (!taken)
        return;
    r->host->players--;
    out_left(r, who, player->s, reason);
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
            run_reason(reason, seat->kick, "kicked");
            journal_split(r);
            journal_leave(r, seat->player, reason);
            report_left(r, seat, reason, &player);
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

/* The type's part of the end. */
static void bury(struct room *r)
{
    while (r->seats.head)
        seats_drop(&r->seats, r->seats.head);
    if (r->alive && r->def->impl->dispose) {
        enter_callback(r);
        r->def->impl->dispose(r);
        exit_callback(r);
    }
    r->alive = false;
}

void run_discard(struct room *r)
{
    struct host *h = r->host;
    h->players -= r->seats.taken;
    bury(r);
    seats_deinit(&r->seats);
    unlink_room(r);
    journal_drop(r);
    alloc_put(&r->budget.alloc, r->metadata, r->metadata_len);
    topics_clear(r);
    open_clear(r);
    if (r->budget.used_bytes)
        LOG_WRN("room type did not free its memory", "room=%s type=%s bytes=%zu", r->id, r->def->name.s,
                 r->budget.used_bytes);
    alloc_put_str(h->config.alloc, r->reason);
    alloc_put(h->config.alloc, r, sizeof(*r) + strlen(r->id) + 1);
}

void run_end(struct room *r, const char *reason)
{
    struct id player;
    char why[ROOM_REASON_MAX + 1];
    run_reason(why, reason, "closed");
    r->ending = true;
    journal_end(r, why);
    while (r->seats.head)
        report_left(r, r->seats.head, why, &player);
    bury(r);
    due_remove(r);
    if (!out_ended(r, why))
        journal_flush(r);
}

int run_verdict(const struct room *r)
{
    return r->over_memory ? ROOM_E_NO_MEMORY : r->stuck ? ROOM_E_INTERNAL : r->closing ? ROOM_E_CANCELLED : 0;
}

bool run_carry_out(struct room *r)
{
    settle_kicks(r);
    switch (run_verdict(r)) {
    case 0:
        return true;
    case ROOM_E_NO_MEMORY:
        LOG_WRN("room ended at its memory limit", "room=%s type=%s bytes=%zu", r->id, r->def->name.s,
                 r->budget.used_bytes);
        run_end(r, "room_memory");
        return false;
    case ROOM_E_INTERNAL:
        LOG_WRN("room ended because a callback ran too long", "room=%s type=%s", r->id, r->def->name.s);
        run_end(r, "room_stuck");
        return false;
    default:
        run_end(r, r->reason);
        return false;
    }
}

void run_refresh(struct room *r)
{
    struct host *h = r->host;
    bool changed = r->dirty || r->told_version != r->seats.version;
    if (r->told_version != r->seats.version && r->seats.taken + r->seats.reserved == 0)
        r->empty_since = h->now;
    r->told_version = r->seats.version;
    r->dirty = false;
    due_update(r);
    if (changed)
        out_changed(r);
    if (r->told_topics != r->topics_version)
        out_topics(r);
    r->told_topics = r->topics_version;
    journal_flush(r);
}

void run_settle(struct room *r)
{
    if (run_carry_out(r))
        run_refresh(r);
}
