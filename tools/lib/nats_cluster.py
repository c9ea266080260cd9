"""A NATS cluster of three servers with JetStream on this machine.

Decides how the servers are configured (hung peers noticed in 2-3 s) and when they are healthy; it must not know roomd.
Standard library only. Invariant: stop() ends exactly the processes that start() started, by pid; should this process
die first, the kernel ends them.
"""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEALTHY_S = 60
STUCK_S = 15
TOO_SMALL_S = 4
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_nobody_between = urllib.request.build_opener(urllib.request.ProxyHandler({}))

CONFIG = """
server_name: {name}
host: 127.0.0.1
port: {client}
http: 127.0.0.1:{monitor}
pid_file: {dir}/pid
log_file: {dir}/log
ping_interval: "1s"
ping_max: 2
write_deadline: "2s"
jetstream {{ store_dir: {dir}/js, max_mem: 256M, max_file: 4G }}
cluster {{
  name: roomd-up
  listen: 127.0.0.1:{route}
  no_advertise: true
  routes: [{routes}]
}}
"""


def die_with_parent(signum=signal.SIGKILL):
    _libc.prctl(PR_SET_PDEATHSIG, int(signum))


def free_ports(count):
    """Ports that are free now; all held at once so that no two are the same. Another process may still grab one."""
    held = [socket.socket() for _ in range(count)]
    try:
        for s in held:
            s.bind(('127.0.0.1', 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


class Cluster:
    """Three servers under `folder`, which is emptied first. start() raises RuntimeError with the reason."""

    def __init__(self, folder, binary=None, size=3):
        self.folder = os.path.abspath(folder)
        self.binary = binary or subprocess.run([os.path.join(TOOLS, 'nats-server')], check=True,
                                               stdout=subprocess.PIPE, text=True).stdout.strip()
        self.size, self.servers = size, []

    def start(self, attempts=5):
        for left in range(attempts - 1, -1, -1):
            try:
                self._start_all()
                self._wait_healthy()
                return
            except RuntimeError:
                # A port that another process took between our look and the server's bind, or a cluster of two.
                self.stop()
                if left == 0:
                    raise

    def _start_all(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        ports = free_ports(3 * self.size)
        routes = ['nats://127.0.0.1:%d' % p for p in ports[2 * self.size:]]
        for i in range(self.size):
            folder = os.path.join(self.folder, 'nats-%d' % (i + 1))
            os.makedirs(folder)
            client, monitor, route = ports[i], ports[self.size + i], ports[2 * self.size + i]
            path = os.path.join(folder, 'nats.conf')
            with open(path, 'w', encoding='utf-8') as f:
                f.write(CONFIG.format(name='nats-%d' % (i + 1), client=client, monitor=monitor, route=route,
                                      dir=folder, routes=', '.join(routes)))
            self.servers.append({'process': self._launch(folder), 'folder': folder, 'monitor': monitor,
                                 'url': 'nats://127.0.0.1:%d' % client})

    def _launch(self, folder):
        with open(os.path.join(folder, 'out'), 'wb') as out:
            return subprocess.Popen([self.binary, '-c', os.path.join(folder, 'nats.conf')], stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=out, start_new_session=True, preexec_fn=die_with_parent)

    def restart(self, servers, wipe=False):
        """Starts servers again that have ended, with what they have on disk (`wipe`: with nothing); waits until all are well."""
        for s in servers:
            s['process'].wait()
            if wipe:
                shutil.rmtree(os.path.join(s['folder'], 'js'), ignore_errors=True)
            s['process'] = self._launch(s['folder'])
        for left in (2, 1, 0):
            try:
                self._wait_healthy(STUCK_S if left else HEALTHY_S)
                return
            except RuntimeError:
                if left == 0:
                    raise
                self._start_anew([s for s in self.servers if self._size(s) != self.size])

    def _start_anew(self, servers):
        """What an operator does with a server that came back and stays behind the meta leader for good (2.10.27)."""
        for s in servers:
            s['process'].terminate()
            s['process'].wait()
            s['process'] = self._launch(s['folder'])

    def _size(self, server):
        """How many JetStream servers it counts; 0 while it is not well or knows no leader."""
        try:
            if not self._well(self._health(server)):
                return 0
            with _nobody_between.open('http://127.0.0.1:%d/jsz' % server['monitor'], timeout=2) as r:
                meta = json.load(r).get('meta_cluster') or {}
            return meta.get('cluster_size', 0) if meta.get('leader') else 0
        except (OSError, ValueError):
            return 0

    @staticmethod
    def _well(health):
        """Nothing is wrong, or nothing but consumers in memory that went with a server: some it misses for good (2.10.27)."""
        errors = health.get('errors') or []
        return health.get('status') == 'ok' or bool(errors) and all(
            e.get('type') == 'CONSUMER' and 'consumer not found' in e.get('error', '') for e in errors)

    def _wait_healthy(self, seconds=HEALTHY_S):
        deadline, too_small = time.monotonic() + seconds, None
        while True:
            sizes = [self._size(s) for s in self.servers]
            if all(size == self.size for size in sizes):
                return
            # Servers that start at the same moment sometimes agree on a cluster without the last one, for good (2.10.27).
            too_small = (too_small or time.monotonic()) if all(sizes) else None
            if too_small and time.monotonic() - too_small > TOO_SMALL_S:
                raise RuntimeError('NATS formed a cluster of %s servers, see %s/nats-*/log' % (sizes, self.folder))
            for s in self.servers:
                if s['process'].poll() is not None:
                    raise RuntimeError('nats-server ended with %d, see %s/log and %s/out' % (
                        s['process'].returncode, s['folder'], s['folder']))
            if time.monotonic() > deadline:
                raise RuntimeError('NATS is not healthy after %d s, it says %s; see %s/nats-*/log' % (
                    seconds, [self._said(s) for s in self.servers], self.folder))
            time.sleep(0.1)

    @staticmethod
    def _health(server):
        url = 'http://127.0.0.1:%d/healthz?details=true' % server['monitor']
        try:
            with _nobody_between.open(url, timeout=2) as r:
                return json.load(r)
        except urllib.error.HTTPError as e:
            return json.load(e)

    def _said(self, server):
        try:
            return json.dumps(self._health(server))[:300]
        except (OSError, ValueError) as e:
            return str(e)

    def urls(self):
        return [s['url'] for s in self.servers]

    def stop(self):
        """Graceful first (a stream leader hands over in milliseconds), then by force."""
        for s in self.servers:
            if s['process'].poll() is None:
                s['process'].terminate()
        deadline = time.monotonic() + 10
        for s in self.servers:
            try:
                s['process'].wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                s['process'].kill()
                s['process'].wait()
        self.servers = []
