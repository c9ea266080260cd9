"""Data that rooms and backends share, and requests of rooms to services, over three real nodes and nats-servers: what each
operation answers, from any node; sums that are exact while nodes and nats-servers are killed; and no request without an answer.
Usage: shared.py ROOMD ROOMCTL CLERK.so"""
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import jsonschema

from backends import backends
from cluster import ROOT, Node, Player, World, play_scenes, until
from watcher import Watcher

ANY = -1
with open(os.path.join(ROOT, 'schemas', 'shared_entry.json'), encoding='utf-8') as f:
    ENTRY = jsonschema.Draft202012Validator(json.load(f))
with open(os.path.join(ROOT, 'schemas', 'service_request.json'), encoding='utf-8') as f:
    REQUEST = jsonschema.Draft202012Validator(json.load(f))


async def owner_of(watch, room, other_than=None):
    async def owned():
        found = await watch.kv('rooms', room)
        owner = found and found[1]['state'] == 'running' and found[1]['owner']
        return owner if owner != other_than else None
    return await until(owned, f'{room} has an owner other than {other_than}', 40)


async def place(watch, room, server):
    owner = await owner_of(watch, room)
    if owner != server:
        moved = await watch.ctl(owner, op='migrate', room=room, server=server, wait_s=15)
        assert moved['ok'], moved


def roomctl(w, *words, code=0):
    done = subprocess.run([sys.argv[2], '--nats', ','.join(w.urls), *words], capture_output=True, timeout=30, check=False)
    assert done.returncode == code, done
    return (done.stdout or done.stderr).decode()


class Office:
    """A clerk's player: says words, and hears what came."""

    def __init__(self, name, room, node):
        self.player, self.room, self.n, self.requests = Player(name, node), room, 0, 0

    async def __aenter__(self):
        await self.player.__aenter__()
        self.seat = await self.player.joined(mode='join_or_create', type='clerk', room_id=self.room)
        return self

    async def __aexit__(self, *_):
        await self.player.__aexit__()

    async def say(self, words):
        self.n += 1
        answer = await self.player.send(self.seat['room'], self.n, words)
        assert answer['op'] == 'sent', (words, answer)

    async def refused(self, words):
        self.n += 1
        answer = await self.player.send(self.seat['room'], self.n, words)
        assert answer['op'] == 'error', (words, answer)
        return answer['code']

    async def hear(self, timeout=40):
        data, words = (await self.player.hear('message', timeout=timeout))['data']
        return data, words

    async def ask(self, words):
        """`words` with the request's number in the place of @: the code, what came, and the revision."""
        self.requests += 1
        await self.say(words.replace('@', str(self.requests)))
        data, answer = await self.hear()
        kind, about, request, code, token = answer.split()
        assert int(request) == self.requests and about == words.split()[1], (words, answer)
        assert kind == ('service' if words.startswith('ask') else 'shared'), answer
        return code, data, int(token)


@contextlib.asynccontextmanager
async def offices(w):
    """Three clerks, each on a node of its own; their players are elsewhere."""
    async with Watcher(w.urls[0]) as a, Office('p1', 'east', w.nodes[1]) as east, Office('p2', 'west', w.nodes[2]) as west, \
            Office('p3', 'north', w.nodes[0]) as north:
        for office, node in zip((east, west, north), w.nodes):
            await place(a, office.room, node.name)
        yield a, east, west, north


