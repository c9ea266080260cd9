/*
 * The bus thread: its libuv loop, the connection, subscriptions, and the order of work in one turn.
 *
 * Decides: when there is a connection and what happens at its loss. Must not know the meaning of requests (nats_ops.c) or
 * of watches (nats_watch.c). Invariant: nats.c is called from the bus thread only; its callbacks copy, push and wake.
 */
#include "bus/nats_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "bus/nats_info.h"

enum {
    LINGER_US = 5000000,      /* a subscription is destroyed this long after it was unsubscribed */
    RETRY_CONNECT_MS = 100,
    PENDING_MSGS = 1 << 20,
    PENDING_BYTES = 256 << 20,
    GOODBYE_MS = 3000,
    LOST_RETRY_US = 5000,
    WRITE_MS = 1000           /* a write that the server does not take for so long ends the connection */
};

int64_t nats_now_us(void)
{
    return time_mono_now().us;
}

bool nats_up(struct bus_nats *b)
{
    return atomic_load(&b->epoch) & 1;
}

/* ---- callbacks on nats.c's threads ---- */

static void push_inbound(struct bus_nats *b, const struct nats_sub *sub, natsMsg *msg)
{
    struct inbound *in = malloc(sizeof *in);
    if (in) {
        in->watch = sub->watch;
        in->listing = sub->number;
        in->msg = msg;
        in->item.size = sizeof *in + (size_t)natsMsg_GetDataLength(msg) + 256;
        enum queue_pushed pushed = queue_push(&b->inbound, &in->item, false);
        if (pushed == QUEUE_PUSHED_FIRST)
            wake_send(&b->wake);
        if (pushed != QUEUE_FULL)
            return;
        free(in);
    }
    natsMsg_Destroy(msg);
    atomic_store(&b->inbound_lost, true);
    wake_send(&b->wake);
}

static void on_message(natsConnection *nc, natsSubscription *handle, natsMsg *msg, void *closure)
{
    struct nats_sub *sub = closure;
    struct bus_nats *b = sub->bus;
    if (sub == &b->inbox_owner || sub->watch) {
        push_inbound(b, sub, msg);
        return;
    }
    char subject[NATS_SUBJECT_SIZE + 1], reply[NATS_SUBJECT_SIZE + 1];
    struct bus_event ev = {.kind = BUS_EV_MESSAGE,
                           .sub = sub->number,
                           .subject = nats_short_name(b, natsMsg_GetSubject(msg), subject),
                           .reply = nats_short_name(b, natsMsg_GetReply(msg), reply),
                           .data = (const uint8_t *)natsMsg_GetData(msg),
                           .len = (size_t)natsMsg_GetDataLength(msg)};
    if (!ev.data)
        ev.data = (const uint8_t *)"";
    if (!nats_emit(b, &ev, false)) {
        atomic_fetch_add(&sub->lost, 1);
        if (!atomic_exchange(&b->any_lost, true))
            wake_send(&b->wake);
    }
    natsMsg_Destroy(msg);
}

static void set_up(struct bus_nats *b, bool up)
{
    unsigned epoch = atomic_load(&b->epoch);
    if ((epoch & 1) == (unsigned)up)
        return;
    atomic_fetch_add(&b->epoch, 1);
    nats_wake_loop(b);
    wake_send(&b->wake);
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    set_up(closure, false);
}

static void on_reconnected(natsConnection *nc, void *closure)
{
    set_up(closure, true);
}

static void on_error(natsConnection *nc, natsSubscription *handle, natsStatus status, void *closure)
{
    struct bus_nats *b = closure;
    const char *text = NULL;
    if (nc)
        natsConnection_GetLastError(nc, &text);
    nats_log(b, BUS_LOG_WARN, "nats: %s%s%s", natsStatus_GetText(status), text && *text ? ": " : "", text ? text : "");
    if (status == NATS_SLOW_CONSUMER) {
        atomic_store(&b->inbound_lost, true);
        wake_send(&b->wake);
    }
}

static void on_closed(natsConnection *nc, void *closure)
{
    struct bus_nats *b = closure;
    atomic_store(&b->gone, true);
}

