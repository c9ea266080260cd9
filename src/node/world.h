/*
 * Inside of the node: the calls of the parts that speak with the world beyond its own rooms and players, which are backends,
 * rooms and players elsewhere, matchmaking, locks, services, and operators. Only state.h includes this.
 */
#ifndef NODE_WORLD_H
#define NODE_WORLD_H

/* push.c */
enum { INBOX_STREAM = 0, INBOX_PURGED = 1 }; /* TOKEN_INBOX, and TOKEN_POST: what nobody waits for */
#define INBOX_NAME "PLAYER_INBOX"
struct inbox_limits push_limits(const struct node *n);
void push_listen(struct node *n, bool on);
void push_in(struct node *n, const struct bus_event *ev);
void push_done(struct node *n, const struct bus_event *ev);
/* A gateway is told of a push. */
void push_told(struct node *n, const struct bus_event *ev);
void push_tick(struct node *n);
void push_deinit(struct node *n);
void push_answer(struct node *n, const char *to, const struct wire_push_reply *reply);
/* `text` NULL or empty: the code's own. */
void push_refuse(struct node *n, const char *to, int code, const char *text);

/* shout.c */
void shout_room(struct node *n, const char *room, const struct bus_event *ev);
void shout_all(struct node *n, const struct bus_event *ev);
void shout_deinit(struct node *n);

/* outside.c */
void outside_done(struct node *n, const struct bus_event *ev);
void outside_deinit(struct node *n);

/* matching.c */
bool matching_init(struct node *n);
void matching_deinit(struct node *n);
/* Of the bucket `matchmaking`. */
void matching_event(struct node *n, const struct bus_event *ev);
void matching_done(struct node *n, const struct bus_event *ev);
void matching_tick(struct node *n);
/* The session is in the tables. */
void matching_session(struct node *n, struct session *s);

/* ticket.c */
void ticket_match(struct node *n, struct session *s, const struct wire_frame_match *m);
void ticket_unmatch(struct node *n, struct session *s, const struct wire_frame_unmatch *m);
void ticket_accept(struct node *n, struct session *s, const struct wire_frame_accept *m);
/* Its player has just been welcomed. */
void ticket_welcome(struct node *n, struct session *s, bool resumed);
void ticket_session_gone(struct node *n, struct session *s);
/* A control request for players: 0, and it is answered when its ticket is written; an error and its text. */
int ticket_backfill(struct node *n, const struct wire_ctl_request *q, const char *reply, struct err_detail *detail);

/* pair.c */
/* A seat that was asked for, or why there is none. */
void pair_seated(struct node *n, const struct id *match, const struct core_answer *a);

/* locks.c */
bool locks_init(struct node *n);
void locks_deinit(struct node *n);
void locks_done(struct node *n, const struct bus_event *ev);
void locks_entry(struct node *n, const struct bus_event *ev);
void locks_tick(struct node *n);
/* A control request for a lock: 0, and it is answered when that is decided; INVALID, NO_MEMORY. */
int locks_ctl(struct node *n, const struct wire_ctl_request *q, const char *reply);
/* A room's: 0, and it hears of it when that is decided; NO_MEMORY. */
int locks_room(struct node *n, const char *room, uint64_t epoch, const struct host_lock_ask *ask);

/* talk.c */
void talk_init(struct node *n);
void talk_deinit(struct node *n);
/* The room runs here, from now on or no more. False: it cannot be listened for. */
bool talk_open(struct node *n, const char *room);
void talk_close(struct node *n, const char *room);
void talk_in(struct node *n, const struct bus_event *ev);
void talk_done(struct node *n, const struct bus_event *ev);
/* What came of something that a room of this epoch has asked. Without a request nobody waits for it. */
void talk_event(struct node *n, const char *room, uint64_t epoch, const struct room_event *event);
/* True: there is more to do. */
bool talk_turn(struct node *n);
void talk_tick(struct node *n);
/* Of struct host_out. */
void talk_answered(void *arg, const struct room *room, const char *to, int code, const void *result, size_t len);
void talk_tell(void *arg, const struct room *room, const char *other, uint64_t request, const void *data, size_t len);
void talk_lock(void *arg, const struct room *room, const struct host_lock_ask *ask);
void talk_ask(void *arg, const struct room *room, const struct host_ask *ask);

