"""The admin port: what backends can ask over HTTP of any node, who may, what is refused and how, and what health it shows; and
`roomctl push`, which asks the same. Usage: admin.py ROOMD ROOMCTL"""
import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys

from cluster import Node, Player, World, play_scenes, until

TOKEN = 'a-token-of-some-length-0123456789'


def port_of(node):
    return int(re.search(r' admin=\S+:(\d+) ', node.ready_line).group(1))


class AdminNode(Node):
    """A node that remembers what it said when it was ready."""

    def wait_ready(self):
        self.ready_line = self.process.stdout.readline().decode()
        assert self.ready_line.startswith('ready '), (self.ready_line, self.logged()[-500:])
        self.port = int(self.ready_line.strip().rsplit(':', 1)[1])
        return self


class AdminWorld(World):
    def node(self, name, *options):
        return AdminNode(self.roomd, name, self.urls, self.folder.name, '--admin', '127.0.0.1:0', *self.options, *options)


def request(node, method, path, body=None, token=None, headers=None):
    """(status, JSON)."""
    connection = http.client.HTTPConnection('127.0.0.1', port_of(node), timeout=20)
    head = {'Content-Type': 'application/json', **(headers or {})}
    if token:
        head['Authorization'] = 'Bearer ' + token
    text = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    connection.request(method, path, text, head)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.getheader('Content-Type') == 'application/json', answer.getheaders()
    return answer.status, json.loads(data)


async def ask(node, method, path, body=None, **more):
    return await asyncio.to_thread(lambda: request(node, method, path, body, **more))


async def post(node, path, body, **more):
    return await ask(node, 'POST', path, body, **more)


async def pushes_by_http(w):
    """To a player, a room and all, from any node; with the id of before, once."""
    async with Player('ann', w.nodes[0]) as ann, Player('bea', w.nodes[1]) as bea:
        seat = await ann.joined(mode='create', type='counter', room_id='c')
        for node in w.nodes:
            status, answer = await post(node, '/v1/players/ann/push', {'data': node.name, 'id': node.name})
            assert (status, answer['status']) == (200, 'delivered'), answer
            status, answer = await post(node, '/v1/players/ann/push', {'data': node.name, 'id': node.name})
            assert (status, answer['status']) == (200, 'delivered'), answer
            assert (await ann.hear('push'))['data'] == node.name
            status, answer = await post(node, '/v1/players/nobody/push', {'data': 1})
            assert (status, answer['status']) == (202, 'kept'), answer

            async def sent():
                status, answer = await post(node, '/v1/rooms/c/push', {'data': 'room', 'id': 'r' + node.name})
                return (status, answer.get('players')) == (200, 1)
            await until(sent, 'the room is reached')
            heard = await ann.hear('push')
            assert (heard['data'], heard['room']) == ('room', seat['room']), heard
            status, answer = await post(node, '/v1/broadcast', {'data': 'all'})
            assert (status, answer['status'], answer['players']) == (200, 'sent', 2), answer
            for player in (ann, bea):
                assert (await player.hear('push'))['data'] == 'all'
            status, answer = await post(node, '/v1/rooms/c/send', {'data': {'add': 1}})
            assert status == 200 and answer['ok'], answer
        assert answer['result'] == {'value': 3}, answer
        for path in ('push', 'send'):
            status, answer = await post(w.nodes[1], f'/v1/rooms/none/{path}', {'data': 1})
            assert status == 404 and answer['error'] == 'no_responders' and 'nobody owns' in answer['message'], answer
        status, answer = await post(w.nodes[1], '/v1/rooms/c/send', {'data': 'nonsense'})
        assert status == 400 and answer['error'] == 'invalid', answer


async def notifies_rooms(w):
    """Whatever node is told, the room's type hears of it."""
    async with Player('cay', w.nodes[0]) as cay:
        seat = await cay.joined(mode='create', type='state', room_id='s')
        assert seat['op'] == 'joined'
        body = {'room_id': 's', 'action': 'ban', 'user_id': 'x', 'room_data': {'set': 1}}
        for node in w.nodes:
            async def refused():  # `state` knows no such word, and says so: it has heard it
                status, answer = await post(node, '/internal/room/notify', body)
                return status == 400 and answer['error'] == 'invalid'
            await until(refused, 'the room has heard it')
        await cay.joined(mode='create', type='relay', room_id='n')

        async def taken():
            status, _ = await post(w.nodes[1], '/internal/room/notify', dict(body, room_id='n'))
            return status == 200
        await until(taken, 'the room takes it')
        assert (await cay.hear('message'))['data'] == {'action': 'ban', 'user_id': 'x', 'room_data': {'set': 1}}
        status, _ = await post(w.nodes[1], '/internal/room/notify', {'room_id': 'n', 'action': 'tick'})
        assert status == 200 and (await cay.hear('message'))['data'] == {'action': 'tick'}
        for bad in ({}, {'room_id': 'n'}, {'room_id': 'all', 'action': 'x'}, {'room_id': 'n', 'action': 5}):
            status, answer = await post(w.nodes[1], '/internal/room/notify', bad)
            assert status == 400 and answer['error'] == 'bad_frame' and answer['message'], (bad, answer)


