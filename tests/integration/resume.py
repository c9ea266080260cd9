"""A session outlives its connection: whoever comes back within the grace period goes on where he was.
Usage: resume.py ROOMD"""
import asyncio
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from cluster import OneNats, Player, World, play_scenes, until  # noqa: E402
from resumer import Resumer  # noqa: E402
from transport import TRANSPORTS, Tcp, WebSocketJson, WebSocketMsgpack  # noqa: E402
from watcher import Watcher  # noqa: E402


async def players_of(watch, node, room):
    answer = await watch.ctl(node.name, op='room', room=room)
    return answer.get('result', {}).get('players')


async def together(node, room, kind='relay', owner=None):
    """Ann, who can come back, and Bob, in one room."""
    ann, bob = Resumer(f'ann-{room}'), Player(f'bob-{room}', owner or node, over=Tcp)
    await bob.__aenter__()
    there = await bob.joined(mode='create', type=kind, room_id=room)
    await ann.come(node)
    here = await ann.join(mode='join', type=kind, room_id=room)
    assert here['op'] == 'joined', here
    return ann, bob, here['room'], there['room']


async def says(bob, room, first, count):
    for n in range(first, first + count):
        assert (await bob.send(room, n, {'n': n}))['op'] == 'sent'


async def hears(ann, first, count):
    for n in range(first, first + count):
        assert (await ann.hear('message'))['data'] == {'n': n}


async def missed_nothing(w):
    """Whatever was said while nobody was there comes afterwards, once and in order, over any transport."""
    for i, owner in enumerate(w.nodes):  # its gateway is the owner, and is not
        ann, bob, _, room = await together(w.nodes[0], f'missed-{i}', owner=owner)
        n = 1
        for over in TRANSPORTS * 2:
            await says(bob, room, n, 3)
            await hears(ann, n, 2)
            await ann.drop()
            await says(bob, room, n + 3, 4)
            welcome = await ann.back(w.nodes[0], over)
            assert len(welcome['rooms']) == 1 and welcome['seq'] == n + 1, welcome
            await hears(ann, n + 2, 5)
            n += 7
        await bob.over.close()
        await ann.over.close()


async def seat_kept(w):
    """The room does not notice; the session is not offline; after the grace period both are told, and the secret is worth nothing."""
    async with Watcher(w.urls[0]) as watch:
        watch.subscribe('player.*.*')
        await watch.request('$JS.API.INFO')
        ann, bob, _, room = await together(w.nodes[0], 'kept')
        await ann.drop()
        await ann.back(w.nodes[0])
        assert await players_of(watch, w.nodes[0], 'kept') == 2
        assert not watch.events('player.ann-kept.left') and not watch.events('player.ann-kept.offline')
        await ann.drop()

        async def offline():
            return watch.events('player.ann-kept.offline')
        (_, event), = await until(offline, 'the grace period is over')
        assert event['reason'] == 'timeout', event
        assert await players_of(watch, w.nodes[0], 'kept') == 1
        before = ann.session
        welcome = await ann.come(w.nodes[0])
        assert not welcome['resumed'] and ann.session != before and welcome['grace_ms'] == GRACE_MS, welcome
        assert await players_of(watch, w.nodes[0], 'kept') == 1
        await says(bob, room, 1, 1)
        await bob.over.close()
        await ann.over.close()


async def half_open(w):
    """The connection before is not known to be dead: it is closed, and the session goes on over the new one."""
    ann, bob, _, room = await together(w.nodes[0], 'half')
    for i in range(20):
        former = ann.over
        await ann.back(w.nodes[0])
        assert await asyncio.wait_for(former.recv(), 5) is None, 'nothing is said over the former connection'
        await says(bob, room, i + 1, 1)
        await hears(ann, i + 1, 1)
    await bob.over.close()
    await ann.over.close()


