/*
 * roomd: one process, one loop thread, one node.
 *
 * Decides: how options become a node, a bus and a gate, in which order they start and stop, and what signals mean. One
 * turn of the loop: frames and bus events of this poll, node_turn(), gate_flush(). Everything else is decided elsewhere.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"
#include "bus/bus_mem.h"
#include "bus/bus_nats.h"
#include "bus/wake.h"
#include "gate/gate.h"
#include "node/node.h"
#include "roomd/address.h"
#include "roomd/endpoints.h"
#include "roomd/hook.h"
#include "roomd/options.h"
#include "roomd/tokens.h"
#include "store/store_lmdb.h"

#ifndef ROOMD_VERSION
#error "ROOMD_VERSION is set by the build"
#endif

struct daemon {
    struct options options;
    uv_loop_t loop;
    uv_check_t check;
    uv_timer_t timer;
    struct wake wake;
    uv_signal_t signals[2];
    struct bus *bus;
    bool bus_is_mem;
    struct store *store;
    struct gate *gate;
    struct node *node;
    struct types *types;
    struct tokens tokens;
    struct endpoints endpoints;
    struct routes routes;
    struct queues queues;
    const struct room_service_hook *service_hook;
    char listen_host[256], server_id[ID_SIZE], advertise_host[ADDRESS_SIZE];
    int listen_port, advertise_port;
    int exit_code;
    bool announced;
};

static void on_wake(void *arg)
{
    wake_send(&((struct daemon *)arg)->wake);
}

static void on_timer(uv_timer_t *handle);

static void turn(struct daemon *d)
{
    struct mono now = time_mono_now();
    if (!d->node || !d->gate)
        return;
    if (d->bus_is_mem)
        bus_mem_tick(d->bus, now);
    bool more = node_turn(d->node, now, time_wall_now());
    if (!d->gate)
        return;
    gate_flush(d->gate);
    int64_t wait_us = node_next_due(d->node).us - time_mono_now().us;
    if (more)
        wake_send(&d->wake);
    uv_timer_start(&d->timer, on_timer, wait_us <= 0 ? 1 : (uint64_t)(wait_us / 1000 + 1), 0);
}

/* After the frames and the wake-ups of one poll. */
static void on_check(uv_check_t *handle)
{
    turn(handle->data);
}

/* Nothing came in, but something is due. */
static void on_timer(uv_timer_t *handle)
{
    turn(handle->data);
}

static void on_woken(void *arg)
{
    (void)arg; /* the check handle follows */
}

static void all_gone(void *arg)
{
    struct daemon *d = arg;
    uv_stop(&d->loop);
}

static void gate_gone(void *arg)
{
    struct daemon *d = arg;
    endpoints_close(&d->endpoints, all_gone, d);
}

/* From the node, so nothing of the node may be called: the gate goes first, the rest after the loop. */
static void on_stopped(void *arg, int code, const char *reason)
{
    struct daemon *d = arg;
    if (code) {
        LOG_ERR("cannot run", "err=%s reason=\"%s\"", room_error_name(code), reason);
        fprintf(stderr, "roomd: %s: '%s'; choose another with --server-id, or stop the other node\n", reason,
                d->server_id);
    }
    d->exit_code = code ? 1 : 0;
    gate_flush(d->gate);
    gate_destroy(d->gate, gate_gone, d);
    d->gate = NULL;
}

static void on_ready(void *arg)
{
    struct daemon *d = arg;
    if (d->announced)
        return;
    d->announced = true;
    char admin[300] = "";
    if (d->endpoints.admin)
        snprintf(admin, sizeof(admin), "admin=%s:%d ", d->endpoints.host, admin_port(d->endpoints.admin));
    printf("ready server=%s %slisten=%s:%d\n", d->server_id, admin, d->listen_host, gate_port(d->gate));
    fflush(stdout);
}

static void out_send(void *arg, uint64_t conn, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
    struct daemon *d = arg;
    /* A client must not miss a frame in silence: what its queue can never hold ends its connection. */
    if (d->gate && gate_send2(d->gate, conn, head, head_len, tail, tail_len) == ROOM_E_TOO_BIG) {
        LOG_WRN("a frame is bigger than --send-queue", "bytes=%zu limit=%lld", head_len + tail_len,
                (long long)d->options.send_queue);
        gate_close(d->gate, conn, "too_big", NULL, 0);
    }
}

