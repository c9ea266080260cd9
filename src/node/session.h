/*
 * Inside of the node: the sessions of the players connected here, and the calls between the parts that decide about them.
 * Only files of node/ include this, through state.h.
 */
#ifndef NODE_SESSION_H
#define NODE_SESSION_H

#include "base/buf.h"
#include "base/time.h"
#include "node/node.h"
#include "node/tail.h"
#include "port/bus.h"
#include "room/host.h"
#include "wire/wire_gen.h"

struct node;
struct member;
struct request;
struct core_answer;
struct room_info;

enum {
    PRESENCE_TTL_MS = 24 * 3600 * 1000, /* of the entries of players and sessions */
    PRESENCE_RENEW_MS = 6 * 3600 * 1000, /* they are written anew so often */
    SENDS_OUT_MAX = 32,                 /* messages of one place with the room, unanswered: as many as it remembers answers */
    SENDS_MAX = 1024,                   /* and those that wait here */
    SENDS_BYTES_MAX = 2 * 1024 * 1024,
};

enum { SESSION_SECRET_SIZE = 33 };

/* One message, on its way to any number of sessions; begins as {from, data}, ends with session_said(). */
struct speech {
    const char *from; /* NULL: the room itself */
    struct wire_raw data;
    struct words *words; /* for the tails */
    bool as_json;        /* the part that is the same for all is in the node's tail_json */
    bool push;           /* not the room's own word; the rest as in struct words */
    uint64_t number;
    uint32_t missed;
};

/* A message of a player that its room has not answered. */
struct unanswered {
    struct unanswered *next;
    int64_t n;
    bool out; /* handed to the present owner */
    size_t len;
    uint8_t data[];
};

struct sends {
    struct unanswered *first, **last; /* oldest first */
    unsigned count, out;
    size_t bytes;
};

struct session {
    uint64_t serial; /* of this session in this process */
    uint64_t conn;   /* 0: gone */
    uint64_t hello;  /* serial of the arrival that it came with */
    struct id id, player;
    struct id jti;       /* of its token; empty: none */
    struct wall expires; /* its token; 0: never */
    struct wall since;   /* it began, on whatever node */
    bool can_redirect, can_relay, relay_first, can_resume, resumed;
    char secret[SESSION_SECRET_SIZE]; /* whoever has it may take the session up again */
    struct mono away_until;           /* without a connection */
    uint64_t claim;                   /* revision of the player's entry that names this session; 0: not yet */
    bool moved;                       /* it goes on elsewhere: it ends here without a word to the rooms */
    bool sent_away;                   /* told to go to another node: it waits for that one */
    bool recheck;                     /* whether the claim still holds */
    bool renew;                       /* and what is written down of it is to be written anew */
    uint32_t words;                   /* that its client has said since its welcome: somebody is there */
    bool listed, roster_due;          /* its rooms are in the bucket `sessions`; not as they are now */
    struct mono roster_at;
    struct tail tail;
    struct collecting *inbox; /* NULL: there is nothing in it to look after */
    uint64_t inbox_at;        /* the player's inbox was read up to here */
    bool inbox_open;          /* it was read, so that what comes can be taken as it comes */
    bool anew;        /* a room's whole state was sent, */
    uint64_t anew_at; /* after this message: whoever has seen none since may not have it */
    uint32_t next_room;
    unsigned place_count, joining, bad_frames;
    struct place *places;
    struct asks *asks; /* of services; NULL: none yet */
    struct {
        struct id ticket;      /* waits for a match; empty: none */
        struct id told, asked; /* the last match that it was told of; was asked to accept */
        struct id over, over_queue; /* a ticket that was over without a match, until the next one */
        int64_t over_request;
        const char *over_reason;
    } match;
};

/* A session in one room, here or relayed. */
struct place {
    struct session *session;
    struct place *next;
    struct place *room_next; /* relayed: next place in the same room */
    uint32_t number;         /* what the client calls the room; on a link the number of the request */
    struct id room, type;
    bool relayed, joined;
    bool away;    /* the room has no owner that serves it: messages wait here */
    bool pumping, waiting; /* sends.c: messages are being handed out; are to be at the end of the turn */
    struct mono retry_at, away_since;  /* away */
    uint64_t who; /* local */
    struct id server; /* relayed: the owner */
    uint64_t epoch;   /* the highest seen; frames of a lower one are dropped */
    int64_t request;
    struct mono deadline; /* relayed, until joined */
    struct sends sends;
};

