/* See cluster.h. */
#include "tools/roombench/cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/roombench/stats.h"

enum { READY_MS = 30000, LINE = 512 };

/* Runs the program with standard output in `out_fd` (-1: nowhere). */
static pid_t spawn(const char *const argv[], int out_fd, const char *log)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    int err = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(err, STDERR_FILENO);
    dup2(out_fd >= 0 ? out_fd : err, STDOUT_FILENO);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

/* Reads until a line with `word` and copies what follows it up to a space. */
static int wait_for(int fd, const char *word, char out[CLUSTER_ADDRESS])
{
    char text[LINE * 8];
    size_t have = 0;
    int64_t end = stats_now_us() / 1000 + READY_MS;
    while (have < sizeof text - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = end - stats_now_us() / 1000;
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return -1;
        ssize_t got = read(fd, text + have, sizeof text - 1 - have);
        if (got <= 0)
            return -1;
        have += (size_t)got;
        text[have] = '\0';
        const char *at = strstr(text, word);
        if (at && strchr(at, '\n')) {
            at += strlen(word);
            snprintf(out, CLUSTER_ADDRESS, "%.*s", (int)strcspn(at, " \n"), at);
            return 0;
        }
    }
    return -1;
}

/* nats-server writes the ports it took into a file of its ports folder. */
static bool read_url(const char *folder, char out[CLUSTER_ADDRESS])
{
    char path[512], text[LINE];
    bool found = false;
    DIR *d = opendir(folder);
    for (struct dirent *e = d ? readdir(d) : NULL; e && !found; e = readdir(d)) {
        if (!strstr(e->d_name, ".ports"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *f = fopen(path, "r");
        size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
        if (f)
            fclose(f);
        text[len] = '\0';
        const char *at = strstr(text, "nats://");
        found = at && strchr(at, '"');
        if (found)
            snprintf(out, CLUSTER_ADDRESS, "%.*s", (int)strcspn(at, "\""), at);
    }
    if (d)
        closedir(d);
    return found;
}

static int find_nats(struct cluster *c, unsigned i)
{
    char folder[96], url[CLUSTER_ADDRESS];
    int64_t end = stats_now_us() / 1000 + READY_MS;
    snprintf(folder, sizeof folder, "%s/nats-%u", c->folder, i);
    while (stats_now_us() / 1000 < end && waitpid(c->nats[i], NULL, WNOHANG) == 0) {
        if (read_url(folder, url)) {
            if (i == 0)
                memcpy(c->nats_url, url, sizeof url);
            return 0;
        }
        poll(NULL, 0, 10);
    }
    return -1;
}

/* Ports that are free now; all held at once, so that no two are the same. Another process may still take one. */
static void free_ports(unsigned ports[CLUSTER_NATS])
{
    int held[CLUSTER_NATS];
    for (unsigned i = 0; i < CLUSTER_NATS; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof a;
        held[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool ok = bind(held[i], (struct sockaddr *)&a, size) == 0 && getsockname(held[i], (struct sockaddr *)&a, &size) == 0;
        ports[i] = ok ? ntohs(a.sin_port) : 0;
    }
    for (unsigned i = 0; i < CLUSTER_NATS; i++)
        close(held[i]);
}

static int start_nats(struct cluster *c, const struct cluster_plan *plan)
{
    unsigned ports[CLUSTER_NATS];
    char routes[CLUSTER_NATS * CLUSTER_ADDRESS];
    free_ports(ports);
    snprintf(routes, sizeof routes, "nats://127.0.0.1:%u,nats://127.0.0.1:%u,nats://127.0.0.1:%u", ports[0], ports[1], ports[2]);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < plan->nats; i++) {
        char folder[96], log[128], name[16], route[CLUSTER_ADDRESS];
        snprintf(folder, sizeof folder, "%s/nats-%u", c->folder, i);
        snprintf(log, sizeof log, "%s.log", folder);
        snprintf(name, sizeof name, "nats-%u", i);
        snprintf(route, sizeof route, "nats://127.0.0.1:%u", ports[i]);
        rc = mkdir(folder, 0700);
        const char *argv[] = {plan->nats_server, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", folder, "--ports_file_dir", folder,
                              "-n", name, "--cluster", route, "--cluster_name", "bench", "--routes", routes, NULL};
        if (plan->nats == 1)
            argv[10] = NULL;
        c->nats[i] = rc == 0 ? spawn(argv, -1, log) : -1;
    }
    for (unsigned i = 0; rc == 0 && i < plan->nats; i++)
        rc = c->nats[i] > 0 ? find_nats(c, i) : -1;
    if (rc != 0)
        fprintf(stderr, "roombench: '%s' did not become ready; is it a nats-server?\n", plan->nats_server);
    return rc;
}

static int start_node(struct cluster *c, const struct cluster_plan *plan, int i)
{
    char *id = c->id[i], log[128], data[128];
    int out[2];
    snprintf(id, sizeof c->id[i], "bench-%d", i + 1);
    snprintf(log, sizeof log, "%s/%s.log", c->folder, id);
    snprintf(data, sizeof data, "%s/data", c->folder);
    const char *argv[24 + CLUSTER_OPTIONS] = {
        plan->roomd, "--server-id", id, "--listen", "127.0.0.1:0", "--nats", c->nats_url, "--capacity", "1000000", "--room-ttl", "0",
        "--data-dir", data, "--type", "tally=counter,durability=none", "--type", "board=state,durability=none"};
    unsigned count = 0;
    while (argv[count])
        count++;
    for (unsigned k = 0; plan->options && plan->options[k] && k < CLUSTER_OPTIONS; k++)
        argv[count++] = plan->options[k];
    if (pipe2(out, O_CLOEXEC) != 0)
        return -1;
    c->nodes[i] = spawn(argv, out[1], log);
    close(out[1]);
    int rc = c->nodes[i] > 0 ? wait_for(out[0], "listen=", c->address[i]) : -1;
    close(out[0]);
    if (rc != 0) {
        FILE *f = fopen(log, "r");
        char text[LINE * 4];
        size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
        text[len] = '\0';
        if (f)
            fclose(f);
        fprintf(stderr, "roombench: '%s' did not become ready: %s\n", plan->roomd, text);
    }
    return rc;
}

int cluster_start(struct cluster *c, const struct cluster_plan *plan)
{
    memset(c, 0, sizeof *c);
    snprintf(c->folder, sizeof c->folder, "/tmp/roombench-XXXXXX");
    if (!mkdtemp(c->folder)) {
        fprintf(stderr, "roombench: cannot make a folder under /tmp: %s\n", strerror(errno));
        return -1;
    }
    int rc = start_nats(c, plan);
    for (; rc == 0 && c->count < plan->nodes; c->count++)
        rc = start_node(c, plan, (int)c->count);
    if (rc != 0)
        cluster_stop(c);
    return rc;
}

static void end(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void cluster_kill(struct cluster *c, unsigned node)
{
    end(c->nodes[node]);
    c->nodes[node] = 0;
}

static void remove_folder(const char *folder)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", "--", folder, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

void cluster_stop(struct cluster *c)
{
    for (int i = 0; i < CLUSTER_NODES; i++)
        end(c->nodes[i]);
    for (int i = 0; i < CLUSTER_NATS; i++)
        end(c->nats[i]);
    if (c->folder[0])
        remove_folder(c->folder);
    memset(c, 0, sizeof *c);
}

/* Every thread has an affinity of its own. */
static void pin(pid_t pid, const cpu_set_t *cpus)
{
    char path[64];
    if (pid <= 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        pid_t thread = (pid_t)strtol(e->d_name, NULL, 10);
        if (thread > 0)
            sched_setaffinity(thread, sizeof *cpus, cpus);
    }
    if (d)
        closedir(d);
}

void cluster_pin(const struct cluster *c, pid_t other, bool on)
{
    static cpu_set_t all;
    cpu_set_t one;
    if (on && sched_getaffinity(0, sizeof all, &all) != 0)
        return;
    CPU_ZERO(&one);
    for (int i = 0; on && i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    pin(getpid(), on ? &one : &all);
    pin(other, on ? &one : &all);
    for (unsigned i = 0; i < CLUSTER_NATS; i++)
        pin(c->nats[i], on ? &one : &all);
    for (unsigned i = 0; i < c->count; i++)
        pin(c->nodes[i], on ? &one : &all);
}

double cluster_cpu_us(pid_t pid)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[len] = '\0';
    const char *after = strrchr(text, ')');
    if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

double cluster_loop_us(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", (int)pid, (int)pid);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    if (f)
        fclose(f);
    return (double)ns / 1e3;
}

double cluster_rss(pid_t pid)
{
    char path[64];
    unsigned long total, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}