static void out_close(void *arg, uint64_t conn, const char *reason, const void *final, size_t final_len)
{
    struct daemon *d = arg;
    if (d->gate)
        gate_close(d->gate, conn, reason, final, final_len);
}

static void out_established(void *arg, uint64_t conn)
{
    struct daemon *d = arg;
    if (d->gate)
        gate_established(d->gate, conn);
}

static enum node_encoding out_encoding(void *arg, uint64_t conn)
{
    struct daemon *d = arg;
    return d->gate ? (enum node_encoding)gate_encoding(d->gate, conn) : NODE_MSGPACK;
}

static void out_asked(void *arg, uint64_t ticket, int code, const char *json, size_t len)
{
    endpoints_asked(&((struct daemon *)arg)->endpoints, ticket, code, json, len);
}

static void in_opened(void *arg, uint64_t conn, const char *address)
{
    struct daemon *d = arg;
    if (d->node)
        node_opened(d->node, conn, address, time_mono_now(), time_wall_now());
}

static void in_frame(void *arg, uint64_t conn, enum gate_encoding encoding, const uint8_t *data, size_t len)
{
    struct daemon *d = arg;
    if (d->node)
        node_frame(d->node, conn, (enum node_encoding)encoding, data, len, time_mono_now(), time_wall_now());
}

static void in_refused(void *arg, uint64_t conn, int code, const char *text)
{
    struct daemon *d = arg;
    if (d->node)
        node_refused(d->node, conn, code, text, time_mono_now(), time_wall_now());
}

static void in_closed(void *arg, uint64_t conn, const char *reason)
{
    struct daemon *d = arg;
    if (d->node)
        node_closed(d->node, conn, reason, time_mono_now(), time_wall_now());
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";
    if (d->gate)
        gate_stop_accepting(d->gate);
    if (d->gate && node_stop(d->node, name, time_mono_now(), time_wall_now()))
        return;
    LOG_WRN("one signal more: ending now", "signal=%d", number);
    d->exit_code = 1;
    uv_stop(&d->loop);
}

