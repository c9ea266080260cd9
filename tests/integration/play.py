"""A WebSocket client that is not ours plays on a cluster of three real nodes: rooms across nodes by relay and redirect,
exact allocation of seats, idempotent creation. Usage: play.py ROOMD"""
import asyncio
import contextlib
import sys

from cluster import Player, World


async def two_nodes_one_room(w):
    async with Player('ann', w.nodes[0]) as ann, Player('bob', w.nodes[1]) as bob, Player('cat', w.nodes[2]) as cat:
        first = await ann.join(mode='create', type='relay', room_id='arena')
        assert first['op'] == 'joined', first
        places = [first] + [await p.join(mode='join', type='relay', room_id='arena') for p in (bob, cat)]
        assert [p['op'] for p in places] == ['joined'] * 3, places
        assert {p['via'] for p in places} == {'local', 'relay'}, places
        for n in range(1, 201):
            await ann.say(op='send', room=places[0]['room'], n=n, data={'n': n})
        for other in (bob, cat):
            heard = [(await other.hear('message')) for _ in range(200)]
            assert [m['data']['n'] for m in heard] == list(range(1, 201)), 'lost or out of order'
            assert all(m['from'] == 'ann' for m in heard)
            assert [m['seq'] for m in heard] == list(range(1, 201))
        acks = [(await ann.hear('sent'))['n'] for _ in range(200)]
        assert acks == list(range(1, 201)), acks
        await bob.say(op='leave', id=99, room=places[1]['room'])
        assert (await bob.hear('left'))['reason'] == 'left'


async def redirected(w):
    async with Player('ann', w.nodes[0]) as ann:
        made = await ann.join(mode='create', type='counter', room_id='bank')
        if made['op'] == 'error':
            raise AssertionError(made)
        for node in w.nodes:
            async with Player('bob-' + node.name, node, can=('redirect',)) as bob:
                answer = await bob.join(mode='join', type='counter', room_id='bank')
                if answer['op'] == 'joined':
                    assert answer['via'] == 'local'
                    continue
                assert answer['op'] == 'redirect', answer
                owner = next(n for n in w.nodes if n.port == answer['port'])
                assert owner.name == answer['server']
                async with Player('bob-' + node.name, owner) as again:
                    joined = await again.join(mode='join', type='counter', room_id='bank', ticket=answer['ticket'])
                    assert joined['op'] == 'joined' and joined['via'] == 'local', joined
                async with Player('bob-' + node.name, owner) as thief:
                    refused = await thief.join(mode='join', type='counter', room_id='bank', ticket=answer['ticket'])
                    assert refused.get('code') == 'bad_ticket', refused


async def seats_are_exact(w):
    """100 concurrent join_or_create of a 2-seat type over three nodes: 50 full rooms."""
    async with contextlib.AsyncExitStack() as stack:
        players = [await stack.enter_async_context(Player(f'p{i}', w.nodes[i % 3])) for i in range(100)]
        answers = await asyncio.gather(*(p.join(mode='join_or_create', type='duel') for p in players))
        assert all(a['op'] == 'joined' for a in answers), [a for a in answers if a['op'] != 'joined'][:3]
        rooms = {}
        for a in answers:
            rooms[a['room_id']] = rooms.get(a['room_id'], 0) + 1
        assert len(rooms) == 50 and set(rooms.values()) == {2}, sorted(rooms.values())


async def last_seat(w):
    """A room's last seat asked for by 20 clients on three nodes is given once."""
    async with contextlib.AsyncExitStack() as stack:
        owner = await stack.enter_async_context(Player('host', w.nodes[0]))
        assert (await owner.join(mode='create', type='duel', room_id='last'))['op'] == 'joined'
        players = [await stack.enter_async_context(Player(f'q{i}', w.nodes[i % 3])) for i in range(20)]
        answers = await asyncio.gather(*(p.join(mode='join', type='duel', room_id='last') for p in players))
        assert sum(a['op'] == 'joined' for a in answers) == 1, answers
        assert {a['code'] for a in answers if a['op'] == 'error'} == {'room_full'}, answers


async def a_new_name_at_once(w):
    """20 clients on three nodes join the same new room_id at once: one room, and nobody is turned away."""
    for round_ in range(10):
        async with contextlib.AsyncExitStack() as stack:
            players = [await stack.enter_async_context(Player(f'n{round_}-{i}', w.nodes[i % 3])) for i in range(20)]
            answers = await asyncio.gather(*(p.join(mode='join_or_create', type='relay', room_id=f'new-{round_}')
                                             for p in players))
            assert all(a['op'] == 'joined' for a in answers), [a for a in answers if a['op'] != 'joined']
            assert {(a['room_id'], a['epoch']) for a in answers} == {(f'new-{round_}', answers[0]['epoch'])}, answers


async def one_room_per_create_id(w):
    for round_ in range(10):
        async with contextlib.AsyncExitStack() as stack:
            players = [await stack.enter_async_context(Player(f'c{round_}-{i}', w.nodes[i])) for i in range(3)]
            answers = await asyncio.gather(*(p.join(mode='create', type='relay', create_id=f'once-{round_}')
                                             for p in players))
            assert all(a['op'] == 'joined' for a in answers), answers
            assert len({a['room_id'] for a in answers}) == 1, answers


async def distinct_ids(w):
    """Three nodes creating 1,000 rooms each at once: 3,000 distinct ids."""
    async def make(node, k):
        ids = []
        async with Player(f'maker-{node.name}-{k}', node) as p:
            for _ in range(100):
                a = await p.join(mode='create', type='relay')
                assert a['op'] == 'joined', a
                ids.append(a['room_id'])
                await p.say(op='leave', id=1000, room=a['room'])
                await p.hear('left')
        return ids
    lists = await asyncio.gather(*(make(node, k) for node in w.nodes for k in range(10)))
    ids = [i for part in lists for i in part]
    assert len(ids) == 3000 and len(set(ids)) == 3000


async def bad_requests(w):
    async with Player('eve', w.nodes[0]) as eve:
        cases = [(dict(mode='join', type='relay', room_id='nowhere'), 'not_found'),
                 (dict(mode='join_or_create', type='chess'), 'unknown_type'),
                 (dict(mode='join', type='relay'), 'invalid'),
                 (dict(mode='join', type='re lay', room_id='x'), 'bad_frame')]
        for frame, code in cases:
            answer = await eve.join(**frame)
            assert answer.get('code') == code, (frame, answer)
        await eve.say(op='dance')
        assert (await eve.hear('error'))['code'] == 'unknown_op'
        await eve.over.ws.send('{"op":')
        assert (await eve.hear('error'))['code'] == 'bad_frame'
        await eve.say(op='send', room=77, n=1, data=1)
        assert (await eve.hear('error'))['code'] == 'not_found'
        await eve.say(op='ping', t=5)
        assert (await eve.hear('pong'))['t'] == 5


async def run(w):
    scenes = [two_nodes_one_room, redirected, seats_are_exact, last_seat, a_new_name_at_once, one_room_per_create_id,
              distinct_ids, bad_requests]
    for scene in scenes:
        await scene(w)
        print('ok', scene.__name__, flush=True)


def main():
    with World(sys.argv[1], options=('--type', 'duel=relay,max_players=2')) as w:
        asyncio.run(run(w))


if __name__ == '__main__':
    main()
