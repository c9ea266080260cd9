/*
 * Plain POSIX underneath proc.h.
 *
 * Must not know what is tested. Invariant: a child that cannot be told to die with its parent is not started.
 */
#include "support/proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"

enum { STEP_MS = 5 };

pid_t proc_spawn(char *const argv[], const char *log_path)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(126);
    if (log_path) {
        int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd >= 0) {
            dup2(fd, 1);
            dup2(fd, 2);
        }
    }
    execvp(argv[0], argv);
    _exit(127);
}

void proc_kill(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

struct exit_wait {
    pid_t pid;
    int status;
};

static bool has_exited(void *arg)
{
    struct exit_wait *w = arg;
    return waitpid(w->pid, &w->status, WNOHANG) == w->pid;
}

int proc_wait(pid_t pid, int timeout_ms)
{
    struct exit_wait w = {.pid = pid};
    if (!wait_until(has_exited, &w, timeout_ms))
        return -1;
    return WIFEXITED(w.status) ? WEXITSTATUS(w.status) : 128 + WTERMSIG(w.status);
}

bool wait_until(bool (*cond)(void *arg), void *arg, int timeout_ms)
{
    struct mono deadline = mono_add_ms(time_mono_now(), timeout_ms);
    for (;;) {
        if (cond(arg))
            return true;
        if (mono_reached(time_mono_now(), deadline))
            return false;
        poll(NULL, 0, STEP_MS);
    }
}

int free_port(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof addr;
    int port = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0 && getsockname(fd, (struct sockaddr *)&addr, &size) == 0)
        port = ntohs(addr.sin_port);
    close(fd);
    return port;
}

bool temp_dir(char *out)
{
    const char *base = getenv("TMPDIR");
    snprintf(out, 256, "%.200s/roomd-test-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(out) != NULL;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    remove(path);
    return 0;
}

void temp_dir_remove(const char *path)
{
    if (strstr(path, "/roomd-test-"))
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
