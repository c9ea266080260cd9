/*
 * Between clients.c (what players do), client_frames.c (what they are told), client_session.c (what of it outlives a connection)
 * and logins.c (who of several is the player).
 *
 * Invariant: a client is SEATED exactly when it was told `joined` and neither `left` nor the end of its connection since; one
 * that can resume is again when the welcome names its room.
 */
#ifndef SIM_CLIENTS_H
#define SIM_CLIENTS_H

#include "ledger.h"

enum client_state { CLIENT_OFF, CLIENT_HELLO, CLIENT_READY, CLIENT_JOINING, CLIENT_SEATED, CLIENT_LEAVING };

struct client_item { /* on its way to the node: one connection keeps its order */
    struct client_item *next;
    enum { ITEM_OPEN, ITEM_FRAME, ITEM_CLOSE } kind;
    unsigned node;
    uint64_t life, conn;
    size_t len;
    uint8_t data[];
};

struct heard_from {
    uint64_t join; /* the sender's */
    int64_t number;
    bool loose; /* a resync since: what comes next need not follow */
};

/* As many inputs without an answer as a player lets there be; whoever may have to send them again, no more than the answers that
 * a room remembers. */
enum { CLIENT_OPEN_MAX = 60, CLIENT_AGAIN_MAX = 30, CLIENT_ANSWERS = 64 };

struct client_input { /* without an answer */
    int64_t n, number;
    uint64_t join;
};

struct client_answer {
    int64_t n, value;
    bool refused;
};

struct client_session { /* what a client knows of its session */
    bool can_resume;
    char token[2 * ID_SIZE]; /* empty: there is none to take up again */
    struct id id;
    unsigned node; /* of its last welcome */
    uint64_t life;
    enum client_state was; /* when its connection was lost */
    int64_t lost_us;
    int64_t back_us; /* it does not come back before */
    bool resuming;   /* the hello under way asks for it */
    int64_t roam_us; /* another node was asked for it last; 0: none was */
    bool again;      /* it was taken up again: answers may come twice */
    bool gap;        /* its numbers have jumped to `from`: resync comes before anything else */
    bool unsure;     /* what was said in the room is not whole until the room's resync */
    int64_t again_n; /* the highest input that was sent again */
    int64_t whole;   /* a room's whole state came after this message: what followed it may have to be left out */
    int64_t from, acked, stray;
    int64_t unsure_us; /* since when, or since it was last paused */
    int64_t heard_us;  /* anything at all */
    bool pinged;
    struct client_answer answers[CLIENT_ANSWERS]; /* by number */
    struct wire_frame_join asked;                 /* the join under way */
    char asked_ticket[520];
    bool proving, proved; /* after the faults: it is to be taken up at another node, and was */
};

struct client_hello { /* that a node has heard */
    unsigned node;
    uint64_t conn;
    int64_t at_us;
};
enum { CLIENT_HELLOS = 8 };

struct client_login {
    struct client_hello unanswered[CLIENT_HELLOS]; /* the last of them; at_us 0: none */
    unsigned hellos;
    uint64_t said, welcomed; /* places of its last hello and welcome in the order of logins; welcomed 0: not yet */
    uint64_t began;          /* of the hello that its session began with */
    bool retired;            /* replaced after the faults: the player goes on elsewhere */
};

struct sim_client {
    struct world *w;
    unsigned index;
    char player[16], name[24]; /* players log in from several places */
    enum client_state state;
    unsigned node;
    uint64_t life, conn;
    bool can_redirect, can_relay, proved, asked_proof;
    int64_t deadline_us, request;
    struct client_item *first, **last;
    /* where a redirect leads */
    bool redirected;
    unsigned target;
    char ticket[520];
    int create_id; /* of the join under way or to be repeated, -1: none */
    bool repeat;
    /* the seat */
    int64_t room;
    struct id room_id, type;
    int64_t epoch, joined_epoch;
    bool paused, counts;
    uint64_t join; /* counts up over all joins of all clients */
    int64_t number, n, acknowledged, counter, seq;
    struct client_input open[CLIENT_OPEN_MAX]; /* the oldest first */
    unsigned open_count;
    struct map epochs; /* room that outlives its owner -> the highest epoch seen, as a number */
    unsigned errors; /* told since it joined */
    struct heard_from heard[SIM_CLIENTS_MAX]; /* by player */
    struct client_session s;
    struct client_login login;
};

/* What players play. Creation ids take types by their place here. */
struct client_type {
    const char *name, *spec, *room;
    bool named_only; /* its rooms never end, so there must not be many */
};
enum { CLIENT_TYPES = 9 };
extern const struct client_type client_types[CLIENT_TYPES];

/* clients.c */
void client_set(struct sim_client *c, enum client_state state);
void client_connect(struct sim_client *c, unsigned node);
/* Closes the connection, with a word or, as a cable that is pulled, without: the node notices seconds later. */
void client_disconnect(struct sim_client *c, bool word);
/* No answer to what is open will come any more. */
void client_doubts(struct sim_client *c);
void client_say(struct sim_client *c, int op, const void *message);
void client_join(struct sim_client *c, enum wire_frame_join_mode mode, const char *type, const char *room);
void client_input(struct sim_client *c, const struct client_input *in);
void client_leave(struct sim_client *c);
/* The first client of that player; NULL: there is none. */
struct sim_client *client_at(struct world *w, const char *player);

/* client_frames.c */
void client_told(struct sim_client *c, const uint8_t *data, size_t len);

/* client_session.c */
void client_session_hello(struct sim_client *c, struct wire_frame_hello *hello);
/* The connection is gone. What outlives it waits for the next; of the rest nobody hears again. */
void client_session_offline(struct sim_client *c);
/* The session is over, or its player wants to know nothing of it. */
void client_session_forget(struct sim_client *c);
void client_session_welcome(struct sim_client *c, const struct wire_frame_welcome *m);
/* The next message has this number. */
void client_session_message(struct sim_client *c, int64_t seq);
void client_session_resync(struct sim_client *c, const struct wire_frame_resync *m);
/* Takes the input out of those that are open. False: it was answered before. */
bool client_session_answered(struct sim_client *c, int64_t n, bool refused, int64_t value);
/* A join has come to its end: no other seat is kept. `room` 0: it was refused. */
void client_session_settled(struct sim_client *c, int64_t room);
/* Its seat has not outlived its connection. */
void client_session_unseated(struct sim_client *c);
/* Acknowledges, pings, notices silence. True: the connection was given up. */
bool client_session_tick(struct sim_client *c);

/* logins.c */
void logins_said(struct sim_client *c);
/* Its connection is open at the node, and the hello comes next. */
void logins_heard(struct sim_client *c, unsigned node, uint64_t conn);
void logins_answered(struct sim_client *c);
void logins_welcomed(struct sim_client *c);
/* Has anybody logged in as this player who may have come after the client's session? */
bool logins_since(const struct sim_client *c);
/* It was told that another has taken its place. */
void logins_replaced(struct sim_client *c);
/* Whoever else can be this player tries it at this moment. */
void logins_rush(struct sim_client *c);
/* After the faults: is the client the only one left of its player, and is one left of each? */
bool logins_proved(const struct world *w, char *why, size_t size);
bool logins_agree(const struct world *w, char *why, size_t size);

#endif
