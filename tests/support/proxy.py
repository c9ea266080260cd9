"""A TCP proxy in front of one address, for faults of the network between a node and NATS.

Decides what passes: everything; nothing in one direction or both, with the connections left open (black hole); or no
connection at all (cut). Works on bytes and knows no protocol. Runs in a process of its own, so that a busy test does not slow
the node down; `python3 proxy.py HOST PORT` prints its port and takes a mode per line: pass, cut, hole, in, out.
`in`: what comes from the server is swallowed; `out`: what goes to it. What was swallowed never arrives: when it passes again,
connections that lost bytes are closed.
"""
import asyncio
import subprocess
import sys


class Proxy:
    """`with Proxy('127.0.0.1', 4222, die_with_parent) as p:` - p.port, p.mode('hole')."""

    def __init__(self, host, port, die_with_parent):
        self.process = subprocess.Popen([sys.executable, __file__, host, str(port)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.port = int(self.process.stdout.readline())

    def mode(self, word):
        self.process.stdin.write(word.encode() + b'\n')
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == word.encode()

    def close(self):
        self.process.kill()
        self.process.wait()


class Relay:
    def __init__(self):
        self.mode, self.pairs = 'pass', set()

    def set(self, mode):
        self.mode = mode
        for pair in list(self.pairs):
            if mode == 'cut' or (mode == 'pass' and pair.lost):
                pair.close()


class Pair:
    def __init__(self, relay, client, server):
        self.relay, self.writers, self.lost = relay, (client, server), False

    def close(self):
        for w in self.writers:
            w.transport.abort()

    async def pump(self, reader, writer, direction):
        try:
            while data := await reader.read(65536):
                if self.relay.mode in ('hole', direction):
                    self.lost = True
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        self.close()


async def main(host, port):
    relay = Relay()

    async def serve(reader, writer):
        if relay.mode == 'cut':
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(relay, writer, up_writer)
        relay.pairs.add(pair)
        await asyncio.gather(pair.pump(reader, up_writer, 'out'), pair.pump(up_reader, writer, 'in'))
        relay.pairs.discard(pair)

    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := (await stdin.readline()).decode().strip():
        relay.set(line)
        print(line, flush=True)


if __name__ == '__main__':
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
