"""Seeded nonsense at the gate: it stays up, keeps no connection, and leaks nothing. Usage: gate_fuzz.py program [seed]"""
import random
import sys

from gate_support import Server, ask, frame, run, stats, wait_for

UPGRADE = (b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
SEED = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdigit() else 20


def nonsense(chance):
    kind = chance.randrange(5)
    body = chance.randbytes(chance.choice([1, 3, 20, 400, 9000]))
    if kind == 0:
        return body
    if kind == 1:
        return b"".join(frame(chance.randbytes(chance.randint(0, 60))) for _ in range(chance.randint(1, 20)))
    request = bytearray(UPGRADE)
    if kind == 2:
        for _ in range(chance.randint(1, 3)):
            request[chance.randrange(len(request))] = chance.randrange(256)
        return bytes(request)
    if kind == 3:
        return UPGRADE + body
    frames = b""
    for _ in range(chance.randint(1, 12)):  # nearly right frames
        n = chance.randint(0, 125)
        first = chance.choice([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8a, 0x8a, chance.randrange(256)])
        frames += bytes([first, chance.choice([0x80 | n, 0x80 | n, 0x80 | n, n, 0xfe, 0xff])]) + chance.randbytes(4 + n)
    return UPGRADE + frames


def test_nonsense(program):
    chance = random.Random(SEED)
    print("seed", SEED)
    with Server(program, hello=500) as server, server.connect() as witness:
        assert ask(witness, b"hi") == b"hi"
        for i in range(1500):
            with server.connect() as s:
                data = nonsense(chance)
                try:
                    while data:
                        n = chance.randint(1, len(data))
                        s.sendall(data[:n])
                        data = data[n:]
                    if chance.random() < 0.3:
                        s.settimeout(0.002)
                        s.recv(65536)
                except OSError:
                    pass
            if i % 100 == 0:
                assert ask(witness, b"still %d" % i) == b"still %d" % i
        wait_for("all to be gone", lambda: stats(witness)["connections"] == 1)


run([test_nonsense], sys.argv[1])
