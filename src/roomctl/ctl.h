/*
 * What the parts of roomctl share: the verbs' shape and the exit codes.
 *
 * Decides: the exit codes, which scripts rely on. Knows no verb by name. One thread; every verb runs once per process.
 * Invariant: a verb says what went wrong on standard error before it returns anything but CTL_DONE.
 */
#ifndef ROOMCTL_CTL_H
#define ROOMCTL_CTL_H

#include <stdbool.h>
#include <stddef.h>

#include "roomctl/connect.h"
#include "roomctl/options.h"

enum ctl_exit { CTL_DONE, CTL_FAILED, CTL_USAGE, CTL_NOT_FOUND, CTL_UNREACHABLE };

struct ctl_verb {
    const char *name;
    const char *sub;      /* second word, or "" */
    const char *args;     /* for the usage line */
    unsigned options;     /* OPT_* groups it takes besides the common ones */
    int args_min, args_max;
    const char *summary;
    const char *text;     /* more help, or "" */
    const char *example;
    enum ctl_exit (*run)(struct conn *conn, const struct options *o);
};

enum ctl_exit ctl_servers(struct conn *conn, const struct options *o);
enum ctl_exit ctl_server(struct conn *conn, const struct options *o);
enum ctl_exit ctl_rooms(struct conn *conn, const struct options *o);
enum ctl_exit ctl_room(struct conn *conn, const struct options *o);
enum ctl_exit ctl_lock(struct conn *conn, const struct options *o);
enum ctl_exit ctl_unlock(struct conn *conn, const struct options *o);
enum ctl_exit ctl_close(struct conn *conn, const struct options *o);
enum ctl_exit ctl_drain(struct conn *conn, const struct options *o);
enum ctl_exit ctl_undrain(struct conn *conn, const struct options *o);
enum ctl_exit ctl_migrate(struct conn *conn, const struct options *o);
enum ctl_exit ctl_snapshot_ls(struct conn *conn, const struct options *o);
enum ctl_exit ctl_snapshot_save(struct conn *conn, const struct options *o);
enum ctl_exit ctl_snapshot_export(struct conn *conn, const struct options *o);
enum ctl_exit ctl_snapshot_import(struct conn *conn, const struct options *o);
enum ctl_exit ctl_snapshot_restore(struct conn *conn, const struct options *o);
enum ctl_exit ctl_players(struct conn *conn, const struct options *o);
enum ctl_exit ctl_push(struct conn *conn, const struct options *o);
enum ctl_exit ctl_player(struct conn *conn, const struct options *o);
enum ctl_exit ctl_kick(struct conn *conn, const struct options *o);
enum ctl_exit ctl_revoke(struct conn *conn, const struct options *o);
enum ctl_exit ctl_locks(struct conn *conn, const struct options *o);
enum ctl_exit ctl_shared_ls(struct conn *conn, const struct options *o);
enum ctl_exit ctl_shared_get(struct conn *conn, const struct options *o);
enum ctl_exit ctl_shared_set(struct conn *conn, const struct options *o);
enum ctl_exit ctl_shared_del(struct conn *conn, const struct options *o);
enum ctl_exit ctl_queues(struct conn *conn, const struct options *o);
enum ctl_exit ctl_watch(struct conn *conn, const struct options *o);
enum ctl_exit ctl_doctor(struct conn *conn, const struct options *o);
enum ctl_exit ctl_check(struct conn *conn, const struct options *o);

/* One line on standard error: "roomctl: ..."; control characters are shown as '?'. */
void ctl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What a failure means to a script: ROOM_E_NOT_FOUND, no answer, or anything else. */
enum ctl_exit ctl_exit_of(int err);

/* The same after a control request: what a node has refused is a failure, whatever its word. */
enum ctl_exit ctl_exit_asked(const struct conn *conn, int err);

/* False, with a line said, if `id` cannot be the id of a `what`. */
bool ctl_id_ok(const char *what, const char *id);

#endif
