/*
 * Error codes of roomd's public interfaces.
 *
 * 0 is success, every failure is negative. `name` is the word that appears in the client protocol (`error.code`), in
 * JSON answers and in logs; it never changes once released. `retryable` says whether the same call can succeed later
 * without anything being changed by the caller. Any thread may call these functions; the strings are static.
 */
#ifndef ROOM_ERROR_H
#define ROOM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/*  X(symbol, number, name, text, retryable) */
#define ROOM_ERROR_TABLE(X)                                                                                          \
    X(OK, 0, "ok", "success", 0)                                                                                     \
    X(NO_MEMORY, -1, "no_memory", "out of memory", 1)                                                                \
    X(INVALID, -2, "invalid", "invalid argument", 0)                                                                 \
    X(BAD_FRAME, -3, "bad_frame", "the frame is not valid", 0)                                                       \
    X(TOO_BIG, -4, "too_big", "larger than the limit", 0)                                                            \
    X(NOT_FOUND, -5, "not_found", "no such thing", 0)                                                                \
    X(UNKNOWN_TYPE, -6, "unknown_type", "no such room type on this cluster", 0)                                      \
    X(UNKNOWN_OP, -7, "unknown_op", "no such operation", 0)                                                          \
    X(ROOM_FULL, -8, "room_full", "the room has no seat left", 1)                                                    \
    X(ROOM_LOCKED, -9, "room_locked", "the room is locked", 1)                                                       \
    X(BAD_TICKET, -10, "bad_ticket", "the seat ticket is wrong, used or expired", 0)                                 \
    X(UNAVAILABLE, -11, "unavailable", "nothing can serve this now", 1)                                              \
    X(TIMEOUT, -12, "timeout", "no answer in time", 1)                                                               \
    X(NO_RESPONDERS, -13, "no_responders", "nobody listens there", 1)                                                \
    X(CONFLICT, -14, "conflict", "somebody else changed it first", 1)                                                \
    X(UNKNOWN_RESULT, -15, "unknown_result", "it may or may not have happened", 1)                                   \
    X(DISCONNECTED, -16, "disconnected", "the connection is down", 1)                                                \
    X(CANCELLED, -17, "cancelled", "cancelled", 0)                                                                   \
    X(RATE_LIMITED, -18, "rate_limited", "too many requests", 1)                                                     \
    X(UNAUTHORIZED, -19, "unauthorized", "not allowed", 0)                                                           \
    X(EXISTS, -20, "exists", "it exists already", 0)                                                                 \
    X(FENCED, -21, "fenced", "superseded by another", 0)                                                             \
    X(DRAINING, -22, "draining", "the server takes nothing new", 1)                                                  \
    X(FULL, -23, "full", "the limit is reached", 1)                                                                  \
    X(IO, -24, "io", "input or output failed", 1)                                                                    \
    X(UNSUPPORTED, -25, "unsupported", "not supported here", 0)                                                      \
    X(ALREADY, -26, "already", "it is so already", 0)                                                                \
    X(INTERNAL, -27, "internal", "a defect in roomd or a room type", 0)                                              \
    X(TOKEN_INVALID, -28, "token_invalid", "not a token, or its signature is wrong", 0)                              \
    X(TOKEN_KEY, -29, "token_key", "the token is signed with a key that is not known here", 0)                       \
    X(TOKEN_EXPIRED, -30, "token_expired", "the token has expired", 0)                                               \
    X(TOKEN_EARLY, -31, "token_early", "the token is not good yet", 1)                                               \
    X(TOKEN_FOREIGN, -32, "token_foreign", "the token is for somebody else's servers", 0)                            \
    X(TOKEN_PLAYER, -33, "token_player", "the token is another player's", 0)                                         \
    X(TOKEN_REVOKED, -34, "token_revoked", "the token, or its player, was revoked", 0)                               \
    X(ALREADY_CONNECTED, -35, "already_connected", "the player is connected already", 1)                             \
    X(UNKNOWN_ROUTE, -40, "unknown_route", "no such route on this server", 0)                                        \
    X(NO_SERVICE, -41, "no_service", "nobody serves this now", 1)                                                    \
    X(UNRESPONSIVE, -42, "unresponsive", "the service is there, but answers nothing, not even pings", 1)             \
    X(SERVICE_ERROR, -43, "service_error", "the service refused", 0)                                                 \
    X(BAD_REPLY, -44, "bad_reply", "the service's answer cannot be read", 0)                                         \
    X(HELD, -50, "held", "somebody else holds it", 1)

enum room_error {
#define ROOM_ERROR_ENUM(symbol, number, name, text, retryable) ROOM_E_##symbol = number,
    ROOM_ERROR_TABLE(ROOM_ERROR_ENUM)
#undef ROOM_ERROR_ENUM
};

/* The word of a code, for example "room_full"; "unknown" for a number that is not in the table. */
const char *room_error_name(int code);

/* One English phrase for a person. */
const char *room_error_text(int code);

/* 1 if the same call may succeed later, else 0. */
int room_error_retryable(int code);

/* The code of a word, ROOM_E_INTERNAL if the word is not in the table. */
int room_error_from_name(const char *name);

#ifdef __cplusplus
}
#endif

#endif
