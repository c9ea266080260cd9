"""Who is alive: a node killed, a node stopped and continued, an id used twice, a nats-server killed, two clusters with
different prefixes on one NATS. Usage: members.py ROOMD"""
import asyncio
import signal
import subprocess
import sys
import time

from cluster import Player, World, until
from watcher import Watcher


async def id_in_use(w):
    """The same id started twice: the second refuses, names the id, and the first is untouched."""
    def second():
        return subprocess.run([w.roomd, '--server-id', 'node-1', '--listen', '127.0.0.1:0', '--nats', w.urls[0]],
                              capture_output=True, timeout=20)
    done = await asyncio.get_running_loop().run_in_executor(None, second)
    assert done.returncode == 1, done
    assert b"in use by a live node: 'node-1'; choose another with --server-id" in done.stderr, done.stderr
    async with Player('still', w.nodes[0]) as p:
        assert (await p.join(mode='join_or_create', type='relay'))['op'] == 'joined'


async def listing_heals(w, watch):
    """What somebody else does to a room's entry, its owner undoes; the room and its players go on."""
    def overwrite():
        watch.publish('$KV.rooms.healed', b'[]')

    def remove():  # as `nats kv del` does
        watch.delete('rooms', 'healed')
    async with Player('ann', w.nodes[0]) as ann:
        seat = await ann.join(mode='create', type='relay', room_id='healed')
        for i, damage in enumerate((remove, overwrite)):
            async def listed():
                revision, entry = await watch.kv('rooms', 'healed') or (0, None)
                return isinstance(entry, dict) and entry['players'] == 1 and (revision, entry)
            revision, before = await until(listed, 'the room is listed')
            damage()

            async def back():  # written anew, after the damage
                newer, entry = await listed() or (0, None)
                return newer > revision + 1 and entry and entry['owner'] == before['owner'] and entry
            entry = await until(back, f'the entry is back after {damage.__name__}', 90)
            assert entry['epoch'] == before['epoch'] == seat['epoch'], (entry, before)
            async with Player(f'bob-{i}', w.nodes[2]) as bob:
                joined = await bob.join(mode='join', type='relay', room_id='healed')
                assert joined['op'] == 'joined' and joined['epoch'] == seat['epoch'], joined


async def short_stop(w, watch):
    """SIGSTOP for a second changes nothing."""
    before = (await watch.ctl('node-3', op='info'))['result']['boot']
    w.nodes[2].kill(signal.SIGSTOP)
    await asyncio.sleep(1)  # the fault itself lasts a second; nothing is waited for
    w.nodes[2].kill(signal.SIGCONT)
    info = (await watch.ctl('node-3', op='info'))['result']
    assert info['boot'] == before
    assert not watch.events('server.node-3.offline')


async def long_stop(w, watch):
    """SIGSTOP for 10 s: declared down once, and after SIGCONT fenced, joined again as a new boot, its rooms gone."""
    async with Player('held', w.nodes[2]) as held:
        joined = await held.join(mode='create', type='relay', room_id='held-room')
        owner = 'node-3' if joined['via'] == 'local' else None
        before = (await watch.ctl('node-3', op='info'))['result']['boot']
        w.nodes[2].kill(signal.SIGSTOP)
        stopped = time.monotonic()

        async def declared():
            return watch.events('server.node-3.offline')
        at, event = (await until(declared, 'server.node-3.offline'))[0]
        assert event['reason'] == 'hung' and event['boot'] == before, event
        assert 2.5 < at - stopped < 6.5, at - stopped
        await asyncio.sleep(max(0, 10 - (time.monotonic() - stopped)))  # the fault lasts ten seconds
        w.nodes[2].kill(signal.SIGCONT)

        async def again():
            try:
                return (await watch.ctl('node-3', op='info'))['result']['boot'] != before
            except (asyncio.TimeoutError, KeyError, ValueError):
                return False
        await until(again, 'node-3 back as a new boot')
        if owner:
            assert (await held.hear('left'))['reason'] == 'fenced'
        assert len(watch.events('server.node-3.offline')) == 1, 'declared down more than once'
        rooms = (await watch.ctl('node-3', op='rooms'))['result']
        assert all(r['id'] != 'held-room' for r in rooms['rooms'])