/* The delivery thread will not touch this subscription again. */
static void on_complete(void *closure)
{
    struct bus_nats *b = closure;
    atomic_fetch_sub(&b->delivering, 1);
}

/* ---- subscriptions, bus thread ---- */

static natsStatus subscribe_owner(struct bus_nats *b, natsSubscription **handle, const char *subject,
                                  struct nats_sub *owner)
{
    natsStatus s = natsConnection_Subscribe(handle, b->nc, subject, on_message, owner);
    if (s != NATS_OK)
        return s;
    natsSubscription_SetPendingLimits(*handle, PENDING_MSGS, PENDING_BYTES);
    if (natsSubscription_SetOnCompleteCB(*handle, on_complete, b) == NATS_OK)
        atomic_fetch_add(&b->delivering, 1);
    return NATS_OK;
}

bool nats_send(struct bus_nats *b, const char *subject, const char *reply, const void *data, size_t len)
{
    if (!nats_up(b))
        return false;
    if (!reply)
        return natsConnection_Publish(b->nc, subject, data, (int)len) == NATS_OK;
    return natsConnection_PublishRequest(b->nc, subject, reply, data, (int)len) == NATS_OK;
}

struct nats_sub *nats_sub_open(struct bus_nats *b, uint32_t number, uint32_t watch, const char *subject)
{
    struct nats_sub *sub = calloc(1, sizeof *sub);
    if (!sub)
        return NULL;
    sub->bus = b;
    sub->number = number;
    sub->watch = watch;
    natsStatus s = subscribe_owner(b, &sub->handle, subject, sub);
    if (s != NATS_OK) {
        nats_log(b, BUS_LOG_ERROR, "cannot subscribe to '%s': %s", subject, natsStatus_GetText(s));
        free(sub);
        return NULL;
    }
    return sub;
}

void nats_sub_close(struct bus_nats *b, struct nats_sub *sub)
{
    natsSubscription_Unsubscribe(sub->handle);
    sub->dead_us = nats_now_us() + LINGER_US;
    sub->next_dead = NULL;
    struct nats_sub **end = &b->dead;
    while (*end)
        end = &(*end)->next_dead;
    *end = sub;
}

/* First the handle, one linger later the record: the delivery thread may still hold it. */
static void bury(struct bus_nats *b, int64_t now_us, bool all)
{
    while (b->dead && (all || b->dead->dead_us <= now_us)) {
        struct nats_sub *sub = b->dead;
        b->dead = sub->next_dead;
        if (sub->handle && !all) {
            natsSubscription_Destroy(sub->handle);
            sub->handle = NULL;
            sub->dead_us = now_us + LINGER_US;
            sub->next_dead = NULL;
            struct nats_sub **end = &b->dead;
            while (*end)
                end = &(*end)->next_dead;
            *end = sub;
            continue;
        }
        natsSubscription_Destroy(sub->handle);
        free(sub);
    }
}

static void subscribe(struct bus_nats *b, const struct cmd *cmd)
{
    struct nats_sub *old = NULL;
    HASH_FIND(hh, b->subs, &cmd->sub, sizeof cmd->sub, old);
    if (old) {
        HASH_DEL(b->subs, old);
        nats_sub_close(b, old);
    }
    if (cmd->kind == CMD_UNSUBSCRIBE)
        return;
    struct nats_sub *sub = nats_sub_open(b, cmd->sub, 0, cmd->a);
    if (sub)
        HASH_ADD(hh, b->subs, number, sizeof sub->number, sub);
}

static void report_lost(struct bus_nats *b)
{
    if (!atomic_load(&b->any_lost) || !queue_roomy(&b->events))
        return;
    atomic_store(&b->any_lost, false);
    for (struct nats_sub *sub = b->subs; sub; sub = sub->hh.next) {
        size_t lost = atomic_exchange(&sub->lost, 0);
        struct bus_event ev = {.kind = BUS_EV_LOST, .sub = sub->number, .revision = lost};
        if (lost && !nats_emit(b, &ev, false)) {
            atomic_fetch_add(&sub->lost, lost);
            atomic_store(&b->any_lost, true);
            return;
        }
    }
}