async def values_are_seen_elsewhere(w):
    async with offices(w) as (a, east, west, north):
        assert await west.ask('get a.b @') == ('not_found', None, 0)
        code, data, first = await east.ask('set a.b 0 0 @ hello')
        assert (code, data) == ('ok', None) and first > 0
        for office in (east, west, north):
            assert await office.ask('get a.b @') == ('ok', 'hello', first)
        assert await north.ask('set a.b 0 0 @ again') == ('exists', None, first)
        assert await north.ask(f'set a.b 0 {first + 100} @ again') == ('conflict', None, first)
        code, _, second = await north.ask(f'set a.b 0 {first} @ again')
        assert code == 'ok' and second > first
        assert await east.ask(f'delete a.b {first} @') == ('conflict', None, second)
        assert await west.ask('get a.b @') == ('ok', 'again', second)
        assert (await east.ask(f'delete a.b {second} @'))[0] == 'ok'
        assert (await west.ask('get a.b @'))[0] == 'not_found'
        assert (await west.ask(f'delete a.b {ANY} @'))[0] == 'not_found'
        assert (await west.ask(f'set a.b 0 {ANY} @ anew'))[0] == 'ok'
        assert (await east.ask('add a.b 1 0 @'))[0] == 'invalid', 'a text is no number'
        for words in ('get a..b 1', 'get a.* 1', 'get a. 1', 'get ' + 'k' * 129 + ' 1', 'set k 99 -1 1 x',
                      'set k 2592000001 -1 1 x', 'insert k ' + 'm' * 129 + ' 0 1', 'ask a.b 100 1 echo 0',
                      'ask shop 49 1 echo 0', 'ask shop 60001 1 echo 0'):
            assert await east.refused(words) in ('invalid', 'too_big'), words
        assert await east.refused('big k 65537') == 'too_big'
        await east.say('big big 65536')
        assert (await east.hear())[1].startswith('shared big 1 ok ')
        assert len((await west.ask('get big @'))[1]['$bin']) > 80000


async def what_expires_is_gone(w):
    async with offices(w) as (a, east, west, _):
        assert (await east.ask(f'set soon 300 {ANY} @ x'))[0] == 'ok'
        assert (await west.ask('get soon @'))[:2] == ('ok', 'x')
        assert (await east.ask(f'set later 60000 {ANY} @ x'))[0] == 'ok'

        async def gone():
            return (await west.ask('get soon @'))[0] == 'not_found'
        await until(gone, 'soon is over')
        assert (await west.ask('get later @'))[:2] == ('ok', 'x')
        assert (await east.ask('add soon 5 0 @'))[:2] == ('ok', 5), 'it begins anew'
        past = '2020-01-01T00:00:00Z'
        for key, entry in {'old': {'value': 1, 'expires': past}, 'deleted': {}, 'stays': {'value': 2}}.items():
            a.publish(f'$KV.shared.{key}', json.dumps({**entry, 'changed': past, 'server': 'x'}).encode())
        await a.flush()

        async def purged():
            return await a.kv('shared', 'old') is None and await a.kv('shared', 'deleted') is None
        await until(purged, 'what has been over for long is removed')
        assert (await east.ask('get stays @'))[:2] == ('ok', 2)


async def sets_have_members(w):
    async with offices(w) as (_, east, west, north):
        for office, who in ((east, 'ann'), (west, 'bob'), (north, 'cat')):
            assert (await office.ask(f'insert online {who} 0 @'))[:2] == ('ok', True)
        assert (await north.ask('insert online ann 0 @'))[:2] == ('ok', False)
        assert (await west.ask('get online @'))[:2] == ('ok', ['ann', 'bob', 'cat'])
        assert (await west.ask('remove online bob @'))[:2] == ('ok', True)
        assert (await east.ask('remove online bob @'))[:2] == ('ok', False)
        assert (await east.ask('get online @'))[:2] == ('ok', ['ann', 'cat'])
        await asyncio.gather(*(o.ask(f'insert crowd p{i} 0 @') for i, o in enumerate((east, west, north))))
        assert sorted((await east.ask('get crowd @'))[1]) == ['p0', 'p1', 'p2']


async def ran(office, times):
    """Until all that it was told to add is added: how many of it are so, for all that is known."""
    while True:
        _, words = await office.hear(90)
        if words.startswith('ran '):
            _, ok, unknown = words.split()
            assert int(ok) + int(unknown) == times, words
            return int(ok), int(unknown)


async def three_nodes_count_together(w):
    """And a backend by way of each node: not one is lost, not one is done twice."""
    times = 400
    async with offices(w) as (a, *rooms):
        async def backend(node):
            for _ in range(50):
                answer = await a.ctl(node.name, op='shared_add', key='hits', by=10, wait_s=15)
                assert answer['ok'], answer
        begun = time.monotonic()
        for office in rooms:
            await office.say(f'run hits {times}')
        counts = await asyncio.gather(*(ran(o, times) for o in rooms), *(backend(n) for n in w.nodes))
        assert counts[:3] == [(times, 0)] * 3, counts
        assert (await rooms[0].ask('get hits @'))[1] == 3 * times + 3 * 50 * 10
        took = time.monotonic() - begun
        print(f'   {3 * times + 150} additions to one counter in {took:.1f} s, {(3 * times + 150) / took:.0f}/s', flush=True)


