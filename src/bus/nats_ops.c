/*
 * Open requests, key-value and log operations: one table, one heap of due times, and what each answer or silence means.
 *
 * Must not know connections or watches beyond telling them what was written. Invariant: each operation ends in exactly
 * one BUS_EV_DONE, and a conditional write is sent again only after an answer that proves the one before was not done.
 */
#include "bus/nats_engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/nats_kv.h"
#include "bus/nats_log.h"

enum {
    FIRST_WAIT_US = 50000,
    LAST_WAIT_US = 400000,
    /* What may be repeated and has no answer. Waits double: the answers may just be many and big. */
    FIRST_RESEND_US = 300000,
    LAST_RESEND_US = 1200000,
    PURGE_RESEND_US = 5000000, /* a purge can take the server 30 ms, and a second one takes as long again */
    MAX_STEPS = 3,
    BODY_MAX = 4096
};

/* ---- heap of due times ---- */

static void heap_set(struct bus_nats *b, size_t at, struct op *op)
{
    b->heap[at] = op;
    op->heap = (long)at;
}

static void heap_fix(struct bus_nats *b, size_t at)
{
    struct op *op = b->heap[at];
    while (at > 0 && b->heap[(at - 1) / 2]->due_us > op->due_us) {
        heap_set(b, at, b->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= b->heap_len)
            break;
        if (child + 1 < b->heap_len && b->heap[child + 1]->due_us < b->heap[child]->due_us)
            child++;
        if (b->heap[child]->due_us >= op->due_us)
            break;
        heap_set(b, at, b->heap[child]);
        at = child;
    }
    heap_set(b, at, op);
}

static bool heap_add(struct bus_nats *b, struct op *op)
{
    if (b->heap_len == b->heap_cap) {
        size_t cap = b->heap_cap ? 2 * b->heap_cap : 64;
        struct op **heap = realloc(b->heap, cap * sizeof *heap);
        if (!heap)
            return false;
        b->heap = heap;
        b->heap_cap = cap;
    }
    heap_set(b, b->heap_len, op);
    heap_fix(b, b->heap_len++);
    return true;
}

static void heap_remove(struct bus_nats *b, struct op *op)
{
    size_t at = (size_t)op->heap;
    struct op *last = b->heap[--b->heap_len];
    if (last == op)
        return;
    heap_set(b, at, last);
    heap_fix(b, at);
}

static void due_at(struct bus_nats *b, struct op *op, int64_t due_us)
{
    op->due_us = due_us < op->cmd->deadline_us ? due_us : op->cmd->deadline_us;
    heap_fix(b, (size_t)op->heap);
}

int64_t ops_next_us(const struct bus_nats *b)
{
    return b->heap_len ? b->heap[0]->due_us : INT64_MAX;
}

/* ---- ending ---- */

static void done(struct bus_nats *b, uint64_t token, enum bus_result result, uint64_t revision, const void *data,
                 size_t len)
{
    struct bus_event ev = {.kind = BUS_EV_DONE, .token = token, .result = result, .revision = revision, .data = data,
                           .len = len};
    /* The number of open requests bounds these records, but not their bytes: a loop that does not drain loses answers. */
    if (data && atomic_load(&b->events.bytes) + len > 2 * b->events.max_bytes) {
        ev.result = BUS_UNKNOWN;
        ev.data = NULL;
        ev.len = 0;
    }
    while (!nats_emit(b, &ev, true)) /* no memory: the promise of one event outlives the moment */
        nats_Sleep(10);
}

static void finish(struct bus_nats *b, struct op *op, enum bus_result result, uint64_t revision, const void *data,
                   size_t len)
{
    done(b, op->cmd->token, result, revision, data, len);
    heap_remove(b, op);
    HASH_DEL(b->ops, op);
    queue_done(&b->commands, &op->cmd->item);
    free(op);
}

/* Compare-and-set: what went out may be done at any time, and must not go out again before we know. */
static bool writes(const struct op *op)
{
    enum cmd_kind kind = op->cmd->kind;
    return (kind == CMD_PUT || kind == CMD_DELETE || kind == CMD_APPEND) && !op->looking;
}

/* Harmless if done twice. A purge is: it names the sequence it goes up to. */
static bool repeatable(const struct op *op)
{
    return op->cmd->kind != CMD_REQUEST && !writes(op);
}

static void expire(struct bus_nats *b, struct op *op)
{
    bool purging = op->cmd->kind == CMD_PURGE && !op->looking; /* one before the last may be under way yet */
    if (op->looking && op->cmd->kind == CMD_PUT) /* the write was refused before we looked */
        finish(b, op, BUS_CONFLICT, 0, NULL, 0);
    else if (op->absent && !op->in_doubt && !purging)
        finish(b, op, BUS_NO_RESPONDERS, 0, NULL, 0);
    else
        finish(b, op, BUS_UNKNOWN, 0, NULL, 0);
}

