/* See floors.h. */
#include "tools/roombench/floors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <nats/nats.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "core/view.h"
#include "tools/roombench/stats.h"

enum { MESSAGE = 68, FAN_MAX = 1000, READ = 65536, REQUEST_MS = 2000 };
enum { SETTLE_US = 60000000, SETTLE_STEP_MS = 50, SETTLE_STEPS = 10, APPEND_MAX = 4096 };

struct floors {
    pid_t echo;
    int fd;
    natsConnection *asks, *answers;
    natsSubscription *sub;
    unsigned long long appended; /* the last sequence of floors_append_us() */
    struct sockaddr_in echo_at;
    unsigned entries; /* of floors_put_rate(), so far */
};

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    static char bytes[READ];
    *out = uv_buf_init(bytes, sizeof bytes);
}

static void on_read(uv_stream_t *s, ssize_t got, const uv_buf_t *buf)
{
    uv_buf_t out = uv_buf_init(buf->base, got > 0 ? (unsigned)got : 0);
    if (got < 0)
        uv_close((uv_handle_t *)s, (uv_close_cb)free);
    else if (got > 0)
        uv_try_write(s, &out, 1);
}

static void on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *t = malloc(sizeof *t);
    if (!t || uv_tcp_init(listener->loop, t) != 0 || uv_accept(listener, (uv_stream_t *)t) != 0)
        _exit(1);
    uv_tcp_nodelay(t, 1);
    uv_read_start((uv_stream_t *)t, on_alloc, on_read);
}

static int listen_on(struct sockaddr_in *a)
{
    socklen_t size = sizeof *a;
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)a, sizeof *a) != 0 || listen(fd, FAN_MAX) != 0 ||
        getsockname(fd, (struct sockaddr *)a, &size) != 0)
        return -1;
    return fd;
}

/* The child's copy of this process ends with it. */
static pid_t fork_bound(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

static int start_echo(struct floors *f)
{
    int one = 1, fd = listen_on(&f->echo_at);
    f->echo = fd >= 0 ? fork_bound() : -1;
    if (f->echo == 0) {
        uv_loop_t loop;
        uv_tcp_t listener;
        uv_loop_init(&loop);
        uv_tcp_init(&loop, &listener);
        uv_tcp_open(&listener, fd);
        uv_listen((uv_stream_t *)&listener, FAN_MAX, on_connection);
        uv_run(&loop, UV_RUN_DEFAULT);
        _exit(0);
    }
    if (fd >= 0)
        close(fd);
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return f->echo > 0 && connect(f->fd, (struct sockaddr *)&f->echo_at, sizeof f->echo_at) == 0 ? 0 : -1;
}

static void on_request(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    natsConnection_Publish(nc, natsMsg_GetReply(msg), natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
}

static natsStatus connect_nats(natsConnection **nc, const char *url)
{
    natsOptions *o = NULL;
    natsStatus s = natsOptions_Create(&o);
    if (s == NATS_OK)
        s = natsOptions_SetURL(o, url);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(o, true);
    if (s == NATS_OK)
        s = natsConnection_Connect(nc, o);
    natsOptions_Destroy(o);
    return s;
}

struct floors *floors_create(const char *nats_url)
{
    struct floors *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->fd = -1;
    /* The child is made before nats.c makes its threads. */
    if (start_echo(f) != 0) {
        fprintf(stderr, "roombench: the echo server does not start: %s\n", strerror(errno));
        floors_destroy(f);
        return NULL;
    }
    natsStatus s = connect_nats(&f->asks, nats_url);
    if (s == NATS_OK)
        s = connect_nats(&f->answers, nats_url);
    if (s == NATS_OK)
        s = natsConnection_Subscribe(&f->sub, f->answers, "roombench.echo", on_request, NULL);
    if (s == NATS_OK)
        s = natsConnection_Flush(f->answers);
    if (s != NATS_OK) {
        fprintf(stderr, "roombench: NATS at '%s': %s\n", nats_url, natsStatus_GetText(s));
        floors_destroy(f);
        return NULL;
    }
    return f;
}

void floors_destroy(struct floors *f)
{
    if (!f)
        return;
    natsSubscription_Destroy(f->sub);
    natsConnection_Destroy(f->asks);
    natsConnection_Destroy(f->answers);
    if (f->fd >= 0)
        close(f->fd);
    if (f->echo > 0) {
        kill(f->echo, SIGKILL);
        waitpid(f->echo, NULL, 0);
    }
    free(f);
}

pid_t floors_echo_pid(const struct floors *f)
{
    return f->echo;
}

/* Waits with poll() as the client library does, so that both sides pay for the same system calls. */
static int read_whole(int fd, char *bytes, size_t len)
{
    size_t have = 0;
    while (have < len) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, REQUEST_MS) <= 0)
            return -1;
        ssize_t got = recv(fd, bytes + have, len - have, 0);
        if (got <= 0)
            return -1;
        have += (size_t)got;
    }
    return 0;
}

