"""The three ways to speak to a node: WebSocket with JSON, WebSocket with msgpack, TCP with msgpack.

Decides how a frame (a dict with "op") becomes bytes and back, from the schemas alone; shares no code with the nodes. Each
transport has connect(port), send(frame), recv() -> frame or None at the end, and close().
"""
import asyncio
import contextlib
import json
import pathlib
import struct

import msgpack
import websockets

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / 'schemas'
FRAMES = {}
for path in SCHEMAS.glob('frame_*.json'):
    schema = json.loads(path.read_text(encoding='utf-8'))
    FRAMES[schema['properties']['op']['const']] = (schema['x-op'], schema['x-order'])
NAMES = {number: (op, order) for op, (number, order) in FRAMES.items()}


def pack(frame):
    """A frame as the positional array of schemas/README.md."""
    number, order = FRAMES[frame['op']]
    unknown = set(frame) - set(order) - {'op'}
    assert not unknown, unknown
    return msgpack.packb([number] + [frame.get(name) for name in order])


def unpack(data):
    number, *fields = msgpack.unpackb(data)
    op, order = NAMES[number]
    return {'op': op, **{name: value for name, value in zip(order, fields) if value is not None}}


class WebSocketJson:
    subprotocol = 'roomd.v1.json'

    async def connect(self, port):
        self.ws = await websockets.connect(f'ws://127.0.0.1:{port}/ws', subprotocols=[self.subprotocol],
                                           ping_interval=None, max_size=None)

    async def send(self, frame):
        await self.ws.send(json.dumps(frame))

    async def recv(self):
        try:
            return json.loads(await self.ws.recv())
        except websockets.ConnectionClosed:
            return None

    async def close(self):
        await self.ws.close()


class WebSocketMsgpack(WebSocketJson):
    subprotocol = 'roomd.v1.msgpack'

    async def send(self, frame):
        await self.ws.send(pack(frame))

    async def recv(self):
        try:
            return unpack(await self.ws.recv())
        except websockets.ConnectionClosed:
            return None


class ReadToTheEnd(asyncio.StreamReader):
    """A reset ends the stream behind what came before it, as the kernel has it; asyncio's own would hide that."""

    def set_exception(self, exc):
        self.feed_eof()


class Tcp:
    async def connect(self, port):
        loop = asyncio.get_running_loop()
        self.reader = ReadToTheEnd()
        transport, protocol = await loop.create_connection(lambda: asyncio.StreamReaderProtocol(self.reader), '127.0.0.1', port)
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)

    async def send(self, frame):
        await self.send_bytes(pack(frame))

    async def send_bytes(self, body):
        self.writer.write(struct.pack('>I', len(body)) + body)
        with contextlib.suppress(ConnectionError):  # recv() tells of the end, once it gave out what came before it
            await self.writer.drain()

    async def recv(self):
        try:
            size, = struct.unpack('>I', await self.reader.readexactly(4))
            return unpack(await self.reader.readexactly(size))
        except asyncio.IncompleteReadError:
            return None

    async def close(self):
        self.writer.close()


TRANSPORTS = (WebSocketJson, WebSocketMsgpack, Tcp)
