"""A whole cluster is killed, and comes back from what is on disk. Usage: recovery.py ROOMD ROOMCTL [SCENE...]"""
import asyncio
import signal
import time

from field import ledger, play, until


async def fill_all(w, f):
    for i, node in enumerate(w.nodes):
        await f.fill(node, 4, 2, f'on{i}', gateways=w.nodes)


async def nodes_back(w):
    """The same ids, with what they had on disk."""
    loop = asyncio.get_running_loop()
    names = [n.name for n in w.nodes]
    for n in w.nodes:
        n.process.wait()
        n.close()
    w.nodes[:] = [w.node(name) for name in names]
    await asyncio.gather(*(loop.run_in_executor(None, n.wait_ready) for n in w.nodes))


async def audit_after(w, f, since):
    async def all_listed():
        listed = await f.watch.values('rooms')
        return all(listed.get(a.room, {}).get('state') == 'running' for a in f.accounts)
    await until(all_listed, 'every room runs again', 60)
    print(f'   {len(f.accounts)} rooms are back {time.monotonic() - since:.1f} s after the nodes were started', flush=True)
    found = []
    for i, a in enumerate(f.accounts):
        found += a.breaches(await ledger.value_of(w.nodes[i % 3], a.room, f'auditor-{i}'))
    return found


async def all_nodes_killed(w, f):
    """kill -9 of all nodes at once; NATS lives: everything acknowledged is there again."""
    await fill_all(w, f)
    for n in w.nodes:
        n.kill()
    await asyncio.gather(*(p.end() for p in f.players))
    at = time.monotonic()
    await nodes_back(w)
    found = await audit_after(w, f, at)
    assert not found, found
    for a in f.accounts:
        assert len(f.migrated(a.room)) == 1, (a.room, f.migrated(a.room))
    print('   ' + f.total(), flush=True)


async def everything_killed(w, f):
    """kill -9 of all nodes and all nats-servers: the same, from JetStream's disks and LMDB."""
    await fill_all(w, f)
    for n in w.nodes:
        n.kill()
    for s in w.nats.servers:
        s['process'].kill()
    await asyncio.gather(*(p.end() for p in f.players))
    await f.watch.__aexit__()
    await asyncio.get_running_loop().run_in_executor(None, w.nats.restart, w.nats.servers)
    at = time.monotonic()
    await nodes_back(w)
    await f.watch.__aenter__()
    found = await audit_after(w, f, at)
    assert not found, found
    print('   ' + f.total(), flush=True)


async def stream_store_lost(w, f):
    """All nodes stop in good order, then everything NATS had is lost: the rooms come back from the nodes' LMDB alone."""
    await fill_all(w, f)
    await asyncio.gather(*(p.stop() for p in f.players))
    for n in w.nodes:
        n.kill(signal.SIGTERM)
    for n in w.nodes:
        assert await n.ended() == 0, n.logged()[-1000:]
    for s in w.nats.servers:
        s['process'].kill()
    await f.watch.__aexit__()
    await asyncio.get_running_loop().run_in_executor(None, lambda: w.nats.restart(w.nats.servers, wipe=True))
    at = time.monotonic()
    await nodes_back(w)
    await f.watch.__aenter__()
    found = await audit_after(w, f, at)
    assert not found, found
    print('   ' + f.total(), flush=True)


async def fast_restart(w, f):
    """One node is killed and started again at once: it takes its own rooms back, each once."""
    victim = w.nodes[1]
    mine = await f.fill(victim, 10, 2, 'mine', gateways=[w.nodes[0], w.nodes[2]])
    at = time.monotonic()
    victim.kill()
    victim.process.wait()
    again = w.node(victim.name)
    w.nodes[1] = again
    await asyncio.get_running_loop().run_in_executor(None, again.wait_ready)
    times = await f.served_again(mine, at)
    print(f'   slowest room served again {max(times):.2f} s after the kill', flush=True)
    found = await f.settle(w.nodes[0])
    assert not found, found
    for a in mine:
        events = f.migrated(a.room)
        assert len(events) == 1, (a.room, events)
    reasons = {f.migrated(a.room)[0][1]['reason'] for a in mine}
    print(f'   {f.total()}; {reasons}', flush=True)
    victim.close()


if __name__ == '__main__':
    play([all_nodes_killed, everything_killed, stream_store_lost, fast_restart])
