/*
 * The table of verbs, help, and the way from argv to one verb.
 *
 * Decides: usage errors and their exit code. Must not know how a verb works. Invariant: NATS is only reached once the
 * command line is known to be right.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "roomctl/ctl.h"

static const struct ctl_verb VERBS[] = {
    {"servers", "", "", 0, 0, 0, "list the nodes", "", "roomctl servers", ctl_servers},
    {"server", "", "ID", 0, 1, 1, "one node: its entry, and what it says itself",
     "With what it has moved and what it has not while it drains.\n", "roomctl server node-1", ctl_server},
    {"drain", "", "ID", OPT_DRAIN, 1, 1, "move all rooms and players away from a node",
     "Waits until the node is empty, and says how far it is. Exit code 1 if it is not within --deadline: it goes on\n"
     "draining all the same, until roomctl undrain.\n",
     "roomctl drain node-1 --deadline 2m && systemctl stop roomd", ctl_drain},
    {"undrain", "", "ID", 0, 1, 1, "let a node take rooms and players again", "", "roomctl undrain node-1", ctl_undrain},
    {"rooms", "", "", OPT_TYPE | OPT_FILTER | OPT_SERVER | OPT_LIMIT | OPT_SORT, 0, 0, "list the rooms", "",
     "roomctl rooms --type chess --has-space --sort -players --limit 20", ctl_rooms},
    {"room", "", "ID", 0, 1, 1, "one room: its entry, and what its owner says, with its players", "",
     "roomctl room lobby-1 --json", ctl_room},
    {"players", "", "", OPT_ROOM | OPT_SERVER, 0, 0, "list the players connected, or those in a room", "",
     "roomctl players --room lobby-1", ctl_players},
    {"player", "", "ID", 0, 1, 1, "one player: its session, and what its gateway says, with its rooms",
     "STATUS away: its connection is gone, and its session waits for it.\n", "roomctl player alice --json", ctl_player},
    {"kick", "", "PLAYER", OPT_REASON, 1, 1, "end a player's session; it is told, and may log in again",
     "To keep somebody out as well: roomctl revoke --player. If the player's gateway does not answer, its entry is made to say\n"
     "that the session is over: exit code 4, or 0 if that node is listed as down.\n",
     "roomctl kick alice --reason 'cheating'", ctl_kick},
    {"lock", "", "ROOM", 0, 1, 1, "let nobody new into a room", "", "roomctl lock lobby-1", ctl_lock},
    {"unlock", "", "ROOM", 0, 1, 1, "let players into a room again", "", "roomctl unlock lobby-1", ctl_unlock},
    {"close", "", "ROOM", 0, 1, 1, "end a room; its players are told", "", "roomctl close lobby-1", ctl_close},
    {"migrate", "", "ROOM SERVER", 0, 2, 2, "move a running room to another node",
     "SERVER is a node's id, or 'any': the cluster chooses. Waits until it has moved, up to 30 s. A room that cannot be\n"
     "moved goes on where it is.\n", "roomctl migrate lobby-1 node-2", ctl_migrate},
    {"snapshot", "ls", "", OPT_ROOM, 0, 0, "list the snapshots that all nodes can read", "",
     "roomctl snapshot ls --room lobby-1", ctl_snapshot_ls},
    {"snapshot", "save", "ROOM", 0, 1, 1, "save a running room now; done when NATS has acknowledged it", "",
     "roomctl snapshot save lobby-1", ctl_snapshot_save},
    {"snapshot", "export", "ROOM FILE", OPT_FORCE, 2, 2, "write a room's last snapshot to a file",
     "The room as it was when it was saved: roomctl snapshot save before it makes that now. The file bears checksums.\n"
     "--force: over a file that exists.\n",
     "roomctl snapshot export lobby-1 lobby-1.snapshot", ctl_snapshot_export},
    {"snapshot", "import", "FILE", OPT_FORCE, 1, 1, "bring a room back from a file",
     "The room is listed as pending, and a node that has room for it takes it. Nobody may run it: roomctl close it first.\n"
     "--force: also if it is listed (parked or pending); what else is stored of it is given up.\n",
     "roomctl snapshot import lobby-1.snapshot", ctl_snapshot_import},
    {"snapshot", "restore", "ROOM", 0, 1, 1, "let nodes try again to run a room that is parked, or not listed any more",
     "The room is listed as pending, with no failed tries. One that is not listed needs a snapshot.\n",
     "roomctl snapshot restore lobby-1", ctl_snapshot_restore},
    {"push", "", "[PLAYER] DATA", OPT_ROOM | OPT_PUSH, 1, 2, "say something to a player, to all in a room, or to everybody",
     "DATA is JSON. To a player: delivered, or kept until he comes. With --room ROOM or --all to whoever is there; it is kept\n"
     "for nobody. Without an answer it is asked again, and done once.\n",
     "roomctl push ann '{\"gold\":5}'", ctl_push},
    {"revoke", "", "[JTI]", OPT_REVOKE, 0, 1, "let nobody in with a token, or a player with any; sessions end",
     "A token is named by its jti. Nodes started with --token-keys hear of it at once: sessions with it are kicked, and it is\n"
     "refused from then on, over restarts too. One entry for each token or player: another --until takes the place of the\n"
     "one before. Entries whose time is over are removed when something is revoked.\n",
     "roomctl revoke --player ann --until 7d --reason 'chargeback'", ctl_revoke},
    {"locks", "", "", 0, 0, 0, "list the locks of the cluster: who holds what",
     "TOKEN is the fencing token. AGE_MS is counted from the last renewal; one older than TTL_MS may be taken by the next who\n"
     "wants it. (roomctl lock and unlock are about rooms.)\n", "roomctl locks", ctl_locks},
    {"shared", "ls", "", 0, 0, 0, "list the data that rooms and backends share",
     "A counter is an integer, a set an array of texts.\n", "roomctl shared ls --json", ctl_shared_ls},
    {"shared", "get", "KEY", 0, 1, 1, "print one value", "", "roomctl shared get cups.7", ctl_shared_get},
    {"shared", "set", "KEY VALUE", OPT_CONDITION | OPT_SET, 2, 2, "set one value",
     "VALUE is JSON, up to 64 KiB; KEY is words of A-Z a-z 0-9 _ - with dots between them.\n",
     "roomctl shared set cups.7 '{\"prize\":100}' --until 12h", ctl_shared_set},
    {"shared", "del", "KEY", OPT_CONDITION, 1, 1, "delete one key", "", "roomctl shared del cups.7 --revision 41",
     ctl_shared_del},
    {"queues", "", "", 0, 0, 0, "list the matchmaking queues: how many wait, and for how long",
     "WAITING counts tickets, PLAYERS the players of these; ROOMS are rooms that run and want players. MATCHED are tickets of\n"
     "matches that are being made, or whose players have not come to their room yet. NODES know the queue.\n",
     "roomctl queues", ctl_queues},
    {"watch", "", "[SUBJECT]", OPT_COUNT, 0, 1, "print events as they happen",
     "Without a subject: all events of rooms, servers and players. --json prints each event as it came, one a line.\n",
     "roomctl watch 'room.*.created'", ctl_watch},
    {"doctor", "", "", 0, 0, 0, "look at NATS and the nodes: what is wrong, what to do", "", "roomctl doctor", ctl_doctor},
    {"check", "", "", OPT_SETTLE, 0, 0, "compare the listing with the nodes and what is stored; 0 only if all holds",
     "Each room has one owner that is up, in its current boot; each node's own rooms equal the listing; no room is\n"
     "overfull; no player is on two nodes; each room that is kept could be restored now; no snapshot or journal is\n"
     "without its room. What differs is looked at again until --settle has passed, because counts are listed with a delay.\n",
     "roomctl check && echo all is well", ctl_check},
};
enum { VERB_COUNT = sizeof VERBS / sizeof VERBS[0] };

void ctl_say(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < ' ' || *p == 0x7f)
            *p = '?';
    fprintf(stderr, "roomctl: %s\n", text);
}

enum ctl_exit ctl_exit_of(int err)
{
    switch (err) {
    case 0:
        return CTL_DONE;
    case ROOM_E_NOT_FOUND:
        return CTL_NOT_FOUND;
    case ROOM_E_UNAVAILABLE:
    case ROOM_E_TIMEOUT:
    case ROOM_E_NO_RESPONDERS:
    case ROOM_E_DISCONNECTED:
        return CTL_UNREACHABLE;
    default:
        return CTL_FAILED;
    }
}

enum ctl_exit ctl_exit_asked(const struct conn *conn, int err)
{
    return err && conn->refused && err != ROOM_E_NOT_FOUND ? CTL_FAILED : ctl_exit_of(err);
}

bool ctl_id_ok(const char *what, const char *id)
{
    if (id_valid(id))
        return true;
    ctl_say("invalid %s id '%.70s': use 1 to 64 of A-Z a-z 0-9 _ - (and not 'all')", what, id);
    return false;
}

/* `sub` NULL: the first one of that name. */
static const struct ctl_verb *find_verb(const char *name, const char *sub)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(VERBS[i].name, name) == 0 && (!sub || strcmp(VERBS[i].sub, sub) == 0))
            return &VERBS[i];
    return NULL;
}

