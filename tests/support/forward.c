/*
 * See forward.h. Invariant: what was read from one side and not written to the other when the cut comes is lost.
 */
#include "support/forward.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/proc.h"

enum { PAIRS = 16, BYTES = 16384, STEP_MS = 5 };

static volatile sig_atomic_t cut;

static void on_signal(int number)
{
    cut = 1;
}

static int address_socket(int port, bool listens)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool ok = listens ? bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, PAIRS) == 0
                      : connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (ok)
        return fd;
    close(fd);
    return -1;
}

/* With a reset, so that the other side need not read to its end. */
static void drop(struct pollfd pair[2])
{
    struct linger now = {.l_onoff = 1};
    for (int i = 0; i < 2; i++) {
        if (pair[i].fd >= 0) {
            setsockopt(pair[i].fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            close(pair[i].fd);
        }
        pair[i].fd = -1;
    }
}

static void add_pair(struct pollfd *pairs, int listener, int port)
{
    int client = accept(listener, NULL, NULL), server = address_socket(port, false), i = 0;
    struct pollfd one[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    while (i < 2 * PAIRS && pairs[i].fd >= 0)
        i += 2;
    if (client < 0 || server < 0 || i == 2 * PAIRS) {
        drop(one);
        return;
    }
    pairs[i] = one[0];
    pairs[i + 1] = one[1];
}

static void pump(struct pollfd pair[2])
{
    char bytes[BYTES];
    for (int i = 0; i < 2 && pair[i].fd >= 0; i++) {
        if (!pair[i].revents)
            continue;
        ssize_t got = read(pair[i].fd, bytes, sizeof bytes);
        if (got <= 0 || send(pair[1 - i].fd, bytes, (size_t)got, MSG_NOSIGNAL) != got)
            drop(pair);
    }
}

static void forward(int listener, int port)
{
    struct pollfd fds[2 * PAIRS + 1], *pairs = fds + 1;
    fds[0] = (struct pollfd){listener, POLLIN, 0};
    for (int i = 0; i < 2 * PAIRS; i++)
        pairs[i] = (struct pollfd){-1, POLLIN, 0};
    for (;;) {
        int ready = poll(fds, 2 * PAIRS + 1, STEP_MS);
        bool drops = cut;
        if (drops)
            cut = 0;
        for (int i = 0; i < 2 * PAIRS; i += 2) {
            if (drops)
                drop(pairs + i);
            else if (ready > 0)
                pump(pairs + i);
        }
        if (ready > 0 && fds[0].revents)
            add_pair(pairs, listener, port);
    }
}

bool forward_start(struct forward *f, int port)
{
    pid_t parent = getpid();
    f->port = free_port();
    int listener = address_socket(f->port, true);
    if (listener < 0)
        return false;
    signal(SIGUSR1, on_signal); /* before the child can get one */
    f->pid = fork();
    if (f->pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
            forward(listener, port);
        _exit(126);
    }
    close(listener);
    return f->pid > 0;
}

void forward_cut(const struct forward *f)
{
    kill(f->pid, SIGUSR1);
}

void forward_stop(struct forward *f)
{
    proc_kill(f->pid);
    f->pid = 0;
}
