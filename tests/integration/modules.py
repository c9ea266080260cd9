"""Room types as shared objects: the documented example played across two nodes by real clients, and what is no room type of
this version refused by name and reason. Usage: modules.py ROOMD TICTACTOE.so NO_SYMBOL.so OLD_VERSION.so"""
import asyncio
import itertools
import os
import subprocess
import sys

from cluster import OneNats, Player, World
from transport import TRANSPORTS

ROOMD, TICTACTOE, NO_SYMBOL, OLD_VERSION = sys.argv[1:5]


async def send(player, room, data):
    """Numbers count 1, 2, 3 in a session, whatever came of the messages before."""
    player.said = getattr(player, 'said', 0) + 1
    return await player.send(room, player.said, data)


async def board(player):
    return (await player.hear('message'))['data']


async def moves(ann, bob, fields, places):
    """Both play the fields in turn and see the same boards; the last one."""
    for turn, field in enumerate(fields):
        who, room = ((ann, places[0]), (bob, places[1]))[turn % 2]
        sent = await send(who, room, field)
        assert sent['op'] == 'sent' and sent['result'] is True, sent
        seen = await board(ann), await board(bob)
        assert seen[0] == seen[1] and seen[0][field] == 'XO'[turn % 2], seen
    return seen[0]


async def a_game(w, mine, theirs):
    """X and O on two nodes; who is not to move, or moves onto a taken field, is refused; a third finds it locked."""
    async with Player('ann', w.nodes[0], over=mine) as ann, Player('bob', w.nodes[1], over=theirs) as bob, \
            Player('cat', w.nodes[2]) as cat:
        room = await ann.joined(mode='create', type='tictactoe')
        assert room['state'] == '.........X' and room['max_players'] == 2, room
        assert (await send(ann, room['room'], 4))['code'] == 'conflict', 'alone'
        seat = await bob.joined(mode='join', type='tictactoe', room_id=room['room_id'])
        assert seat['state'] == '.........X' and {seat['via'], room['via']} == {'local', 'relay'}, (room, seat)
        places = room['room'], seat['room']
        assert await cat.refused(mode='join', type='tictactoe', room_id=room['room_id']) in ('room_full', 'room_locked')
        assert (await send(bob, places[1], 0))['code'] == 'conflict', 'not the turn of O'
        for wrong in (9, -1, 'corner', None, [4], {'field': 4}, 4.5, 2 ** 40):
            assert (await send(ann, places[0], wrong))['code'] == 'invalid', wrong
        assert (await moves(ann, bob, [4, 0, 8], places)) == 'O...X...XO'
        assert (await send(bob, places[1], 4))['code'] == 'conflict', 'the field is taken'
        assert (await send(bob, places[1], 1))['result'] is True
        assert await board(ann) == await board(bob) == 'OO..X...XX'
        assert (await send(ann, places[0], 2))['result'] is True
        assert (await bob.hear('message'))['data'] == await board(ann) == 'OOX.X...XO'
        assert (await send(bob, places[1], 3))['result'] is True
        assert (await send(ann, places[0], 6))['result'] is True
        last = [[await board(p) for _ in range(2)][-1] for p in (ann, bob)]
        assert last == ['OOXOX.X.Xx'] * 2, last
        assert (await send(bob, places[1], 5))['code'] == 'conflict', 'the game is over'
        await bob.leave(places[1])
        assert (await ann.hear('left'))['reason'] == 'opponent_left'


async def plays(w):
    for mine, theirs in itertools.product(TRANSPORTS, TRANSPORTS):
        await a_game(w, mine, theirs)


def refused(path, *words, more=()):
    done = subprocess.run([ROOMD, '--standalone', '--listen', '127.0.0.1:0', '--room-type', path, *more],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and not done.stdout and done.stderr.count('\n') == 1, done
    for word in (f"'{path}'",) + words:
        assert word in done.stderr, (word, done.stderr)


def wrong_modules(folder):
    refused(NO_SYMBOL, "symbol 'room_type' not found")
    refused(OLD_VERSION, 'was built for version 6 of room/room_type.h, this is version 5', 'build it again')
    refused('/nowhere/dice.so', 'No such file')
    text = os.path.join(folder, 'text.so')
    with open(text, 'w', encoding='ascii') as f:
        f.write('no shared object\n' * 10)
    refused(text, 'invalid ELF header')
    twice = subprocess.run([ROOMD, '--standalone', '--listen', '127.0.0.1:0', '--room-type', TICTACTOE, '--room-type',
                            TICTACTOE], capture_output=True, text=True, timeout=20)
    assert twice.returncode == 1 and "room type 'tictactoe' exists already" in twice.stderr, twice


def main():
    with World(ROOMD, nats=OneNats, options=('--prefer-local', '--room-type', TICTACTOE)) as w:
        wrong_modules(w.folder.name)
        print('ok wrong_modules', flush=True)
        asyncio.run(plays(w))
        print('ok plays', flush=True)


if __name__ == '__main__':
    main()