async def what_is_refused(w):
    node = w.nodes[0]
    cases = [
        ('POST', '/v1/players/ann/push', b'', 400), ('POST', '/v1/players/ann/push', b'[]', 400),
        ('POST', '/v1/players/ann/push', {'id': 'x'}, 400), ('POST', '/v1/players/ann/push', {'data': 'x' * 70000}, 413),
        ('POST', '/v1/players/a.b/push', {'data': 1}, 400), ('POST', '/v1/players/all/push', {'data': 1}, 400),
        ('POST', '/v1/players//push', {'data': 1}, 404), ('POST', '/v1/players/' + 'x' * 65 + '/push', {'data': 1}, 404),
        ('POST', '/v1/players/a/b/push', {'data': 1}, 404), ('POST', '/', {'data': 1}, 404),
        ('GET', '/v1/broadcast', None, 405), ('DELETE', '/v1/broadcast', None, 405), ('GET', '/nothing', None, 404),
    ]
    for method, path, body, wanted in cases:
        status, answer = await ask(node, method, path, body)
        assert status == wanted and answer['error'] and answer['message'], (method, path, status, answer)
    status, answer = await post(node, '/v1/broadcast', {'data': 1}, headers={'Content-Type': 'text/plain'})
    assert status == 415 and 'application/json' in answer['message'], answer
    raw = [
        (b'nonsense\r\n\r\n', 400), (b'POST /v1/broadcast HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: x\r\n\r\n', 400),
        (b'POST /v1/broadcast HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n', 413),
        (b'POST /v1/broadcast HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n', 411),
        (b'GET / HTTP/1.1\r\n' + b'X: y\r\n' * 80 + b'\r\n', 431), (b'GET / HTTP/1.1\r\nX: ' + b'y' * 20000, 431),
    ]
    for text, wanted in raw:
        reader, writer = await asyncio.open_connection('127.0.0.1', port_of(node))
        writer.write(text)
        line = await asyncio.wait_for(reader.readline(), 20)
        assert line.split()[1] == str(wanted).encode(), (text[:60], line)
        writer.close()
    crowd = [await asyncio.open_connection('127.0.0.1', port_of(node)) for _ in range(140)]
    closed = [asyncio.ensure_future(reader.read(1)) for reader, _ in crowd]
    done, _ = await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert done, 'beyond the limit connections are closed'
    for task in closed:
        task.cancel()
    for _, writer in crowd:
        writer.close()

    async def free():
        try:
            return (await ask(node, 'GET', '/healthz'))[0] == 200
        except (http.client.HTTPException, OSError):
            return False
    await until(free, 'there is room again')


