"""kill -9 at every point of a snapshot, a take-over and a move, on whoever is at it.
Usage: points.py ROOMD_FAULTS ROOMCTL [POINT...]

The process is built with the points (src/base/fault.h) and dies when a file says so. Afterwards: one owner each, everything
that was acknowledged is there, nothing twice.
"""
import asyncio
import json
import os
import sys
import time

import field
from cluster import Node, World, until

SNAPSHOT = ['snapshot_taken', 'snapshot_on_disk', 'snapshot_entry', 'snapshot_in_bucket', 'journal_purged', 'append_durable']
TAKE_OVER = ['takeover_begun', 'takeover_mark', 'takeover_marked', 'takeover_replay', 'takeover_replayed', 'takeover_resumed',
             'takeover_running']
SOURCE = ['move_still', 'move_saved', 'move_commit', 'move_committed']
TARGET = ['move_asked', 'move_told', 'takeover_begun', 'takeover_marked', 'takeover_resumed']
CASES = [('snapshot', p) for p in SNAPSHOT] + [('takeover', p) for p in TAKE_OVER] + \
    [('source', p) for p in SOURCE] + [('target', p) for p in TARGET]
ROOMS, PLAYERS = 4, 2


def mortal(w, name, path):
    """A node that dies where the file `path` says."""
    node = Node(w.roomd, name, w.urls, w.folder.name, *w.options, environ={**os.environ, 'FAULT_POINT_FILE': path})
    w.nodes.append(node)
    node.wait_ready()
    return node


async def died(node, point):
    async def dead():
        return node.process.poll() is not None
    await until(dead, f'{node.name} dies at {point}', 30)
    assert node.process.returncode == -9, (node.process.returncode, node.logged()[-2000:])


async def trigger(f, kind, rooms, owner, victim):
    """What makes the victim come to the point; the answers do not matter, and may never come."""
    if kind == 'takeover':
        owner.kill()
        return
    op = {'op': 'save'} if kind == 'snapshot' else {'op': 'migrate', 'server': victim.name if kind == 'target' else 'node-1'}
    for a in rooms:
        f.watch.publish(f'server.{owner.name}.ctl', json.dumps({**op, 'room': a.room}).encode(), '_test.nobody')


async def case(w, f, kind, point, path):
    victim = mortal(w, 'mortal', path)
    owner = {'snapshot': victim, 'source': victim}.get(kind) or w.nodes[1]
    bystander = w.nodes[0]
    gateways = [n for n in w.nodes if n is not victim]
    rooms = await f.fill(owner, ROOMS, PLAYERS, 'r', gateways=gateways)
    for p in f.players:
        p.nodes = [n for n in p.nodes if n is not victim] or p.nodes
    with open(path, 'w', encoding='ascii') as file:
        file.write(point)
    await trigger(f, kind, rooms, owner, victim)
    await died(victim, point)
    os.unlink(path)
    at = time.monotonic()

    async def play_on():
        return all(a.times and a.times[-1][0] > at for a in rooms)
    await until(play_on, 'every room acknowledges again', 40)
    for n in [victim] + ([owner] if kind == 'takeover' else []):
        w.nodes.remove(n)
        if n is not victim:
            await n.ended()
    found = await f.settle(bystander)
    assert not found, (kind, point, found)


def main():
    roomd, roomctl, *wanted = sys.argv[1:]
    for kind, point in CASES:
        if wanted and point not in wanted and kind not in wanted:
            continue
        begun = time.monotonic()
        with World(roomd, nodes=2, options=field.NODE_OPTIONS) as w:
            async def run():
                async with field.Field(w, roomctl) as f:
                    await case(w, f, kind, point, os.path.join(w.folder.name, 'die-at'))
            asyncio.run(run())
        print(f'ok {kind} {point} ({time.monotonic() - begun:.1f} s)', flush=True)


if __name__ == '__main__':
    main()
