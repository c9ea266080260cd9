"""Each option of roomd does something that can be seen from outside; where it is cheap, the default is seen to differ.
Those of placement are in place.py, --standalone in stop.py, those of pushes
and of the admin port in push.py and admin.py. Usage: options_work.py ROOMD TICTACTOE.so"""
import asyncio
import base64
import binascii
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from cluster import DEADLINE, Node, OneNats, Player, World, play_scenes, let_in, until
from tokens import Hs256, token, write_keys
from transport import Tcp, pack
from watcher import Watcher

TICTACTOE = sys.argv[2]


@contextlib.asynccontextmanager
async def node(w, name, *options):
    n = await w.add(name, *options)
    try:
        yield n
    finally:
        await w.drop(n)


async def registry_options(w):
    """server-id, listen, advertise, region, capacity, prefix, replicas, heartbeat-interval, server-ttl, nats."""
    port = socket.create_server(('127.0.0.1', 0)).getsockname()[1]
    async with Watcher(w.urls[0]) as watch:
        watch.subscribe('$KV.opt_servers.alpha')
        async with node(w, 'alpha', '--listen', f'127.0.0.1:{port}', '--advertise', 'play.example.com:7777', '--region',
                        'north', '--capacity', '3', '--prefix', 'opt', '--replicas', '1', '--heartbeat-interval', '500ms',
                        '--server-ttl', '4s') as n:
            assert n.port == port, (n.port, port)
            entry = (await watch.values('opt_servers'))['alpha']
            shown = {k: entry[k] for k in ('address', 'port', 'region', 'capacity')}
            assert shown == dict(address='play.example.com', port=7777, region='north', capacity=3), entry
            async with Player('ann', n) as ann:
                assert ann.welcome['servers'] == ['play.example.com:7777'] and ann.welcome['server'] == 'alpha', ann.welcome
                for _ in range(3):
                    await ann.joined(mode='create', type='relay')
                assert await ann.refused(mode='create', type='relay') == 'full'
            info = json.loads(await watch.request('$JS.API.STREAM.INFO.KV_opt_servers'))['config']
            assert info['max_age'] == 4_000_000_000 and info['num_replicas'] == 1, info

            async def beats():
                return len([1 for _, s, _ in watch.heard if s == '$KV.opt_servers.alpha']) >= 4
            begun = time.monotonic()
            await until(beats, 'four heartbeats of 500 ms')
            assert time.monotonic() - begun < 10, 'the default of 5 s would take 15 s'
        async with node(w, 'beta') as n, Player('bob', n) as bob:
            assert bob.welcome['servers'] == [f'127.0.0.1:{n.port}'], bob.welcome
            info = json.loads(await watch.request('$JS.API.STREAM.INFO.KV_servers'))['config']
            assert info['max_age'] == 30_000_000_000, info
    done = subprocess.run([w.roomd, '--server-id', 'x', '--listen', '127.0.0.1:0', '--nats', w.urls[0], '--replicas', '3'],
                          capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 1 and 'is a single server, 3 replicas are not possible' in done.stderr, done


async def closed_with(port, *last, hello=False):
    """Connects, is silent (after a hello), and reads to the end: the codes of the errors, and the seconds it took."""
    t = Tcp()
    begun = time.monotonic()
    await t.connect(port)
    if hello:
        await t.send(dict(op='hello', v=1, player='quiet'))
        assert (await t.recv())['op'] == 'welcome'
    for body in last:
        await t.send_bytes(body)
    codes = []
    while frame := await asyncio.wait_for(t.recv(), DEADLINE):
        codes.append(frame.get('code') or frame.get('reason'))
    await t.close()
    return codes, time.monotonic() - begun


async def turned_away(port):
    """True if the connection is reset before anything is said on it."""
    try:
        return (await closed_with(port, pack(dict(op='hello', v=1, player='c'))))[0] == []
    except ConnectionError:
        return True


async def limits_of_a_connection(w):
    """hello-timeout, idle-timeout, max-connections, max-connections-per-address, max-frame."""
    async with node(w, 'limits', '--hello-timeout', '300ms', '--idle-timeout', '600ms', '--max-frame', '256') as n:
        codes, took = await closed_with(n.port, b'')
        assert codes[:1] == ['bad_frame'], codes
        s = socket.create_connection(('127.0.0.1', n.port))
        s.settimeout(DEADLINE)
        begun = time.monotonic()
        s.send(b'\0')
        said = b''
        while more := s.recv(4096):
            said += more
        s.close()
        assert b'timeout' in said and 0.25 < time.monotonic() - begun < 5, (said, time.monotonic() - begun)
        codes, took = await closed_with(n.port, hello=True)
        assert 0.5 < took < 5, (codes, took)
        codes, _ = await closed_with(n.port, b'x' * 257, hello=True)
        assert codes[-1] == 'too_big', codes
        assert (await closed_with(n.port, b'x' * 256, hello=True))[0][0] == 'bad_frame'
    async with node(w, 'two', '--max-connections', '2') as n, Player('a', n), Player('b', n):
        assert await turned_away(n.port)
    async with node(w, 'per', '--max-connections-per-address', '1') as n, Player('a', n):
        assert await turned_away(n.port)
        other = socket.create_connection(('127.0.0.1', n.port), source_address=('127.0.0.2', 0))
        body = pack(dict(op='hello', v=1, player='c'))
        other.send(len(body).to_bytes(4, 'big') + body)
        assert len(await asyncio.get_running_loop().run_in_executor(None, other.recv, 4096)) > 4, 'another address'
        other.close()


async def limits_of_a_room(w):
    """room-memory, rooms-per-session, room-ttl, send-queue."""
    async with Watcher(w.urls[0]) as watch, node(w, 'roomy') as n, Player('ann', n) as ann:
        room = (await ann.joined(mode='create', type='state', room_id='doc'))['room']
        for i in range(4):
            assert (await ann.send(room, i + 1, {'set': {f'k{i}': 'v' * 30000}}))['op'] == 'sent'
        async with Player('bob', n) as bob:
            assert len((await bob.joined(mode='join', type='state', room_id='doc'))['state']) == 4
        for _ in range(4):
            await ann.joined(mode='create', type='relay')
        room = await ann.joined(mode='create', type='relay', room_id='kept')
        await ann.leave(room['room'])
        assert 'kept' in [r['id'] for r in (await watch.ctl('roomy', op='rooms'))['result']['rooms']]
    async with Watcher(w.urls[0]) as watch, node(w, 'tight', '--room-memory', '65536', '--rooms-per-session', '2',
                                                 '--room-ttl', '200ms') as n, Player('ann', n) as ann:
        watch.subscribe('room.short.disposed')
        room = (await ann.joined(mode='create', type='state', room_id='tight-doc'))['room']
        await ann.say(op='send', room=room, n=1, data={'set': {'a': 'v' * 30000}})
        await ann.say(op='send', room=room, n=2, data={'set': {'b': 'v' * 30000, 'c': 'v' * 30000}})
        assert (await ann.hear('left'))['reason'] == 'room_memory'
        assert (await ann.hear('error'))['code'] == 'no_memory'
        one = await ann.joined(mode='create', type='relay', room_id='short')
        await ann.joined(mode='create', type='relay')
        assert await ann.refused(mode='create', type='relay') == 'full'
        await ann.leave(one['room'])

        async def disposed():
            return watch.events('room.short.disposed')
        assert (await until(disposed, 'an empty room ends'))[0][1]['reason'] == 'empty'
    async with node(w, 'narrow', '--send-queue', '65536') as n, Player('ann', n) as ann:
        room = (await ann.joined(mode='create', type='state', room_id='wide-doc'))['room']
        for i in range(4):
            assert (await ann.send(room, i + 1, {'set': {f'k{i}': 'v' * 30000}}))['op'] == 'sent'
        async with Player('bob', n) as bob:
            await bob.say(op='join', id=1, mode='join', type='state', room_id='wide-doc')
            assert (await bob.hear('joined', 'closed'))['op'] == 'closed', 'a frame beyond the queue was left out'
        assert 'a frame is bigger than --send-queue' in n.logged()


async def big_messages(w):
    """max-frame raised: what fits between nodes arrives, what does not is refused alike on both sides."""
    big = ('--max-frame', '2000000', '--send-queue', '8000000', '--prefer-local')
    async with node(w, 'one', *big) as one, node(w, 'other', *big) as other, Player('ann', one, over=Tcp) as ann, \
            Player('bob', other, over=Tcp) as bob:
        here = await ann.joined(mode='create', type='relay', room_id='big')
        there = await bob.joined(mode='join', type='relay', room_id='big')
        assert there['via'] == 'relay', there
        for p, seat, listener in ((ann, here, bob), (bob, there, ann)):
            for n, (size, op) in enumerate(((700_000, 'sent'), (786_440, 'error'), (1_900_000, 'error'), (10, 'sent')), 1):
                answer = await p.send(seat['room'], n, bytes(size))
                assert answer['op'] == op and answer.get('code', 'too_big') == 'too_big', (size, answer)
            assert [len((await listener.hear('message'))['data']) for _ in range(2)] == [700_000, 10]


async def logins(w):
    """token-keys, token-audience, token-leeway, insecure-no-login."""
    key, keys = Hs256('a'), os.path.join(w.folder.name, 'keys.json')
    write_keys(keys, key)
    async with node(w, 'open') as n, Player('ann', n):
        pass
    async with node(w, 'wide', '--listen', '0.0.0.0:0', '--insecure-no-login') as n, Player('ann', n):
        pass
    late = token(key, 'ann', -10)
    async with node(w, 'shut', '--token-keys', keys, '--listen', '0.0.0.0:0') as n:
        assert await let_in(n, 'ann') == 'unauthorized'
        for good in (token(key, 'ann'), token(key, 'ann', aud='other'), late):
            async with Player('ann', n, token=good):
                pass
    async with node(w, 'ours', '--token-keys', keys, '--token-audience', 'game', '--token-leeway', '5s') as n:
        assert await let_in(n, 'ann', token(key, 'ann')) == 'token_foreign'
        assert await let_in(n, 'ann', token(key, 'ann', -10, aud='game')) == 'token_expired'
        async with Player('ann', n, token=token(key, 'ann', -1, aud=['shop', 'game'])):
            pass


async def types(w):
    """room-type, type."""
    async with node(w, 'plain') as n, Player('ann', n) as ann:
        assert await ann.refused(mode='create', type='tictactoe') == 'unknown_type'
        assert await ann.refused(mode='create', type='duel') == 'unknown_type'
    async with node(w, 'typed', '--room-type', TICTACTOE, '--type', 'duel=relay,max_players=2', '--type',
                    'solo=tictactoe,max_players=1') as n, Player('ann', n) as ann:
        for kind, seats in (('tictactoe', 2), ('duel', 2), ('solo', 1), ('relay', 100)):
            assert (await ann.joined(mode='create', type=kind))['max_players'] == seats


async def ways_to_a_room(w):
    """prefer-local, routing, seat-ttl: who gets `joined` and who a redirect, and for how long its ticket is good."""
    async with Watcher(w.urls[0]) as watch, node(w, 'home', '--prefer-local', '--seat-ttl', '1s') as home, \
            node(w, 'auto', '--prefer-local') as auto, node(w, 'send', '--routing', 'redirect') as send, \
            node(w, 'keep', '--routing', 'relay') as keep, Player('host', home) as host:
        for i in range(6):
            assert (await host.joined(mode='create', type='relay', room_id=f'home-{i}'))['via'] == 'local'
        async with Player('spread', send) as p:
            ways = {(await p.joined(mode='create', type='relay'))['via'] for _ in range(8)}
            assert ways == {'local', 'relay'}, ways
        both, back = ('redirect', 'relay'), ('relay', 'redirect')
        for n, can, way in ((auto, both, 'redirect'), (auto, back, 'relay'), (send, both, 'redirect'),
                            (send, back, 'redirect'), (keep, both, 'relay'), (keep, back, 'relay'),
                            (keep, ('redirect',), 'redirect'), (send, ('relay',), 'relay')):
            async with Player(f'{n.name}-{can[0]}', n, can=can) as p:
                answer = await p.join(mode='join', type='relay', room_id='home-0')
                assert (answer.get('via') or answer['op']) == way, (n.name, can, answer)
        async with Player('late', auto, can=('redirect',)) as late:
            ticket = (await late.join(mode='join', type='relay', room_id='home-1'))['ticket']

            async def expired():
                seats = (await watch.ctl('home', op='room', room='home-1'))['result']
                return seats['seats'] == seats['players'] == 1
            await until(expired, 'the reserved seat is free again after --seat-ttl 1s', 10)
        async with Player('late', home) as late:
            assert await late.refused(mode='join', type='relay', room_id='home-1', ticket=ticket) == 'bad_ticket'


def logged(w, *options):
    """The standard error of a node that started and was stopped."""
    n = Node(w.roomd, 'loud', w.urls, w.folder.name, *options).wait_ready()
    n.kill(15)
    n.process.wait(DEADLINE)
    text = n.logged()
    n.close()
    os.unlink(n.log.name)
    return text


async def logs(w):
    """log-level, log-format."""
    assert 'level=info' in logged(w)
    assert logged(w, '--log-level', 'error') == ''
    lines = [json.loads(line) for line in logged(w, '--log-format', 'json').splitlines()]
    assert lines and all(line['level'] == 'info' and line['server'] == 'loud' and line['msg'] for line in lines), lines


def openssl(*args):
    subprocess.run(['openssl', *args], check=True, capture_output=True)


async def tls(w):
    """tls-ca, tls-cert, tls-key: a nats-server that wants a certificate from its clients."""
    d = w.folder.name
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=test authority', '-keyout',
            f'{d}/ca.key', '-out', f'{d}/ca.pem')
    with open(f'{d}/names', 'w', encoding='ascii') as f:
        f.write('subjectAltName=IP:127.0.0.1')
    for who in ('server', 'client'):
        openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', f'/CN={who}', '-keyout', f'{d}/{who}.key', '-out',
                f'{d}/{who}.csr')
        openssl('x509', '-req', '-in', f'{d}/{who}.csr', '-CA', f'{d}/ca.pem', '-CAkey', f'{d}/ca.key', '-CAcreateserial',
                '-days', '2', '-extfile', f'{d}/names', '-out', f'{d}/{who}.pem')
    nats = OneNats(f'{d}/tls', options=['--tls', f'--tlscert={d}/server.pem', f'--tlskey={d}/server.key', '--tlsverify',
                                        f'--tlscacert={d}/ca.pem'])
    nats.start()
    try:
        url = nats.urls()[0].replace('nats://', 'tls://')
        mine = ['--tls-cert', f'{d}/client.pem', '--tls-key', f'{d}/client.key']
        for options in (mine, ['--tls-ca', f'{d}/ca.pem'], ['--tls-ca', f'{d}/server.pem', *mine]):
            done = subprocess.run([w.roomd, '--server-id', 'x', '--listen', '127.0.0.1:0', '--nats', url, *options],
                                  capture_output=True, text=True, timeout=DEADLINE)
            assert done.returncode == 1 and f"cannot reach NATS at '{url}'" in done.stderr, (options, done)
        n = Node(w.roomd, 'safe', [url], d, '--tls-ca', f'{d}/ca.pem', *mine).wait_ready()
        n.close()
    finally:
        nats.stop()


