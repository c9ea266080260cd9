"""The gate's TCP side, seen through raw sockets."""
import random
import resource
import socket
import sys

from gate_support import (SANITIZED, Server, ask, frame, read_exactly, read_frame, read_rest, run, stats, wait_for)


def test_split_at_every_byte(program):
    with Server(program) as server, server.connect() as s:
        stream = frame(b"a") + frame(b"hello") + frame(b"x" * 300)
        for cut in range(1, len(stream)):
            s.sendall(stream[:cut])
            s.sendall(stream[cut:])
            assert read_exactly(s, len(stream)) == stream, cut
        for i in range(len(stream)):
            s.sendall(stream[i:i + 1])
        assert read_exactly(s, len(stream)) == stream


def test_many_frames_per_write(program):
    with Server(program) as server, server.connect() as s:
        chance = random.Random(1)
        for _ in range(50):
            stream = b"".join(frame(bytes([1 + i % 30]) * chance.randint(1, 900)) for i in range(200))
            s.sendall(stream)
            assert read_exactly(s, len(stream)) == stream
        big = bytes(65536)
        assert ask(s, big) == big


def test_refusals(program):
    with Server(program, talk=1, max_frame=1000) as server:
        cases = [(frame(bytes(1001)), b"too_big"), (b"\x00\x00\x00\x00", b"bad_frame"), (b"\x00\xff\xff\xff", b"too_big")]
        for sent, word in cases:
            with server.connect() as s:
                assert ask(s, b"first") == b"first"
                s.sendall(sent)
                assert read_frame(s).startswith(b"refused " + word), sent
                assert read_rest(s) == b""
            server.line()
            assert server.line() == "closed " + word.decode()
        with server.connect() as s:
            for sent in (bytes(1000), b"\x07"):
                assert ask(s, sent) == sent
            got = stats(s)
            assert (got["too_big"], got["bad"]) == (2, 1), got


def test_half_open(program):
    with Server(program, talk=1, hello=200) as server:
        with server.connect() as s:  # says nothing
            assert read_rest(s) == b""
        with server.connect() as s:  # never ends its frame
            s.sendall(b"\x00\x00\x00\x05he")
            assert read_frame(s).startswith(b"refused timeout")
            assert read_rest(s) == b""
        assert server.line().startswith("opened 127.0.0.1:")
        assert server.line() == "closed timeout"
        with server.connect() as s:  # never ends its request
            s.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
            assert read_rest(s) == b""
        with server.connect() as s, server.connect() as late:  # established: outlives the timeout
            assert ask(s, b"hi") == b"hi"
            assert read_rest(late) == b""
            assert ask(s, b"hi") == b"hi"
            assert stats(s)["hello"] == 4


def test_idle(program):
    with Server(program, talk=1, idle=200) as server:
        with server.connect() as s:
            assert ask(s, b"hi") == b"hi"
            assert read_rest(s) == b""
        server.line()
        assert server.line() == "closed idle_timeout"


def test_close_flushes(program):
    with Server(program, talk=1) as server, server.connect() as s:
        s.sendall(frame(b"one") + frame(b"!close") + frame(b"never answered"))
        assert [read_frame(s), read_frame(s)] == [b"one", b"bye"]
        assert read_rest(s) == b""
        s.close()
        server.line()
        assert server.line() == "closed told_to"


def test_slow_client(program):
    """A broadcast to one who does not read: it is dropped, memory stays bounded, its neighbour notices nothing."""
    with Server(program, talk=1) as server, server.connect() as good:
        assert ask(good, b"hi") == b"hi"
        for _ in range(5):
            before = server.resident()
            with server.connect(receive_bytes=4096) as slow:
                assert ask(slow, b"x") == b"x"
                worst, rounds = 0, 0
                while stats(good)["connections"] == 2:
                    assert ask(good, b"!flood-everyone") == b"done"
                    worst = max(worst, server.resident())
                    rounds += 1
                    assert rounds < 200
                assert worst - before < 4 << 20 or SANITIZED, (worst, before)
                try:
                    read_rest(slow)
                except OSError:
                    pass
        assert stats(good)["slow"] == 5