async def from_outside(w):
    """ctl on any node, and roomctl; what is wrong is said."""
    async with Watcher(w.urls[0]) as a, Office('p1', 'east', w.nodes[0]) as east:
        one, two, three = (n.name for n in w.nodes)
        made = await a.ctl(one, op='shared_set', key='shop.open', value={'until': 5}, expect=0)
        assert made['ok'] and made['result']['key'] == 'shop.open', made
        seen = await a.ctl(two, op='shared_get', key='shop.open')
        assert seen['result'] == {'key': 'shop.open', 'revision': made['result']['revision'], 'value': {'until': 5}}, seen
        assert (await east.ask('get shop.open @'))[1] == {'until': 5}
        assert (await a.ctl(three, op='shared_set', key='shop.open', value=1, expect=0))['error'] == 'exists'
        assert (await a.ctl(three, op='shared_insert', key='vips', member='ann'))['result']['changed'] is True
        assert (await a.ctl(one, op='shared_remove', key='vips', member='bob'))['result']['changed'] is False
        assert (await a.ctl(one, op='shared_add', key='gold', by=7, expires_ms=60000))['result']['value'] == 7
        assert (await a.ctl(one, op='shared_delete', key='none'))['error'] == 'not_found'
        for request in (dict(op='shared_get'), dict(op='shared_get', key='a b'), dict(op='shared_get', key=''),
                        dict(op='shared_set', key='a'), dict(op='shared_set', key='a', value=None),
                        dict(op='shared_add', key='a'),
                        dict(op='shared_insert', key='a'), dict(op='shared_insert', key='a', member='ü' * 100),
                        dict(op='shared_set', key='a', value='x' * 65536), dict(op='shared_add', key='shop.open', by=1)):
            answer = await a.ctl(two, **request)
            assert not answer['ok'] and answer['error'] in ('invalid', 'too_big'), (request, answer)
            assert len(answer['message']) > 20, answer
        assert 'set' in roomctl(w, 'shared', 'set', 'cups.7', '{"prize":100}', '--until', '12h', '--if-absent')
        assert json.loads(roomctl(w, 'shared', 'get', 'cups.7')) == {'prize': 100}
        assert (await east.ask('get cups.7 @'))[1] == {'prize': 100}
        row, = [r for r in json.loads(roomctl(w, 'shared', 'ls', '--json')) if r['id'] == 'cups.7']
        assert row['value'] == {'prize': 100} and row['expires'] and 'done' not in row, row
        table = roomctl(w, 'shared', 'ls')
        assert table.split()[:5] == ['KEY', 'VALUE', 'REVISION', 'EXPIRES', 'CHANGED'] and '{"prize":100}' in table, table
        assert 'something is there already' in roomctl(w, 'shared', 'set', 'cups.7', '1', '--if-absent', code=1)
        assert 'another revision' in roomctl(w, 'shared', 'del', 'cups.7', '--revision', str(row['revision'] - 1), code=1)
        assert 'is deleted' in roomctl(w, 'shared', 'del', 'cups.7', '--revision', str(row['revision']))
        assert 'nothing is there' in roomctl(w, 'shared', 'get', 'cups.7', code=3)
        assert 'cups.7' not in roomctl(w, 'shared', 'ls')
        assert 'VALUE' in roomctl(w, 'shared', 'set', 'cups.7', 'no json', code=2)
        assert 'cups..7' in roomctl(w, 'shared', 'get', 'cups..7', code=1)
        roomctl(w, 'shared', 'set', 'a', '1', '--revision', 'x', code=2)