/* ---- one turn ---- */

static void take_commands(struct bus_nats *b)
{
    struct queue_item *item;
    while (!b->stopping && (item = queue_pop(&b->commands))) {
        struct cmd *cmd = (struct cmd *)item;
        switch (cmd->kind) {
        case CMD_PUBLISH:
            nats_send(b, cmd->a, cmd->b, cmd->data, cmd->len);
            break;
        case CMD_SUBSCRIBE:
        case CMD_UNSUBSCRIBE:
            subscribe(b, cmd);
            break;
        case CMD_WATCH:
            watch_open(b, cmd->a);
            break;
        case CMD_CLOSE:
            ops_close(b);
            b->stopping = true;
            break;
        default:
            ops_begin(b, cmd); /* keeps the record until the request has ended */
            continue;
        }
        queue_done(&b->commands, item);
    }
}

/* `<inbox>.o.<op>.<round>`, `<inbox>.w.<watch>.<listing>` */
static void dispatch(struct bus_nats *b, struct inbound *in)
{
    if (in->watch && in->listing) {
        watch_listed(b, in->watch, in->listing, in->msg);
        return;
    }
    if (in->watch) {
        watch_live(b, in->watch, in->msg);
        return;
    }
    const char *subject = natsMsg_GetSubject(in->msg);
    size_t skip = strlen(b->inbox);
    unsigned long long first;
    unsigned second;
    char what;
    if (strlen(subject) <= skip || sscanf(subject + skip, ".%c.%llu.%u", &what, &first, &second) != 3)
        return;
    if (what == 'o')
        ops_reply(b, first, second, in->msg);
    else if (what == 'w')
        watch_created(b, (uint32_t)first, second, in->msg);
}