/* ---- sending ---- */

static bool send_write(struct bus_nats *b, struct op *op, const char *reply)
{
    char subject[NATS_SUBJECT_SIZE], number[24];
    natsMsg *msg = NULL;
    bool del = op->cmd->kind == CMD_DELETE;
    if (op->cmd->kind == CMD_APPEND)
        snprintf(subject, sizeof subject, "%s", op->cmd->a);
    else
        snprintf(subject, sizeof subject, "$KV.%s.%s", op->cmd->a, op->cmd->b);
    if (!nats_up(b))
        return false;
    natsStatus s = natsMsg_Create(&msg, subject, reply, del ? NULL : (const char *)op->cmd->data,
                                  del ? 0 : (int)op->cmd->len);
    if (s == NATS_OK && op->expected != BUS_ANY_REVISION) {
        snprintf(number, sizeof number, "%" PRIu64, op->expected);
        s = natsMsgHeader_Set(msg, "Nats-Expected-Last-Subject-Sequence", number);
    }
    if (s == NATS_OK && del)
        s = natsMsgHeader_Set(msg, "KV-Operation", "DEL");
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(b->nc, msg);
    nats_spend(b, msg);
    return s == NATS_OK;
}

static void bucket_body(const struct bus_nats *b, const struct op *op, struct buf *body)
{
    char republish[NATS_SUBJECT_SIZE];
    const char *name = op->cmd->a + b->prefix_len;
    snprintf(republish, sizeof republish, "%.*s%skv.%s", b->prefix_len ? (int)b->prefix_len - 1 : 0, b->config.prefix,
             b->prefix_len ? "." : "", name);
    struct nats_kv_bucket bucket = {op->cmd->a, op->cmd->watched ? republish : NULL, op->cmd->ttl_ms, op->replicas};
    nats_kv_bucket_body(body, &bucket);
}

/* Returns the call, up to the name of the bucket or stream. */
static const char *api_call(const struct bus_nats *b, const struct op *op, struct buf *body)
{
    const struct cmd *cmd = op->cmd;
    enum cmd_kind kind = cmd->kind == CMD_PURGE && op->looking ? CMD_LAST : cmd->kind;
    switch (kind) {
    case CMD_BUCKET:
        bucket_body(b, op, body);
        return "CREATE.KV_";
    case CMD_STREAM:
        nats_log_stream_body(body, &(struct nats_log_stream){cmd->a, cmd->b, op->replicas, cmd->ttl_ms, cmd->max_per_subject});
        return "CREATE.";
    case CMD_LAST:
        nats_log_last_body(body, cmd->b);
        return "MSG.GET.";
    case CMD_NEXT:
        nats_log_next_body(body, cmd->b, cmd->expected);
        return "MSG.GET.";
    case CMD_PURGE:
        nats_log_purge_body(body, cmd->b, op->expected);
        return "PURGE.";
    default:
        nats_kv_get_body(body, cmd->a, cmd->b);
        return "MSG.GET.KV_";
    }
}

static bool send_api(struct bus_nats *b, struct op *op, const char *reply)
{
    char subject[NATS_SUBJECT_SIZE];
    struct buf body;
    buf_init(&body, &alloc_libc, BODY_MAX);
    const char *call = api_call(b, op, &body);
    snprintf(subject, sizeof subject, "$JS.API.STREAM.%s%s", call, op->cmd->a);
    bool sent = !body.failed && nats_send(b, subject, reply, body.data, body.len);
    buf_deinit(&body);
    return sent;
}

static void back_off(struct bus_nats *b, struct op *op)
{
    due_at(b, op, nats_now_us() + op->wait_us);
    op->wait_us = op->wait_us * 2 < LAST_WAIT_US ? op->wait_us * 2 : LAST_WAIT_US;
}

static void await(struct bus_nats *b, struct op *op)
{
    if (!repeatable(op)) {
        due_at(b, op, INT64_MAX);
        return;
    }
    due_at(b, op, nats_now_us() + op->resend_us);
    if (op->resend_us < LAST_RESEND_US)
        op->resend_us *= 2;
}

/* May end the operation. */
static void send_op(struct bus_nats *b, struct op *op)
{
    char reply[NATS_SUBJECT_SIZE];
    bool sent;
    snprintf(reply, sizeof reply, "%s.o.%" PRIu64 ".%u", b->inbox, op->id, op->round);
    if (op->cmd->kind == CMD_REQUEST) {
        sent = nats_send(b, op->cmd->a, reply, op->cmd->data, op->cmd->len);
        if (!sent)
            finish(b, op, BUS_UNKNOWN, 0, NULL, 0);
        else
            due_at(b, op, INT64_MAX);
        return;
    }
    if (repeatable(op))
        sent = send_api(b, op, reply);
    else
        op->in_doubt = sent = send_write(b, op, reply);
    if (!sent) {
        op->absent = true;
        back_off(b, op);
    } else {
        await(b, op);
    }
}

