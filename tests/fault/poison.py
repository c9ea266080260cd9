"""A room that crashes every node that restores it is parked after the third, and not passed on. Usage: poison.py ROOMD ROOMCTL POISON.so"""
import os
import sys

from field import NODE_OPTIONS, play, until
from cluster import Player

POISON = sys.argv.pop(3)


async def parked(w, f):
    async with Player('maker', w.nodes[0]) as p:
        await p.joined(mode='create', type='poison', room_id='bad')
    steady = await f.fill(w.nodes[4], 2, 2, 'steady', gateways=w.nodes[4:])
    answer = await f.watch.ctl(w.nodes[0].name, wait_s=15, op='save', room='bad')
    assert answer['ok'], answer
    w.nodes[0].kill()

    async def given_up():
        found = await f.watch.kv('rooms', 'bad')
        return found and found[1]['state'] == 'parked' and found[1]
    entry = await until(given_up, 'the room is parked', 60)
    dead = [n for n in w.nodes if n.process.poll() is not None]
    print(f'   parked after {len(dead) - 1} crashes: restores {entry["restores"]}', flush=True)
    assert len(dead) == 4 and entry['restores'] == 3, (dead, entry)
    w.nodes[:] = [n for n in w.nodes if n not in dead]
    async with Player('late', w.nodes[0]) as p:
        assert await p.refused(mode='join', type='poison', room_id='bad') == 'unavailable'
    assert 'room parked' in w.nodes[0].logged()
    for p in f.players:
        p.nodes = list(w.nodes)
    assert all(a.times for a in steady)


if __name__ == '__main__':
    play([parked], nodes=5, options=NODE_OPTIONS + ('--room-type', os.path.abspath(POISON)))
