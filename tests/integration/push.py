"""Pushes of backends: to players on any of three real nodes, to those who are away, to all in a room, to all on the server; and
what is left of them when the node that has just said them is killed. Usage: push.py ROOMD ROOMD_FAULTS"""
import asyncio
import base64
import json
import os
import sys

import msgpack

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from cluster import Node, Player, World, play_scenes, until  # noqa: E402
from resumer import Resumer  # noqa: E402
from transport import TRANSPORTS, Tcp, WebSocketJson  # noqa: E402
from watcher import Watcher  # noqa: E402

LIMIT, BYTES = 20, 65536
OPTIONS = ('--inbox-messages', str(LIMIT), '--inbox-bytes', str(BYTES), '--grace', '15s')


async def ask(watch, subject, data, **more):
    body = await watch.request(subject, json.dumps({'data': data, **more}).encode(), 15)
    return json.loads(body) if body else None


async def push(watch, player, data, **more):
    """The status. Who has not been answered asks again, so each has an id."""
    more.setdefault('id', f'{player}-{json.dumps(data)[:50]}')
    while True:
        try:
            body = await watch.request(f'player.{player}.push', json.dumps({'data': data, **more}).encode(), 2.5)
        except asyncio.TimeoutError:
            continue
        answer = json.loads(body)
        if answer['status'] != 'unknown':
            return answer['status']


async def away(watch, player):
    """Until the player's session is over."""
    async def gone():
        return await watch.kv('players', player) is None
    await until(gone, f'{player} is away')


async def acknowledge(watch, ann):
    """Until it is written down that the player has all he has heard."""
    await ann.say(op='ack', seq=ann.seq)

    async def marked():
        ask_last = json.dumps({'last_by_subj': f'inbox.{ann.name}'}).encode()
        answer = json.loads(await watch.request('$JS.API.STREAM.MSG.GET.PLAYER_INBOX', ask_last, 15))
        message = msgpack.unpackb(base64.b64decode(answer['message']['data']))
        return message[0] and message[1] == message[3]
    await until(marked, f'{ann.name} has acknowledged')


async def hears(ann, values):
    frames = [await ann.hear('push') for _ in values]
    assert [f['data'] for f in frames] == list(values), (values, frames)
    numbers = [f['number'] for f in frames]
    assert numbers == sorted(set(numbers)), numbers
    return frames


async def wherever_he_is(w):
    """On each node, over each transport: in order, and once however often it is asked."""
    async with Watcher(w.urls[0]) as a:
        for i, (node, over) in enumerate(zip(w.nodes, TRANSPORTS)):
            ann = Resumer(f'where-{i}')
            await ann.come(node, over)
            for n in range(10):
                assert await push(a, ann.name, n) == 'delivered'
            await hears(ann, range(10))
            assert await push(a, ann.name, 3) == 'delivered', 'a repeat gets the same answer'
            many = [push(a, ann.name, n) for n in range(10, 40)]
            assert set(await asyncio.gather(*many)) == {'delivered'}
            heard = [(await ann.hear('push'))['data'] for _ in range(30)]
            assert sorted(heard) == list(range(10, 40)), heard
            answer = await ask(a, f'player.{ann.name}.push', 'without an id')
            assert answer['status'] == 'delivered' and answer['server'] in [n.name for n in w.nodes], answer
            await hears(ann, ['without an id'])
            a.publish(f'player.{ann.name}.push', b'{"data":"without an answer"}')
            await hears(ann, ['without an answer'])
            await ann.over.close()


async def what_is_refused(w):
    async with Watcher(w.urls[0]) as a:
        for body in (b'', b'x', b'[]', b'{}', b'{"data":1,"id":5}', b'{"data":1,"id":"' + b'x' * 65 + b'"}'):
            answer = json.loads(await a.request('player.nobody.push', body, 15))
            assert answer['status'] == 'refused' and answer['error'] in ('bad_frame', 'too_big') and answer['message'], answer
        answer = await ask(a, 'player.nobody.push', 'x' * 70000)
        assert answer['status'] == 'refused' and answer['error'] == 'too_big', answer


