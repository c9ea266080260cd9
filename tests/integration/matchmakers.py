"""The matchmaker dies, hangs and comes back in the middle of a match; a seat cannot be had; a gateway dies. Nobody is lost, and
nobody is matched twice. Usage: matchmakers.py ROOMD_FAULTS [SCENE...]

The process is built with fault points (src/base/fault.h): it dies where its file says.
"""
import asyncio
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from cluster import DEADLINE, Node, OneNats, World, until  # noqa: E402
from matchmaking import Waiting, Watcher, close, nothing_is_left, one_match_each, together  # noqa: E402
from resumer import Resumer  # noqa: E402

OPTIONS = ['--type', 'duel=relay,max_players=8', '--queue', 'trio=duel,size=3,max_wait=0', '--queue', 'pair=duel,size=2,max_wait=0',
           '--queue', 'polite=duel,size=2,confirm=30s,max_wait=0',
           '--queue', 'ranked=duel,size=2,range=rank:0:100,max_wait=0']
POINTS = ['match_written', 'match_half', 'match_taken', 'match_seated', 'match_made']


class Mortals(World):
    """Each node dies where the file <its name>.die says."""

    def node(self, name, *options):
        return Node(self.roomd, name, self.urls, self.folder.name, *self.options, *options,
                    environ={**os.environ, 'FAULT_POINT_FILE': self.die(name)})

    def die(self, name):
        return os.path.join(self.folder.name, name + '.die')


async def owner_of(w, queue):
    """Who makes the matches of the queue, found by making one."""
    players = await together({'trio': 3}.get(queue, 2), w, queue, f'first-{queue}', properties={'rank': 7})
    if queue == 'polite':
        for p in players:
            ask = await p.hear('confirm')
            await p.say(op='accept', id=90, match=ask['match'], accept=True)
    match = (await players[0].matched())['match']
    await close(players)

    async def logged():
        return [n for n in w.nodes if any('match made' in line and match in line for line in n.logged().splitlines())]
    found, = await until(logged, f'somebody has made a match of {queue}')
    async with Watcher(next(u for u in w.urls)) as a:
        await nothing_is_left(a)
    return found


async def no_more(players):
    """Whatever was said to them has come by now: no second match."""
    for p in players:
        await p.say(op='ping', t=4711)
        while (await p.hear('pong'))['t'] != 4711:
            pass
        assert not [f for f in p.inbox if f['op'] in ('matched', 'unmatched')], (p.name, p.inbox)


async def a_matchmaker_dies(point):
    with Mortals(sys.argv[1], nodes=3, options=OPTIONS) as w:
        owner = await owner_of(w, 'trio')
        others = [n for n in w.nodes if n is not owner]
        with open(w.die(owner.name), 'w', encoding='ascii') as f:
            f.write(point)
        players = [Waiting(f'p-{i}', others[i % 2]) for i in range(6)]
        for p in players:
            await p.__aenter__()
        for p in players:
            assert (await p.match('trio'))['op'] == 'queued'
        assert await owner.ended() == -9, owner.logged()[-2000:]
        told = {p.name: await p.matched() for p in players}
        assert len(one_match_each(told)) == 2, told
        for p in players:
            if told[p.name]['server'] != owner.name:  # a match that was made stands, though its room died with its maker
                await p.enter(told[p.name])
        await no_more(players)
        if point != 'match_made':
            assert all(f['server'] != owner.name for f in told.values()), told
        async with Watcher(next(n for n in w.urls)) as a:
            for p in players:  # tickets of a room that died are removed with their session
                await p.say(op='bye')
            await nothing_is_left(a)
        await close(players)


async def a_matchmaker_hangs_and_comes_back():
    """Stopped while its players are asked, and again with its hands full: what it wrote is undone, and what it writes later is
    refused."""
    with Mortals(sys.argv[1], nodes=3, options=OPTIONS) as w:
        owner = await owner_of(w, 'polite')
        others = [n for n in w.nodes if n is not owner]
        players = [Waiting(f'h-{i}', others[i]) for i in range(2)]
        for p in players:
            await p.__aenter__()
            assert (await p.match('polite'))['op'] == 'queued'
        asks = [await p.hear('confirm') for p in players]
        owner.kill(signal.SIGSTOP)
        for p in players:
            await p.say(op='accept', id=60, match=asks[0]['match'], accept=True)
        again = [await p.hear('confirm', timeout=40) for p in players]
        assert again[0]['match'] == again[1]['match'] != asks[0]['match'], (asks, again)
        await players[0].say(op='accept', id=61, match=again[0]['match'], accept=True)
        owner.kill(signal.SIGCONT)
        await players[1].say(op='accept', id=61, match=again[0]['match'], accept=True)
        told = {p.name: await p.matched() for p in players}
        assert told['h-0']['match'] == again[0]['match'] and len(one_match_each(told)) == 1, told
        async with Watcher(w.urls[0]) as a:
            async def back():
                return len([v for v in (await a.values('servers')).values() if v['status'] == 'up']) == 3
            await until(back, 'the stopped node is up again')
            for p in players:
                await p.enter(told[p.name])
            await no_more(players)
            await nothing_is_left(a)
        await close(players)


