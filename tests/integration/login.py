"""Tokens on three real nodes: who is let in, what ends a session, what a restart does not forget, and keys that change while
players are connected. Usage: login.py ROOMD ROOMCTL"""
import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from cluster import DEADLINE, Node, Player, World, play_scenes, let_in, until
from tokens import Ed25519, Hs256, b64, token, write_keys
from transport import TRANSPORTS
from watcher import Watcher

ROOMCTL = sys.argv[2]
FOLDER = tempfile.TemporaryDirectory(prefix='roomd-test-')
KEYS = os.path.join(FOLDER.name, 'keys.json')
A, B, UNKNOWN = Hs256('a'), Ed25519('b', FOLDER.name), Hs256('c')
OPTIONS = ('--token-keys', KEYS, '--token-audience', 'game', '--token-leeway', '1s')


def good(player, key=A, lasts_s=600, **claims):
    return token(key, player, lasts_s, **{'aud': 'game', **claims})


async def roomctl(w, *words, code=0):
    """In a thread: the players go on hearing meanwhile."""
    def run():
        return subprocess.run([ROOMCTL, '--nats', ','.join(w.urls), *words], capture_output=True, text=True, timeout=DEADLINE)
    done = await asyncio.get_running_loop().run_in_executor(None, run)
    assert done.returncode == code, (words, done)
    return done.stdout


async def alive(*players):
    for p in players:
        await p.say(op='ping', t=7)
        assert (await p.hear('pong'))['t'] == 7


async def kicked(player, reason):
    """The last frame, then the end of the connection; how long after the call it came."""
    begun = time.monotonic()
    assert (await player.hear('kicked'))['reason'] == reason
    took = time.monotonic() - begun
    assert await asyncio.wait_for(player.over.recv(), DEADLINE) is None
    return took


def changed_body(t, **claims):
    head, body, signature = t.split('.')
    said = json.loads(base64.urlsafe_b64decode(body + '=='))
    return '.'.join((head, b64(json.dumps({**said, **claims}).encode()), signature))


async def each_refusal_has_its_code(w):
    public = Hs256('b')
    public.secret = base64.urlsafe_b64decode(B.jwk()['x'] + '=')  # an HMAC with what anybody may know
    ann = good('ann')
    head, body, signature = ann.split('.')
    cases = [
        (None, 'unauthorized'), ('', 'unauthorized'), ('secret', 'token_invalid'), (ann[:-9], 'token_invalid'),
        (changed_body(good('bob'), sub='ann'), 'token_invalid'), (changed_body(good('ann', B), exp=9e9), 'token_invalid'),
        (f'{head}.{body}.{signature[::-1]}', 'token_invalid'), ('x' * 4096, 'token_invalid'),
        (good('ann', public), 'token_invalid'), (good('ann', header={'alg': 'none'}), 'token_invalid'),
        (b64(b'{"alg":"none"}') + f'.{body}.', 'token_key'), (good('ann', UNKNOWN), 'token_key'),
        (good('ann', header={'kid': None}), 'token_key'), (good('ann', exp=None), 'token_invalid'),
        (good('ann', lasts_s=-5), 'token_expired'), (good('ann', nbf=time.time() + 60), 'token_early'),
        (good('ann', aud='other'), 'token_foreign'), (good('ann', aud=None), 'token_foreign'), (good('bob'), 'token_player'),
        (good('bob', B), 'token_player'), (good('ann', jti='a.b'), 'token_invalid'),
    ]
    for i, node in enumerate(w.nodes):
        for shown, code in cases:
            assert await let_in(node, 'ann', shown, over=TRANSPORTS[i]) == code, (shown, code)
        assert await let_in(node, 'ann', 'x' * 4097, over=TRANSPORTS[i]) == 'too_big'
        for key in (A, B):
            async with Player('ann', node, token=good('ann', key), over=TRANSPORTS[i]) as p:
                assert p.welcome['player'] == 'ann', p.welcome
                await alive(p)