/* What came of an open ask of a room here: code, data and token are looked at. */
void talk_finish(struct node *n, const struct asker *asker, const struct room_event *event);

/* shared.c */
void shared_init(struct node *n);
void shared_deinit(struct node *n);
/* Of the bucket `shared`. */
void shared_entry_event(struct node *n, const struct bus_event *ev);
void shared_done(struct node *n, const struct bus_event *ev);
void shared_tick(struct node *n);
/* A control request: 0, and it is answered when it is done; an error and its text. */
int shared_ctl(struct node *n, const struct wire_ctl_request *q, const char *reply, struct err_detail *detail);
/* A room's: 0, and talk_finish() when it is done; FULL, NO_MEMORY. */
int shared_room(struct node *n, const struct asker *asker, const struct host_ask *ask);

/* consult.c */
/* A room's request to a service: 0, and talk_finish() when it has ended; UNAVAILABLE, UNKNOWN_RESULT, FULL, NO_MEMORY, or a
 * defect of its data. */
int consult(struct node *n, const struct asker *asker, const struct host_ask *ask);

/* hear.c */
struct hears;
void hear_init(struct node *n);
void hear_deinit(struct node *n);
void hear_in(struct node *n, const struct bus_event *ev);
/* Of struct host_out: the room's patterns are others, or it has just begun to run here. */
void hear_topics(void *arg, const struct room *room);
/* Where what the room of talk.c hears is kept; NULL: it is not listened for. */
struct hears **talk_hears(struct node *n, const char *room);
void hear_close(struct node *n, struct hears **first);
void hear_tick(struct node *n);

/* reach.c */
void reach_init(struct node *n);
void reach_deinit(struct node *n);
/* A room's message to a player: 0, and the room hears of it; NO_MEMORY, FULL, DISCONNECTED. */
int reach_player(struct node *n, const char *room, uint64_t epoch, uint64_t request, const char *player, const void *data,
                 size_t len);
void reach_done(struct node *n, const struct bus_event *ev);
/* At the gateway. */
void reach_in(struct node *n, const struct bus_event *ev);

/* route.c */
bool route_init(struct node *n);
void route_deinit(struct node *n);
void route_in(struct node *n, struct session *s, const struct wire_frame_request *m);
/* The first frame of a connection is a request. False: that is not allowed. */
bool route_guest_in(struct node *n, uint64_t conn, const struct wire_frame_request *m);
void route_guest_gone(struct node *n, uint64_t conn);
/* Its open requests are dropped, what is remembered of it is forgotten. */
void route_session_gone(struct node *n, struct session *s);
/* The same for a node that is freed as a whole. */
void route_forget(struct node *n, struct session *s);
/* The node stops: everybody hears that what is open will not be answered. */
void route_stop(struct node *n);

/* backend.c */
void backend_heard(struct node *n, const struct bus_event *ev);
void backend_done(struct node *n, const struct bus_event *ev);
void backend_tick(struct node *n);

/* ctl.c */
/* A move that was asked for by a control request has ended. */
void ctl_moved(struct node *n, const char *reply, const struct core_answer *answer);
/* A room that was to be saved is, in the bucket too. */
void ctl_saved(struct node *n, const char *reply, const struct kept *k);
/* The ticket of a room that wants players is written; NULL: it is not. */
void ctl_backfilled(struct node *n, const char *reply, const struct id *ticket);
void ctl_in(struct node *n, const struct bus_event *ev);

/* people.c */
/* A session as a map, which the caller may add `more` fields to. */
void people_write(const struct session *s, uint32_t more, struct buf *b);
/* Control requests: 0 with the answer in `b`, NOT_FOUND, INVALID. */
int people_show(struct node *n, const struct wire_ctl_request *q, struct buf *b);
int people_kick(struct node *n, const struct wire_ctl_request *q, struct buf *b);

#endif
