"""What rooms can do, seen by real clients in all three transports over three real nodes: private, locked and full rooms,
repeatable creation, relay and redirect, and the built-in types. Shared objects are in modules.py.
Usage: rooms.py ROOMD ROOMCTL NOTICE.so"""
import asyncio
import contextlib
import itertools
import json
import subprocess
import sys

from cluster import OneNats, Player, World, until
from transport import TRANSPORTS, Tcp, WebSocketJson, WebSocketMsgpack
from watcher import Watcher

_names = itertools.count()


async def players(stack, w, count, **kwargs):
    """`count` players spread over nodes and transports."""
    made = []
    for i in range(count):
        over = TRANSPORTS[i // len(w.nodes) % 3]
        p = Player(f'p{next(_names)}', w.nodes[i % len(w.nodes)], over=over, **kwargs)
        made.append(await stack.enter_async_context(p))
    return made


async def entry(watch, room, **fields):
    async def there():
        found = await watch.kv('rooms', room)
        return found and all(found[1].get(k) == v for k, v in fields.items()) and found[1]
    return await until(there, f'{room} with {fields}')


async def private_rooms(w, watch):
    """Not listed, not matched, joined by id; the same for a type that is private."""
    async with contextlib.AsyncExitStack() as stack:
        ann, *others = await players(stack, w, 10)
        await ann.joined(mode='create', type='quiet', room_id='hidden', private=True)
        await entry(watch, 'hidden', private=True, players=1)
        lobby = await others[0].joined(mode='join_or_create', type='lobby')
        assert 'hidden' not in [r['room_id'] for r in lobby['state']], lobby
        found = await asyncio.gather(*(p.joined(mode='join_or_create', type='quiet') for p in others))
        assert len({f['room_id'] for f in found}) == 1 and found[0]['room_id'] != 'hidden', found
        for p in others:
            assert (await p.joined(mode='join', type='quiet', room_id='hidden'))['room_id'] == 'hidden'
        own = [await p.joined(mode='join_or_create', type='quiet', private=True) for p in others[:3]]
        assert len({f['room_id'] for f in own}) == 3, own
        late = (await players(stack, w, 1))[0]
        assert (await late.joined(mode='join_or_create', type='quiet'))['room_id'] == found[0]['room_id']
        secret = [await p.joined(mode='join_or_create', type='secret') for p in others]
        secret.append(await ann.joined(mode='create', type='secret', room_id='secret-1'))
        assert len({f['room_id'] for f in secret}) == 10, 'a private type was matched'
        for f in secret:
            assert (await entry(watch, f['room_id']))['private'] is True, f
        await late.joined(mode='join', type='secret', room_id='secret-1')
        listed = await late.joined(mode='join_or_create', type='lobby', options={'type': 'quiet'})
        assert [r['room_id'] for r in listed['state']] == [found[0]['room_id']], listed


async def locked_rooms(w, watch):
    async with contextlib.AsyncExitStack() as stack:
        ann, *others = await players(stack, w, 9)
        away = await stack.enter_async_context(Player('away', w.nodes[0], can=('redirect',)))
        await ann.joined(mode='create', type='gate', room_id='gate-1')
        owner = (await entry(watch, 'gate-1'))['owner']
        other_node = next(n for n in w.nodes if n.name != owner)
        away = await stack.enter_async_context(Player('away', other_node, can=('redirect',)))
        ticket = (await away.join(mode='join', type='gate', room_id='gate-1'))['ticket']
        assert (await watch.ctl(owner, op='lock', room='gate-1'))['ok']
        for p in others:
            assert await p.refused(mode='join', type='gate', room_id='gate-1') == 'room_locked'
        home = next(n for n in w.nodes if n.name == owner)
        again = await stack.enter_async_context(Player('away', home))
        await again.joined(mode='join', type='gate', room_id='gate-1', ticket=ticket)
        found = await asyncio.gather(*(p.joined(mode='join_or_create', type='gate') for p in others))
        assert 'gate-1' not in {f['room_id'] for f in found}, found
        assert (await watch.ctl(owner, op='unlock', room='gate-1'))['ok']
        for p in others:
            await p.joined(mode='join', type='gate', room_id='gate-1')


async def full_rooms(w, watch):
    async with contextlib.AsyncExitStack() as stack:
        one, two, *others = await players(stack, w, 9)
        await one.joined(mode='create', type='duel', room_id='ring')
        seat = await two.joined(mode='join', type='duel', room_id='ring')
        assert seat['players'] == seat['max_players'] == 2, seat
        for p in others:
            assert await p.refused(mode='join', type='duel', room_id='ring') == 'room_full'
        await two.leave(seat['room'])
        await entry(watch, 'ring', seats=1)  # `left` comes from the gateway; the owner hears of it a moment later
        await others[0].joined(mode='join', type='duel', room_id='ring')
        assert await two.refused(mode='join', type='duel', room_id='ring') == 'room_full'


async def one_room_per_create_id(w, watch):
    """The same create_id from all nodes and transports, at once and again: one room per type."""
    async with contextlib.AsyncExitStack() as stack:
        everyone = await players(stack, w, 9)
        at_once = await asyncio.gather(*(p.joined(mode='create', type='relay', create_id='party') for p in everyone))
        assert len({a['room_id'] for a in at_once}) == 1, at_once
        late = (await players(stack, w, 9))
        for p in late:
            again = await p.joined(mode='create', type='relay', create_id='party')
            assert again['room_id'] == at_once[0]['room_id'], again
        other = await late[0].joined(mode='create', type='state', create_id='party')
        assert other['room_id'] != at_once[0]['room_id']
        assert await late[0].refused(mode='create', type='relay', room_id=at_once[0]['room_id']) == 'exists'


VALUE = {'text': 'ünï\n"', 'list': [1, -2, 2 ** 40, 1.5, None, True], 'map': {'a': {'b': []}}}


def bytes_as(over, raw):
    """How bytes look to a client of this transport."""
    return raw if over is not WebSocketJson else {'$bin': 'AP8Q'}


async def every_way_between_nodes(w, watch):
    """Relay and redirect between every two transports; values arrive as they were sent."""
    for mine, theirs in itertools.product(TRANSPORTS, TRANSPORTS):
        async with Player('mine', w.nodes[0], over=mine) as a, Player('theirs', w.nodes[1], over=theirs) as b:
            room = await a.joined(mode='create', type='relay')
            seat = await b.joined(mode='join', type='relay', room_id=room['room_id'])
            for n in range(1, 21):
                for p, at, over in ((a, room, mine), (b, seat, theirs)):
                    data = {**VALUE, 'n': n, 'bytes': bytes_as(over, b'\0\xff\x10')}
                    await p.say(op='send', room=at['room'], n=n, data=data)
            for p, over, sender in ((a, mine, 'theirs'), (b, theirs, 'mine')):
                for n in range(1, 21):
                    heard = await p.hear('message')
                    wanted = {**VALUE, 'n': n, 'bytes': bytes_as(over, b'\0\xff\x10')}
                    assert heard['data'] == wanted and heard['from'] == sender and heard['seq'] == n, (mine, theirs, heard)
                    assert (await p.hear('sent'))['n'] == n
    for over in TRANSPORTS:
        async with Player('host', w.nodes[0]) as host:
            owner = (await entry(watch, (await host.joined(mode='create', type='relay', room_id=f'to-{over.__name__}'))
                                 ['room_id']))['owner']
            for node in w.nodes:
                if node.name == owner:
                    continue
                async with Player('guest', node, can=('redirect',), over=over) as guest:
                    way = await guest.join(mode='join', type='relay', room_id=f'to-{over.__name__}')
                    home = next(n for n in w.nodes if n.name == owner)
                    assert (way['op'], way['server'], way['port']) == ('redirect', owner, home.port), way
                async with Player('guest', home, over=over) as guest:
                    seat = await guest.joined(mode='join', type='relay', room_id=way['room_id'], ticket=way['ticket'])
                    assert seat['via'] == 'local', seat


async def state_rooms(w, watch):
    """The whole document on joining, changes to everyone, compare-and-set decided once."""
    async with contextlib.AsyncExitStack() as stack:
        everyone = await players(stack, w, 9)
        seats = [await everyone[0].joined(mode='create', type='state', room_id='doc')]
        assert seats[0].get('state', {}) == {}, seats
        assert (await everyone[0].send(seats[0]['room'], 1, {'set': {'a': 1, 'b': VALUE, 'c': [2]}}))['result'] == {'ok': True}
        for p in everyone[1:]:
            seats.append(await p.joined(mode='join', type='state', room_id='doc'))
            assert seats[-1]['state'] == {'a': 1, 'b': VALUE, 'c': [2]}, seats[-1]
        await asyncio.gather(*(p.say(op='send', room=s['room'], n=2, data={'cas': {'key': 'a', 'expect': 1, 'value': p.name}})
                               for p, s in zip(everyone, seats)))
        results = [(await p.hear('sent'))['result']['ok'] for p in everyone]
        assert results.count(True) == 1, results
        winner = everyone[results.index(True)].name
        for p in everyone:
            heard = [(await p.hear('message'))['data']] if p is not everyone[0] else \
                [(await p.hear('message'))['data'] for _ in range(2)]
            assert heard[-1] == {'set': {'a': winner}}, heard
        assert (await everyone[1].send(seats[1]['room'], 3, {'delete': ['b', 'nothing']}))['result'] == {'ok': True}
        heard = (await everyone[2].hear('message'))['data']
        assert heard == {'delete': ['b', 'nothing']}, heard
        assert (await everyone[3].send(seats[3]['room'], 3, {'set': {'k' * 257: 1}})).get('code') == 'invalid'
        assert (await everyone[3].send(seats[3]['room'], 4, {'drop': 1})).get('code') == 'invalid'
        late = (await players(stack, w, 3))
        for p in late:
            assert (await p.joined(mode='join', type='state', room_id='doc'))['state'] == {'a': winner, 'c': [2]}


async def counter_rooms(w, watch):
    """Additions from three nodes: each is acknowledged with its own result, everyone hears every value in order."""
    async with contextlib.AsyncExitStack() as stack:
        everyone = await players(stack, w, 6)
        seats = [await everyone[0].joined(mode='create', type='counter', room_id='bank')]
        seats += [await p.joined(mode='join', type='counter', room_id='bank') for p in everyone[1:]]
        for n in range(1, 31):
            await asyncio.gather(*(p.say(op='send', room=s['room'], n=n, data={'add': 2}) for p, s in zip(everyone, seats)))
        results = []
        for p in everyone:
            own = [(await p.hear('sent'))['result']['value'] for _ in range(30)]
            assert own == sorted(own), own
            results += own
            assert [(await p.hear('message'))['data']['value'] for _ in range(180)] == list(range(2, 361, 2)), p.name
        assert sorted(results) == list(range(2, 361, 2)), 'a result given twice or never'
        assert (await everyone[1].send(seats[1]['room'], 31, {'add': 'x'})).get('code') == 'invalid'
        late = (await players(stack, w, 1))[0]
        assert (await late.joined(mode='join', type='counter', room_id='bank'))['state'] == {'value': 360}


async def lobby_rooms(w, watch):
    """The listing on joining, then added, updated, removed in order, as the member's filter sees them; with metadata."""
    async with contextlib.AsyncExitStack() as stack:
        maker, guest = (await players(stack, w, 2))
        watchers = [await stack.enter_async_context(Player(f'seer-{o.__name__}', w.nodes[2], over=o)) for o in TRANSPORTS]
        for p in watchers:
            options = {'type': 'notice', 'unlocked': True}
            assert (await p.joined(mode='join_or_create', type='lobby', options=options))['state'] == []
        assert await maker.refused(mode='join_or_create', type='lobby', options={'size': 3}) == 'invalid'
        room = await maker.joined(mode='create', type='notice', room_id='ad')
        await maker.joined(mode='create', type='relay', room_id='not-for-them')
        for n, text in enumerate(('one', {'two': [2]}, None), 1):
            assert (await maker.send(room['room'], n, text))['op'] == 'sent'
            await entry(watch, 'ad', metadata=text)
        seat = await guest.joined(mode='join', type='notice', room_id='ad')
        await entry(watch, 'ad', players=2)
        owner = (await entry(watch, 'ad'))['owner']
        for op, locked in (('lock', True), ('unlock', False)):
            assert (await watch.ctl(owner, op=op, room='ad'))['ok']
            await entry(watch, 'ad', locked=locked)
        await guest.say(op='send', room=seat['room'], n=1, data='close')
        assert (await guest.hear('left'))['reason'] == 'taken_down'
        for p in watchers:
            seen = []
            while seen.count({'removed': 'ad'}) < 2:
                seen.append((await p.hear('message'))['data'])
            words = [next(iter(change)) for change in seen]
            assert words[0] == 'added' and set(words[1:]) == {'updated', 'removed', 'added'}, words
            assert words.count('added') == words.count('removed') == 2, words  # locked: gone from this filter, and back
            rooms = [next(iter(change.values())) for change in seen if 'removed' not in change]
            assert all(r['room_id'] == 'ad' and r['type'] == 'notice' and r['server'] == owner for r in rooms), rooms
            shown = [r.get('metadata') for r in rooms]
            assert [m for m, before in zip(shown, [None] + shown) if m != before] == ['one', {'two': [2]}, None], shown
            assert [r['players'] for r in rooms] == sorted(r['players'] for r in rooms), rooms


async def listing_by_roomctl(w, watch):
    """Types that are to be durable are listed as what they are in this version: `none`."""
    async with Player('ann', w.nodes[0]) as ann:
        kinds = ('counter', 'state', 'relay', 'notice')
        for kind in kinds:
            await ann.joined(mode='create', type=kind, room_id=f'listed-{kind}')
        for kind in kinds:
            await entry(watch, f'listed-{kind}')
        done = await asyncio.get_running_loop().run_in_executor(None, lambda: subprocess.run(
            [sys.argv[2], 'rooms', '--json', '--server', w.urls[0]], capture_output=True, text=True, timeout=20))
        assert done.returncode == 0, done
        rows = {row['id']: row for row in json.loads(done.stdout)}
        kept = [rows[f'listed-{k}']['durability'] for k in kinds]
        assert kept == ['journal', 'snapshot', 'none', 'none'], kept
        done = await asyncio.get_running_loop().run_in_executor(None, lambda: subprocess.run(
            [sys.argv[2], 'rooms', '--server', w.urls[0]], capture_output=True, text=True, timeout=20))
        line = next(x for x in done.stdout.splitlines() if x.startswith('listed-counter'))
        assert ' journal ' in line, line


async def run(w):
    async with Watcher(w.urls[0]) as watch:
        for scene in (private_rooms, locked_rooms, full_rooms, one_room_per_create_id, every_way_between_nodes,
                      state_rooms, counter_rooms, lobby_rooms, listing_by_roomctl):
            await scene(w, watch)
            print('ok', scene.__name__, flush=True)


def main():
    options = ('--room-type', sys.argv[3], '--type', 'quiet=relay', '--type', 'gate=relay', '--type',
               'secret=relay,private=true', '--type', 'duel=relay,max_players=2')
    with World(sys.argv[1], options=options, nats=OneNats) as w:
        asyncio.run(run(w))


if __name__ == '__main__':
    main()
