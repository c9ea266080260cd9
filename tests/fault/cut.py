"""A node is cut off from NATS while its players can still reach it. Usage: cut.py ROOMD ROOMCTL [SCENE...]"""
import asyncio
import os
import sys
import time

from field import Field, NODE_OPTIONS, told, until
from cluster import World, die_with_parent
from proxy import Proxy


async def scene(w, f, mode, proxies):
    victim, bystander = w.nodes[2], w.nodes[0]
    doomed = await f.fill(victim, 6, 3, 'doomed')
    at = time.monotonic()
    for p in proxies:
        p.mode(mode)
    times = await f.served_again(doomed, at)
    print(f'   {mode}: served again after ' + told(times), flush=True)
    direct = [p for p in f.players if p.nodes[0] is victim and p.connections == 1]

    async def are_told():
        return all(p.heard.get('paused') for p in direct)
    await until(are_told, 'the players on the cut-off node are told')
    for p in proxies:
        p.mode('pass')

    async def back():
        try:
            return (await f.watch.ctl(victim.name, op='info'))['result']['status'] == 'up'
        except (asyncio.TimeoutError, KeyError, ValueError):
            return False
    await until(back, 'it is back', 30)

    async def play_on():
        return all(p.heard.get('resumed') for p in direct)
    await until(play_on, 'the players on that node play on, over the same connection')
    found = await f.settle(bystander)
    assert not any(p.connections > 1 or p.seats_lost for p in direct), 'they keep session and seat'
    assert not found, found
    for a in doomed:
        assert len(f.migrated(a.room)) == 1, (a.room, f.migrated(a.room))
    print('   ' + f.total(), flush=True)


def main():
    roomd, roomctl, *modes = sys.argv[1:]
    for mode in modes or ('cut', 'hole', 'in', 'out'):
        begun = time.monotonic()
        with World(roomd, nodes=2, options=NODE_OPTIONS) as w:
            proxies = [Proxy('127.0.0.1', int(u.rsplit(':', 1)[1]), die_with_parent) for u in w.urls]
            try:
                async def run():
                    await w.add('node-3', '--nats', ','.join(f'nats://127.0.0.1:{p.port}' for p in proxies))
                    async with Field(w, roomctl) as f:
                        await scene(w, f, mode, proxies)
                asyncio.run(run())
            finally:
                for p in proxies:
                    p.close()
        print(f'ok {mode} ({time.monotonic() - begun:.1f} s)', flush=True)


if __name__ == '__main__':
    assert os.path.exists(sys.argv[1]), 'usage: cut.py ROOMD ROOMCTL [cut|hole|in|out...]'
    main()