async def a_matchmaker_with_old_news():
    """Stopped while a ticket that it knows of leaves; when it goes on, the first it does is to match that one, whose range is
    wide enough by now. The bucket knows better."""
    with Mortals(sys.argv[1], nodes=3, options=OPTIONS) as w:
        owner = await owner_of(w, 'ranked')
        others = [n for n in w.nodes if n is not owner]
        leaver, stayer, third = (Waiting(name, others[i % 2]) for i, name in enumerate(('leaver', 'stayer', 'third')))
        for p, rank in ((leaver, 1000), (stayer, 1150)):
            await p.__aenter__()
            assert (await p.match('ranked', properties={'rank': rank}))['op'] == 'queued'
        owner.kill(signal.SIGSTOP)
        gone = await leaver.unmatch('ranked')
        assert gone['op'] == 'unmatched' and gone['reason'] == 'left', gone
        await asyncio.sleep(1.6)  # 150 apart: after a second and a half they fit; less than a node may be silent
        owner.kill(signal.SIGCONT)
        await third.__aenter__()
        assert (await third.match('ranked', properties={'rank': 1150}))['op'] == 'queued'
        told = {p.name: await p.matched() for p in (stayer, third)}
        assert len(one_match_each(told)) == 1, told
        await no_more([leaver, stayer, third])
        async with Watcher(w.urls[0]) as a:
            for p in (stayer, third):
                await p.enter(told[p.name])
            await nothing_is_left(a)
        await close([leaver, stayer, third])


async def a_matchmaker_hangs_in_the_crowd():
    """Stopped at whatever it does with sixty tickets, twice."""
    with Mortals(sys.argv[1], nodes=3, options=OPTIONS) as w:
        owner = await owner_of(w, 'pair')
        others = [n for n in w.nodes if n is not owner]
        players = [Waiting(f'c-{i}', others[i % 2]) for i in range(60)]
        for p in players:
            await p.__aenter__()
        for i, p in enumerate(players):
            p.request += 1
            await p.say(op='match', id=p.request, queue='pair')
            if i in (20, 45):
                owner.kill(signal.SIGSTOP)
                assert (await players[i].hear('queued', 'error'))['op'] == 'queued'
                owner.kill(signal.SIGCONT)
        told = {p.name: await p.matched(timeout=60) for p in players}
        assert len(one_match_each(told)) == 30, told
        await no_more(players)
        for p in players:
            await p.enter(told[p.name])
        async with Watcher(w.urls[0]) as a:
            await nothing_is_left(a)
        await close(players)


async def a_seat_cannot_be_had():
    """The only node with room for another room lets one player in: nobody is told of a match, and all keep their age."""
    with World(sys.argv[1], nodes=0, options=['--strategy', 'least-rooms'], nats=OneNats) as w:
        strict = ['--type', 'duel=relay,max_players=2', '--queue', 'duel=duel,size=2,max_wait=0', '--capacity', '1']
        for name in ('node-1', 'node-2'):
            await w.add(name, *strict)
        await w.add('narrow', '--type', 'duel=relay,max_players=1', '--capacity', '1000')
        async with Watcher(w.urls[0]) as a:
            a.subscribe('room.*.*')
            await a.flush()
            fillers = [Waiting(f'filler-{n.name}', n) for n in w.nodes]
            for p in fillers:
                await p.__aenter__()

            async def full():
                assert (await fillers[0].join(mode='create', type='relay'))['op'] == 'joined'
                owners = [r['owner'] for r in (await a.values('rooms')).values()]
                return 'node-1' in owners and 'node-2' in owners
            await until(full, 'both nodes are full')  # some went to the narrow one
            players = [Waiting(f's-{i}', w.nodes[i]) for i in range(2)]
            for p in players:
                await p.__aenter__()
                assert (await p.match('duel'))['op'] == 'queued'

            async def tried():
                return len([n for n in w.nodes for line in n.logged().splitlines() if 'match undone' in line]) >= 2
            await until(tried, 'two matches are undone')
            assert not [f for p in players for f in p.inbox], [p.inbox for p in players]

            async def both_wait():
                tickets = [v for v in (await a.values('matchmaking')).values() if 'tickets' not in v]
                assert len(tickets) == 2, tickets
                return all(t['state'] == 'waiting' and t['age_ms'] > 500 for t in tickets)
            await until(both_wait, 'both wait, and are as old as they are')

            async def closed():
                return len([b for _, at, b in a.heard if at.endswith('.disposed') and b'"closed"' in b]) >= 2
            await until(closed, 'the rooms of matches that are undone are closed')
            w.nodes[2].kill()  # nobody else may have it: now only a node that lets two in is left
            rooms = await a.values('rooms')
            for room in [r for r, v in rooms.items() if v['owner'] == 'node-1']:
                assert (await a.ctl('node-1', op='close', room=room))['ok']
            told = {p.name: await p.matched(timeout=40) for p in players}
            assert len(one_match_each(told)) == 1 and told['s-0']['server'] == 'node-1', told
            await close(players + fillers)