double floors_echo_us(struct floors *f, unsigned rounds)
{
    struct stats s = {0};
    char bytes[MESSAGE] = "";
    for (unsigned i = 0; i < rounds; i++) {
        int64_t start = stats_now_us();
        if (send(f->fd, bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes || read_whole(f->fd, bytes, sizeof bytes) != 0)
            return -1;
        stats_add(&s, stats_now_us() - start);
    }
    return stats_at(&s, 0.5);
}

double floors_connect_rate(struct floors *f, unsigned count)
{
    static int fds[FAN_MAX];
    char bytes[MESSAGE] = "";
    int one = 1, rc = count <= FAN_MAX ? 0 : -1;
    unsigned open = 0;
    int64_t start = stats_now_us();
    for (; rc == 0 && open < count; open++) {
        fds[open] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fds[open], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        rc = connect(fds[open], (struct sockaddr *)&f->echo_at, sizeof f->echo_at);
        if (rc == 0 && send(fds[open], bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes)
            rc = -1;
    }
    for (unsigned i = 0; rc == 0 && i < open; i++)
        rc = read_whole(fds[i], bytes, sizeof bytes);
    double rate = count * 1e6 / (double)(stats_now_us() - start);
    for (unsigned i = 0; i < open; i++)
        close(fds[i]);
    if (rc != 0)
        fprintf(stderr, "roombench: %u connections to an echo server could not be had: %s\n", count, strerror(errno));
    return rc == 0 ? rate : -1;
}

static void note(struct stats *own, struct stats *all, int64_t since_us)
{
    int64_t us = stats_now_us() - since_us;
    stats_add(own, us);
    if (all)
        stats_add(all, us);
}

double floors_request_us(struct floors *f, unsigned rounds, struct stats *all)
{
    struct stats s = {0};
    char bytes[MESSAGE] = "";
    for (unsigned i = 0; i < rounds; i++) {
        natsMsg *reply = NULL;
        int64_t start = stats_now_us();
        if (natsConnection_Request(&reply, f->asks, "roombench.echo", bytes, sizeof bytes, REQUEST_MS) != NATS_OK)
            return -1;
        note(&s, all, start);
        natsMsg_Destroy(reply);
    }
    return stats_at(&s, 0.5);
}

double floors_publish_rate(struct floors *f, unsigned count)
{
    char bytes[MESSAGE] = "";
    int64_t start = stats_now_us();
    for (unsigned i = 0; i < count; i++)
        if (natsConnection_Publish(f->asks, "roombench.nobody", bytes, sizeof bytes) != NATS_OK)
            return -1;
    if (natsConnection_Flush(f->asks) != NATS_OK)
        return -1;
    return count * 1e6 / (double)(stats_now_us() - start);
}

/* Reads everything from all connections until they end. */
static void drain(const struct sockaddr_in *a, unsigned clients)
{
    static struct pollfd fds[FAN_MAX];
    static char bytes[READ];
    unsigned open = clients;
    for (unsigned i = 0; i < clients; i++) {
        fds[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
        if (connect(fds[i].fd, (const struct sockaddr *)a, sizeof *a) != 0)
            _exit(1);
    }
    while (open > 0 && poll(fds, clients, -1) > 0)
        for (unsigned i = 0; i < clients; i++)
            if (fds[i].revents && recv(fds[i].fd, bytes, sizeof bytes, 0) <= 0) {
                close(fds[i].fd);
                fds[i].fd = -1;
                open--;
            }
    _exit(0);
}

double floors_fanout_rate(unsigned clients, unsigned messages)
{
    struct sockaddr_in a;
    int fds[FAN_MAX], one = 1, listener = listen_on(&a);
    char bytes[MESSAGE] = "";
    pid_t pid = listener >= 0 && clients <= FAN_MAX ? fork_bound() : -1;
    if (pid == 0)
        drain(&a, clients);
    for (unsigned i = 0; pid > 0 && i < clients; i++) {
        fds[i] = accept(listener, NULL, NULL);
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    int64_t start = stats_now_us();
    for (unsigned m = 0; pid > 0 && m < messages; m++)
        for (unsigned i = 0; i < clients; i++)
            if (send(fds[i], bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes)
                return -1;
    for (unsigned i = 0; pid > 0 && i < clients; i++)
        close(fds[i]);
    if (listener >= 0)
        close(listener);
    if (pid <= 0)
        return -1;
    waitpid(pid, NULL, 0);
    return (double)clients * messages * 1e6 / (double)(stats_now_us() - start);
}

static void room_name(char out[ID_SIZE], unsigned i)
{
    snprintf(out, ID_SIZE, "01KDVDPC2E4S288J1D%08u", i);
}

double floors_lookup_ns(unsigned rooms, unsigned rounds)
{
    struct view v;
    struct room_info info = {.epoch = 1, .max_players = 2, .state = ROOM_RUNNING};
    uint64_t step = 0, found = 0;
    bool ok = true;
    view_init(&v, &alloc_libc);
    id_set(&info.type, "relay");
    id_set(&info.owner, "bench-1");
    for (unsigned i = 0; ok && i < rooms; i++) {
        room_name(info.id.s, i);
        ok = view_put_room(&v, &info, i + 1) != NULL;
    }
    char (*names)[ID_SIZE] = ok ? malloc(rounds * sizeof *names) : NULL;
    for (unsigned i = 0; names && i < rounds; i++) {
        step = step * 6364136223846793005u + 1442695040888963407u;
        room_name(names[i], (unsigned)((step >> 33) % rooms));
    }
    int64_t start = stats_now_us();
    for (unsigned i = 0; names && i < rounds; i++)
        found += view_room(&v, names[i]) != NULL;
    double ns = (double)(stats_now_us() - start) * 1e3 / rounds;
    bool good = names && found == rounds;
    free(names);
    view_deinit(&v);
    return good ? ns : -1;
}

static unsigned long long number_after(const char *text, const char *word)
{
    const char *at = text ? strstr(text, word) : NULL;
    return at ? strtoull(at + strlen(word), NULL, 10) : 0;
}

/* The sequence of the appended message; 0: it was refused. */
static unsigned long long append(struct floors *f, const char *subject, const char *data, unsigned bytes,
                                 unsigned long long last)
{
    char expected[24];
    natsMsg *m = NULL, *reply = NULL;
    unsigned long long seq = 0;
    snprintf(expected, sizeof expected, "%llu", last);
    if (natsMsg_Create(&m, subject, NULL, data, (int)bytes) == NATS_OK &&
        natsMsgHeader_Set(m, "Nats-Expected-Last-Subject-Sequence", expected) == NATS_OK &&
        natsConnection_RequestMsg(&reply, f->asks, m, REQUEST_MS) == NATS_OK && !strstr(natsMsg_GetData(reply), "\"error\""))
        seq = number_after(natsMsg_GetData(reply), "\"seq\":");
    natsMsg_Destroy(reply);
    natsMsg_Destroy(m);
    return seq;
}

double floors_append_us(struct floors *f, const char *subject, unsigned bytes, unsigned rounds, struct stats *all)
{
    static const char data[APPEND_MAX];
    struct stats s = {0};
    if (bytes > APPEND_MAX)
        return -1;
    for (unsigned i = 0; i < rounds; i++) {
        int64_t start = stats_now_us();
        unsigned long long seq = append(f, subject, data, bytes, f->appended);
        if (!seq) {
            fprintf(stderr, "roombench: a message for '%s' was not stored\n", subject);
            return -1;
        }
        f->appended = seq;
        note(&s, all, start);
    }
    return stats_at(&s, 0.5);
}

static natsStatus put_new(struct floors *f, const char *bucket, const char *reply, unsigned bytes)
{
    static const char data[APPEND_MAX];
    char subject[160];
    natsMsg *m = NULL;
    snprintf(subject, sizeof subject, "$KV.%s.roombench-floor-%u", bucket, f->entries++);
    natsStatus s = natsMsg_Create(&m, subject, reply, data, (int)bytes);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(m, "Nats-Expected-Last-Subject-Sequence", "0");
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(f->asks, m);
    natsMsg_Destroy(m);
    return s;
}

double floors_put_rate(struct floors *f, const char *bucket, unsigned bytes, unsigned count)
{
    natsInbox *inbox = NULL;
    natsSubscription *acks = NULL;
    natsStatus s = bytes <= APPEND_MAX ? natsInbox_Create(&inbox) : NATS_INVALID_ARG;
    if (s == NATS_OK)
        s = natsConnection_SubscribeSync(&acks, f->asks, inbox);
    if (s == NATS_OK)
        s = natsConnection_Flush(f->asks);
    int64_t start = stats_now_us();
    for (unsigned i = 0; s == NATS_OK && i < count; i++)
        s = put_new(f, bucket, inbox, bytes);
    for (unsigned i = 0; s == NATS_OK && i < count; i++) {
        natsMsg *ack = NULL;
        s = natsSubscription_NextMsg(&ack, acks, REQUEST_MS);
        if (s == NATS_OK && !number_after(natsMsg_GetData(ack), "\"seq\":"))
            s = NATS_ERR;
        natsMsg_Destroy(ack);
    }
    double rate = count * 1e6 / (double)(stats_now_us() - start);
    natsSubscription_Destroy(acks);
    natsInbox_Destroy(inbox);
    if (s != NATS_OK)
        fprintf(stderr, "roombench: %u entries were not all put into '%s': %s\n", count, bucket, natsStatus_GetText(s));
    return s == NATS_OK ? rate : -1;
}

unsigned floors_last_bytes(struct floors *f, const char *stream, const char *subject)
{
    char ask[160], body[160];
    natsMsg *reply = NULL;
    unsigned bytes = 0;
    snprintf(ask, sizeof ask, "$JS.API.STREAM.MSG.GET.%s", stream);
    int len = snprintf(body, sizeof body, "{\"last_by_subj\":\"%s\"}", subject);
    if (natsConnection_Request(&reply, f->asks, ask, body, len, REQUEST_MS) != NATS_OK)
        return 0;
    const char *at = strstr(natsMsg_GetData(reply), "\"data\":\"");
    if (at) {
        at += strlen("\"data\":\"");
        bytes = (unsigned)strcspn(at, "=\"") * 3 / 4;
    }
    natsMsg_Destroy(reply);
    return bytes;
}

unsigned long long floors_last_change(struct floors *f, const char *stream)
{
    char ask[160];
    natsMsg *reply = NULL;
    snprintf(ask, sizeof ask, "$JS.API.STREAM.INFO.%s", stream);
    if (natsConnection_Request(&reply, f->asks, ask, "", 0, REQUEST_MS) != NATS_OK)
        return 0;
    unsigned long long seq = number_after(natsMsg_GetData(reply), "\"last_seq\":");
    natsMsg_Destroy(reply);
    return seq;
}

bool floors_settled(struct floors *f, const char *bucket)
{
    char stream[80];
    unsigned long long seen = 0;
    int64_t end = stats_now_us() + SETTLE_US;
    snprintf(stream, sizeof stream, "KV_%s", bucket);
    for (int same = 0; same < SETTLE_STEPS;) {
        unsigned long long now = floors_last_change(f, stream);
        if (stats_now_us() > end) {
            fprintf(stderr, "roombench: the bucket '%s' does not come to rest\n", bucket);
            return false;
        }
        same = now && now == seen ? same + 1 : 0;
        seen = now;
        nats_Sleep(SETTLE_STEP_MS);
    }
    return true;
}