static void take_inbound(struct bus_nats *b)
{
    struct queue_item *item;
    while ((item = queue_pop(&b->inbound))) {
        struct inbound *in = (struct inbound *)item;
        dispatch(b, in);
        nats_spend(b, in->msg);
        queue_done(&b->inbound, item);
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void turn(struct bus_nats *b);

static void on_timer(uv_timer_t *timer)
{
    turn(timer->data);
}

static void on_wake(void *arg)
{
    turn(arg);
}

static void arm(struct bus_nats *b, int64_t now_us)
{
    int64_t due = earlier(ops_next_us(b), watch_next_us(b));
    if (b->dead)
        due = earlier(due, b->dead->dead_us);
    if (atomic_load(&b->any_lost))
        due = earlier(due, now_us + LOST_RETRY_US);
    if (due == INT64_MAX) {
        uv_timer_stop(&b->timer);
        return;
    }
    uv_update_time(&b->loop);
    uv_timer_start(&b->timer, on_timer, due > now_us ? (uint64_t)((due - now_us + 999) / 1000) : 0, 0);
}

static void turn(struct bus_nats *b)
{
    unsigned epoch = atomic_load(&b->epoch);
    if (epoch != b->handled_epoch) {
        if ((b->handled_epoch & 1) || epoch - b->handled_epoch > 1)
            ops_down(b);
        b->handled_epoch = epoch;
        if (epoch & 1)
            watch_up(b);
    }
    take_inbound(b);
    take_commands(b);
    if (atomic_exchange(&b->inbound_lost, false))
        watch_spoil_all(b);
    int64_t now_us = nats_now_us();
    ops_due(b, now_us);
    watch_due(b, now_us);
    bury(b, now_us, false);
    report_lost(b);
    if (b->stopping)
        uv_stop(&b->loop);
    else
        arm(b, now_us);
}

/* ---- start and stop ---- */

static natsStatus set_servers(natsOptions *opts, const char *urls)
{
    const char *list[16];
    int count = 0;
    char *copy = strdup(urls), *save = NULL;
    if (!copy)
        return NATS_NO_MEMORY;
    for (char *url = strtok_r(copy, ", ", &save); url && count < 16; url = strtok_r(NULL, ", ", &save))
        list[count++] = url;
    natsStatus s = count ? natsOptions_SetServers(opts, list, count) : NATS_INVALID_ARG;
    free(copy);
    return s;
}

static natsStatus set_security(struct bus_nats *b, natsOptions *opts)
{
    const struct bus_nats_config *c = &b->config;
    natsStatus s = NATS_OK;
    if (c->creds)
        s = natsOptions_SetUserCredentialsFromFiles(opts, c->creds, NULL);
    if (s == NATS_OK && (c->tls || c->tls_ca || c->tls_cert || c->tls_key))
        s = natsOptions_SetSecure(opts, true);
    if (s == NATS_OK && c->tls_ca)
        s = natsOptions_LoadCATrustedCertificates(opts, c->tls_ca);
    if (s == NATS_OK && c->tls_cert)
        s = natsOptions_LoadCertificatesChain(opts, c->tls_cert, c->tls_key);
    return s;
}

static natsStatus set_options(struct bus_nats *b, natsOptions *opts)
{
    natsStatus s = set_servers(opts, b->config.urls);
#define SET(call)                                                                                                    \
    if (s == NATS_OK)                                                                                                \
    s = (call)
    SET(natsOptions_SetName(opts, b->config.name));
    SET(set_security(b, opts));
    SET(natsOptions_SetTimeout(opts, NATS_TIMEOUT_MS));
    SET(natsOptions_SetPingInterval(opts, 1000));
    SET(natsOptions_SetMaxPingsOut(opts, 2));
    SET(natsOptions_SetMaxReconnect(opts, -1));
    SET(natsOptions_SetReconnectWait(opts, 100));
    SET(natsOptions_SetReconnectJitter(opts, 50, 50));
    SET(natsOptions_SetReconnectBufSize(opts, 0));
    SET(natsOptions_SetSendAsap(opts, true));
    SET(natsOptions_UseGlobalMessageDelivery(opts, true));
    SET(natsOptions_SetIgnoreDiscoveredServers(opts, b->config.ignore_discovered));
    SET(natsOptions_SetErrorHandler(opts, on_error, b));
    SET(natsOptions_SetClosedCB(opts, on_closed, b));
    SET(natsOptions_SetDisconnectedCB(opts, on_disconnected, b));
    SET(natsOptions_SetReconnectedCB(opts, on_reconnected, b));
    SET(natsOptions_SetWriteDeadline(opts, WRITE_MS));
#undef SET
    return s;
}

/* nats.c counts tries at a first connect, we the time. */
static natsStatus connect_until(struct bus_nats *b, natsOptions *opts)
{
    int64_t deadline = nats_now_us() + (int64_t)b->config.connect_wait_ms * 1000;
    for (;;) {
        natsStatus s = natsConnection_Connect(&b->nc, opts);
        if (s != NATS_NO_SERVER && s != NATS_TIMEOUT && s != NATS_IO_ERROR && s != NATS_CONNECTION_CLOSED)
            return s;
        if (nats_now_us() + RETRY_CONNECT_MS * 1000 > deadline)
            return s;
        nats_Sleep(RETRY_CONNECT_MS);
    }
}

static int check_server(struct bus_nats *b)
{
    struct nats_info info = {0};
    char url[256];
    bool warn = false;
    if (natsConnection_GetConnectedUrl(b->nc, url, sizeof url) != NATS_OK ||
        nats_info_read(url, NATS_TIMEOUT_MS * 2, &info) != 0)
        return err_set(&b->start_detail, ROOM_E_UNAVAILABLE, "cannot read the server's version from NATS at %s",
                       b->config.urls);
    snprintf(b->version, sizeof b->version, "%s", info.version);
    b->clustered = info.clustered;
    atomic_store(&b->max_payload, natsConnection_GetMaxPayload(b->nc));
    int replicas = b->config.replicas ? b->config.replicas : info.clustered ? 3 : 1;
    int err = bus_nats_check_version(b->version, replicas, &warn, &b->start_detail);
    if (err == 0 && replicas > 1 && !info.clustered)
        err = err_set(&b->start_detail, ROOM_E_UNSUPPORTED,
                      "NATS at %s is a single server, %d replicas are not possible: use --replicas auto or a NATS cluster",
                      url, replicas);
    if (err == 0 && warn)
        nats_log(b, BUS_LOG_WARN, "nats-server %s is old: one replica only, 2.10.23 or later is needed for more",
                 b->version);
    return err;
}

/* What nats.c said last, without the "(conn.c:123): " it begins with. */
static const char *error_text(natsStatus s)
{
    const char *text = nats_GetLastError(NULL);
    const char *after = text && *text == '(' ? strstr(text, "): ") : NULL;
    text = after ? after + 3 : text;
    return text && *text ? text : natsStatus_GetText(s);
}

static int start(struct bus_nats *b)
{
    natsOptions *opts = NULL;
    natsStatus s = natsOptions_Create(&opts);
    if (s == NATS_OK)
        s = set_options(b, opts);
    bool configured = s == NATS_OK;
    if (configured)
        s = connect_until(b, opts);
    natsOptions_Destroy(opts);
    if (s != NATS_OK) {
        const char *text = error_text(s);
        if (!configured)
            return err_set(&b->start_detail, ROOM_E_INVALID, "cannot use these NATS options: %s", text);
        return err_set(&b->start_detail, ROOM_E_UNAVAILABLE,
                       "cannot reach NATS at '%s': %s: start one (nats-server -js) or give --nats", b->config.urls, text);
    }
    int err = check_server(b);
    if (err)
        return err;
    char all[sizeof b->inbox + 2];
    snprintf(all, sizeof all, "%s.>", b->inbox);
    b->inbox_owner.bus = b;
    s = subscribe_owner(b, &b->inbox_sub, all, &b->inbox_owner);
    if (s != NATS_OK)
        return err_set(&b->start_detail, ROOM_E_UNAVAILABLE, "cannot subscribe to '%s' at NATS: %s", all,
                       natsStatus_GetText(s));
    atomic_fetch_add(&b->epoch, 1);
    b->handled_epoch = atomic_load(&b->epoch);
    return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void drop_inbound(struct bus_nats *b)
{
    struct queue_item *item;
    while ((item = queue_pop(&b->inbound))) {
        natsMsg_Destroy(((struct inbound *)item)->msg);
        queue_done(&b->inbound, item);
    }
}

static void stop(struct bus_nats *b)
{
    struct nats_sub *sub, *tmp;
    watch_close(b);
    HASH_ITER(hh, b->subs, sub, tmp)
    {
        HASH_DEL(b->subs, sub);
        sub->next_dead = b->dead;
        b->dead = sub;
    }
    if (b->nc)
        natsConnection_Close(b->nc);
    if (atomic_load(&b->epoch) & 1)
        atomic_fetch_add(&b->epoch, 1);
    /* nats.c's threads may still be on the way to our callbacks. */
    for (int i = 0; b->nc && i < GOODBYE_MS && (!atomic_load(&b->gone) || atomic_load(&b->delivering) > 0); i++)
        nats_Sleep(1);
}

/* After the other threads are done with this connection. */
static void dismantle(struct bus_nats *b)
{
    natsSubscription_Destroy(b->inbox_sub);
    natsConnection_Destroy(b->nc);
    drop_inbound(b);
    nats_spent_free(b);
    bury(b, 0, true);
    uv_walk(&b->loop, close_handle, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
}

void nats_thread(void *arg)
{
    struct bus_nats *b = arg;
    b->start_error = start(b);
    bool failed = b->start_error != 0;
    uv_sem_post(&b->started);
    if (!failed) {
        turn(b);
        uv_run(&b->loop, UV_RUN_DEFAULT);
    }
    stop(b);
    dismantle(b);
    nats_ReleaseThreadMemory();
}

int nats_loop_init(struct bus_nats *b)
{
    uv_timer_init(&b->loop, &b->timer);
    b->timer.data = b;
    return wake_init(&b->wake, &b->loop, on_wake, b);
}
