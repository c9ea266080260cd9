"""The gate's WebSocket side, seen through a foreign implementation and, for what that never sends, raw sockets."""
import asyncio
import os
import resource
import socket
import struct
import sys

try:
    import websockets
except ImportError:
    print("skipped: python3-websockets is not installed")
    sys.exit(77)

from gate_support import SANITIZED, Server, ask, read_exactly, read_rest, run, stats, wait_for

MSGPACK, JSON = "roomd.v1.msgpack", "roomd.v1.json"


def client(server, path="/ws", **more):
    return websockets.connect("ws://127.0.0.1:%d%s" % (server.port, path), **more)


def test_messages(program):
    async def talk(server):
        async with client(server, compression="deflate") as ws:  # offered and not taken
            assert ws.subprotocol is None
            await ws.send(b"\x01\x02")
            assert await ws.recv() == b"\x01\x02"
            await ws.send("text")  # the first message was binary, so answers stay binary
            assert await ws.recv() == b"text"
        async with client(server) as ws:
            await ws.send("grüße")
            assert await ws.recv() == "grüße"
        for name, message, other in [(MSGPACK, b"\x00\xff", "text"), (JSON, '{"a":1}', b"\x00")]:
            async with client(server, subprotocols=["other", name]) as ws:
                assert ws.subprotocol == name
                await ws.send(message)
                assert await ws.recv() == message
                await ws.send(other)
                assert "refused bad_frame" in str(await ws.recv())
                await ws.wait_closed()
                assert (ws.close_code, ws.close_reason) == (1003, "bad_frame")
    with Server(program) as server:
        asyncio.run(talk(server))