static unsigned verb_options(const char *name, const char *sub)
{
    const struct ctl_verb *verb = find_verb(name, sub);
    if (verb)
        return *verb->sub && !sub ? OPT_FAMILY : verb->options | OPT_COMMON;
    return strcmp(name, "help") == 0 ? OPT_COMMON : 0;
}

/* All verbs, or those of one name. */
static void list_verbs(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++) {
        char words[40];
        if (name && strcmp(VERBS[i].name, name) != 0)
            continue;
        snprintf(words, sizeof words, "%s%s%s", VERBS[i].name, *VERBS[i].sub ? " " : "", VERBS[i].sub);
        printf("  %-16s %-11s %s\n", words, VERBS[i].args, VERBS[i].summary);
    }
}

static void help(void)
{
    printf("usage: roomctl [options] VERB [arguments]\n\nAsks and tends a cluster of roomd nodes over NATS.\n\nverbs:\n");
    list_verbs(NULL);
    printf("\noptions of all verbs:\n");
    options_help(stdout, OPT_COMMON);
    printf("\nexit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 cannot reach NATS or a node\n"
           "more: roomctl VERB --help\n");
}

static void verb_help(const struct ctl_verb *verb)
{
    printf("usage: roomctl %s%s%s%s%s [options]\n\n%s\n", verb->name, *verb->sub ? " " : "", verb->sub, *verb->args ? " " : "",
           verb->args, verb->summary);
    if (*verb->text)
        printf("\n%s", verb->text);
    if (verb->options) {
        printf("\noptions of this verb:\n");
        options_help(stdout, verb->options);
    }
    printf("\noptions of all verbs:\n");
    options_help(stdout, OPT_COMMON | (verb->options & OPT_SERVER ? OPT_SERVER : 0u));
    printf("\nexample: %s\n", verb->example);
}