static int64_t cpu_us(void *arg)
{
    struct timespec ts;
    (void)arg;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void bus_log(void *arg, enum bus_log_level level, const char *text)
{
    (void)arg;
    LOG_AT(level == BUS_LOG_ERROR ? LOG_ERROR : level == BUS_LOG_WARN ? LOG_WARN : LOG_INFO, "nats", "detail=\"%s\"", text);
}

static bool wildcard(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Host name and port, with what an id cannot hold replaced. */
static void default_id(struct daemon *d)
{
    char host[64] = "";
    gethostname(host, sizeof(host) - 8);
    host[sizeof(host) - 8] = 0;
    snprintf(d->server_id, sizeof(d->server_id), "%.56s-%d", host[0] ? host : "roomd", gate_port(d->gate));
    for (char *p = d->server_id; *p; p++)
        if (!id_valid_n(p, 1))
            *p = '-';
}

static int open_types(struct daemon *d, struct err_detail *detail)
{
    d->types = types_create(&alloc_libc);
    int rc = d->types ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < d->options.room_type_count && !rc; i++)
        rc = types_load(d->types, d->options.room_types[i], detail);
    for (size_t i = 0; i < d->options.type_count && !rc; i++)
        rc = types_variant(d->types, d->options.types[i], detail);
    return rc;
}

static int open_queues(struct daemon *d, struct err_detail *detail)
{
    int rc = 0;
    for (size_t i = 0; i < d->options.queue_count && !rc; i++)
        rc = queues_add(&d->queues, d->options.queues[i], detail);
    for (unsigned i = 0; i < d->queues.count && !rc; i++) {
        const struct queue *q = &d->queues.items[i];
        const struct room_type_def *def = types_find(d->types, q->type.s);
        if (!def)
            rc = err_set(detail, ROOM_E_UNKNOWN_TYPE, "queue '%s': there is no room type '%s'; give --type or --room-type",
                         q->name.s, q->type.s);
        else if (def->max_players < queue_size(q))
            rc = err_set(detail, ROOM_E_INVALID, "queue '%s': its matches have %u players, but room type '%s' takes %u",
                         q->name.s, queue_size(q), q->type.s, def->max_players);
    }
    return rc;
}

static int open_routes(struct daemon *d, struct err_detail *detail)
{
    int rc = 0;
    for (size_t i = 0; i < d->options.route_count && !rc; i++)
        rc = routes_add(&d->routes, d->options.routes[i], detail);
    if (!rc && d->options.service_hook[0])
        rc = service_hook_load(d->options.service_hook, &d->service_hook, detail);
    return rc;
}

static int open_gate(struct daemon *d, struct err_detail *detail)
{
    const struct options *o = &d->options;
    int rc = address_split("listen", o->listen, d->listen_host, sizeof(d->listen_host), &d->listen_port, detail);
    if (!rc)
        rc = tokens_open(&d->tokens, &d->loop, o, d->listen_host, detail);
    if (rc)
        return rc;
    struct gate_config gc = {.loop = &d->loop, .alloc = &alloc_libc, .host = d->listen_host, .port = d->listen_port,
                             .max_frame_bytes = (size_t)o->max_frame, .max_connections = (uint32_t)o->max_connections,
                             .max_connections_per_address = (uint32_t)o->max_per_address,
                             .hello_timeout_ms = (uint32_t)o->hello_timeout_ms,
                             .idle_timeout_ms = (uint32_t)o->idle_timeout_ms, .queue_limit_bytes = (size_t)o->send_queue};
    struct gate_handler gh = {d, in_opened, in_frame, in_refused, in_closed};
    rc = gate_create(&gc, &gh, &d->gate, detail);
    if (rc)
        return rc;
    if (!o->server_id[0])
        default_id(d);
    else if (id_valid(o->server_id))
        snprintf(d->server_id, sizeof(d->server_id), "%.64s", o->server_id);
    else
        return err_set(detail, ROOM_E_INVALID, "--server-id is '%.100s', wanted 1 to 64 of A-Z a-z 0-9 _ - (not 'all')",
                       o->server_id);
    if (o->advertise[0])
        return address_split("advertise", o->advertise, d->advertise_host, sizeof(d->advertise_host),
                             &d->advertise_port, detail);
    if (!wildcard(d->listen_host)) {
        snprintf(d->advertise_host, sizeof(d->advertise_host), "%s", d->listen_host);
        d->advertise_port = gate_port(d->gate);
    }
    return 0;
}

static const char *or_null(const char *s)
{
    return s[0] ? s : NULL;
}

static int open_bus(struct daemon *d, struct err_detail *detail)
{
    const struct options *o = &d->options;
    char name[ID_SIZE + 8];
    snprintf(name, sizeof(name), "roomd-%s", d->server_id);
    if (o->standalone) {
        d->bus_is_mem = true;
        d->bus = bus_mem_create(&alloc_libc, time_mono_now(), 0);
        return d->bus ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
    }
    int replicas = strcmp(o->replicas, "auto") == 0 ? 0 : atoi(o->replicas);
    struct bus_nats_config bc = {.urls = o->nats, .name = name, .prefix = or_null(o->prefix), .creds = or_null(o->creds),
                                 .tls_ca = or_null(o->tls_ca), .tls_cert = or_null(o->tls_cert),
                                 .tls_key = or_null(o->tls_key), .replicas = replicas, .wake = on_wake, .wake_arg = d,
                                 .log = bus_log};
    return bus_nats_create(&bc, &d->bus, detail);
}

static void default_data_dir(char out[OPTIONS_TEXT])
{
    const char *state = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && *state)
        snprintf(out, OPTIONS_TEXT, "%.400s", state);
    else if (xdg && *xdg)
        snprintf(out, OPTIONS_TEXT, "%.400s/roomd", xdg);
    else if (home && *home && geteuid() != 0)
        snprintf(out, OPTIONS_TEXT, "%.400s/.local/state/roomd", home);
    else
        snprintf(out, OPTIONS_TEXT, "/var/lib/roomd");
}