async def while_he_is_away(w):
    """Kept, said in order when he comes, and once he has acknowledged never again; until then with the same numbers."""
    async with Watcher(w.urls[0]) as a:
        for n in range(5):
            assert await push(a, 'bob', n) == 'kept'
        bob = Resumer('bob')
        await bob.come(w.nodes[1])
        first = await hears(bob, range(5))
        assert 'missed' not in first[0], first
        await bob.say(op='bye')
        await bob.hear('closed')
        await away(a, 'bob')
        await bob.come(w.nodes[2], resume=False)
        again = await hears(bob, range(5))
        assert [f['number'] for f in again] == [f['number'] for f in first], 'a repeat can be told by its number'
        await acknowledge(a, bob)
        assert await push(a, 'bob', 'new') == 'delivered'
        await hears(bob, ['new'])
        await acknowledge(a, bob)
        await bob.say(op='bye')
        await bob.hear('closed')
        await away(a, 'bob')
        assert await push(a, 'bob', 3) == 'delivered', 'it was, days ago'
        assert await push(a, 'bob', 'last') == 'kept'
        await bob.come(w.nodes[0], resume=False)
        await hears(bob, ['last'])
        await bob.over.close()


async def too_much(w):
    """The oldest go, and he is told how many: by number, by bytes."""
    async with Watcher(w.urls[0]) as a:
        for n in range(LIMIT + 7):
            assert await push(a, 'carl', n) == 'kept'
        answer = await ask(a, 'player.carl.push', 0, id='carl-0')
        assert answer['status'] == 'refused' and answer['error'] == 'full', answer
        carl = Resumer('carl')
        await carl.come(w.nodes[0])
        frames = await hears(carl, range(7, LIMIT + 7))
        assert frames[0]['missed'] == 7 and all('missed' not in f for f in frames[1:]), frames
        await carl.over.close()
        big = ['%d' % n * 20000 for n in range(1, 6)]
        for data in big:
            assert await push(a, 'dora', data) == 'kept'
        dora = Resumer('dora')
        await dora.come(w.nodes[0], WebSocketJson)
        frames = await hears(dora, big[2:])
        assert frames[0]['missed'] == 2, frames[0]['missed']
        await dora.over.close()


async def with_his_connection_lost(w):
    """What came while he was away for a moment, on the same node and on another: in the sequence of his session, once."""
    async with Watcher(w.urls[0]) as a:
        eve = Resumer('eve')
        await eve.come(w.nodes[0])
        n = 0
        for node in (w.nodes[0], w.nodes[1], w.nodes[1], w.nodes[2], w.nodes[0]):
            assert await push(a, 'eve', n) == 'delivered'
            await eve.drop()
            count = 0
            while await push(a, 'eve', [n, count], id=f'eve-{n}-{count}') == 'delivered':
                count += 1  # its gateway has not noticed yet
            await eve.back(node)
            await hears(eve, [n] + [[n, i] for i in range(count + 1)])
            n += 1
            if n % 2:
                await eve.say(op='ack', seq=eve.seq)
        await eve.over.close()


async def with_too_much_else(w):
    """While he is away for a moment, rooms say more than his session keeps: what was pushed comes all the same."""
    async with Watcher(w.urls[0]) as a, Player('oli', w.nodes[0], over=Tcp) as oli:
        there = await oli.joined(mode='create', type='relay', room_id='loud')
        pia = Resumer('pia')
        await pia.come(w.nodes[0])
        assert (await pia.join(mode='join', type='relay', room_id='loud'))['op'] == 'joined'
        assert await push(a, 'pia', 'first') == 'delivered'
        await hears(pia, ['first'])
        await pia.drop()
        count = 0
        while await push(a, 'pia', count) == 'delivered':
            count += 1  # the node has not noticed yet
        for n in range(1, 9):  # more than 256 KiB
            assert (await oli.send(there['room'], n, 'x' * 40000))['op'] == 'sent'
        assert await push(a, 'pia', 'last') == 'kept'
        await pia.back(w.nodes[0])
        assert pia.missed == 0
        await hears(pia, list(range(count + 1)) + ['last'])  # that it has the first one it has said
        assert pia.missed >= 8, pia.missed
        await pia.over.close()


async def his_gateway_dies(w):
    """Right after it said something: what was not acknowledged is said again by the next one, with its number; the rest is not."""
    async with Watcher(w.urls[0]) as a:
        gateway = await w.add('mortal')
        fay = Resumer('fay')
        await fay.come(gateway)
        for n in range(3):
            assert await push(a, 'fay', n) == 'delivered'
        await hears(fay, range(3))
        await acknowledge(a, fay)
        for n in range(3, 6):
            assert await push(a, 'fay', n) == 'delivered'
        before = await hears(fay, range(3, 6))
        gateway.kill()
        await gateway.ended()
        gateway.close()
        w.nodes.remove(gateway)
        for n in range(6, 9):
            assert await push(a, 'fay', n) in ('kept', 'delivered')
        welcome = await fay.come(w.nodes[0])
        assert welcome['op'] == 'welcome', welcome
        frames = await hears(fay, range(3, 9))
        assert [f['number'] for f in frames[:3]] == [f['number'] for f in before], (before, frames)
        assert 'missed' not in frames[0], frames
        await fay.over.close()


