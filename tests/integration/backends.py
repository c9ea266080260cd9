"""Backend services (backend.py) as processes of their own, which end with the test."""
import asyncio
import contextlib
import os
import subprocess
import sys

from cluster import ROOT, die_with_parent

BACKEND = os.path.join(ROOT, 'tests', 'integration', 'backend.py')


class Backends:
    """Real processes; each dies with the test."""

    def __init__(self, url):
        self.url, self.processes = url, {}

    async def start(self, service, *instances, prefix=()):
        for name in instances:
            p = subprocess.Popen([sys.executable, BACKEND, self.url, service, name, *prefix], stdout=subprocess.PIPE,
                                 preexec_fn=die_with_parent)
            self.processes[f'{service}.{name}'] = p
            line = await asyncio.get_running_loop().run_in_executor(None, p.stdout.readline)
            assert line.startswith(b'ready'), line

    def signal(self, name, signum):
        os.kill(self.processes[name].pid, signum)

    def stop(self):
        for p in self.processes.values():
            p.kill()
            p.wait()
            p.stdout.close()
        self.processes = {}


@contextlib.asynccontextmanager
async def backends(w, service, *instances, prefix=()):
    b = Backends(w.urls[0])
    try:
        await b.start(service, *instances, prefix=prefix)
        yield b
    finally:
        b.stop()