def user_seed():
    raw = bytes([18 << 3 | 20 << 3 >> 5, (20 << 3 & 31) << 3]) + bytes(range(32))
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, 'little')).rstrip(b'=').decode()


async def creds(w):
    """creds: what the file says is what a server that asks for it is told."""
    told = asyncio.get_running_loop().create_future()

    async def server(reader, writer):
        writer.write(b'INFO {"server_id":"x","version":"2.10.27","proto":1,"max_payload":1048576,"nonce":"YWJjZGVmZ2hpams",'
                     b'"auth_required":true}\r\n')
        line = await reader.readline()
        if line.startswith(b'CONNECT ') and not told.done():
            told.set_result(json.loads(line[8:]))
        writer.close()
    listener = await asyncio.start_server(server, '127.0.0.1', 0)
    with tempfile.NamedTemporaryFile('w', suffix='.creds') as f:
        f.write(f'-----BEGIN NATS USER JWT-----\neyJ0eXAiOiJKV1QifQ.e30.c2ln\n------END NATS USER JWT------\n\n'
                f'-----BEGIN USER NKEY SEED-----\n{user_seed()}\n------END USER NKEY SEED------\n')
        f.flush()
        n = Node(w.roomd, 'known', [f'nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}'], w.folder.name, '--creds',
                 f.name)
        try:
            connect = await asyncio.wait_for(told, DEADLINE)
        finally:
            n.close()
            listener.close()
    assert connect['jwt'] == 'eyJ0eXAiOiJKV1QifQ.e30.c2ln' and len(connect['sig']) > 80, connect


SCENES = (registry_options, limits_of_a_connection, limits_of_a_room, big_messages, logins, types, ways_to_a_room, logs, tls,
          creds)


def main():
    with World(sys.argv[1], nodes=0, nats=OneNats) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