static int wanted_replicas(const struct bus_nats *b, const struct cmd *cmd)
{
    int replicas = b->config.replicas ? b->config.replicas : cmd->replicas;
    return replicas ? replicas : b->clustered ? 3 : 1;
}

void ops_begin(struct bus_nats *b, struct cmd *cmd)
{
    struct op *op = calloc(1, sizeof *op);
    struct err_detail detail;
    bool warn;
    if (op) {
        op->id = ++b->next_id;
        op->cmd = cmd;
        op->wait_us = FIRST_WAIT_US;
        op->expected = cmd->expected;
        op->looking = cmd->kind == CMD_PURGE && cmd->expected == 0;
        op->resend_us = cmd->kind == CMD_PURGE && !op->looking ? PURGE_RESEND_US : FIRST_RESEND_US;
        op->due_us = cmd->deadline_us;
        op->replicas = wanted_replicas(b, cmd);
    }
    if (!op || !heap_add(b, op)) {
        free(op);
        done(b, cmd->token, BUS_UNKNOWN, 0, NULL, 0);
        queue_done(&b->commands, &cmd->item);
        return;
    }
    HASH_ADD(hh, b->ops, id, sizeof op->id, op);
    bool makes = cmd->kind == CMD_BUCKET || cmd->kind == CMD_STREAM;
    if (makes && bus_nats_check_version(b->version, op->replicas, &warn, &detail) != 0)
        finish(b, op, BUS_REFUSED, 0, detail.text, strlen(detail.text));
    else if (cmd->kind == CMD_PURGE && cmd->expected == 1) /* sequences begin at 1; the server would purge all */
        finish(b, op, BUS_OK, 0, NULL, 0);
    else
        send_op(b, op);
}

/* ---- answers ---- */

/* The answer says that what was sent last was not done, and that it can be sent again. */
static void answered_absent(struct bus_nats *b, struct op *op)
{
    if (op->cmd->kind == CMD_REQUEST) {
        finish(b, op, BUS_NO_RESPONDERS, 0, NULL, 0);
        return;
    }
    op->in_doubt = false;
    op->absent = true;
    back_off(b, op);
}

static void refuse(struct bus_nats *b, struct op *op, const char *text)
{
    finish(b, op, BUS_REFUSED, 0, text, strlen(text));
}

static void answered_create(struct bus_nats *b, struct op *op, const struct nats_kv_answer *a)
{
    bool automatic = b->config.replicas == 0 && op->cmd->replicas == 0;
    if (a->code == 0 || a->err_code == NATS_KV_EXISTS) {
        finish(b, op, BUS_OK, 0, NULL, 0);
    } else if (automatic && a->err_code == NATS_KV_NOT_CLUSTERED) {
        op->replicas = 1;
        op->round++;
        send_op(b, op);
    } else if (a->err_code == NATS_KV_NO_PEERS || a->err_code == NATS_KV_NO_RESOURCES) {
        if (nats_now_us() + LAST_WAIT_US < op->cmd->deadline_us)
            back_off(b, op); /* a cluster that is still forming */
        else
            refuse(b, op, "the NATS cluster has too few JetStream servers for the replicas: start them or use --replicas 1");
    } else if (a->code >= 500 && a->err_code != NATS_KV_NOT_CLUSTERED) {
        op->absent = true;
        back_off(b, op);
    } else {
        refuse(b, op, a->text);
    }
}

/* A create found something in its way: over a delete marker it may go on. */
static void answered_look(struct bus_nats *b, struct op *op, const struct nats_kv_answer *a)
{
    bool nothing = a->err_code == NATS_KV_NO_MESSAGE;
    if (a->code >= 500) {
        back_off(b, op);
    } else if ((a->code && !nothing) || (!nothing && !a->deleted) || op->steps >= MAX_STEPS) {
        finish(b, op, BUS_CONFLICT, a->code ? 0 : a->seq, NULL, 0);
    } else {
        op->looking = false;
        op->round++;
        op->steps++;
        op->expected = nothing ? 0 : a->seq;
        send_op(b, op);
    }
}