static enum ctl_exit show_help(const struct options *o)
{
    bool asked = o->verb && strcmp(o->verb, "help") == 0;
    const char *name = asked ? (o->arg_count ? o->args[0] : NULL) : o->verb;
    const char *sub = asked ? (o->arg_count > 1 ? o->args[1] : NULL) : o->sub;
    const struct ctl_verb *verb = name ? find_verb(name, sub) : NULL;
    if (name && !verb) {
        ctl_say("unknown verb '%.40s': see roomctl --help", name);
        return CTL_USAGE;
    }
    if (verb && *verb->sub && !sub) {
        printf("usage: roomctl %s VERB [arguments]\n\nverbs:\n", verb->name);
        list_verbs(name);
        printf("\nexample: %s\n", verb->example);
    } else if (verb) {
        verb_help(verb);
    } else {
        help();
    }
    return CTL_DONE;
}

static enum ctl_exit run(const struct ctl_verb *verb, const struct options *o)
{
    struct conn conn;
    struct err_detail detail = {""};
    if (o->arg_count < verb->args_min || o->arg_count > verb->args_max) {
        ctl_say("'%s%s%s' takes %s: see roomctl %s%s%s --help", verb->name, *verb->sub ? " " : "", verb->sub,
                *verb->args ? verb->args : "no arguments", verb->name, *verb->sub ? " " : "", verb->sub);
        return CTL_USAGE;
    }
    int err = conn_open(&conn, o, &detail);
    if (err)
        ctl_say("%s", detail.text);
    enum ctl_exit code = err == ROOM_E_INVALID ? CTL_USAGE : err ? ctl_exit_of(err) : verb->run(&conn, o);
    conn_close(&conn);
    if (fflush(stdout) != 0 && code == CTL_DONE)
        code = CTL_FAILED;
    return code;
}

int main(int argc, char *argv[])
{
    struct options o = {0};
    struct err_detail detail = {""};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of fflush, not our death in the middle of an order */
    if (options_parse(argc, argv, verb_options, &o, &detail) != 0) {
        ctl_say("%s", detail.text);
        return CTL_USAGE;
    }
    if (o.version) {
        printf("roomctl %s\n", ROOMD_VERSION);
        return CTL_DONE;
    }
    if (o.help || (o.verb && strcmp(o.verb, "help") == 0))
        return (int)show_help(&o);
    if (!o.verb) {
        ctl_say("no verb: see roomctl --help");
        return CTL_USAGE;
    }
    const struct ctl_verb *verb = find_verb(o.verb, o.sub);
    if (*verb->sub && !o.sub) {
        ctl_say("'%s' needs a second word: see roomctl %s --help", o.verb, o.verb);
        return CTL_USAGE;
    }
    return (int)run(verb, &o);
}
