"""Starts the echo server of the gate and talks TCP frames to it. The server dies with this process."""
import json
import select
import socket
import struct
import subprocess
import sys
import time

DEADLINE = 20.0
SANITIZED = "sanitize" in sys.argv[2:]  # the address sanitizer keeps freed memory, so resident bytes say nothing


def frame(body):
    return struct.pack(">I", len(body)) + body


class Server:
    def __init__(self, program, **options):
        args = [program]
        for name, value in options.items():
            args += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().split()[1])

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        output = self.stop()
        if kind is None:
            assert self.process.returncode == 0, (self.process.returncode, output)
            assert "left 0" in output, output

    def stop(self):
        self.process.stdin.close()
        output = self.process.stdout.read().decode()
        self.process.wait(DEADLINE)
        return output

    def line(self):
        return self.process.stdout.readline().decode().strip()

    def resident(self):
        with open("/proc/%d/statm" % self.process.pid) as f:
            return int(f.read().split()[1]) * 4096

    def connect(self, receive_bytes=0):
        s = socket.socket()
        if receive_bytes:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        s.settimeout(DEADLINE)
        s.connect(("127.0.0.1", self.port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return data


def read_frame(s):
    (n,) = struct.unpack(">I", read_exactly(s, 4))
    return read_exactly(s, n)


def read_rest(s):
    """All up to the end of the stream; a reset counts as the end."""
    data = b""
    try:
        while True:
            more = s.recv(65536)
            if not more:
                return data
            data += more
    except ConnectionResetError:
        return data


def ask(s, body):
    s.sendall(frame(body))
    return read_frame(s)


def stats(s):
    return json.loads(ask(s, b"!stats"))


def wait_for(what, condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited too long: " + what
        select.select([], [], [], 0.01)


def run(tests, program):
    for test in tests:
        start = time.monotonic()
        test(program)
        print("ok %s (%.1f s)" % (test.__name__, time.monotonic() - start), flush=True)