static void answered_purge(struct bus_nats *b, struct op *op, const struct nats_kv_answer *a)
{
    bool nothing = op->looking && a->err_code == NATS_KV_NO_MESSAGE;
    if (a->code >= 500) {
        back_off(b, op);
    } else if (a->code && !nothing) {
        refuse(b, op, a->text);
    } else if (nothing || !op->looking) {
        finish(b, op, BUS_OK, 0, NULL, 0);
    } else if (a->seq == 0) {
        await(b, op); /* no answer to what was asked, and "below 1" would be everything */
    } else {
        op->looking = false;
        op->round++;
        op->resend_us = PURGE_RESEND_US;
        op->expected = a->seq + 1;
        send_op(b, op);
    }
}

static void answered_read(struct bus_nats *b, struct op *op, const struct nats_kv_answer *a)
{
    if (a->err_code == NATS_KV_NO_MESSAGE)
        finish(b, op, BUS_NOT_FOUND, 0, NULL, 0);
    else if (a->code >= 500)
        back_off(b, op);
    else if (a->code)
        refuse(b, op, a->text);
    else if (a->deleted && op->cmd->kind == CMD_GET)
        finish(b, op, BUS_NOT_FOUND, a->seq, NULL, 0);
    else
        finish(b, op, BUS_OK, a->seq, a->data, a->len);
}

static void answered_write(struct bus_nats *b, struct op *op, const struct nats_kv_answer *a)
{
    bool append = op->cmd->kind == CMD_APPEND;
    if (a->code == 0 && a->seq > 0) {
        if (!append)
            watch_written(b, op->cmd->a, a->seq);
        finish(b, op, BUS_OK, a->seq, NULL, 0);
    } else if (a->err_code == NATS_KV_TOO_MANY || (append && a->err_code == NATS_KV_WRONG_SEQUENCE_BUSY)) {
        answered_absent(b, op); /* busy: what another append comes to is told to the next try */
    } else if (a->err_code == NATS_KV_WRONG_SEQUENCE || a->err_code == NATS_KV_WRONG_SEQUENCE_BUSY) {
        if (op->cmd->kind != CMD_PUT || op->cmd->expected != 0) {
            finish(b, op, BUS_CONFLICT, a->seq, NULL, 0);
            return;
        }
        op->in_doubt = false;
        op->looking = true;
        op->round++;
        send_op(b, op);
    } else if (a->code >= 400 && a->code < 500) {
        refuse(b, op, a->text);
    } else {
        finish(b, op, BUS_UNKNOWN, 0, a->text, strlen(a->text));
    }
}

void ops_reply(struct bus_nats *b, uint64_t id, unsigned round, natsMsg *msg)
{
    struct op *op = NULL;
    struct nats_kv_answer a;
    HASH_FIND(hh, b->ops, &id, sizeof id, op);
    if (!op || op->round != round)
        return;
    const char *data = natsMsg_GetData(msg);
    size_t len = (size_t)natsMsg_GetDataLength(msg);
    if (natsMsg_IsNoResponders(msg)) {
        answered_absent(b, op);
        return;
    }
    if (op->cmd->kind == CMD_REQUEST) {
        finish(b, op, BUS_OK, 0, data ? data : "", len);
        return;
    }
    nats_kv_parse(data, len, &a);
    if (!a.valid && repeatable(op))
        await(b, op);
    else if (writes(op))
        answered_write(b, op, &a);
    else if (op->cmd->kind == CMD_PURGE)
        answered_purge(b, op, &a);
    else if (op->looking)
        answered_look(b, op, &a);
    else if (op->cmd->kind == CMD_BUCKET || op->cmd->kind == CMD_STREAM)
        answered_create(b, op, &a);
    else
        answered_read(b, op, &a);
    free(a.data);
}

/* ---- silence ---- */

void ops_due(struct bus_nats *b, int64_t now_us)
{
    while (b->heap_len && b->heap[0]->due_us <= now_us) {
        struct op *op = b->heap[0];
        if (now_us >= op->cmd->deadline_us || op->in_doubt)
            expire(b, op);
        else
            send_op(b, op);
    }
}

/* Replies to what was sent on the old connection are lost: reads are repeated, the rest may have happened. */
void ops_down(struct bus_nats *b)
{
    struct op *op, *tmp;
    HASH_ITER(hh, b->ops, op, tmp)
    {
        if (op->cmd->kind == CMD_REQUEST || op->in_doubt)
            finish(b, op, BUS_UNKNOWN, 0, NULL, 0);
        else
            due_at(b, op, nats_now_us() + FIRST_WAIT_US);
    }
}

void ops_close(struct bus_nats *b)
{
    struct op *op, *tmp;
    HASH_ITER(hh, b->ops, op, tmp)
    {
        finish(b, op, BUS_CLOSED, 0, NULL, 0);
    }
    free(b->heap);
    b->heap = NULL;
    b->heap_len = b->heap_cap = 0;
}