async def with_a_token(w):
    path = os.path.join(w.folder.name, 'token')
    with open(path, 'w', encoding='ascii') as file:
        file.write(TOKEN + '\n')
    node = await w.add('guarded', '--admin-token-file', path)
    for token in (None, 'wrong', TOKEN[:-1], TOKEN + 'x', TOKEN[:-1] + '0'):
        status, answer = await post(node, '/v1/players/dee/push', {'data': 1}, token=token)
        assert status == 401 and answer['error'] == 'unauthorized', (token, answer)
    status, answer = await post(node, '/v1/players/dee/push', {'data': 1}, token=TOKEN)
    assert status == 202, answer
    for path_ in ('/healthz', '/readyz'):
        assert (await ask(node, 'GET', path_))[0] == 200, 'probes need no token'
    await w.drop(node)
    short = os.path.join(w.folder.name, 'short')
    with open(short, 'w', encoding='ascii') as file:
        file.write('abc')
    for options, word in (((), '--admin-token-file'), (('--admin-token-file', short), '16 to'),
                          (('--admin-token-file', short + '-none'), 'cannot be read')):
        done = subprocess.run([w.roomd, '--standalone', '--data-dir', 'none', '--listen', '127.0.0.1:0', '--admin', '0.0.0.0:0',
                               *options], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and word in done.stderr, (options, done)
    done = subprocess.run([w.roomd, '--standalone', '--listen', '127.0.0.1:0', '--admin-token-file', path], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 1 and '--admin' in done.stderr, done


async def roomctl_pushes(w):
    async def roomctl(*args):
        process = await asyncio.create_subprocess_exec(sys.argv[2], '-s', w.urls[0], 'push', *args, stdout=asyncio.subprocess.PIPE,
                                                       stderr=asyncio.subprocess.PIPE)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()
    async with Player('eli', w.nodes[2]) as eli:
        await eli.joined(mode='create', type='relay', room_id='e')
        code, out, err = await roomctl('eli', '{"gold":5}')
        assert (code, out) == (0, 'player eli: delivered\n'), (code, out, err)
        assert (await eli.hear('push'))['data'] == {'gold': 5}
        code, out, err = await roomctl('missing', '1', '--json', '--id', 'one')
        assert code == 0 and json.loads(out)['status'] == 'kept', (code, out, err)

        async def in_room():
            return (await roomctl('--room', 'e', '"hi"', '--id', 'hi'))[:2] == (0, 'room e: sent to 1 player(s)\n')
        await until(in_room, 'the room is reached')
        assert (await eli.hear('push'))['data'] == 'hi'
        code, out, err = await roomctl('--all', '"all"', '--json')
        assert code == 0 and json.loads(out)['players'] == 1 and json.loads(out)['status'] == 'sent', (code, out, err)
        assert (await eli.hear('push'))['data'] == 'all'
        assert (await roomctl('--room', 'none', '1'))[0] == 3
        for bad in (('eli', 'no json'), ('eli',), ('--all', '--room', 'e', '1'), ('a.b', '1'), ('eli', '1', '2')):
            code = 4
            while code == 4:  # a starved NATS server does not let it in
                code, out, err = await roomctl(*bad)
            assert code == 2 and err.startswith('roomctl: ') and not out, (bad, code, err)
        code, out, err = await roomctl('eli', json.dumps('x' * 70000))
        assert code == 1 and 'refused' in err, (code, err)


async def leaves(w, name):
    """A node that is told to leave while a player is in a room that cannot move: was it seen to refuse what came then?"""
    node = await w.add(name, '--drain-timeout', '20s')
    seen = False
    async with Player('fin-' + name, node) as fin:
        await fin.joined(mode='create', type='relay', room_id='stays-' + name)  # nobody keeps it: it goes with its player
        node.kill(signal.SIGTERM)

        async def draining():
            status, answer = await ask(node, 'GET', '/readyz')
            return status == 503 and answer['status'] == 'draining'
        try:
            await until(draining, 'it drains')
            status, answer = await post(node, '/v1/broadcast', {'data': 1})
            assert status == 503 and answer['error'] == 'draining', answer
            seen = (await ask(node, 'GET', '/healthz'))[0] == 200
        except (OSError, http.client.HTTPException):
            pass  # a starved node finds nobody who takes its players, and leaves at once
    await node.ended()
    node.close()
    w.nodes.remove(node)
    return seen


async def health(w):
    """Ready; leaving, and then it takes nothing any more."""
    for path in ('/healthz', '/readyz'):
        status, answer = await ask(w.nodes[0], 'GET', path)
        assert answer['status'] in ('alive', 'ready', 'degraded') and (status == 200) == (answer['status'] != 'degraded'), answer
    assert (await ask(w.nodes[0], 'GET', '/healthz'))[0] == 200
    for i in range(5):
        if await leaves(w, f'leaver-{i}'):
            return
    raise AssertionError('no node was seen to drain')


async def alone(w):
    """The same without NATS."""
    node = AdminNode(w.roomd, 'hermit', None, w.folder.name, '--standalone', '--admin', '127.0.0.1:0', '--inbox-ttl', '2s')
    w.nodes.append(node)
    await asyncio.to_thread(node.wait_ready)
    assert (await post(node, '/v1/players/gil/push', {'data': 'kept'}))[0] == 202
    async with Player('gil', node) as gil:
        assert (await gil.hear('push'))['data'] == 'kept'
        assert (await post(node, '/v1/players/gil/push', {'data': 'now'}))[0] == 200
        assert (await gil.hear('push'))['data'] == 'now'
        assert (await post(node, '/v1/broadcast', {'data': 'all'}))[1]['players'] == 1
        assert (await gil.hear('push'))['data'] == 'all'
    assert (await post(node, '/v1/players/hana/push', {'data': 1, 'id': 'same'}))[0] == 202

    async def forgotten():  # what was kept too long is gone: nothing is said before `last`
        async with Player('hana', node) as hana:
            status, answer = await post(node, '/v1/players/hana/push', {'data': 'last', 'id': 'last'})
            assert status in (200, 202), answer
            return (await hana.hear('push'))['data'] == 'last'
    await until(forgotten, 'the kept push is too old')
    node.kill(signal.SIGTERM)
    await node.ended()
    node.close()
    w.nodes.remove(node)


SCENES = (pushes_by_http, notifies_rooms, what_is_refused, roomctl_pushes, with_a_token, health, alone)


def main():
    with AdminWorld(sys.argv[1]) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
