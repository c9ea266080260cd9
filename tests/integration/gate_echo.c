/*
 * A server that is nothing but the gate: it echoes frames and does what a frame beginning with '!' says. The tests of the
 * gate talk to it from outside.
 *
 * Prints "port N", then one line per event. Ends when its standard input does. A connection is established by its first
 * frame. Orders: !close, !flood, !flood-everyone, !stats, !quiet (no echo), !stop (accepting).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "gate/gate.h"

enum { MAX_CONNS = 20000, FLOOD_FRAMES = 64, FLOOD_BYTES = 16 * 1024 };

static struct gate *gate;
static uint64_t conns[MAX_CONNS];
static size_t conn_count;
static bool talk;
static char filler[FLOOD_BYTES];

static void on_opened(void *arg, uint64_t conn, const char *address)
{
    if (conn_count < MAX_CONNS)
        conns[conn_count++] = conn;
    if (talk)
        printf("opened %s\n", address);
}

static void send_stats(uint64_t conn)
{
    struct gate_stats s;
    char text[512];
    gate_get_stats(gate, &s);
    int n = snprintf(text, sizeof text,
                     "{\"connections\":%u,\"websockets\":%u,\"accepted\":%llu,\"full\":%llu,\"address\":%llu,"
                     "\"slow\":%llu,\"hello\":%llu,\"idle\":%llu,\"too_big\":%llu,\"bad\":%llu,\"http\":%llu,\"queued\":%zu}",
                     s.connections, s.websockets, (unsigned long long)s.accepted, (unsigned long long)s.refused_full,
                     (unsigned long long)s.refused_address, (unsigned long long)s.slow_clients,
                     (unsigned long long)s.hello_timeouts, (unsigned long long)s.idle_timeouts,
                     (unsigned long long)s.too_big, (unsigned long long)s.bad_frames,
                     (unsigned long long)s.refused_http, gate_queued(gate, conn));
    gate_send(gate, conn, text, (size_t)n);
}

static void flood(uint64_t conn)
{
    for (int i = 0; i < FLOOD_FRAMES; i++)
        if (gate_send2(gate, conn, filler, 100, filler, FLOOD_BYTES) != 0)
            return;
}

static void obey(uint64_t conn, const char *order)
{
    if (strcmp(order, "!close") == 0) {
        gate_close(gate, conn, "told_to", "bye", 3);
    } else if (strcmp(order, "!flood") == 0) {
        flood(conn);
    } else if (strcmp(order, "!flood-everyone") == 0) {
        for (size_t i = 0; i < conn_count; i++)
            if (conns[i] != conn)
                flood(conns[i]);
        gate_send(gate, conn, "done", 4);
    } else if (strcmp(order, "!stats") == 0) {
        send_stats(conn);
    } else if (strcmp(order, "!stop") == 0) {
        gate_stop_accepting(gate);
        gate_send(gate, conn, "done", 4);
    }
}

static void on_frame(void *arg, uint64_t conn, enum gate_encoding encoding, const uint8_t *data, size_t len)
{
    char order[32];
    gate_established(gate, conn);
    if (data[0] != '!') {
        gate_send(gate, conn, data, len);
        return;
    }
    snprintf(order, sizeof order, "%.*s", (int)(len < 31 ? len : 31), (const char *)data);
    obey(conn, order);
}

static void on_refused(void *arg, uint64_t conn, int code, const char *text)
{
    char frame[128];
    int n = snprintf(frame, sizeof frame, "refused %s: %s", room_error_name(code), text);
    gate_send(gate, conn, frame, (size_t)n);
}

static void on_closed(void *arg, uint64_t conn, const char *reason)
{
    for (size_t i = 0; i < conn_count; i++) {
        if (conns[i] == conn) {
            conns[i] = conns[--conn_count];
            break;
        }
    }
    if (talk)
        printf("closed %s\n", reason);
}

static void on_check(uv_check_t *check)
{
    gate_flush(gate);
}

static void on_stdin(uv_poll_t *poll, int status, int events)
{
    uv_check_t *check = poll->data;
    char byte;
    if (read(STDIN_FILENO, &byte, 1) > 0)
        return;
    uv_close((uv_handle_t *)check, NULL);
    uv_close((uv_handle_t *)poll, NULL);
    gate_destroy(gate, NULL, NULL);
}

static void parse_args(struct gate_config *c, char **argv)
{
    for (; argv[0] && argv[1]; argv += 2) {
        size_t v = strtoul(argv[1], NULL, 10);
        if (strcmp(argv[0], "--max-frame") == 0)
            c->max_frame_bytes = v;
        else if (strcmp(argv[0], "--max-connections") == 0)
            c->max_connections = (uint32_t)v;
        else if (strcmp(argv[0], "--per-address") == 0)
            c->max_connections_per_address = (uint32_t)v;
        else if (strcmp(argv[0], "--hello") == 0)
            c->hello_timeout_ms = (uint32_t)v;
        else if (strcmp(argv[0], "--idle") == 0)
            c->idle_timeout_ms = (uint32_t)v;
        else if (strcmp(argv[0], "--talk") == 0)
            talk = v != 0;
    }
}

int main(int argc, char **argv)
{
    struct gate_handler handler = {
        .opened = on_opened, .frame = on_frame, .refused = on_refused, .closed = on_closed};
    struct err_detail detail;
    struct alloc_budget budget;
    uv_loop_t loop;
    uv_check_t check;
    uv_poll_t in;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    alloc_budget_init(&budget, &alloc_libc, SIZE_MAX);
    struct gate_config config = {.loop = &loop, .alloc = &budget.alloc};
    parse_args(&config, argv + 1);
    uv_loop_init(&loop);
    if (gate_create(&config, &handler, &gate, &detail) != 0) {
        fprintf(stderr, "%s\n", detail.text);
        return 1;
    }
    uv_check_init(&loop, &check);
    uv_check_start(&check, on_check);
    uv_unref((uv_handle_t *)&check);
    uv_poll_init(&loop, &in, STDIN_FILENO);
    in.data = &check;
    uv_poll_start(&in, UV_READABLE, on_stdin);
    printf("port %d\n", gate_port(gate));
    uv_run(&loop, UV_RUN_DEFAULT);
    printf("left %zu\n", budget.used_bytes);
    return uv_loop_close(&loop) != 0 || budget.used_bytes != 0;
}