async def nats_server_killed(w):
    """One of three nats-servers dies under load: no client dropped, no room changes owner, joins to rooms under 1 s."""
    async with Player('ann', w.nodes[0]) as ann, Player('bob', w.nodes[1]) as bob:
        a = await ann.join(mode='create', type='relay', room_id='steady')
        b = await bob.join(mode='join', type='relay', room_id='steady')
        assert a['op'] == b['op'] == 'joined', (a, b)
        sent, joins = 0, []
        w.nats.servers[2]['process'].kill()
        killed = time.monotonic()
        while time.monotonic() - killed < 6:
            sent += 1
            await ann.say(op='send', room=a['room'], n=sent, data=sent)
            async with Player(f'late-{sent}', w.nodes[sent % 3]) as late:
                begun = time.monotonic()
                answer = await late.join(mode='join', type='relay', room_id='steady')
                joins.append(time.monotonic() - begun)
                assert answer['op'] == 'joined', answer
                assert answer['epoch'] == a['epoch']
        heard = [(await bob.hear('message'))['data'] for _ in range(sent)]
        assert heard == list(range(1, sent + 1)), 'lost or out of order over the death of a nats-server'
        assert max(joins) < 1, max(joins)
        print(f'   {sent} joins while a nats-server was dead, slowest {max(joins) * 1000:.0f} ms')


async def node_killed(w, watch):
    async with Player('far', w.nodes[1]) as far:
        for k in range(30):  # until a room lives on node-1 and far is relayed to it
            answer = await far.join(mode='create', type='relay', room_id=f'doomed-{k}')
            assert answer['op'] == 'joined', answer
            if any(r['id'] == f'doomed-{k}' for r in (await watch.ctl('node-1', op='rooms'))['result']['rooms']):
                break
            await far.say(op='leave', id=500, room=answer['room'])
            await far.hear('left')
        w.nodes[0].kill()
        killed = time.monotonic()

        async def join_at_once():  # waits for the verdict instead of failing
            async with Player('hasty', w.nodes[2]) as hasty:
                return await hasty.join(mode='join_or_create', type='relay', room_id=f'doomed-{k}'), time.monotonic()
        hasty = asyncio.create_task(join_at_once())

        async def offline():
            return watch.events('server.node-1.offline')
        at, event = (await until(offline, 'server.node-1.offline'))[0]
        print(f'   declared down {at - killed:.2f} s after kill -9')
        assert at - killed < 2, at - killed
        assert event['reason'] == 'dead'
        again, at = await hasty
        print(f'   its room is made anew {at - killed:.2f} s after')
        assert again['op'] == 'joined' and again['epoch'] > answer['epoch'] and at - killed < 2, (again, at - killed)
        left = await far.hear('left')
        assert left['reason'] in ('server_lost', 'room_lost'), left
        for i in range(20):
            async with Player(f'after-{i}', w.nodes[1 + i % 2]) as p:
                joined = await p.join(mode='create', type='relay')
                assert joined['op'] == 'joined', joined

        async def gone():
            return watch.events(f'room.doomed-{k}.disposed')
        _, disposed = (await until(gone, 'the dead node\'s room leaves the listing'))[0]
        assert disposed['reason'] == 'room_lost', disposed
        assert len(watch.events('server.node-1.offline')) == 1
        assert len(watch.events(f'room.doomed-{k}.disposed')) == 1


async def prefixes(w):
    """Another cluster on the same NATS, by prefix: neither sees the other's rooms or servers."""
    other = w.node('node-2', '--prefix', 'blue')
    w.nodes.append(other)
    await asyncio.get_running_loop().run_in_executor(None, other.wait_ready)
    async with Player('red', w.nodes[1]) as red, Player('blue', other) as blue:
        assert (await red.join(mode='create', type='relay', room_id='same-name'))['op'] == 'joined'

        async def refused():  # with a nats-server dead a new bucket may elect its leader a second time, for some seconds
            answer = await blue.join(mode='join', type='relay', room_id='same-name')
            assert answer['op'] == 'error' and answer['code'] in ('not_found', 'unavailable'), answer
            return answer['code'] == 'not_found'
        await until(refused, 'the room of another prefix is not found')
        assert (await blue.join(mode='create', type='relay', room_id='same-name'))['via'] == 'local'
        assert len(blue.welcome['servers']) == 1, blue.welcome


async def run(w):
    await id_in_use(w)
    print('ok id_in_use', flush=True)
    async with Watcher(w.urls[0]) as watch:
        watch.subscribe('server.*.offline')
        watch.subscribe('room.*.disposed')
        for scene in (listing_heals, short_stop, long_stop):
            await scene(w, watch)
            print('ok', scene.__name__, flush=True)
        await nats_server_killed(w)
        print('ok nats_server_killed', flush=True)
        await node_killed(w, watch)
        print('ok node_killed', flush=True)
    await prefixes(w)
    print('ok prefixes', flush=True)


def main():
    with World(sys.argv[1]) as w:
        asyncio.run(run(w))


if __name__ == '__main__':
    main()