/* All places of this node's sessions in one room elsewhere. */
struct relayed {
    struct place *first;
};

/* Somebody who has said hello and is not welcome yet; or a session whose claim is still to be made, or looked at again. */
struct arrival {
    uint64_t serial;
    uint64_t conn;          /* 0: gone, or none of ours */
    uint64_t session;       /* serial of the session, once it is in the tables */
    struct session *made;   /* the session until then */
    int step;
    bool wants, resumed, waits, verify;
    bool renew;             /* verify: and write the entry anew, before its time is over */
    bool tried;             /* the entry may name it already */
    bool late;              /* another session is listed, and was first seen when the client had said so many `words` */
    uint32_t words;
    bool left;              /* its former gateway did not hand it over, and is still to be told */
    bool stands;            /* another session may be in its way, by the login policy; since stands_since */
    struct id wanted;       /* the session that it would take up again */
    char secret[SESSION_SECRET_SIZE];
    uint64_t seen;          /* the last message it has seen */
    bool unknown_missed;    /* what was said since is not known */
    struct id player, gateway, other; /* of the entry that was read: another session of the player, and where it is */
    uint64_t revision;      /* of that entry */
    struct mono began, retry_at, stands_since;
    struct buf early;       /* frames that came before the welcome: length, bytes */
};

enum { ARRIVAL_EARLY_MAX = 256 * 1024 };

/* presence.c */
/* With the session, if that is in no table yet. */
void arrival_forget(struct node *n, struct arrival *a);
/* It is looked at again in a moment. */
void arrival_wait(struct node *n, struct arrival *a);

/* settle.c */
/* Its session is one from now on. `done`: nothing is left to do; otherwise `a` goes on for it. False: it is gone, and so is `a`. */
bool arrival_begin(struct node *n, struct arrival *a, bool done);
/* The same, if that has not been done yet, and then `a` is over. */
void arrival_finish(struct node *n, struct arrival *a);
/* Its session `s` was welcome while the registry could not be asked, and another is listed by now. Whose hello was the later one no
 * clock tells; but a client that gave `s` up, and is elsewhere by now, says nothing more here. True: it has said something since. */
bool arrival_may_take(struct arrival *a, const struct session *s);
/* The session that is listed is here, its hello came later, and the newest login stays. */
bool arrival_outdone(struct node *n, const struct arrival *a, const struct id *listed);

/* A player's place in a room, by its session's serial and the number the client knows; NULL: gone. */
struct place *session_place(struct node *n, uint64_t serial, uint32_t number);

/* sends.c */
/* The answer to the message `number`; `result` counts if `code` is 0. */
void sends_result(struct node *n, struct place *p, int64_t number, int code, struct wire_raw result);
/* `text` NULL: the code's own. */
void sends_refused(struct node *n, struct session *s, int64_t number, int code, const char *text);
int sends_add(struct node *n, struct place *p, int64_t number, struct wire_raw data);
/* Hands on what may be: to the room here, or to the owner's link. The place may be gone afterwards. */
void sends_pump(struct node *n, struct place *p);
/* Answered, or refused: it is not sent again. False: it was before. */
bool sends_answered(struct node *n, struct place *p, int64_t number);
/* The owner is another, or may have missed some: all are to be handed on again. */
void sends_again(struct place *p);
void sends_clear(struct node *n, struct place *p);
void sends_turn(struct node *n);

/* attach.c */
/* The owner of the place's room is gone; false: so is the room, for all that is known. `sure`: it moves, and its former owner
 * still has a word to say. */