async def services_answer_rooms(w):
    """As they answer players: with names and as a queue group; absent, refusing, too slow, frozen."""
    async with offices(w) as (_, east, west, _):
        assert (await east.ask('ask shop 1000 @ echo 0'))[:2] == ('no_service', None)
        async with backends(w, 'shop', 's1', 's2') as b:
            code, data, _ = await east.ask('ask shop 2000 @ echo 0')
            told = data['request']
            REQUEST.validate(told)
            assert code == 'ok' and told['room'] == 'east' and told['epoch'] > 0 and told['id'] > 0, told
            assert told['route'] == 'shop' and told['server'] == w.nodes[0].name and 'player' not in told, told
            assert told['data'] == {'do': 'echo', 'ms': 0, 'error': {'code': 'too_poor', 'message': '12 gold'}}, told
            code, data, _ = await west.ask('ask shop 2000 @ fail 0')
            assert (code, data) == ('service_error', {'code': 'too_poor', 'message': '12 gold'})
            assert (await west.ask('ask shop 200 @ sleep 1000'))[0] == 'timeout'
            b.signal('shop.s1', signal.SIGSTOP)
            codes = [(await west.ask('ask shop 400 @ echo 0'))[0] for _ in range(20)]
            assert codes.count('ok') >= 18 and set(codes) <= {'ok', 'timeout', 'unresponsive'}, codes
            b.signal('shop.s2', signal.SIGSTOP)
            assert (await west.ask('ask shop 400 @ echo 0'))[0] in ('timeout', 'unresponsive')

            async def unresponsive():
                return (await west.ask('ask shop 400 @ echo 0'))[0] == 'unresponsive'
            await until(unresponsive, 'a service that answers no pings is told from a slow one')
        async with backends(w, 'plain', '-'):
            code, data, _ = await east.ask('ask plain 2000 @ echo 0')
            assert code == 'ok' and data['request']['room'] == 'east'


async def counted(a, key):
    answer = await a.ctl((await live(a)), op='shared_get', key=key, wait_s=15)
    return answer['result']['value']


async def live(a):
    for name, entry in (await a.values('servers')).items():
        with contextlib.suppress(ValueError, asyncio.TimeoutError):
            if entry['status'] == 'up' and (await a.ctl(name, op='info'))['ok']:
                return name
    raise AssertionError('no node answers')


async def a_room_that_moves_counts_on(w):
    times = 400
    async with Watcher(w.urls[0]) as a, Office('p1', 'east', w.nodes[0]) as east:
        before = await east.ask('add walk 0 0 @')
        assert before[:2] == ('ok', 0)
        seat = east.seat['state']
        await east.say(f'run walk {times}')
        for _ in range(3):
            owner = await owner_of(a, 'east')
            there = next(n.name for n in w.nodes if n.name != owner)
            moved = await a.ctl(owner, op='migrate', room='east', server=there, wait_s=15)
            assert moved['ok'], moved
        _, words = await east.hear(90)
        ok, unknown = (int(x) for x in words.split()[1:])
        assert ok == seat[1] + times and unknown == 0, (words, seat)
        assert await counted(a, 'walk') == times


async def the_owner_dies_between_request_and_answer(w):
    """Asked again under the same name, and answered; in the end the service has run it twice at the most, knowing so."""
    async with Watcher(w.urls[0]) as a, backends(w, 'bank', 'b1', 'b2'):
        stays, dies = w.nodes[0], w.nodes[1]
        async with Office('p1', 'bench', stays) as bench:
            await place(a, 'bench', dies.name)
            await bench.say('ask bank 20000 71 sleep 1500')

            async def ran_by():
                lists = [json.loads(await a.request(f'svc.bank.{i}', b'{"id":0,"data":{"do":"ran"}}', 5)) for i in ('b1', 'b2')]
                return [r for each in lists for r in each if r[0] == 'bench']

            async def running():
                return await ran_by() == [['bench', 1]]
            await until(running, 'the service is at it')
            dies.kill()
            data, words = await bench.hear()
            assert words == 'service bank 71 ok 0' and data['slept'] == 1500, (data, words)
            assert await owner_of(a, 'bench') != dies.name
            assert await ran_by() == [['bench', 1]] * 2, await ran_by()
        w.nodes.remove(dies)
        dies.close()
        await w.add(dies.name)