async def a_session_ends_with_its_token(w):
    async with Player('bob', w.nodes[0], token=good('bob')) as bob, contextlib.AsyncExitStack() as stack:
        room = (await bob.joined(mode='create', type='relay', room_id='ending'))['room_id']
        ends = time.time() + 2
        short = [await stack.enter_async_context(Player(f'short-{n.name}', n, token=good(f'short-{n.name}', exp=ends)))
                 for n in w.nodes]
        for p in short:
            await p.joined(mode='join', type='relay', room_id=room)
        for p in short:
            await kicked(p, 'token_expired')
            assert 0.9 < time.time() - ends < 2.5, time.time() - ends  # the leeway is 1 s
            assert await let_in(p.node, p.name, p.token) == 'token_expired'
        async with Player('short-node-1', w.nodes[0], token=good('short-node-1')) as p:
            await p.joined(mode='join', type='relay', room_id=room)
        await alive(bob)


async def revoked_everywhere(w):
    """By jti and by player, on each node: the session ends within a second, and nobody comes in with it any more."""
    by_jti = [Player(f'jti-{n.name}', n, token=good(f'jti-{n.name}', key, jti=f'one-{n.name}'))
              for n, key in zip(w.nodes, (A, B, A))]
    by_name = [Player(f'name-{n.name}', n, token=good(f'name-{n.name}')) for n in w.nodes]
    others = [Player(f'other-{n.name}', n, token=good(f'other-{n.name}', jti=f'other-{n.name}')) for n in w.nodes]
    async with contextlib.AsyncExitStack() as stack, Watcher(w.urls[0]) as watch:
        watch.subscribe('player.>')
        for p in by_jti + by_name + others:
            await stack.enter_async_context(p)
        for p in by_jti + by_name:
            words = [f'one-{p.node.name}'] if p in by_jti else ['--player', p.name]
            said = await roomctl(w, 'revoke', *words, '--until', '1h', '--reason', 'test')
            assert 'is revoked until' in said, said
            assert await kicked(p, 'revoked') < 1
            for n in w.nodes:
                async def refused():
                    return await let_in(n, p.name, p.token) == 'token_revoked'
                await until(refused, 'each node has heard of it', 1)

        async def offline():
            return all([e['reason'] for _, e in watch.events(f'player.{p.name}.offline')] == ['revoked']
                       for p in by_jti + by_name)
        await until(offline, 'the cluster is told once for each')
        await alive(*others)
        # Another token of the first player is good, none of the second one is.
        async with Player(by_jti[0].name, w.nodes[1], token=good(by_jti[0].name, jti='two')):
            pass
        assert await let_in(w.nodes[1], by_name[0].name, good(by_name[0].name, jti='new')) == 'token_revoked'
        listed = json.loads(await roomctl(w, 'revoke', '--ls', '--json'))
        assert {r['id'] for r in listed} == {f'one-{n.name}' for n in w.nodes} | {'player.' + p.name for p in by_name}, listed
    return by_jti + by_name


async def no_more_than_revoked(w):
    """--undo, and --until."""
    eve = good('eve', jti='eve-1')

    async def all_let_in():
        return [await let_in(n, 'eve', eve) for n in w.nodes] == ['welcome'] * len(w.nodes)
    assert await all_let_in()
    await roomctl(w, 'revoke', 'eve-1')
    for n in w.nodes:
        async def refused():
            return await let_in(n, 'eve', eve) == 'token_revoked'
        await until(refused, 'revoked', 1)
    await roomctl(w, 'revoke', '--undo', 'eve-1')
    await until(all_let_in, 'undone', 2)
    begun = time.monotonic()
    await roomctl(w, 'revoke', 'eve-1', '--until', '2s')
    for n in w.nodes:
        await until(refused, 'revoked again', 1)
    await until(all_let_in, 'its time is over', 5)
    assert time.monotonic() - begun > 1.9
    # Who writes the bucket by hand revokes, whatever is written.
    async with Watcher(w.urls[0]) as watch, Player('eve', w.nodes[2], token=eve) as p:
        watch.publish('$KV.revoked.eve-1', b'because')
        await kicked(p, 'revoked')
    await roomctl(w, 'revoke', '--undo', 'eve-1')


