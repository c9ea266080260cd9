"""Where new rooms go, by each --strategy over three real nodes, seen in the registry; a node's capacity is hard under all of
them, and a draining or hung node gets nothing. The pure function's tables are tests/unit/core_place.c. Usage: place.py ROOMD"""
import asyncio
import contextlib
import json
import signal
import sys
import time

from cluster import OneNats, Player, World, play_scenes, until
from transport import Tcp
from watcher import Watcher

COMMON = ('--room-ttl', '0', '--rooms-per-session', '1024', '--type', 'solo=relay,max_players=1')


class Trio:
    """Three nodes of one strategy, under a prefix of their own; each may have options of its own."""

    def __init__(self, w, strategy, *options, each=((), (), ())):
        self.w, self.strategy, self.options, self.each, self.nodes = w, strategy, options, each, []
        self.prefix = strategy + '-' + str(id(self))

    async def __aenter__(self):
        for i, own in enumerate(self.each):
            self.nodes.append(self.w.node(f'n{i + 1}', '--prefix', self.prefix, '--strategy', self.strategy, *COMMON,
                                          *self.options, *own))
        self.w.nodes.extend(self.nodes)
        await asyncio.get_running_loop().run_in_executor(None, lambda: [n.wait_ready() for n in self.nodes])
        self.watch = await Watcher(self.w.urls[0]).__aenter__()
        self.watch.subscribe(f'{self.prefix}.server.*.beat')
        await self.all_know_all()
        return self

    async def __aexit__(self, *_):
        await self.watch.__aexit__()
        for node in self.nodes:
            node.close()
            self.w.nodes.remove(node)

    async def all_know_all(self):
        """Every node names all three to its players: they are in its view."""
        for node in self.nodes:
            async def knows():
                async with Player('looker', node, over=Tcp) as p:
                    return len(p.welcome['servers']) == 3
            await until(knows, f'{node.name} knows all three')

    async def spread(self, count=None):
        """Listed rooms per node; waits until `count` are listed."""
        async def listed():
            rooms = await self.watch.values(self.prefix + '_rooms')
            return (count is None or len(rooms) == count) and (rooms,)
        rooms, = await until(listed, f'{count} rooms in the registry')
        owners = [r['owner'] for r in rooms.values()]
        return [owners.count(n.name) for n in self.nodes]

    async def beat(self, node, **fields):
        """Waits for a beat of the node with these numbers; its next ones say the same as long as nothing changes."""
        async def told():
            heard = self.watch.events(f'{self.prefix}.server.{node.name}.beat')
            return heard and all(heard[-1][1].get(k) == v for k, v in fields.items())
        await until(told, f'{node.name} beats with {fields}')

    async def create(self, player, count):
        return [await player.join(mode='create', type='relay') for _ in range(count)]

    async def fill(self, capacities):
        """More requests than there are places, at once and from all nodes: exactly the places are given out."""
        have, places = sum(await self.spread()), sum(capacities)
        async with contextlib.AsyncExitStack() as stack:
            makers = [await stack.enter_async_context(Player(f'fill-{i}', self.nodes[i % 3], over=Tcp)) for i in range(12)]
            each = (places - have + 20) // 12 + 1
            answers = [a for part in await asyncio.gather(*(self.create(p, each) for p in makers)) for a in part]
            made = [a for a in answers if a['op'] == 'joined']
            assert {a['code'] for a in answers if a['op'] == 'error'} == {'full'}, [a for a in answers if a['op'] == 'error']

            async def rest():
                """Requests at once may pass a place by, until the next beat tells of it."""
                if len(made) < places - have:
                    made.extend(a for a in await self.create(makers[0], 1) if a['op'] == 'joined')
                return len(made) == places - have
            await until(rest, 'the last places are found')
            assert await self.spread(places) == list(capacities)
            for maker in makers[:3]:
                assert await maker.refused(mode='create', type='relay') == 'full'
                assert await maker.refused(mode='join_or_create', type='solo') == 'full'
            assert await self.spread(places) == list(capacities)


async def round_robin(w):
    async with Trio(w, 'round-robin', '--capacity', '30') as t, Player('maker', t.nodes[0], over=Tcp) as maker:
        await t.create(maker, 60)
        assert await t.spread(60) == [20, 20, 20]
        await t.fill((30, 30, 30))


async def least_rooms(w):
    async with Trio(w, 'least-rooms', '--capacity', '40') as t, Player('maker', t.nodes[1], over=Tcp) as maker:
        await t.create(maker, 60)
        spread = await t.spread(60)
        assert max(spread) - min(spread) <= 4, spread
        await t.fill((40, 40, 40))


async def least_players(w):
    """Two nodes have a crowd; the third gets the rooms until its makers are as many."""
    async with Trio(w, 'least-players', '--capacity', '60', each=(('--prefer-local',), ('--prefer-local',), ())) as t, \
            contextlib.AsyncExitStack() as stack:
        for node in t.nodes[:2]:
            for i in range(40):
                p = await stack.enter_async_context(Player(f'crowd-{node.name}-{i}', node, over=Tcp))
                await p.joined(mode='join_or_create', type='relay', room_id=f'crowd-{node.name}')
            await t.beat(node, players=40)
        maker = await stack.enter_async_context(Player('maker', t.nodes[2], over=Tcp))
        await t.create(maker, 30)
        assert await t.spread(32) == [1, 1, 30]
        await t.fill((60, 60, 60))


async def random(w):
    async with Trio(w, 'random', '--capacity', '60') as t, Player('maker', t.nodes[0], over=Tcp) as maker:
        await t.create(maker, 90)
        spread = await t.spread(90)
        assert all(10 <= n <= 50 for n in spread), spread  # 30, give or take 4.5 standard deviations
        await t.fill((60, 60, 60))