async def to_rooms_and_to_all(w):
    """Each player once, on whatever node he is; nobody owns a room that is not there."""
    async with Watcher(w.urls[0]) as a, Player('gus', w.nodes[0]) as gus, Player('hal', w.nodes[1], over=Tcp) as hal, \
            Player('ida', w.nodes[2]) as ida:
        seat = await gus.joined(mode='create', type='counter', room_id='den')
        there = await hal.joined(mode='join', type='counter', room_id='den')

        async def reached():
            try:
                answer = await ask(a, 'room.den.push', 'hello', id='one')
            except asyncio.TimeoutError:
                return None  # its owner was starved, and did not know whether the room is still its own
            return answer and answer['players'] == 2 and answer['status'] == 'sent'
        await until(reached, 'the owner listens')
        assert await reached(), 'a repeat has the same answer'
        for player, room in ((gus, seat['room']), (hal, there['room'])):
            heard = await player.hear('push')
            assert heard['data'] == 'hello' and heard['room'] == room, heard
        assert await ask(a, 'room.nowhere.push', 1) is None, 'nobody owns it: no responders'
        assert (await ask(a, 'room.den.send', {'add': 1}))['result'] == {'value': 1}, 'its logic has heard nothing of it'
        for player in (gus, hal):
            assert (await player.hear('message', 'push'))['data'] == {'value': 1}
        replies = [await ask(a, f'server.{n.name}.broadcast', 'all', id='b1') for n in w.nodes]
        assert sum(r['players'] for r in replies) == 3 and {r['server'] for r in replies} == {n.name for n in w.nodes}, replies
        a.publish('server.all.broadcast', b'{"data":"all","id":"b1"}')
        a.publish('server.all.broadcast', b'{"data":"again","id":"b2"}')
        for player in (gus, hal, ida):
            assert [(await player.hear('push'))['data'] for _ in range(2)] == ['all', 'again']


async def the_one_who_sees_to_it_dies(w):
    """kill -9 between the store's word and the answer, and of the gateway right after it has said a push and right after it has
    written down what was acknowledged: asked again with the same id, the player has it once."""
    path = os.path.join(w.folder.name, 'point')
    for point in ('push_appended', 'push_answer', 'push_said', 'push_marked'):
        async with Watcher(w.urls[0]) as a:
            open(path, 'w', encoding='ascii').close()
            mortal = Node(sys.argv[2], 'mortal-' + point, w.urls, w.folder.name, *w.options,
                          environ={**os.environ, 'FAULT_POINT_FILE': path})
            w.nodes.append(mortal)
            await asyncio.get_running_loop().run_in_executor(None, mortal.wait_ready)
            names = iter(f'{point}-{i}' for i in range(10000))

            async def sees_to():  # for whom is it the first in rank?
                name = next(names)
                try:
                    body = await a.request(f'player.{name}.push', b'{"data":"first","id":"first"}', 2)
                except asyncio.TimeoutError:
                    return None  # the nodes do not know each other yet, and another one was left to do it
                return json.loads(body)['server'] == mortal.name and name
            name = await until(sees_to, f'a player for {mortal.name}')
            jan = Resumer(name)
            await jan.come(w.nodes[0] if point in ('push_appended', 'push_answer') else mortal)
            await hears(jan, ['first'])
            with open(path, 'w', encoding='ascii') as file:
                file.write(point)
            if point == 'push_marked':
                await jan.say(op='ack', seq=jan.seq)
            else:
                a.publish(f'player.{name}.push', b'{"data":"second","id":"second"}')
            assert await mortal.ended() == -9, mortal.logged()[-2000:]
            mortal.close()
            w.nodes.remove(mortal)
            assert await push(a, name, 'second', id='second') in ('delivered', 'kept')
            numbers = []
            if point in ('push_said', 'push_marked'):
                await jan.come(w.nodes[1])
            status = await push(a, name, 'third', id='third')
            assert status == 'delivered', (point, status)
            while not numbers or numbers[-1][0] != 'third':
                frame = await jan.hear('push')
                numbers.append((frame['data'], frame['number']))
            heard = [data for data, _ in numbers]
            again = [] if point != 'push_said' else ['first']  # never acknowledged, and said by a node that is dead
            assert heard == again + ['second', 'third'], (point, heard)
            await jan.over.close()


SCENES = (to_rooms_and_to_all, wherever_he_is, what_is_refused, while_he_is_away, too_much, with_his_connection_lost,
          with_too_much_else, his_gateway_dies, the_one_who_sees_to_it_dies)


def main():
    with World(sys.argv[1], options=OPTIONS) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
