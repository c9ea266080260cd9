/*
 * Children, conditions, ports and directories for tests.
 *
 * Decides: that no child outlives its test and that waiting is always for a condition with a deadline. Knows nothing of
 * what it starts. Invariant: only processes started here are signalled, each by its pid.
 */
#ifndef SUPPORT_PROC_H
#define SUPPORT_PROC_H

#include <stdbool.h>
#include <sys/types.h>

/* Starts argv[0] (found in PATH), with standard output and error in `log_path` (NULL: inherited). The child is killed when
 * the calling thread dies. Returns its pid or -1. */
pid_t proc_spawn(char *const argv[], const char *log_path);
/* SIGKILL (also if stopped) and reap; pid <= 0 is ignored. */
void proc_kill(pid_t pid);
/* Reaps; returns the exit status, 128 + signal, or -1 if it still runs after `timeout_ms`. */
int proc_wait(pid_t pid, int timeout_ms);

/* Calls `cond` every few milliseconds until it is true or `timeout_ms` has passed; returns what it said last. */
bool wait_until(bool (*cond)(void *arg), void *arg, int timeout_ms);

/* A TCP port of 127.0.0.1 nobody listened on a moment ago; 0 on failure. */
int free_port(void);

/* A new directory under TMPDIR or /tmp; `out` has at least 256 bytes. False on failure. */
bool temp_dir(char *out);
/* Removes it with everything in it. */
void temp_dir_remove(const char *path);

#endif
