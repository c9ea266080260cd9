"""A nats-server too old to keep several replicas right (2.9.10): three of them are refused by name, version and reason;
one alone, with one replica, is warned about and works. Skipped (77) without such a server. Usage: old_nats.py ROOMD"""
import asyncio
import os
import subprocess
import sys

from cluster import OneNats, Player, World
from watcher import Watcher

OLD = os.environ.get('ROOMD_NATS_SERVER_OLD')


def refused(w, replicas):
    """Every server of the three is refused, whichever comes first in the list."""
    for first in range(3):
        urls = w.urls[first:] + w.urls[:first]
        done = subprocess.run([w.roomd, '--server-id', 'new', '--listen', '127.0.0.1:0', '--nats', ','.join(urls),
                               '--replicas', replicas], capture_output=True, timeout=20, text=True)
        assert done.returncode == 1 and not done.stdout, done
        for word in ('nats-server 2.9.10', 'not safe with 3 replicas', 'compare-and-set has several winners',
                     'use 2.10.23 or later, or --replicas 1'):
            assert word in done.stderr, (word, done.stderr)
    with_level = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(with_level) == 1, 'one plain sentence was wanted: ' + done.stderr


async def nothing_was_made(w):
    async with Watcher(w.urls[0]) as watch:
        names = await watch.request('$JS.API.STREAM.NAMES')
        assert b'KV_' not in names, names


async def works(w, node):
    """Warned about by version; rooms, registry and relay work all the same."""
    assert 'level=warn' in node.logged() and 'nats-server 2.9.10 is old: one replica only' in node.logged()
    other = await w.add('second')
    async with Player('ann', node) as ann, Player('bob', other) as bob, Watcher(w.urls[0]) as watch:
        room = await ann.joined(mode='create', type='counter', room_id='bank')
        seat = await bob.joined(mode='join', type='counter', room_id='bank')
        for n in range(1, 21):
            assert (await ann.send(room['room'], n, {'add': 1}))['result'] == {'value': n}
        assert [(await bob.hear('message'))['data']['value'] for _ in range(20)] == list(range(1, 21))
        assert (await bob.send(seat['room'], 1, {'add': 1}))['result'] == {'value': 21}
        assert set(await watch.values('servers')) == {'first', 'second'}
        assert 'bank' in await watch.values('rooms')


def main():
    if not OLD:
        print('no old nats-server here: ROOMD_NATS_SERVER_OLD is empty')
        sys.exit(77)
    with World(sys.argv[1], nodes=0, binary=OLD) as w:
        for replicas in ('auto', '3'):
            refused(w, replicas)
            print(f'ok three servers, --replicas {replicas}', flush=True)
        asyncio.run(nothing_was_made(w))
    for replicas in ('1', 'auto'):
        with World(sys.argv[1], nodes=0, nats=OneNats, binary=OLD, options=('--replicas', replicas)) as w:
            node = w.node('first')
            w.nodes.append(node)
            asyncio.run(works(w, node.wait_ready()))
            print(f'ok one server, --replicas {replicas}', flush=True)


if __name__ == '__main__':
    main()