async def not_his(w):
    """Another's secret, a wrong one, none: a session of its own, on whichever node; another player's is left alone."""
    ann, bob, _, room = await together(w.nodes[0], 'theirs')
    watch = await Watcher(w.urls[0]).__aenter__()
    for node in w.nodes:
        for token in (ann.token, ann.token[:-1] + 'x', ann.token[:20], '.' + 'a' * 32, 'a' * 256):
            eve = Resumer('eve')
            eve.token = token
            welcome = await eve.come(node)
            assert not welcome['resumed'] and welcome['session'] != ann.session and 'rooms' not in welcome, welcome
            await eve.over.close()
    await says(bob, room, 1, 1)
    await hears(ann, 1, 1)
    for node in w.nodes:
        thief = Resumer(ann.name)
        thief.token = ann.token[:-1] + ('x' if ann.token[-1] != 'x' else 'y')
        welcome = await thief.come(node)
        assert not welcome['resumed'] and welcome['session'] != ann.session, welcome
        await thief.say(op='bye')

        async def forgotten():
            return not await watch.kv('players', ann.name)
        await until(forgotten, 'that one is gone')
    await watch.__aexit__()
    await bob.over.close()
    await ann.over.close()


async def too_much(w):
    """More was said than is kept: how much is missing is told, then the rest in order, then the state of the room."""
    for i, owner in enumerate(w.nodes):
        name = f'much-{i}'
        ann, bob, number, room = await together(w.nodes[0], name, 'state', owner)
        await ann.drop()
        for n in range(1, 1501):
            assert (await bob.send(room, n, {'set': {f'k{n % 10}': n}}))['op'] == 'sent'
        await ann.back(w.nodes[0])
        first = await ann.frame()
        assert first['op'] == 'resync' and first['missed'] == first['seq'] and 'room' not in first, first
        assert 1400 - 1024 <= first['missed'] <= 1500 - 1024, first  # the last ones may still be on their way from the owner
        n = first['seq']
        while (whole := await ann.hear('message', 'resync'))['op'] == 'message':
            n += 1
            assert whole['data'] == {'set': {f'k{n % 10}': n}}, (n, whole)
        assert n == 1500 or (owner is not w.nodes[0] and n > 1400), n  # what comes while it asks for the state is in the state
        assert whole['room'] == number and whole['state'] == {f'k{n % 10}': n for n in range(1491, 1501)}, whole
        assert (await bob.send(room, 1501, {'set': {'k0': 'end'}}))['op'] == 'sent'
        assert (await ann.hear('message'))['data'] == {'set': {'k0': 'end'}}
        await bob.over.close()
        await ann.over.close()


async def acknowledged(w):
    """What the client has said it has is not kept: it cannot be asked for again."""
    ann, bob, _, room = await together(w.nodes[0], 'acked')
    await says(bob, room, 1, 10)
    await hears(ann, 1, 10)
    await ann.say(op='ack', seq=8)
    await ann.say(op='ping', t=1)
    await ann.hear('pong')
    await ann.drop()
    ann.seq = 8
    await ann.back(w.nodes[0])
    await hears(ann, 9, 2)
    await ann.drop()
    ann.seq = 3
    await ann.back(w.nodes[0])
    first = await ann.frame()
    assert first['op'] == 'resync' and first['missed'] >= 5, first
    await bob.over.close()
    await ann.over.close()