async def weighted(w):
    each = [('--capacity', str(n)) for n in (20, 40, 140)]
    async with Trio(w, 'weighted', each=each) as t, Player('maker', t.nodes[0], over=Tcp) as maker:
        await t.create(maker, 100)
        spread = await t.spread(100)
        assert 50 <= spread[2] <= 88 and spread[0] <= 20 and spread[0] < spread[2], spread  # 10, 20, 70
        await t.fill((20, 40, 140))


async def load(w):
    """A node with many connections for its capacity is passed over."""
    async with Trio(w, 'load', '--capacity', '30') as t, contextlib.AsyncExitStack() as stack:
        for i in range(120):
            await stack.enter_async_context(Player(f'idle-{i}', t.nodes[0], over=Tcp))
        await t.beat(t.nodes[0], connections=120)
        maker = await stack.enter_async_context(Player('maker', t.nodes[1], over=Tcp))
        await t.create(maker, 40)
        spread = await t.spread(40)
        assert spread[0] == 0, spread
        await t.fill((30, 30, 30))


async def two_choices(w):
    async with Trio(w, 'two-choices', '--capacity', '60') as t, Player('maker', t.nodes[2], over=Tcp) as maker:
        await t.create(maker, 90)
        spread = await t.spread(90)
        assert all(20 <= n <= 40 for n in spread), spread
        await t.fill((60, 60, 60))


async def region(w):
    """Near first; elsewhere only when near is full."""
    each = [('--region', 'north'), ('--region', 'south'), ('--region', 'north')]
    async with Trio(w, 'region', '--capacity', '15', each=each) as t, Player('maker', t.nodes[0], over=Tcp) as maker, \
            Player('other', t.nodes[1], over=Tcp) as other:
        await t.create(maker, 24)
        spread = await t.spread(24)
        assert spread[1] == 0 and min(spread[0], spread[2]) >= 9, spread
        await t.create(other, 4)
        assert (await t.spread(28))[1] == 4
        await t.create(maker, 10)
        assert await t.spread(38) == [15, 8, 15]
        await t.fill((15, 15, 15))


async def latency(w):
    """Nothing is nearer than the node itself; when it is full, the others."""
    async with Trio(w, 'latency', '--capacity', '15') as t, Player('maker', t.nodes[1], over=Tcp) as maker:
        await t.create(maker, 15)
        assert await t.spread(15) == [0, 15, 0]
        await t.create(maker, 10)
        spread = await t.spread(25)
        assert spread[1] == 15 and spread[0] + spread[2] == 10, spread
        await t.fill((15, 15, 15))


async def draining_is_passed_over(w):
    """The registry says of one node that it is draining; until it says otherwise, it gets no room. Players still join there."""
    async with Trio(w, 'least-rooms', '--heartbeat-interval', '60s', '--server-ttl', '10m') as t, \
            Player('maker', t.nodes[0], over=Tcp) as maker, Player('mover', t.nodes[1], over=Tcp) as mover:
        await t.create(maker, 3)
        assert await t.spread(3) == [1, 1, 1]
        kept = [r for r, e in (await t.watch.values(t.prefix + '_rooms')).items() if e['owner'] == 'n3'][0]
        _, entry = await t.watch.kv(t.prefix + '_servers', 'n3')
        entry['status'] = 'draining'
        await t.watch.request(f'$KV.{t.prefix}_servers.n3', json.dumps(entry).encode())

        async def known():
            async with Player('looker', t.nodes[0], over=Tcp) as p, Player('looker2', t.nodes[1], over=Tcp) as q:
                return len(p.welcome['servers']) == len(q.welcome['servers']) == 2
        await until(known, 'the others know that n3 is draining')
        answers = await t.create(maker, 10) + await t.create(mover, 10)
        assert all(a['op'] == 'joined' for a in answers), answers
        for i in range(10):
            await mover.joined(mode='join_or_create', type='solo')
        spread = await t.spread(33)
        assert spread[2] == 1, spread
        await mover.joined(mode='join', type='relay', room_id=kept)


async def hung_is_passed_over(w):
    """A node is stopped for two seconds, less than it takes to be declared down. Nobody waits for it: creations and joins
    on the others go on, at first after a short time-out, then at once."""
    async with Trio(w, 'round-robin') as t, Player('maker', t.nodes[0], over=Tcp) as maker, \
            Player('mover', t.nodes[1], over=Tcp) as mover:
        await t.create(maker, 3)
        t.nodes[2].kill(signal.SIGSTOP)
        try:
            stopped, times, answers = time.monotonic(), [], []
            while time.monotonic() - stopped < 2:
                for p in (maker, mover):
                    begun = time.monotonic()
                    answers.append(await p.join(mode='create', type='relay'))
                    times.append(time.monotonic() - begun)
                    if answers[-1]['op'] == 'joined':
                        await p.leave(answers[-1]['room'])
        finally:
            t.nodes[2].kill(signal.SIGCONT)
        assert all(a['op'] == 'joined' for a in answers), [a for a in answers if a['op'] != 'joined'][:3]
        assert max(times) < 3 and sorted(times)[len(times) // 2] < 0.2, (max(times), sorted(times)[len(times) // 2])
        print(f'   {len(times)} rooms made beside a hung node, slowest {max(times) * 1000:.0f} ms', flush=True)


SCENES = (round_robin, least_rooms, least_players, random, weighted, load, two_choices, region, latency,
          draining_is_passed_over, hung_is_passed_over)


def main():
    with World(sys.argv[1], nodes=0, nats=OneNats) as w:
        asyncio.run(play_scenes(w, SCENES))


if __name__ == '__main__':
    main()
