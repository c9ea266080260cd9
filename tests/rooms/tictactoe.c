/*
 * Tic-tac-toe: a whole room type as a shared object, to copy from.
 *
 *     cc -shared -fPIC -I include -o tictactoe.so tictactoe.c        (no library is needed)
 *     roomd --room-type ./tictactoe.so
 *
 * Two players; the first to join is X and begins. A message is the number of a field, 0 to 8. Its result is true, or the
 * message is refused with `conflict` (not your turn, field taken) or `invalid`. Everyone gets the board after each move:
 * a string of nine characters out of "XO." and one more for the game: "X" or "O" (whose turn), "x" or "o" (who has won),
 * "=" (a draw). Whoever joins or comes back gets the same as its state. When a player leaves, the room is closed.
 */
#include <string.h>

#include "room/room_type.h"

/* What a room remembers. It is taken in create() and given back in dispose(). */
struct game {
    char seat[2][65]; /* the players' ids; the room frees nothing but the whole */
    char board[10];   /* nine fields and the state of the game */
};

static int game_create(struct room *room, const void *options, size_t len)
{
    struct game *g = room_alloc(room, sizeof(*g));
    if (!g)
        return ROOM_E_NO_MEMORY;
    memcpy(g->board, ".........X", 10);
    room_set_user(room, g);
    return 0;
}

static void game_dispose(struct room *room)
{
    room_free(room, room_user(room), sizeof(struct game));
}

/* The host has checked that there is a free seat (max_players is 2); here we only say who plays what. */
static int game_join(struct room *room, const char *player, const void *options, size_t len)
{
    struct game *g = room_user(room);
    strcpy(g->seat[g->seat[0][0] ? 1 : 0], player);
    if (g->seat[1][0])
        room_lock(room); /* the game is on: nobody else gets a seat */
    return 0;
}

static void game_leave(struct room *room, const char *player, const char *reason)
{
    room_close(room, "opponent_left");
}

/* The board as one msgpack value: a string of ten bytes (a fixstr is 0xA0 + its length). */
static void board_value(const struct game *g, char out[11])
{
    out[0] = (char)(0xA0 + 10);
    memcpy(out + 1, g->board, 10);
}

static int game_state(struct room *room, const char *player)
{
    char value[11];
    board_value(room_user(room), value);
    return room_reply(room, value, sizeof(value));
}

/* The whole game as one value: [X, O, board], three strings. */
static int game_save(struct room *room)
{
    const struct game *g = room_user(room);
    char value[11];
    int rc = room_reply(room, "\x93", 1);
    for (int i = 0; i < 2 && rc == 0; i++) {
        char head[2] = {(char)0xD9, (char)strlen(g->seat[i])}; /* str 8: a byte with the length follows */
        rc = room_reply(room, head, 2);
        if (rc == 0)
            rc = room_reply(room, g->seat[i], strlen(g->seat[i]));
    }
    board_value(g, value);
    return rc ? rc : room_reply(room, value, sizeof(value));
}

/* Takes a string of a length byte at `*at`. What comes in was written by some game_save(), but believe nothing. */
static int take_seat(const unsigned char **at, const unsigned char *end, char seat[65])
{
    if (end - *at < 2 || (*at)[0] != 0xD9 || (*at)[1] > 64 || end - *at < 2 + (*at)[1])
        return 0;
    memcpy(seat, *at + 2, (*at)[1]);
    *at += 2 + (*at)[1];
    return 1;
}

static int game_restore(struct room *room, const void *state, size_t len)
{
    const unsigned char *at = state, *end = at + len;
    struct game read;
    memset(&read, 0, sizeof(read));
    if (*at++ != 0x93 || !take_seat(&at, end, read.seat[0]) || !take_seat(&at, end, read.seat[1]) || end - at != 11 ||
        at[0] != 0xA0 + 10)
        return ROOM_E_BAD_FRAME;
    memcpy(read.board, at + 1, 10);
    struct game *g = room_alloc(room, sizeof(*g));
    if (!g)
        return ROOM_E_NO_MEMORY;
    *g = read;
    room_set_user(room, g);
    return 0;
}

static int wins(const char *b, char mark)
{
    static const unsigned char lines[8][3] = {{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {0, 3, 6},
                                              {1, 4, 7}, {2, 5, 8}, {0, 4, 8}, {2, 4, 6}};
    for (int i = 0; i < 8; i++)
        if (b[lines[i][0]] == mark && b[lines[i][1]] == mark && b[lines[i][2]] == mark)
            return 1;
    return 0;
}

/* `data` is one well-formed msgpack value, but it can be any: look before you believe. */
static int game_message(struct room *room, const char *player, const void *data, size_t len)
{
    struct game *g = room_user(room);
    unsigned char field = *(const unsigned char *)data;
    int second = strcmp(player, g->seat[1]) == 0;
    char mark = second ? 'O' : 'X', value[11];
    const char yes = (char)0xC3;
    if (len != 1 || field > 8) /* 0 to 8 is one byte in msgpack */
        return ROOM_E_INVALID;
    if (!g->seat[1][0] || g->board[9] != mark || g->board[field] != '.')
        return ROOM_E_CONFLICT;
    int rc = room_reply(room, &yes, 1);
    if (rc)
        return rc; /* nothing has been changed yet */
    g->board[field] = mark;
    if (wins(g->board, mark))
        g->board[9] = second ? 'o' : 'x';
    else
        g->board[9] = !memchr(g->board, '.', 9) ? '=' : second ? 'X' : 'O';
    board_value(g, value);
    room_broadcast(room, NULL, NULL, value, sizeof(value));
    return 0;
}

const struct room_type room_type = {
    .api_version = ROOM_TYPE_API_VERSION,
    .name = "tictactoe",
    .max_players = 2,
    .durability = ROOM_DURABILITY_JOURNAL,
    .flags = ROOM_TYPE_AUTO_DISPOSE,
    .create = game_create,
    .join = game_join,
    .leave = game_leave,
    .message = game_message,
    .state = game_state,
    .dispose = game_dispose,
    .save = game_save,
    .restore = game_restore,
};
