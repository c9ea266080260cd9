"""The owner of rooms dies, or hangs and comes back. Usage: owner.py ROOMD ROOMCTL [SCENE...]"""
import asyncio
import signal
import time

from field import ledger, play, told, until, within

ROOMS, PLAYERS = 20, 5


async def killed(w, f):
    """kill -9 of the owner of 20 counter rooms with 5 players each: nothing acknowledged is lost, nothing done twice."""
    victim, bystander = w.nodes[2], w.nodes[0]
    doomed = await f.fill(victim, ROOMS, PLAYERS, 'doomed')
    steady = await f.fill(bystander, 4, 2, 'steady', gateways=w.nodes[:2])
    at = time.monotonic()
    victim.kill()
    times = await f.served_again(doomed, at)
    print('   served again after ' + told(times), flush=True)
    seats = [p for p in f.players if p.account in doomed]

    async def all_play():
        return all(any(t > at for t, _ in p.account.times) and p.heard.get('sent') for p in seats)
    await until(all_play, 'everybody plays again')
    w.nodes.remove(victim)
    found = await f.settle(bystander)
    assert not found, found
    for a in doomed:
        events = f.migrated(a.room)
        assert len(events) == 1 and events[0][1]['reason'] == 'failover', (a.room, events)
        assert events[0][1]['from'] == victim.name and events[0][1]['age_ms'] == 0, events
    assert not any(f.migrated(a.room) for a in steady), 'a room of a living node was touched'
    assert not any(a.longest_pause(at) for a in steady), 'a room of a living node changed its epoch'
    relayed = [p for p in seats if p.connections == 1]
    assert relayed and all(p.heard.get('resumed') for p in relayed), 'players of living gateways keep their session'
    assert not any(p.seats_lost for p in relayed), 'and their seat'
    assert sum(len(a.values) for a in doomed) and all(not a.doubts or a.doubts <= PLAYERS for a in doomed)
    print('   ' + f.total(), flush=True)
    # On a machine so busy that rooms nobody touched wait for half a second, a take-over may take as much longer.
    slack = max(1, 2 * max(a.longest_gap(at, at + max(times)) for a in steady))
    within(ledger.percentile(times, 50) < slack and ledger.percentile(times, 99) < 2 * slack, told(times))


async def stopped(w, f):
    """SIGSTOP of the owner for 10 s, then SIGCONT: taken over meanwhile; back, it is fenced, and nothing of it is heeded."""
    victim, bystander = w.nodes[2], w.nodes[0]
    doomed = await f.fill(victim, ROOMS, PLAYERS, 'doomed')
    at = time.monotonic()
    victim.kill(signal.SIGSTOP)
    times = await f.served_again([a for a in doomed], at)
    print('   served again after ' + told(times), flush=True)
    await asyncio.sleep(max(0, 10 - (time.monotonic() - at)))  # the fault lasts ten seconds
    victim.kill(signal.SIGCONT)

    async def fenced():
        return 'fenced' in victim.logged()
    await until(fenced, 'it says that it is fenced')

    async def back():
        try:
            return (await f.watch.ctl(victim.name, op='info'))['result']['status'] == 'up'
        except (asyncio.TimeoutError, KeyError, ValueError):
            return False
    await until(back, 'it is back')
    found = await f.settle(bystander)
    assert not found, found
    for a in doomed:
        assert len(f.migrated(a.room)) == 1, f.migrated(a.room)
    print('   ' + f.total(), flush=True)
    within(max(times) < 6, told(times))


if __name__ == '__main__':
    play([killed, stopped])