def test_not_reading_echo(program):
    """Who asks without reading the answers is not read from any more; it may go on when it reads again."""
    with Server(program) as server, server.connect() as good, server.connect(receive_bytes=4096) as s:
        body = frame(bytes(60000))
        before = server.resident()
        s.settimeout(0.3)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += s.send(body[sent % len(body):])
        except socket.timeout:
            pass
        assert sent < 32 << 20, sent
        assert ask(good, b"still here") == b"still here"
        assert server.resident() - before < 4 << 20 or SANITIZED
        assert stats(good)["slow"] == 0
        s.settimeout(20)
        whole = sent // len(body) * len(body)
        assert len(read_exactly(s, whole)) == whole


def turned_away(server):
    """The gate closes what it does not want at once; a client may see that before its connect() has returned."""
    try:
        with server.connect() as s:
            return read_rest(s) == b""
    except ConnectionResetError:
        return True


def test_limits(program):
    with Server(program, max_connections=3) as server:
        kept = [server.connect() for _ in range(3)]
        for s in kept:
            assert ask(s, b"in") == b"in"
        assert turned_away(server)
        assert stats(kept[0])["full"] == 1
        kept.pop().close()
        wait_for("a free place", lambda: stats(kept[0])["connections"] == 2)
        with server.connect() as s:
            assert ask(s, b"in") == b"in"
        for s in kept:
            s.close()
    with Server(program, per_address=2) as server, server.connect() as a:
        with server.connect() as b:
            assert ask(b, b"in") == b"in"
            assert turned_away(server)
        wait_for("the place to be free", lambda: stats(a)["connections"] == 1)
        with server.connect() as s:
            assert ask(s, b"in") == b"in"
        assert stats(a)["address"] == 1


def test_stop_accepting(program):
    with Server(program) as server, server.connect() as s:
        assert ask(s, b"!stop") == b"done"
        try:
            with server.connect() as late:
                assert read_rest(late) == b""
        except ConnectionRefusedError:
            pass
        assert ask(s, b"on") == b"on"


def test_coming_and_going(program):
    with Server(program) as server, server.connect() as s:
        chance = random.Random(7)
        for _ in range(2000):
            t = server.connect()
            how = chance.randrange(4)
            if how == 1:
                t.sendall(frame(b"x" * 50))
            elif how == 2:
                t.sendall(frame(b"!close"))
            elif how == 3:
                t.sendall(b"\x00\x00")
                t.shutdown(socket.SHUT_WR)
            t.close()
        wait_for("all to be gone", lambda: stats(s)["connections"] == 1)


def test_ten_thousand(program):
    count = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = count + 100
    if hard != resource.RLIM_INFINITY and hard < need:
        print("skipped: the hard limit of open files is %d" % hard)
        sys.exit(77)
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    with Server(program, max_connections=count + 10, hello=600000) as server, server.connect() as first:
        assert ask(first, b"hi") == b"hi"
        before = server.resident()
        kept = []
        for i in range(count):
            s = server.connect()
            s.sendall(frame(b"hi"))
            kept.append(s)
        for s in kept:
            assert read_frame(s) == b"hi"
        each = (server.resident() - before) / count
        print("resident bytes per idle TCP connection: %.0f" % each)
        assert each < 4096 or SANITIZED
        assert stats(first)["connections"] == count + 1
        for s in kept[::97]:
            assert ask(s, b"again") == b"again"
        for s in kept:
            s.close()
        wait_for("all to be gone", lambda: stats(first)["connections"] == 1)


run([test_split_at_every_byte, test_many_frames_per_write, test_refusals, test_half_open, test_idle,
     test_close_flushes, test_slow_client, test_not_reading_echo, test_limits, test_stop_accepting,
     test_coming_and_going, test_ten_thousand], sys.argv[1])