bool attach_wait(struct node *n, struct place *p, bool sure);
void attach_room_entry(struct node *n, const struct room_info *info);
void attach_tick(struct node *n);
/* The owner learns that the seat is this gateway's now. */
void attach_ask(struct node *n, struct place *p, const char *owner);
/* The player missed something of the room: it gets the whole state, as from a new owner. */
void attach_anew(struct node *n, struct place *p);
/* Joins to rooms that went from here before they could answer. */
void attach_end_strays(struct node *n);
/* The host has the seat again, for a player of this node. */
void attach_seated(struct node *n, struct member *m, uint64_t epoch, struct wire_raw state);
/* The seat is taken up again: as the gateway, local or over a link. */
void attach_done(struct node *n, struct place *p, uint64_t epoch, struct wire_raw state);
/* Rooms that need their journal or their snapshots do not play on while nobody hears of this node. */
void attach_isolated(struct node *n, bool isolated);
/* The players of this node in one room: their input waits, or goes on. */
void attach_still(struct node *n, const struct room *room, bool still);

/* presence.c */
/* Takes `s`, which is in no table yet; it is welcome when the player is this node's. */
void presence_arrive(struct node *n, uint64_t conn, struct session *s, const struct wire_frame_hello *m);
/* A frame of somebody who is not welcome yet waits. False: there is nobody on that connection, or too much waits. */
bool presence_early(struct node *n, uint64_t conn, const uint8_t *data, size_t len);
/* The connection is gone. False: nobody was arriving on it. */
bool presence_closed(struct node *n, uint64_t conn);
void presence_done(struct node *n, const struct bus_event *ev);
/* The session has ended here for good. */
void presence_end(struct node *n, const struct session *s);
/* Others may have taken players over meanwhile: every claim is looked at again. */
void presence_verify(struct node *n);
/* Another login of the player has won; false: no such session. */
bool presence_displaced(struct node *n, const struct id *session);
void presence_tick(struct node *n);
void presence_stop(struct node *n);
void presence_deinit(struct node *n);

/* policy.c */
enum { POLICY_WAIT_MS = 5000 };
enum in_way { WAY_FREE, WAY_BARRED, WAY_ASKED, WAY_UNKNOWN };
/* Is the session `a->other` at `a->gateway` in the way of a new login? ASKED: policy_answer() tells when the bus has answered. */
enum in_way policy_look(struct node *n, struct arrival *a, uint64_t token);
enum in_way policy_answer(const struct bus_event *ev);
/* At the gateway: a session whose player is not connected ends (0), or is not here (NOT_FOUND); else it stays
 * (ALREADY_CONNECTED). */
int policy_absent(struct node *n, const struct id *session);

/* handover.c */
/* A gateway asks for a session, or says that it is displaced. */
void handover_in(struct node *n, int op, const struct bus_event *ev);
/* The session as another gateway had it; false: that cannot be read. */
bool handover_install(struct node *n, struct session *s, const struct wire_rpc_session *m);
/* The same from what a dead one wrote down. */
bool handover_from_roster(struct node *n, struct session *s, const uint8_t *data, size_t len);
/* Its rooms are others now. */
void roster_changed(struct node *n, struct session *s);
void roster_done(struct node *n, const struct bus_event *ev);
void roster_end(struct node *n, const struct session *s);
void roster_tick(struct node *n);

/* collect.c */
/* The session has its player: what waits for him is read and said. Called again, it looks whether there is more. */
void collect_begin(struct node *n, struct session *s);
/* The client has all up to `seq`. */
void collect_acked(struct node *n, struct session *s, uint64_t seq);
/* Messages up to `floor` cannot be said again, and the client may lack them. True: there were pushes among them, and all that
 * is not acknowledged comes once more; nothing else of the tail does. */
bool collect_lost(struct node *n, struct session *s, uint64_t floor);
/* The session ends; what was acknowledged is still written down, unless it goes on elsewhere. */
void collect_end(struct node *n, struct session *s);
/* As if it had read nothing: it has acknowledged nothing, and goes on elsewhere or not at all. */
void collect_drop(struct node *n, struct session *s);
/* For a session that goes on elsewhere, and as the one who gets it. False: it cannot be read. */
void collect_give(const struct session *s, struct buf *out);
bool collect_take(struct node *n, struct session *s, struct wire_raw state);
/* A push for a player of this node. 0 and whether he has it, or NOT_FOUND, UNAVAILABLE (ask again). */
int collect_heard(struct node *n, const struct wire_rpc_push *m, bool *delivered);
void collect_done(struct node *n, const struct bus_event *ev);
void collect_tick(struct node *n);
void collect_deinit(struct node *n);