async def asked_again(w):
    """What was asked and not answered is asked again: inputs are applied once, a join finds its seat."""
    for i, owner in enumerate(w.nodes):
        ann, bob, number, _ = await together(w.nodes[0], f'again-{i}', 'counter', owner)
        for turn in range(10):
            first = turn * 5 + 1
            for n in range(first, first + 5):
                await ann.say(op='send', room=number, n=n, data={'add': 1})
            while turn % 2 and (await ann.hear('sent'))['n'] < first:
                pass  # the second answer to an input of the turn before
            await ann.drop()
            await ann.back(w.nodes[0])
            ann.inbox = [f for f in ann.inbox if f['op'] != 'sent']
            for n in range(first, first + 5):
                await ann.say(op='send', room=number, n=n, data={'add': 1})
            answers = {}
            while len(answers) < 5:  # in the order of the first answers to each, which some may have been lost of
                answer = await ann.hear('sent')
                assert answer['result'] == {'value': answer['n']}, answer
                if answer['n'] >= first:
                    answers[answer['n']] = answer['result']
            assert answers == {n: {'value': n} for n in range(first, first + 5)}, answers
        await ann.say(op='join', id=77, mode='join_or_create', type='relay', room_id=f'late-{i}')
        await ann.drop()
        await ann.back(w.nodes[0])
        await ann.say(op='join', id=77, mode='join_or_create', type='relay', room_id=f'late-{i}')
        joined = await ann.hear('joined')
        assert joined['id'] == 77 and joined['room_id'] == f'late-{i}', joined
        await ann.drop()
        await ann.back(w.nodes[1])
        await ann.say(op='join', id=77, mode='join_or_create', type='relay', room_id=f'late-{i}')
        again = await ann.hear('joined', 'error')
        assert again['op'] == 'joined' and again['room'] == joined['room'], again
        await bob.over.close()
        await ann.over.close()


async def elsewhere(w):
    """Back at the other node: the same session and seats, what was said until the drop, then the whole state, then what follows."""
    async with Watcher(w.urls[0]) as watch:
        for i, owner in enumerate(w.nodes):
            name = f'else-{i}'
            ann, bob, number, room = await together(w.nodes[0], name, 'state', owner)
            n = 0
            for turn in range(20):
                first = n + 1
                for _ in range(5):
                    n += 1
                    assert (await bob.send(room, n, {'set': {'k': n}}))['op'] == 'sent'
                await ann.drop()
                gateway = w.nodes[(turn + 1) % 2]
                welcome = await ann.back(gateway, TRANSPORTS[turn % 3])
                assert welcome['server'] == gateway.name and welcome['rooms'] == [number], welcome
                assert ann.missed == 0
                while (await ann.hear('resync'))['state'].get('k') != n:
                    pass
                heard = [f['data']['set']['k'] for f in ann.inbox if f['op'] == 'message' and 'k' in f['data']['set']]
                assert heard == list(range(first, n + 1)), (first, n, heard)
                ann.inbox.clear()
                assert ann.seq == n + turn, 'every message came, and none twice'
                assert await players_of(watch, owner, name) == 2
                assert (await watch.kv('players', ann.name))[1]['gateway'] == gateway.name
                n += 1
                assert (await bob.send(room, n, {'set': {'k': n}}))['op'] == 'sent'
                assert (await ann.hear('message'))['data'] == {'set': {'k': n}}
                await ann.say(op='send', room=number, n=turn + 1, data={'set': {'a': turn}})
                assert (await ann.hear('sent'))['n'] == turn + 1
            await bob.over.close()
            await ann.say(op='bye')

        async def unlisted():
            return not await watch.kv('players', 'ann-else-0') and not await watch.kv('sessions', ann.session)
        await until(unlisted, 'nothing is left of a session that ended')


async def elsewhere_held_open(w):
    """The connection before was not known to be dead: its gateway closes it."""
    ann, bob, _, room = await together(w.nodes[0], 'open')
    for turn in range(10):
        former = ann.over
        await ann.back(w.nodes[(turn + 1) % 2])
        frame = {}
        while frame is not None:
            frame = await asyncio.wait_for(former.recv(), 5)
            assert frame is None or frame['op'] != 'kicked', 'it is the same session'
    await bob.over.close()
    await ann.say(op='bye')


