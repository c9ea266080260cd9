"""What comes to rooms from elsewhere than their players, over three real nodes: messages of backends on room.<id>.send, rooms
that tell each other and players, publish and subscribe, and rooms that hold locks; before and after the rooms' owners are killed.
Usage: talk.py ROOMD ROOMCTL HERALD.so"""
import asyncio
import itertools
import json
import sys
import time

from cluster import Node, Player, World, play_scenes, until
from transport import TRANSPORTS
from watcher import Watcher


async def owner_of(watch, room, other_than=None):
    async def owned():
        found = await watch.kv('rooms', room)
        owner = found and found[1]['state'] == 'running' and found[1]['owner']
        return owner if owner != other_than else None
    return await until(owned, f'{room} has an owner other than {other_than}', 40)


async def send(watch, room, data, **more):
    """The answer; None: nobody owns the room."""
    body = await watch.request(f'room.{room}.send', json.dumps({'data': data, **more}).encode(), 15)
    return json.loads(body) if body else None


async def reached(watch, room):
    """Until a new owner's subscription is known everywhere."""
    async def answers():
        body = await watch.request(f'room.{room}.send', b'{}', 15)
        return body and json.loads(body)['error'] == 'bad_frame'
    await until(answers, f'{room} is reached')


class Hall:
    """A herald's player: says words, and hears what came."""

    def __init__(self, name, room, node):
        self.player, self.room, self.n = Player(name, node), room, 0

    async def __aenter__(self):
        await self.player.__aenter__()
        self.seat = await self.player.joined(mode='join_or_create', type='herald', room_id=self.room)
        self.said = self.seat['state'][0]  # by others, before
        return self

    async def __aexit__(self, *_):
        await self.player.__aexit__()

    async def say(self, words):
        self.n += 1
        answer = await self.player.send(self.seat['room'], self.n, words)
        assert answer['op'] == 'sent', (words, answer)

    async def hear(self):
        while (words := (await self.player.hear('message'))['data']).startswith('topic ready.'):
            pass  # late: see hears()
        return words


async def backends_send(w):
    """Applied, answered with the room's own answer, and heard by its players; refusals say why."""
    async with Watcher(w.urls[0]) as a, Player('ann', w.nodes[0]) as ann, Player('bea', w.nodes[0]) as bea:
        seat = await ann.joined(mode='create', type='counter', room_id='c')
        await ann.joined(mode='create', type='relay', room_id='r')
        await ann.joined(mode='create', type='state', room_id='s')
        await bea.joined(mode='create', type='lobby', room_id='l')
        for room in 'crs':
            await reached(a, room)
        answer = await send(a, 'c', {'add': 5}, **{'from': 'billing'})
        assert answer == {'ok': True, 'epoch': seat['epoch'], 'result': {'value': 5}}, answer
        assert (await ann.hear('message'))['data'] == {'value': 5}
        assert (await send(a, 'c', {'sub': 5}))['error'] == 'invalid'
        assert (await send(a, 'r', 'hello'))['ok'] and (await ann.hear('message'))['data'] == 'hello'
        assert (await send(a, 's', {'set': {'k': 1}}))['ok'] and (await ann.hear('message'))['data'] == {'set': {'k': 1}}

        async def unsupported():
            answer = await send(a, 'l', 1)
            return answer and answer['error'] == 'unsupported'
        await until(unsupported, 'a lobby takes no messages')
        assert await send(a, 'nobody', 1) is None, 'nobody owns it: no responders'
        for body in (b'', b'x', b'[]', b'{}', b'{"data":1,"from":"no id"}', b'{"data":1,"room":5}'):
            refused = json.loads(await a.request('room.c.send', body))
            assert not refused['ok'] and refused['error'] == 'bad_frame' and refused['message'], (body, refused)
        a.publish('room.c.send', b'{"data":{"add":2}}')
        assert (await ann.hear('message'))['data'] == {'value': 7}, 'without a reply it is applied all the same'
        assert (await a.ctl(await owner_of(a, 'r'), op='close', room='r'))['ok']

        async def silent():
            return await send(a, 'r', 1) is None
        await until(silent, 'nobody listens for a room that has ended')


async def rooms_tell_each_other(w):
    """Over two nodes, and with an answer; to nobody, too."""
    async with Watcher(w.urls[0]) as a, Hall('t1', 'east', w.nodes[0]) as east, Hall('t2', 'west', w.nodes[1]) as west:
        here = await owner_of(a, 'east')
        if await owner_of(a, 'west') == here:
            there = next(n.name for n in w.nodes if n.name != here)
            moved = await a.ctl(here, op='migrate', room='west', server=there, wait_s=15)
            assert moved['ok'], moved
        await reached(a, 'west')
        await reached(a, 'east')
        assert await owner_of(a, 'west') != here
        await east.say('tell west 7')
        assert await west.hear() == 'tell east 0 ok 0'
        assert await east.hear() == 'told west 7 ok 0'
        await west.say('tell east 0')
        assert await east.hear() == 'tell west 0 ok 0'
        await east.say('tell nobody 8')
        assert await east.hear() == 'told nobody 8 no_responders 0'
        begun = time.monotonic()
        for i in range(200):
            await east.say(f'tell west {i + 100}')
        heard = [await east.hear() for _ in range(200)]
        assert heard == [f'told west {i + 100} ok 0' for i in range(200)], heard
        assert [await west.hear() for _ in range(200)] == ['tell east 0 ok 0'] * 200
        print(f'   200 durable messages from room to durable room and back: {(time.monotonic() - begun) * 5:.2f} ms each')