async def hammered(port, name, shown, node):
    """Tries to get in from before the node is ready until it is; what it was told."""
    told = set()
    ready = asyncio.get_running_loop().run_in_executor(None, node.wait_ready)
    node.port = port
    while not ready.done():
        try:
            told.add(await let_in(node, name, shown))
        except OSError:
            await asyncio.sleep(0)
    await ready
    told.add(await let_in(node, name, shown))
    return told


async def restarts_forget_nothing(w):
    """One node, then all at once, killed; hellos come as soon as the port is open."""
    zoe = good('zoe', jti='zoe-1')
    await roomctl(w, 'revoke', 'zoe-1')
    for count in (1, len(w.nodes)):
        chosen = w.nodes[:count]
        for n in chosen:
            n.kill()
            await n.ended()
            n.close()
        ports = {n.name: socket.create_server(('127.0.0.1', 0)).getsockname()[1] for n in chosen}
        fresh = [w.node(n.name, '--listen', f'127.0.0.1:{ports[n.name]}') for n in chosen]
        for old, new in zip(chosen, fresh):
            w.nodes[w.nodes.index(old)] = new
        for told in await asyncio.gather(*(hammered(ports[n.name], 'zoe', zoe, n) for n in fresh)):
            assert 'token_revoked' in told and told <= {'token_revoked', 'unavailable'}, told
        for n in w.nodes:
            assert await let_in(n, 'zoe', zoe) == 'token_revoked'
            async with Player('zoe', n, token=good('zoe', jti='zoe-2')) as p:
                await alive(p)


async def keys_change(w):
    """From a to b by way of both, while players are connected and play; then a file that is no key file."""
    async def everywhere(a, b):
        tokens = {good('ann'): a, good('ann', B): b}

        async def so():
            return all([await let_in(n, 'ann', t) == tokens[t] for n in w.nodes for t in tokens])
        await until(so, f'a: {a}, b: {b}', 5)
    write_keys(KEYS, A)
    await everywhere('welcome', 'token_key')
    async with contextlib.AsyncExitStack() as stack:
        players = [await stack.enter_async_context(Player(f'stays-{n.name}', n, token=good(f'stays-{n.name}')))
                   for n in w.nodes]
        rooms = [(await p.joined(mode='join_or_create', type='relay', room_id='playing'))['room'] for p in players]

        async def play(n):
            for p, room in zip(players, rooms):
                assert (await p.send(room, n, f'{p.name} {n}'))['op'] == 'sent'
            for p in players:
                assert {(await p.hear('message'))['data'] for _ in players[1:]} == {f'{o.name} {n}' for o in players if o != p}
        await play(1)
        write_keys(KEYS, A, B)
        await everywhere('welcome', 'welcome')
        await play(2)
        write_keys(KEYS, B)
        await everywhere('token_key', 'welcome')
        await play(3)
        with open(KEYS, 'w', encoding='ascii') as f:
            f.write('{"keys": [')

        async def told():
            return all('the new token keys cannot be used' in n.logged() for n in w.nodes)
        await until(told, 'nodes say that the file is bad', 5)
        await everywhere('token_key', 'welcome')
        os.unlink(KEYS)

        async def missed():
            return all('No such file' in n.logged() for n in w.nodes)
        await until(missed, 'nodes say that the file is gone', 5)
        await everywhere('token_key', 'welcome')
        write_keys(KEYS, A, B)
        await everywhere('welcome', 'welcome')
        await play(4)


async def alone(w):
    """--standalone asks for tokens too."""
    n = Node(w.roomd, 'alone', None, w.folder.name, *OPTIONS, '--standalone').wait_ready()
    try:
        assert await let_in(n, 'ann') == 'unauthorized'
        async with Player('ann', n, token=good('ann')) as ann:
            await alive(ann)
    finally:
        n.close()


SCENES = (each_refusal_has_its_code, a_session_ends_with_its_token, revoked_everywhere, no_more_than_revoked,
          restarts_forget_nothing, keys_change, alone)


def main():
    write_keys(KEYS, A, B)
    with World(sys.argv[1], options=OPTIONS) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