async def sums_are_exact_when_owners_die(w):
    """Every addition of a room whose node is killed in the middle of 1,500 is done once; others add to the same key."""
    times = 1500
    async with Watcher(w.urls[0]) as a:
        for step in range(3):
            dies = w.nodes[(step + 1) % 3]
            stays = next(n for n in w.nodes if n is not dies)
            async with Office('p1', f'mill-{step}', stays) as mill, Office('p2', f'other-{step}', stays) as other:
                await place(a, mill.room, dies.name)
                await place(a, other.room, stays.name)
                key = f'flour-{step}'
                await other.say(f'run {key} {times}')
                await mill.say(f'run {key} {times}')

                async def halfway():
                    answer = await a.ctl(stays.name, op='shared_get', key=key, wait_s=15)
                    return answer.get('result', {}).get('value', 0) > times / 2
                await until(halfway, 'half of it is done')
                dies.kill()
                killed = time.monotonic()
                counts = await asyncio.gather(ran(mill, times), ran(other, times))
                assert counts == [(times, 0), (times, 0)], counts
                assert await counted(a, key) == 2 * times
                assert await owner_of(a, mill.room) != dies.name
                took = time.monotonic() - killed
                print(f'   {2 * times} additions, all of them once; done {took:.1f} s after the kill', flush=True)
            w.nodes.remove(dies)
            dies.close()
            await w.add(dies.name)
            w.nodes.sort(key=lambda n: n.name)


async def entries_are_as_documented(w):
    async with Watcher(w.urls[0]) as a:
        entries = await a.values('shared')
        for key, entry in entries.items():
            ENTRY.validate(entry)
            for room, epoch, number, _, older in entry.get('done', []):
                assert isinstance(room, str) and epoch >= 0 and number > 0 and isinstance(older, bool), (key, entry)
        assert len(entries) > 10 and any(len(e.get('done', [])) == 100 for e in entries.values()), len(entries)


async def alone(w):
    """The same without NATS: rooms of one node by itself."""
    node = Node(w.roomd, 'hermit', None, w.folder.name, '--standalone', *w.options)
    w.nodes.append(node)
    await asyncio.get_running_loop().run_in_executor(None, node.wait_ready)
    async with Office('h1', 'cave', node) as cave, Office('h2', 'cell', node) as cell:
        assert (await cave.ask('add k 5 0 @'))[:2] == ('ok', 5)
        assert (await cell.ask('get k @'))[:2] == ('ok', 5)
        assert (await cell.ask('ask shop 300 @ echo 0'))[0] == 'no_service'
        await cell.say('run k 100')
        assert await ran(cell, 100) == (100, 0)
        assert (await cave.ask('get k @'))[:2] == ('ok', 105)
    w.nodes.remove(node)
    node.close()


async def the_leading_nats_server_dies(w):
    """Nothing is lost or done twice when the nats-server that leads the bucket is killed; what is not known is said."""
    times = 1000
    async with Watcher(w.urls[0]) as a:
        info = json.loads(await a.request('$JS.API.STREAM.INFO.KV_shared'))
    leader = int(info['cluster']['leader'].split('-')[1]) - 1
    url = next(u for i, u in enumerate(w.urls) if i != leader)
    async with Watcher(url) as a, Office('q1', 'south', w.nodes[0]) as south, Office('q2', 'center', w.nodes[1]) as center:
        for office in (south, center):
            await office.say(f'run drops {times}')

        async def halfway():
            answer = await a.ctl(w.nodes[2].name, op='shared_get', key='drops', wait_s=15)
            return answer.get('result', {}).get('value', 0) > times / 2
        await until(halfway, 'half of it is done')
        w.nats.servers[leader]['process'].kill()
        counts = await asyncio.gather(ran(south, times), ran(center, times))
        ok, unknown = sum(c[0] for c in counts), sum(c[1] for c in counts)
        value = await counted(a, 'drops')
        assert ok <= value <= ok + unknown, (counts, value)
        print(f'   {ok} additions known, {unknown} unknown, {value} done', flush=True)


SCENES = (values_are_seen_elsewhere, what_expires_is_gone, sets_have_members, three_nodes_count_together, from_outside,
          services_answer_rooms, a_room_that_moves_counts_on, the_owner_dies_between_request_and_answer,
          sums_are_exact_when_owners_die, entries_are_as_documented, alone, the_leading_nats_server_dies)


def main():
    with World(sys.argv[1], options=('--room-type', sys.argv[3])) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
