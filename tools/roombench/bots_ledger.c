/*
 * What was acknowledged of the rooms that outlive their owner, compared with what is in them at the end. See bots_state.h.
 *
 * Decides: what counts as recovered, and what is a breach: a value acknowledged twice, one above what somebody finds who joins
 * anew, or a sum that is not the acknowledged adds plus at most those in doubt. Must not know how rooms move.
 * Weak point: a room is seen to be gone only by its acknowledgements, so a recovery is as long as from the last before to the
 * first after it, and counts the time in which nobody spoke.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/roombench/bots_state.h"

enum { VALUES_MAX = 1 << 27, VALUES_FIRST = 512, AUDIT_MS = 10000, AGAIN_MS = 100 };

void bots_breach(struct bots *b, const char *room_id, const char *format, ...)
{
    va_list args;
    if (b->breach[0])
        return;
    int len = snprintf(b->breach, sizeof b->breach, "room %s: ", room_id);
    va_start(args, format);
    vsnprintf(b->breach + len, sizeof b->breach - (size_t)len, format, args);
    va_end(args);
}

struct bots_account *bots_account(struct bots *b, enum bots_kind kind, const char *room_id)
{
    if (kind == BOTS_RELAY)
        return NULL;
    for (unsigned i = 0; i < b->account_count; i++)
        if (strcmp(b->accounts[i].room_id, room_id) == 0)
            return &b->accounts[i];
    struct bots_account *a = &b->accounts[b->account_count++];
    a->kind = kind;
    snprintf(a->room_id, sizeof a->room_id, "%s", room_id);
    return a;
}

void bots_accounts_free(struct bots *b)
{
    for (unsigned i = 0; i < b->account_count; i++)
        free(b->accounts[i].values);
    free(b->accounts);
}

/* False: it was marked already. */
static bool mark(struct bots_account *a, int64_t value)
{
    size_t at = (size_t)value / 8, size = a->values_size ? a->values_size : VALUES_FIRST;
    while (size <= at)
        size *= 2;
    if (size != a->values_size) {
        uint8_t *more = realloc(a->values, size);
        if (!more)
            abort();
        memset(more + a->values_size, 0, size - a->values_size);
        a->values = more;
        a->values_size = size;
    }
    uint8_t bit = (uint8_t)(1u << (value % 8));
    bool fresh = !(a->values[at] & bit);
    a->values[at] |= bit;
    return fresh;
}

static void recovered(struct bots *b, struct bots_account *a, uint64_t epoch, int64_t now_us)
{
    if (a->epoch && epoch > a->epoch) {
        int64_t took = now_us - a->acked_at_us;
        b->recovered++;
        stats_add(&b->recovery, took);
        if (took > b->recovery_max_us)
            b->recovery_max_us = took;
    }
    if (epoch >= a->epoch) {
        a->epoch = epoch;
        a->acked_at_us = now_us;
    }
}

void bots_acknowledged(struct bots *b, struct bots_seat *seat, const void *result, size_t len)
{
    struct bots_account *a = seat->account;
    int64_t value;
    if (!a)
        return;
    recovered(b, a, seat->epoch, stats_now_us());
    if (a->kind != BOTS_COUNTER)
        return;
    a->acknowledged++;
    if (!result || !bots_read_value(result, len, &value) || value < 1 || value > VALUES_MAX)
        bots_breach(b, a->room_id, "an add was acknowledged without a value this ledger can hold");
    else if (!mark(a, value))
        bots_breach(b, a->room_id, "value %lld was acknowledged twice", (long long)value);
    else if (value > a->top)
        a->top = value;
}

void bots_doubt(struct bots_seat *seat)
{
    if (seat->account && seat->kind == BOTS_COUNTER)
        seat->account->in_doubt += seat->open;
}

/* Somebody who was in no room before. */
struct auditor {
    struct bots *b;
    struct room_client *client;
    struct bots_account *account; /* of the open join */
    uint64_t request;
    bool welcomed;
};

static void on_welcome(void *arg, const char *server, const char *session, int resumed)
{
    ((struct auditor *)arg)->welcomed = true;
}

static void on_joined(void *arg, const struct room_client_joined *j)
{
    struct auditor *a = arg;
    if (j->request != a->request)
        return;
    a->request = 0;
    if (!bots_read_value(j->state, j->state_len, &a->account->found))
        a->account->found = -1;
    room_client_leave(a->client, j->room);
}

static void on_error(void *arg, uint64_t request, int code, const char *text)
{
    struct auditor *a = arg;
    if (request && request == a->request)
        a->request = 0;
}

static void on_reconnecting(void *arg, unsigned attempt, const char *server)
{
    struct auditor *a = arg;
    a->welcomed = false;
    a->request = 0;
}

static void find(struct auditor *a, struct bots_account *account, int64_t end_us)
{
    int64_t asked_us = 0;
    account->found = -1;
    a->account = account;
    a->request = 0;
    while (account->found < 0 && stats_now_us() < end_us) {
        int64_t now_us = stats_now_us();
        if (a->welcomed && !a->request && now_us - asked_us > AGAIN_MS * 1000) {
            struct room_client_join j = {.mode = "join", .type = "counter", .room_id = account->room_id};
            if (room_client_join(a->client, &j, &a->request) != 0)
                a->request = 0;
            asked_us = now_us;
        }
        if (room_client_run_once(a->client, AGAIN_MS / 10) != 0)
            return;
    }
}

static void judge(struct bots *b, const struct bots_account *a)
{
    uint64_t found = (uint64_t)a->found;
    if (a->found < 0)
        bots_breach(b, a->room_id, "nobody can join it any more");
    else if (a->top > a->found)
        bots_breach(b, a->room_id, "value %lld was acknowledged, but now it is %lld", (long long)a->top, (long long)a->found);
    else if (found < a->acknowledged || found > a->acknowledged + a->in_doubt)
        bots_breach(b, a->room_id, "%llu adds acknowledged, %llu in doubt, but its value is %llu",
                    (unsigned long long)a->acknowledged, (unsigned long long)a->in_doubt, (unsigned long long)found);
}

void bots_audit(struct bots *b)
{
    struct auditor a = {.b = b};
    char player[BOTS_ID];
    int64_t end_us = stats_now_us() + AUDIT_MS * 1000;
    snprintf(player, sizeof player, "auditor-%.40s", b->bots[0].seats[0].room_id);
    struct room_client_config config = {
        .servers = b->o.servers, .player = player, .can_relay = 1, .arg = &a,
        .on = {.welcome = on_welcome, .joined = on_joined, .error = on_error, .reconnecting = on_reconnecting}};
    int rc = room_client_create(&config, &a.client);
    if (rc == 0)
        rc = room_client_connect(a.client, stats_now_us() / 1000);
    if (rc != 0)
        bots_breach(b, "*", "the auditor cannot connect: %s", room_error_text(rc));
    for (unsigned i = 0; rc == 0 && i < b->account_count; i++) {
        if (b->accounts[i].kind != BOTS_COUNTER)
            continue;
        find(&a, &b->accounts[i], end_us);
        judge(b, &b->accounts[i]);
    }
    room_client_destroy(a.client);
}