/* As mkdir -p; what cannot be made is said by who opens it. */
static void make_dirs(char *path)
{
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        (void)mkdir(path, 0755);
        *p = '/';
    }
    (void)mkdir(path, 0755);
}

static int open_store(struct daemon *d, struct err_detail *detail)
{
    char base[OPTIONS_TEXT], dir[OPTIONS_TEXT + 2 * ID_SIZE + 1];
    const char *given = d->options.data_dir;
    if (strcmp(given, "none") == 0)
        return 0;
    if (given[0])
        snprintf(base, sizeof(base), "%s", given);
    else
        default_data_dir(base);
    make_dirs(base);
    const char *prefix = d->options.prefix; /* another cluster's node may bear the same id */
    snprintf(dir, sizeof(dir), "%s/%.64s%s%s", base, prefix, prefix[0] ? "." : "", d->server_id);
    struct store_lmdb_config sc = {.dir = dir, .wake = on_wake, .wake_arg = d};
    return store_lmdb_create(&sc, &d->store, detail);
}

static int open_node(struct daemon *d, struct err_detail *detail)
{
    const struct options *o = &d->options;
    struct node_config nc;
    node_config_defaults(&nc);
    int strategy = place_strategy_from_name(o->strategy);
    ASSERT(strategy >= 0); /* the table of options has the same names */
    if (strlen(o->region) >= REGION_SIZE)
        return err_set(detail, ROOM_E_TOO_BIG, "--region is longer than 64 characters");
    nc.core.alloc = &alloc_libc;
    rng_secret(&nc.core.seed, sizeof(nc.core.seed));
    nc.core.strategy = (enum place_strategy)strategy;
    nc.core.prefer_local = o->prefer_local;
    nc.core.heartbeat_ms = (int)o->heartbeat_ms;
    nc.core.self.capacity = (uint32_t)o->capacity;
    nc.core.self.port = (uint16_t)d->advertise_port;
    id_set(&nc.core.self.id, d->server_id);
    snprintf(nc.core.self.address, sizeof(nc.core.self.address), "%s", d->advertise_host);
    snprintf(nc.core.self.region, sizeof(nc.core.self.region), "%.64s", o->region);
    snprintf(nc.core.self.version, sizeof(nc.core.self.version), "%s", ROOMD_VERSION);
    nc.types = d->types;
    nc.login_reject = strcmp(o->login_policy, "reject") == 0;
    nc.routing = strcmp(o->routing, "relay") == 0 ? NODE_RELAY
                 : strcmp(o->routing, "redirect") == 0 ? NODE_REDIRECT
                                                       : NODE_AUTO;
    nc.seat_ttl_ms = o->seat_ttl_ms;
    nc.empty_ms = o->room_ttl_ms;
    nc.server_ttl_ms = o->server_ttl_ms;
    nc.room_max_bytes = (size_t)o->room_memory;
    nc.store = d->store;
    nc.login = d->tokens.login;
    nc.snapshot_ms = o->snapshot_ms;
    nc.snapshot_ttl_ms = o->snapshot_ttl_ms;
    nc.hold_ms = o->grace_ms;
    nc.drain_ms = o->drain_ms;
    nc.core.failover = strcmp(o->failover, "on") == 0;
    nc.rooms_per_session = (unsigned)o->session_rooms;
    nc.routes = &d->routes;
    nc.queues = &d->queues;
    nc.service_hook = d->service_hook;
    nc.inbox_messages = o->inbox_messages;
    nc.shared = true;
    nc.inbox_bytes = o->inbox_bytes;
    if (nc.inbox_bytes > o->send_queue / 2) /* what waits must never be what closes a connection, at each login anew */
        nc.inbox_bytes = o->send_queue / 2;
    nc.inbox_ttl_ms = o->inbox_ttl_ms;
    nc.rate_requests = o->rate_requests;
    if ((size_t)o->send_queue / 2 < nc.reply_max_bytes) /* an answer must never be what closes a connection */
        nc.reply_max_bytes = (size_t)o->send_queue / 2;
    nc.cpu_us = cpu_us;
    nc.log = true;
    struct node_out out = {d, out_send, out_close, out_established, out_encoding, on_ready, out_asked, on_stopped};
    d->node = d->endpoints.node = node_create(&nc, d->bus, &out, time_mono_now(), time_wall_now());
    return d->node ? 0 : err_set(detail, ROOM_E_NO_MEMORY, "out of memory");
}