/* hello.c */
/* The first frame of a connection. */
void hello_in(struct node *n, uint64_t conn, const struct wire_frame_hello *m);
void hello_can(struct session *s, const struct wire_frame_hello *m);
/* Another id and secret. */
void hello_renew(struct node *n, struct session *s);
/* One that is in no table. */
void hello_discard(struct node *n, struct session *s);
/* Into the tables, with its connection or without. False: no memory. */
bool hello_settle(struct node *n, struct session *s, uint64_t conn);
/* `seq` is the last message that the client has, or need not have. */
void hello_welcome(struct node *n, struct session *s, bool resumed, uint64_t seq);

/* session.c */
void session_send(struct node *n, struct session *s, int op, const void *message);
void session_error(struct node *n, struct session *s, int64_t id, int code, const char *text);
/* Also where there is no session yet. With `close`, a reason, it is the connection's last frame. */
void session_conn_error(struct node *n, uint64_t conn, int64_t id, int code, const char *text, const char *close);
/* Gives up the seat that the place stands for. */
void session_vacate(struct node *n, struct place *p, const char *reason);
struct place *session_place_add(struct node *n, struct session *s, const char *room, const char *type);
void session_place_drop(struct node *n, struct place *p, const char *reason, bool tell);
/* All, of a session that is in no table. */
void session_drop_places(struct node *n, struct session *s);
void session_joined(struct node *n, struct place *p, int64_t request, uint32_t players, uint32_t max,
                    struct wire_raw state);
/* To the player, whatever room he is in; returns its number in the session. */
uint64_t session_push(struct node *n, struct session *s, struct speech *m);
void session_message(struct node *n, struct place *p, struct speech *m);
/* Once more, with the number it had. `room` 0: to the player, not in a room. */
void session_repeat(struct node *n, struct session *s, uint64_t seq, uint32_t room, struct speech *m);
void session_said(struct node *n, struct speech *m);
void session_end(struct node *n, struct session *s, const char *reason);
/* It goes on elsewhere: here it ends, without an event that says it is over, and its connection with it. */
void session_moved(struct node *n, struct session *s);
/* The same, and the player is told why. `message` NULL: there is no more to say about it. */
void session_kick(struct node *n, struct session *s, const char *reason, const char *message);

/* resume.c */
/* A token taken apart; false: it is none. */
bool resume_token(struct wire_str token, struct id *session, char secret[SESSION_SECRET_SIZE]);
/* Is the session that the player's entry names the one that `a` would take up again, and its to take? */
bool resume_listed(const struct arrival *a, const struct wire_player_entry *e);
/* The session, if it is here and this is its player and secret. */
struct session *resume_match(struct node *n, const struct id *session, const struct id *player, struct wire_str secret);
/* The session that the client means and may have; NULL: there is none here. */
struct session *resume_find(struct node *n, const struct id *player, struct wire_str token);
void resume_here(struct node *n, struct session *s, uint64_t conn, const struct wire_frame_hello *m);
/* The welcome of a session that goes on, and all that was said since `seen`. `unknown`: what was said is not known. */
void resume_tell(struct node *n, struct session *s, uint64_t seen, bool unknown);
/* The last message that need not be said again to whoever has seen `seen`. */
uint64_t resume_after(const struct session *s, uint64_t seen);
/* Numbers that no gateway has given out before, to begin after; `claim` is the revision of the player's entry. */
uint64_t resume_beyond(uint64_t seen, uint64_t claim);
/* Its connection is gone: it waits for its player. False: it cannot. */
bool resume_wait(struct node *n, struct session *s);
void resume_tick(struct node *n);

/* frames.c */
void frames_in(struct node *n, uint64_t conn, enum node_encoding encoding, const uint8_t *data, size_t len);
/* The core has found a seat, or the reason why there is none. */
void frames_join_result(struct node *n, uint64_t req, struct request *r, const struct core_answer *a);

#endif
