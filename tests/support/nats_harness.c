/*
 * nats-servers for tests: configuration files, processes and the monitoring port.
 *
 * Must not know what is tested. Invariant: a start that loses the race for a port is repeated with other ports.
 */
#include "support/nats_harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "support/proc.h"

/* Servers that start at the same moment sometimes agree on a cluster without the last one, for good: begin again soon. */
enum { START_MS = 8000, HEALTHY_MS = 20000, LEADER_MS = 10000, START_TRIES = 5 };

static bool write_config(const struct nats_harness *h, int i)
{
    char path[320];
    snprintf(path, sizeof path, "%s/s%d.conf", h->dir, i);
    FILE *f = fopen(path, "w");
    if (!f)
        return false;
    fprintf(f,
            "server_name: \"s%d\"\nlisten: \"127.0.0.1:%d\"\nhttp: \"127.0.0.1:%d\"\nping_interval: \"1s\"\nping_max: 2\n"
            "write_deadline: \"2s\"\njetstream { store_dir: \"%s/js%d\", max_memory_store: 256MB, max_file_store: 4GB }\n",
            i, h->port[i], h->http_port[i], h->dir, i);
    if (h->count > 1) {
        fprintf(f, "cluster { name: test, listen: \"127.0.0.1:%d\", routes: [", h->route_port[i]);
        for (int k = 0; k < h->count; k++)
            fprintf(f, "%s\"nats://127.0.0.1:%d\"", k ? ", " : "", h->route_port[k]);
        fprintf(f, "] }\n");
    }
    return fclose(f) == 0;
}

static bool launch(struct nats_harness *h, int i)
{
    char config[320], log[320];
    snprintf(config, sizeof config, "%s/s%d.conf", h->dir, i);
    snprintf(log, sizeof log, "%s/s%d.log", h->dir, i);
    char *argv[] = {(char *)(uintptr_t)h->binary, (char *)(uintptr_t) "-c", config, NULL};
    h->pid[i] = proc_spawn(argv, log);
    return h->pid[i] > 0;
}

/* The body of a GET on the monitoring port in `out`; the status, or 0. */
static int http_get(int port, const char *path, char *out, size_t size)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = 1};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
    size_t len = 0;
    char request[200];
    snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: test\r\n\r\n", path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0 &&
        send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
        ssize_t n;
        while (len + 1 < size && (n = read(fd, out + len, size - 1 - len)) > 0)
            len += (size_t)n;
    }
    close(fd);
    out[len] = 0;
    if (sscanf(out, "HTTP/%*s %d", &status) != 1)
        return 0;
    return status;
}

/* /healthz waits for the meta leader; a stream can be created once the server says so and all routes are up. */
static bool all_healthy(void *arg)
{
    const struct nats_harness *h = arg;
    char body[65536];
    for (int i = 0; i < h->count; i++) {
        if (h->pid[i] <= 0)
            continue;
        if (http_get(h->http_port[i], "/healthz", body, sizeof body) != 200)
            return false;
        if (h->count == 1)
            continue;
        if (http_get(h->http_port[i], "/jsz", body, sizeof body) != 200 || !strstr(body, "\"leader\"") ||
            !strstr(body, "\"cluster_size\": 3"))
            return false;
    }
    return true;
}

bool nats_harness_healthy(const struct nats_harness *h, int timeout_ms)
{
    return wait_until(all_healthy, (void *)(uintptr_t)h, timeout_ms);
}

static bool exited(struct nats_harness *h)
{
    for (int i = 0; i < h->count; i++)
        if (h->pid[i] > 0 && proc_wait(h->pid[i], 0) >= 0) {
            h->pid[i] = 0;
            return true;
        }
    return false;
}

static bool healthy_or_exited(void *arg)
{
    struct nats_harness *h = arg;
    return all_healthy(h) || exited(h);
}

static bool attempt(struct nats_harness *h)
{
    for (int i = 0; i < h->count; i++) {
        h->port[i] = free_port();
        h->route_port[i] = free_port();
        h->http_port[i] = free_port();
    }
    h->urls[0] = 0;
    for (int i = 0; i < h->count; i++) {
        size_t len = strlen(h->urls);
        snprintf(h->urls + len, sizeof h->urls - len, "%snats://127.0.0.1:%d", i ? "," : "", h->port[i]);
        if (!write_config(h, i) || !launch(h, i))
            return false;
    }
    if (!wait_until(healthy_or_exited, h, START_MS))
        return false;
    for (int i = 0; i < h->count; i++)
        if (h->pid[i] <= 0)
            return false;
    return true;
}

bool nats_harness_start(struct nats_harness *h, int count, const char *binary)
{
    memset(h, 0, sizeof *h);
    const char *env = getenv("ROOMD_NATS_SERVER");
    h->binary = binary ? binary : env && *env ? env : "nats-server";
    for (int i = 0; i < START_TRIES; i++) {
        h->count = count;
        if (!temp_dir(h->dir))
            return false;
        if (attempt(h))
            return true;
        nats_harness_stop(h);
    }
    fprintf(stderr, "cannot start '%s': set ROOMD_NATS_SERVER to a nats-server binary\n", h->binary);
    return false;
}

void nats_harness_stop(struct nats_harness *h)
{
    for (int i = 0; i < h->count; i++)
        nats_harness_kill(h, i);
    if (h->dir[0])
        temp_dir_remove(h->dir);
    h->count = 0;
    h->dir[0] = 0;
}

const char *nats_harness_url(const struct nats_harness *h, int i)
{
    static char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", h->port[i]);
    return url;
}

void nats_harness_kill(struct nats_harness *h, int i)
{
    proc_kill(h->pid[i]);
    h->pid[i] = 0;
}

bool nats_harness_restart(struct nats_harness *h, int i)
{
    return launch(h, i) && nats_harness_healthy(h, HEALTHY_MS);
}

void nats_harness_freeze(struct nats_harness *h, int i)
{
    kill(h->pid[i], SIGSTOP);
}

void nats_harness_thaw(struct nats_harness *h, int i)
{
    kill(h->pid[i], SIGCONT);
}

struct leader_query {
    const struct nats_harness *h;
    const char *stream;
    int leader;
};

static bool leader_known(void *arg)
{
    static char body[1 << 20];
    struct leader_query *q = arg;
    char name[160], leader[16];
    snprintf(name, sizeof name, "\"name\": \"%s\"", q->stream);
    for (int i = 0; i < q->h->count; i++) {
        if (q->h->pid[i] <= 0 ||
            http_get(q->h->http_port[i], "/jsz?accounts=true&streams=true", body, sizeof body) != 200)
            continue;
        const char *stream = strstr(body, name);
        const char *at = stream ? strstr(stream, "\"leader\": \"") : NULL;
        const char *end = stream ? strstr(stream, "\"state\"") : NULL;
        if (at && end && at < end && sscanf(at, "\"leader\": \"%15[^\"]", leader) == 1 && leader[0] == 's') {
            q->leader = atoi(leader + 1);
            return true;
        }
    }
    return false;
}

int nats_harness_leader(const struct nats_harness *h, const char *stream)
{
    struct leader_query q = {h, stream, -1};
    wait_until(leader_known, &q, LEADER_MS);
    return q.leader;
}