async def asked_until_queued(p, number):
    async def asked():
        await p.over.send(dict(op='match', id=number, queue='trio'))
        answer = await p.hear('queued', 'error')
        return answer if answer.get('code') != 'unavailable' else None
    answer = await until(asked, f'{p.name} is told')
    assert answer['op'] == 'queued', answer
    return answer


async def a_gateway_dies():
    """Its player comes back at another node, with his ticket; one who does not come back is not waited for."""
    options = OPTIONS + ['--grace', '3s']
    with World(sys.argv[1], nodes=3, options=options) as w:
        ann, bob, lost = Resumer('ann'), Resumer('bob'), Resumer('lost')
        for p in (ann, lost):
            await p.come(w.nodes[0])
            queued = await asked_until_queued(p, 5)
        ann_ticket = None
        async with Watcher(w.urls[-1]) as a:
            tickets = await a.values('matchmaking')
            ann_ticket, = (k for k, v in tickets.items() if v['players'] == ['ann'])
            assert queued['id'] == 5
            w.nodes[0].kill()
            welcome = await ann.back(w.nodes[1])
            assert welcome['resumed']
            again = await ann.hear('queued')
            assert again['ticket'] == ann_ticket and again['id'] == 5 and again['queue'] == 'trio', again

            async def moved():
                tickets = await a.values('matchmaking')
                return ann_ticket in tickets and tickets[ann_ticket]['server'] == 'node-2' and len(tickets) == 1
            await until(moved, 'the ticket is the new gateway\'s, and the other one is withdrawn')
            await bob.come(w.nodes[2])
            async with Waiting('cid', w.nodes[1]) as cid:
                assert (await cid.match('trio'))['op'] == 'queued'
                await asked_until_queued(bob, 6)
                frames = {p.name: await p.hear('matched') for p in (ann, bob, cid)}
                assert len(one_match_each(frames)) == 1 and 'lost' not in frames['ann']['players'], frames
                # whoever was told in vain is told again
                await bob.drop()
                await bob.back(w.nodes[1])
                once_more = await bob.hear('matched')
                assert {k: once_more[k] for k in ('match', 'room_id')} == \
                    {k: frames['bob'][k] for k in ('match', 'room_id')}, once_more
                room = dict(mode='join', type='duel', room_id=once_more['room_id'])
                assert (await bob.join(**room))['op'] == 'joined'
                assert (await ann.join(**room))['op'] == 'joined'
                await cid.enter(frames['cid'])
            await nothing_is_left(a)
        for p in (ann, bob):
            await p.over.close()


def main():
    wanted = sys.argv[2:]
    scenes = [(point, lambda p=point: a_matchmaker_dies(p)) for point in POINTS] + \
        [(f.__name__, f) for f in (a_matchmaker_hangs_and_comes_back, a_matchmaker_with_old_news, a_matchmaker_hangs_in_the_crowd, a_seat_cannot_be_had,
                                   a_gateway_dies)]
    for name, scene in scenes:
        if wanted and name not in wanted:
            continue
        loop = asyncio.new_event_loop()
        begun = loop.time()
        loop.run_until_complete(scene())
        print(f'ok {name} ({loop.time() - begun:.1f} s)', flush=True)
        loop.close()


if __name__ == '__main__':
    assert DEADLINE
    main()