async def rooms_hold_locks(w):
    """A room has a lock, another waits for it and is second; tokens grow."""
    async with Hall('l1', 'east', w.nodes[0]) as east, Hall('l2', 'west', w.nodes[1]) as west:
        await east.say('lock gate 60000 0 1')
        kind, name, request, code, first = (await east.hear()).split()
        assert (kind, name, request, code) == ('lock', 'gate', '1', 'ok') and int(first) > 0
        await west.say('lock gate 1000 0 2')
        assert await west.hear() == f'lock gate 2 held {first}'
        await west.say('lock gate 60000 30000 3')
        await east.say(f'renew gate {first} 60000 4')
        assert await east.hear() == f'lock gate 4 ok {first}'
        await east.say(f'unlock gate {first} 5')
        assert await east.hear() == 'lock gate 5 ok 0'
        *words, second = (await west.hear()).split()
        assert words == ['lock', 'gate', '3', 'ok'] and int(second) > int(first), (words, second)
        await east.say(f'renew gate {first} 60000 6')
        assert await east.hear() == 'lock gate 6 fenced 0'
        await west.say(f'unlock gate {second} 7')
        assert await west.hear() == 'lock gate 7 ok 0'


async def rooms_tell_players(w):
    """Wherever they are connected, in the room or not; whoever is away does not get it, and the room is told so."""
    async with Watcher(w.urls[0]) as a, Hall('p1', 'east', w.nodes[0]) as east:
        for node, over in zip(w.nodes, TRANSPORTS):
            async with Player(f'far-{node.name}', node, can=('relay', 'resume'), over=over) as far:
                for i in range(1, 11):
                    await east.say(f'player {far.name} {i}')
                    assert await east.hear() == f'player {far.name} {i} ok 0'
                    push = await far.hear('push')
                    assert push['seq'] == i and push['data'] == east.said + east.n, (push, east.n)
                welcome = far.welcome
                await far.over.close()

                async def away():
                    shown = await a.ctl(node.name, op='player', player=far.name)
                    return shown['ok'] and shown['result']['status'] == 'away'
                await until(away, 'its connection is gone')
                await east.say(f'player {far.name} 11')
                assert await east.hear() == f'player {far.name} 11 not_found 0'
                back = Player(far.name, node)
                await back.over.connect(node.port)
                await back.say(op='hello', v=1, player=far.name, can=['relay', 'resume'], resume=welcome['resume'], last_seq=4)
                assert (await back.hear('welcome'))['resumed']
                assert [(await back.hear('push'))['seq'] for _ in range(6)] == [5, 6, 7, 8, 9, 10], 'what was not seen comes again'
                await back.say(op='bye')
        await east.say('player nobody 12')
        assert await east.hear() == 'player nobody 12 not_found 0'


READY = itertools.count()


async def hears(hall, publish):
    """Publishes until the hall hears it: a new subscription takes its time to be known where somebody publishes."""
    async def heard():
        topic = f'ready.{next(READY)}'
        await publish(topic)
        try:
            while (await hall.player.hear('message', timeout=1))['data'] != f'topic {topic} 0 ok 0':
                pass
            return True
        except asyncio.TimeoutError:
            return False
    await until(heard, 'what is published is heard')


def from_outside(a):
    async def publish(topic):
        a.publish(f'topic.{topic}', b'{"data":1}')
    return publish


def from_room(hall):
    async def publish(topic):
        await hall.say(f'publish {topic}')
    return publish


async def rooms_publish(w):
    """To rooms on other nodes whose pattern matches, and to whoever listens on NATS; and back."""
    async with Watcher(w.urls[0]) as a, Hall('s1', 'east', w.nodes[0]) as east, Hall('s2', 'west', w.nodes[1]) as west:
        a.subscribe('topic.>')
        await a.flush()
        for pattern in ('cups.*.won', 'ready.*', 'extra'):
            await west.say(f'subscribe {pattern}')
        await hears(west, from_room(east))

        async def listens():
            await from_room(east)(f'ready.{next(READY)}')
            return a.heard
        await until(listens, 'what the room publishes comes to NATS')
        await east.say('publish cups.7.lost')
        await east.say('publish cups.7.won')
        assert await west.hear() == 'topic cups.7.won 0 ok 0'

        async def seen():
            return [json.loads(body) for _, s, body in a.heard if s == 'topic.cups.7.won']
        message, = await until(seen, 'NATS has it')
        assert message == {'data': east.said + east.n, 'room': 'east'}, message
        await hears(west, from_outside(a))
        for body in (b'x', b'{}', b'[]', b'{"data":1,"room":7}'):
            a.publish('topic.cups.8.won', body)
        a.publish('topic.cups.9.won', b'{"data":"from outside"}')
        assert await west.hear() == 'topic cups.9.won 0 ok 0', 'what is no message is not heard'
        for bad in ('subscribe a.', 'subscribe a..b', 'publish a.*', 'subscribe >.a'):
            west.n += 1
            answer = await west.player.send(west.seat['room'], west.n, bad)
            assert answer['op'] == 'error' and answer['code'] == 'invalid', (bad, answer)