static int open_loop(struct daemon *d, struct err_detail *detail)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    uv_loop_init(&d->loop);
    uv_check_init(&d->loop, &d->check);
    uv_timer_init(&d->loop, &d->timer);
    d->check.data = d->timer.data = d;
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_check_start(&d->check, on_check);
    uv_timer_start(&d->timer, on_timer, 1, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is a full disk */
    int rc = wake_init(&d->wake, &d->loop, on_woken, d);
    return rc ? err_set(detail, rc, "cannot watch sockets: no descriptor is free") : 0;
}

/* 10,000 connections need as many descriptors; what the hard limit gives is taken. */
static void raise_limit(int64_t connections)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= (rlim_t)connections + 64)
        return;
    limit.rlim_cur = limit.rlim_max < (rlim_t)connections + 64 ? limit.rlim_max : (rlim_t)connections + 64;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < (rlim_t)connections + 64)
        LOG_WRN("fewer descriptors than --max-connections", "limit=%llu wanted=%lld",
                (unsigned long long)limit.rlim_cur, (long long)connections + 64);
}

static void setup_log(const struct options *o, const char *server_id)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    int level = 0;
    while (strcmp(levels[level], o->log_level) != 0) /* the table of options has no others */
        level++;
    log_setup((enum log_level)level, strcmp(o->log_format, "json") == 0 ? LOG_JSON : LOG_LOGFMT, server_id);
}

static int run(struct daemon *d, struct err_detail *detail)
{
    int rc = open_types(d, detail);
    if (!rc)
        rc = open_routes(d, detail);
    if (!rc)
        rc = open_queues(d, detail);
    if (!rc)
        rc = open_gate(d, detail);
    if (!rc) {
        setup_log(&d->options, d->server_id);
        raise_limit(d->options.max_connections);
        rc = open_bus(d, detail);
    }
    if (!rc)
        rc = endpoints_open(&d->endpoints, &d->loop, &d->options, detail);
    if (!rc)
        rc = open_store(d, detail);
    if (!rc)
        rc = open_node(d, detail);
    if (rc)
        return rc;
    LOG_INF("started", "version=%s listen=%s:%d nats=\"%s\" nats_version=%s login=%s advertise=%s:%d%s", ROOMD_VERSION,
            d->listen_host, gate_port(d->gate), d->bus_is_mem ? "none (standalone)" : d->options.nats,
            d->bus_is_mem ? "-" : bus_nats_server_version(d->bus), d->tokens.login ? "token" : "none",
            d->advertise_host[0] ? d->advertise_host : "none",
            d->advertise_port, d->advertise_host[0] ? "" : " note=\"players elsewhere reach this node by relay only\"");
    uv_run(&d->loop, UV_RUN_DEFAULT);
    return 0;
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct err_detail detail = {{0}};
    enum options_action action;
    if (options_read(&d.options, argc, argv, &action, &detail)) {
        fprintf(stderr, "roomd: %s\n", detail.text);
        return 2;
    }
    if (action == OPTIONS_HELP)
        options_help();
    else if (action == OPTIONS_VERSION)
        printf("roomd %s\n", ROOMD_VERSION);
    else if (action == OPTIONS_PRINT)
        options_print(&d.options);
    if (action != OPTIONS_RUN)
        return 0;
    if (open_loop(&d, &detail) || run(&d, &detail)) {
        fprintf(stderr, "roomd: %s\n", detail.text);
        d.exit_code = 1;
    }
    node_destroy(d.node);
    tokens_close(&d.tokens);
    if (d.bus_is_mem)
        bus_mem_destroy(d.bus);
    else
        bus_nats_destroy(d.bus);
    store_lmdb_destroy(d.store);
    bus_nats_library_close();
    types_destroy(d.types);
    return d.exit_code;
}