def test_sizes_and_fragments(program):
    async def talk(server):
        async with client(server, max_size=None) as ws:
            for n in [1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536]:
                body = b"." + os.urandom(n - 1)  # the echo server takes "!" for an order
                await ws.send(body)
                assert await ws.recv() == body, n
                await ws.send([body[:n // 3], body[n // 3:n // 2], body[n // 2:]])
                assert await ws.recv() == body, n
            await ws.send(["gr\u00fc", "", "\u00dfe"])
            assert await ws.recv() == "gr\u00fc\u00dfe".encode()
            pong = await ws.ping(b"x" * 125)
            await asyncio.wait_for(pong, 5)
            await ws.send(bytes(65537))
            assert (await ws.recv()).startswith(b"refused too_big")
            await ws.wait_closed()
            assert ws.close_code == 1009
        async with client(server) as ws:
            await ws.send("hi")
            await ws.send("!close")
            assert [await ws.recv(), await ws.recv()] == ["hi", "bye"]
            await ws.wait_closed()
            assert (ws.close_code, ws.close_reason) == (1008, "told_to")
    with Server(program) as server:
        asyncio.run(talk(server))


def test_close_by_client(program):
    async def talk(server):
        async with client(server) as ws:
            await ws.send("hi")
            await ws.recv()
            await ws.close(4000, "enough")
            assert ws.close_code == 4000
    with Server(program, talk=1) as server:
        asyncio.run(talk(server))
        server.line()
        assert server.line() == "closed client_close"


def test_ping_keeps_alive(program):
    async def talk(server):
        async with client(server) as ws:
            await ws.send("hi")
            await ws.recv()
            try:  # silent for several idle times, but its library answers pings
                await asyncio.wait_for(ws.recv(), 1.0)
                assert False
            except asyncio.TimeoutError:
                pass
            await ws.send("still")
            assert await ws.recv() == "still"
    with Server(program, idle=300) as server:
        asyncio.run(talk(server))


GOOD = {"Host": "x", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


def request(line="GET /ws HTTP/1.1", **changed):
    fields = dict(GOOD)
    for name, value in changed.items():
        fields[name.replace("_", "-")] = value
    return (line + "\r\n" + "".join("%s: %s\r\n" % f for f in fields.items() if f[1] is not None) + "\r\n").encode()


def status(server, data):
    with server.connect() as s:
        s.sendall(data)
        return read_rest(s).split(b"\r\n")[0].decode()


def test_http_errors(program):
    with Server(program) as server, server.connect() as own:
        cases = [
            (request("GET / HTTP/1.1"), "404"), (request("GET /ws/ HTTP/1.1"), "404"),
            (request("POST /ws HTTP/1.1"), "405"), (request("OPTIONS /ws HTTP/1.1"), "405"),
            (request(Upgrade=None), "426"), (request(Connection="close"), "426"),
            (request(Sec_WebSocket_Version="8"), "426"), (request(Sec_WebSocket_Version=None), "426"),
            (request(Sec_WebSocket_Key=None), "400"), (request(Sec_WebSocket_Key="dGhl"), "400"),
            (request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZ!=="), "400"),
            (request("GET /ws HTTP/1.0"), "400"), (request(Host=None), "400"),
            (b"GET /ws\r\n\r\n", "400"), (b"HELLO\r\n\r\n", "400"), (request("GET ws HTTP/1.1"), "400"),
            (b"GET /ws HTTP/1.1\r\n" + b"A: b\r\n" * 65 + b"\r\n", "431"),
            (b"GET /ws HTTP/1.1\r\nA: " + b"b" * 9000, "431"),
        ]
        for data, want in cases:
            got = status(server, data)
            assert got.startswith("HTTP/1.1 " + want), (data, got)
        assert stats(own)["http"] == len(cases)


def upgraded(server, piece=0, extra=b"", **changed):
    s = server.connect()
    data = request(**changed) + extra
    for i in range(0, len(data), piece or len(data)):
        s.sendall(data[i:i + (piece or len(data))])
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(s, 1)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head, head
    return s


def ws_frame(opcode, body=b"", fin=True, mask=True, rsv=0):
    n = len(body)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    size = bytes([bit | n]) if n < 126 else struct.pack(">BH", bit | 126, n) if n < 65536 else \
        struct.pack(">BQ", bit | 127, n)
    key = b"\x01\x02\x03\x04" if mask else b""
    masked = bytes(b ^ key[i % 4] for i, b in enumerate(body)) if mask else body
    return bytes([first]) + size + key + masked


def read_message(s):
    first, size = read_exactly(s, 2)
    if size == 126:
        (size,) = struct.unpack(">H", read_exactly(s, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", read_exactly(s, 8))
    return first & 15, read_exactly(s, size)


def test_raw(program):
    with Server(program) as server:
        with upgraded(server, extra=ws_frame(2, b"early")) as s:  # in the same packet as the request
            assert read_message(s) == (2, b"early")
        with upgraded(server, piece=1) as s:
            stream = ws_frame(2, b"abc", fin=False) + ws_frame(9, b"p") + ws_frame(0, b"def")
            for i in range(len(stream)):  # every frame split at every byte, a ping between the fragments
                s.sendall(stream[i:i + 1])
            answers = [read_message(s), read_message(s)]
            assert sorted(answers) == [(2, b"abcdef"), (10, b"p")], answers  # a ping is answered at the end of a read
            s.sendall(ws_frame(10, b"unasked"))  # a pong nobody asked for is fine
            s.sendall(b"".join(ws_frame(2, b"m%d" % i) for i in range(3000)))
            assert [read_message(s)[1] for _ in range(3000)] == [b"m%d" % i for i in range(3000)]
        bad = [
            (ws_frame(2, b"x", mask=False), 1002), (ws_frame(1, b"\xff\xfe"), 1007),
            (ws_frame(1, b"\xc3"), 1007), (ws_frame(9, bytes(126)), 1002),
            (ws_frame(9, b"x", fin=False), 1002), (ws_frame(0, b"x"), 1002), (ws_frame(2, b"x", rsv=4), 1002),
            (ws_frame(3, b"x"), 1002), (ws_frame(2, b"x", fin=False) + ws_frame(2, b"x"), 1002),
            (ws_frame(8, b"\x00"), 1002), (ws_frame(2), 1003),
            (b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"abcd+", 1009), (b"\x82\xff" + b"\xff" * 8 + b"abcd", 1002),
            (ws_frame(2, bytes(40000), fin=False) + ws_frame(0, bytes(40000)), 1009),
        ]
        for data, code in bad:
            with upgraded(server) as s:
                s.sendall(data)
                seen = []
                try:
                    while not seen or seen[-1][0] != 8:
                        seen.append(read_message(s))
                except EOFError:
                    pass
                assert seen and seen[-1][0] == 8 and len(seen[-1][1]) >= 2, (data[:20], seen)
                assert struct.unpack(">H", seen[-1][1][:2])[0] == code, (data[:20], seen)
                assert seen[0][1].startswith(b"refused "), (data[:20], seen)
                assert read_rest(s) == b""


def test_ping_flood(program):
    """Pings whose pongs are never read: the queue limit holds for them too."""
    with Server(program) as server, server.connect() as good, upgraded(server) as s:
        before = server.resident()
        s.settimeout(1)
        pings = ws_frame(9, bytes(125)) * 500
        sent = 0
        try:
            while sent < 64 << 20:
                sent += s.send(pings[sent % len(pings):])
        except (socket.timeout, ConnectionError):
            pass
        assert sent < 32 << 20
        assert server.resident() - before < 4 << 20 or SANITIZED
        assert ask(good, b"here") == b"here"


def test_idle_memory(program):
    count = 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 100:
        print("skipped: the hard limit of open files is %d" % hard)
        sys.exit(77)
    if soft != resource.RLIM_INFINITY and soft < count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, hard))
    with Server(program) as server, server.connect() as first:
        assert stats(first)["connections"] == 1  # it has said something: its hello is not waited for any more
        before = server.resident()
        kept = []
        for _ in range(count):
            s = upgraded(server)
            s.sendall(ws_frame(2, b"hi"))
            assert read_message(s) == (2, b"hi")
            kept.append(s)
        each = (server.resident() - before) / count
        print("resident bytes per idle WebSocket connection: %.0f" % each)
        assert each < 4096 or SANITIZED
        assert stats(first)["websockets"] == count
        for s in kept:
            s.close()
        wait_for("all to be gone", lambda: stats(first)["connections"] == 1)


run([test_messages, test_sizes_and_fragments, test_close_by_client, test_ping_keeps_alive, test_http_errors, test_raw,
     test_ping_flood, test_idle_memory], sys.argv[1])
