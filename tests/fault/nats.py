"""Each nats-server in turn is killed, frozen and stopped while rooms are played in. Usage: nats.py ROOMD ROOMCTL [SCENE...]"""
import asyncio
import signal
import time

from field import TooSlow, play, until, within
from cluster import die_with_parent
from witness import Witness


async def fault(f, accounts, what, server, begin, end):
    """No room changes its owner, and every room acknowledges again, at the epoch it had."""
    lasts_s = 12 if what == 'frozen' else 9  # longer than an election may take
    at = time.monotonic()
    begin()

    async def again():
        return all(a.times[-1][0] > at + lasts_s for a in accounts)
    await until(again, f'all rooms acknowledge again after server {server} was {what}', 60)
    gaps = []
    for a in accounts:
        times = [at] + [t for t, _ in a.times if t > at]
        gaps.append(max(b - a for a, b in zip(times, times[1:])))
    print(f'   nats-{server + 1} {what}: longest pause {max(gaps) * 1000:.0f} ms, shortest {min(gaps) * 1000:.0f} ms',
          flush=True)
    try:
        await asyncio.get_running_loop().run_in_executor(None, end)  # they play on while it comes back
    except RuntimeError as e:  # a NATS server that does not find its way back within a minute is NATS's matter
        raise TooSlow(e) from e


async def each_server(w, f):
    accounts = await f.fill(w.nodes[0], 6, 2, 'a') + await f.fill(w.nodes[1], 6, 2, 'b')
    epochs = {a.room: a.times[-1][1] for a in accounts}
    with Witness(w.nodes[2], die_with_parent) as seen:  # two players in a room that nothing is kept of
        for i, s in enumerate(w.nats.servers):
            await fault(f, accounts, 'killed', i, s['process'].kill, lambda s=s: w.nats.restart([s]))
            await fault(f, accounts, 'frozen', i, lambda s=s: s['process'].send_signal(signal.SIGSTOP),
                        lambda s=s: s['process'].send_signal(signal.SIGCONT))
            await fault(f, accounts, 'stopped', i, s['process'].terminate, lambda s=s: w.nats.restart([s]))
    print(f'   meanwhile in a `none` room: {seen.report["messages"]} messages, longest pause {seen.report["max_ms"]:.0f} ms')
    found = await f.settle(w.nodes[0])
    assert not found, found
    for a in accounts:
        assert {epoch for _, epoch in a.times} == {epochs[a.room]}, f'{a.room} changed its owner'
        assert not f.migrated(a.room), f.migrated(a.room)
    assert not any(p.seats_lost or p.connections > 1 for p in f.players), 'nobody lost a seat or a connection'
    print('   ' + f.total(), flush=True)
    within(seen.report['max_ms'] < 1000, seen.report)


if __name__ == '__main__':
    play([each_server])
