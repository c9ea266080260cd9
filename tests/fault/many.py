"""1,000 journalled rooms of one node that is killed. Usage: many.py ROOMD ROOMCTL"""
import asyncio
import json
import time

from field import ledger, play, until, within
from transport import Tcp

ROOMS = 1000


async def make(node, first, count):
    """Rooms by one player who adds something to each and leaves it."""
    tcp = Tcp()
    await tcp.connect(node.port)
    await tcp.send({'op': 'hello', 'v': 1, 'player': f'maker-{first}', 'can': ['relay']})

    async def hear(op):
        while (frame := await asyncio.wait_for(tcp.recv(), 20))['op'] != op:
            assert frame['op'] != 'error', frame
        return frame
    for i in range(first, first + count):
        await tcp.send({'op': 'join', 'id': i + 1, 'mode': 'create', 'type': 'counter', 'room_id': f'many-{i}'})
        room = (await hear('joined'))['room']
        await tcp.send({'op': 'send', 'room': room, 'n': i + 1, 'data': {'add': i + 1}})
        await hear('sent')
        await tcp.send({'op': 'leave', 'id': i + 1, 'room': room})
        await hear('left')
    await tcp.close()


async def thousand(w, f):
    victim = w.nodes[2]
    await asyncio.gather(*(make(victim, k * 100, 100) for k in range(ROOMS // 100)))
    at = time.monotonic()
    victim.kill()

    async def all_moved():
        return len({s.split('.')[1] for _, s, _ in f.watch.heard if s.endswith('.migrated')}) == ROOMS
    await until(all_moved, 'all rooms run again', 60)
    heard = [(t, json.loads(body)) for t, s, body in f.watch.heard if s.endswith('.migrated')]
    took = max(t for t, _ in heard) - at
    owners = [e['server'] for _, e in heard]
    print(f'   {ROOMS} rooms run again after {took:.2f} s, on {({o: owners.count(o) for o in set(owners)})}', flush=True)
    assert len(heard) == ROOMS and all(e['age_ms'] == 0 for _, e in heard)
    assert min(owners.count(n.name) for n in w.nodes[:2]) > ROOMS // 4, 'one survivor has nearly all'

    async def check(k):
        return [(i, v) for i in range(k, ROOMS, 8)
                if (v := await ledger.value_of(w.nodes[i % 2], f'many-{i}', f'auditor-{k}')) != i + 1]
    wrong = sum(await asyncio.gather(*(check(k) for k in range(8))), [])
    assert not wrong, wrong[:5]
    w.nodes.remove(victim)
    within(took < 5, took)


if __name__ == '__main__':
    play([thousand])