async def patterns_go_with_their_room(w):
    """Moved, twice; not kept for what is unsubscribed."""
    async with Watcher(w.urls[0]) as a, Hall('g1', 'west', w.nodes[0]) as west:
        for step in ('once', 'twice'):
            owner = await owner_of(a, 'west')
            there = next(n.name for n in w.nodes if n.name != owner)
            moved = await a.ctl(owner, op='migrate', room='west', server=there, wait_s=15)
            assert moved['ok'], moved
            await reached(a, 'west')
            await hears(west, from_outside(a))
            a.publish(f'topic.cups.{step}.won', b'{"data":1}')
            assert await west.hear() == f'topic cups.{step}.won 0 ok 0'
        a.publish('topic.extra', b'{"data":1}')
        assert await west.hear() == 'topic extra 0 ok 0'
        await west.say('unsubscribe extra')
        a.publish('topic.extra', b'{"data":1}')
        a.publish('topic.cups.last.won', b'{"data":1}')
        assert await west.hear() == 'topic cups.last.won 0 ok 0'


async def who_leaves_holds_no_move_up(w):
    """A room that stands still to be moved, and whose players go at that moment."""
    async with Watcher(w.urls[0]) as a, Hall('m1', 'west', w.nodes[0]):
        for i in range(5):
            owner = await owner_of(a, 'west')
            there = next(n.name for n in w.nodes if n.name != owner)
            passers = [Player(f'passer-{n.name}', n) for n in w.nodes]
            for p in passers:
                await p.__aenter__()
                await p.joined(mode='join', type='herald', room_id='west')
            going = asyncio.gather(*(p.over.close() for p in passers))
            moved = await a.ctl(owner, op='migrate', room='west', server=there, wait_s=15)
            assert moved['ok'], (i, moved)
            await going
            await reached(a, 'west')


async def the_owner_dies(w):
    """What was answered is there at the next owner: messages of backends, and what other rooms told."""
    async with Watcher(w.urls[0]) as a:
        owner = await owner_of(a, 'west')
        stay = [n for n in w.nodes if n.name != owner]
        before = await send(a, 'west', 'x')
        acked = 0
        for i in range(50):
            answer = await send(a, 'west', i)
            assert answer['ok'] and answer['result'] == before['result'] + i + 1, answer
            acked += 1
        next(n for n in w.nodes if n.name == owner).kill()
        await owner_of(a, 'west', other_than=owner)
        await reached(a, 'west')
        answer = await send(a, 'west', 'after')
        assert answer['ok'] and answer['epoch'] > before['epoch'], (before, answer)
        assert answer['result'] == before['result'] + acked + 1, (before, acked, answer)
        async with Hall('l3', 'west', stay[0]) as west:
            await west.say('lock gate 1000 5000 9')
            assert (await west.hear()).startswith('lock gate 9 ok ')
            await hears(west, from_outside(a))


async def alone(w):
    """The same without NATS: rooms of one node by itself."""
    node = Node(w.roomd, 'hermit', None, w.folder.name, '--standalone', *w.options)
    w.nodes.append(node)
    await asyncio.get_running_loop().run_in_executor(None, node.wait_ready)
    async with Hall('h1', 'cave', node) as cave, Hall('h2', 'cell', node) as cell:
        await cave.say('tell cell 1')
        assert await cell.hear() == 'tell cave 0 ok 0'
        assert await cave.hear() == 'told cell 1 ok 0'
        await cave.say('tell nobody 2')
        assert await cave.hear() == 'told nobody 2 no_responders 0'
        await cave.say('lock gate 300 0 3')
        *words, first = (await cave.hear()).split()
        assert words == ['lock', 'gate', '3', 'ok'], words
        await cell.say('lock gate 1000 5000 4')
        *words, second = (await cell.hear()).split()
        assert words == ['lock', 'gate', '4', 'ok'] and int(second) > int(first), words


SCENES = (backends_send, rooms_tell_each_other, rooms_hold_locks, rooms_tell_players, rooms_publish, patterns_go_with_their_room,
          who_leaves_holds_no_move_up, the_owner_dies, alone)


def main():
    with World(sys.argv[1], options=('--room-type', sys.argv[3])) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
