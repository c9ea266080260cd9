/*
 * A nats-server speaks first: one line `INFO {json}` in plain text, also where TLS follows. We read that line and hang up.
 *
 * Must not know what the version is for. Invariant: every byte comes from outside: bounded, parsed, never trusted.
 */
#include "bus/nats_info.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "room/error.h"

enum { INFO_MAX = 65536 };

static bool split_url(const char *url, char host[256], char port[8])
{
    const char *at = strstr(url, "://");
    at = at ? at + 3 : url;
    const char *user = strrchr(at, '@');
    at = user ? user + 1 : at;
    const char *colon = strrchr(at, ':');
    if (!colon || colon == at || strlen(colon + 1) == 0 || strlen(colon + 1) > 5)
        return false;
    size_t len = (size_t)(colon - at);
    if (at[0] == '[' && at[len - 1] == ']') {
        at++;
        len -= 2;
    }
    if (len == 0 || len > 255)
        return false;
    memcpy(host, at, len);
    host[len] = 0;
    snprintf(port, 8, "%s", colon + 1);
    return true;
}

static bool wait_for(int fd, short events, struct mono deadline)
{
    int64_t left = mono_diff_ms(time_mono_now(), deadline);
    struct pollfd p = {.fd = fd, .events = events};
    return left > 0 && poll(&p, 1, (int)left) == 1;
}

static int dial(const char *host, const char *port, struct mono deadline)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &list) != 0)
        return -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        int err = 0;
        socklen_t size = sizeof err;
        if (connect(fd, a->ai_addr, a->ai_addrlen) != 0 &&
            (errno != EINPROGRESS || !wait_for(fd, POLLOUT, deadline) ||
             getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) != 0 || err != 0)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

static int parse(const char *line, size_t len, struct nats_info *out)
{
    if (len < 6 || memcmp(line, "INFO ", 5) != 0)
        return ROOM_E_UNAVAILABLE;
    json_t *root = json_loadb(line + 5, len - 5, JSON_DISABLE_EOF_CHECK, NULL);
    const char *version = json_string_value(json_object_get(root, "version"));
    if (version) {
        snprintf(out->version, sizeof out->version, "%s", version);
        out->clustered = json_string_length(json_object_get(root, "cluster")) > 0;
    }
    json_decref(root);
    return version ? 0 : ROOM_E_UNAVAILABLE;
}

int nats_info_read(const char *url, int timeout_ms, struct nats_info *out)
{
    char host[256], port[8];
    static _Thread_local char line[INFO_MAX];
    size_t len = 0;
    struct mono deadline = mono_add_ms(time_mono_now(), timeout_ms);
    int fd = split_url(url, host, port) ? dial(host, port, deadline) : -1;
    if (fd < 0)
        return ROOM_E_UNAVAILABLE;
    while (len < sizeof line && wait_for(fd, POLLIN, deadline)) {
        ssize_t n = read(fd, line + len, sizeof line - len);
        if (n <= 0)
            break;
        len += (size_t)n;
        if (memchr(line, '\n', len))
            break;
    }
    close(fd);
    return memchr(line, '\n', len) ? parse(line, len, out) : ROOM_E_UNAVAILABLE;
}