async def one_login(w):
    """The newest wins, wherever it is; those before are told, each once."""
    async with Watcher(w.urls[0]) as watch:
        for _ in range(10):
            devices = [Resumer('solo') for _ in range(12)]
            await asyncio.gather(*(d.come(w.nodes[i % 2], TRANSPORTS[i % 3]) for i, d in enumerate(devices)))

            async def end(device):
                while device.welcome['op'] == 'welcome':
                    frame = await device.frame(60)
                    if frame['op'] in ('kicked', 'closed'):
                        return frame
                return device.welcome
            tasks = [asyncio.create_task(end(d)) for d in devices]
            _, alive = await asyncio.wait(tasks, return_when=asyncio.ALL_COMPLETED, timeout=0.0)

            async def settled():
                return sum(not t.done() for t in tasks) <= 1
            await until(settled, 'all but one are told')
            left = [d for d, t in zip(devices, tasks) if not t.done()]
            assert len(left) == 1, f'{len(left)} sessions are left of twelve'
            told = [t.result() for t in tasks if t.done()]
            assert all(f == {'op': 'kicked', 'reason': 'replaced'} for f in told), told
            entry = (await watch.kv('players', 'solo'))[1]
            assert entry['session'] == left[0].session and entry['gateway'] == left[0].welcome['server'], entry
            await left[0].say(op='ping', t=1)
            for t in tasks:
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await left[0].say(op='bye')


async def never_removes_itself(w):
    """Dropped and back after ten milliseconds, a hundred times, here and there: always the same session."""
    ann, bob, number, room = await together(w.nodes[0], 'blink')
    for turn in range(100):
        await ann.drop()
        await asyncio.sleep(0.01)
        await ann.back(w.nodes[turn % 3 % 2])
    await ann.say(op='send', room=number, n=1, data='back')
    await ann.hear('sent')
    await says(bob, room, 1, 1)
    await hears(ann, 1, 1)
    await bob.over.close()
    await ann.say(op='bye')


async def room_lost(w):
    """A room that ended meanwhile is not among those that the session still has."""
    async with Watcher(w.urls[0]) as watch:
        ann, bob, number, _ = await together(w.nodes[0], 'ends')
        other = await ann.join(mode='create', type='relay', room_id='stays')
        await ann.drop()
        answer = await watch.ctl(w.nodes[0].name, op='close', room='ends')
        assert answer['ok'], answer
        welcome = await ann.back(w.nodes[0])
        assert welcome['rooms'] == [other['room']], welcome
        await bob.over.close()
        await ann.over.close()


async def bye(w):
    """Who says so is gone at once."""
    async with Watcher(w.urls[0]) as watch:
        watch.subscribe('player.*.*')
        await watch.request('$JS.API.INFO')
        ann, bob, _, _ = await together(w.nodes[0], 'bye')
        await ann.say(op='bye', reason='tired')
        assert (await ann.frame())['op'] == 'closed'
        assert not (await ann.come(w.nodes[0]))['resumed']
        (_, event), = watch.events('player.ann-bye.left')
        assert event['reason'] == 'tired', event
        await bob.over.close()
        await ann.over.close()


async def without(w):
    """A client that does not say that it can come back is gone with its connection, as ever."""
    async with Watcher(w.urls[0]) as watch:
        watch.subscribe('player.*.*')
        await watch.request('$JS.API.INFO')
        async with Player('plain', w.nodes[0]) as plain:
            assert plain.welcome['resume'] == '' and plain.welcome['grace_ms'] == 0

        async def offline():
            return watch.events('player.plain.offline')
        await until(offline, 'gone at once', GRACE_MS / 2000)


GRACE_MS = 4000


def main():
    wanted = sys.argv[2:]
    scenes = [s for s in (missed_nothing, seat_kept, half_open, not_his, too_much, acknowledged, asked_again, elsewhere,
                          elsewhere_held_open, one_login, never_removes_itself, room_lost, bye, without)
              if not wanted or s.__name__ in wanted]
    with World(sys.argv[1], nodes=2, nats=OneNats, options=('--grace', f'{GRACE_MS}ms', '--prefer-local')) as w:
        asyncio.run(play_scenes(w, scenes))


if __name__ == '__main__':
    main()
