"""A load of connections that no ready-made program makes: through a SOCKS5 proxy or directly, from some processes.

    python -m toolkit.benchmarks.dialer bulk HOST:PORT --via HOST:PORT --conns 1 --seconds 2
    python -m toolkit.benchmarks.dialer new HOST:PORT --conns 32 --seconds 2
    python -m toolkit.benchmarks.dialer source HOST:PORT

`source` listens, and sends as fast as it can to whoever connects. `bulk` receives as fast as it can and prints bytes
a second: the kernel drops what it received (MSG_TRUNC), so that nothing is copied here. `new` makes a connection,
sends a request, reads to the end and begins anew; it prints connections a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import struct
import sys
import time
from typing import NoReturn

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PIECE = 1 << 20
PATIENCE = 10.0
"""Seconds after which a connection counts as failed."""


def main(arguments: list[str]) -> int:
    """Runs the load and prints one figure, and how many connections failed."""
    options = _parse(arguments)
    if options.what == "source":
        _serve(_address(options.target))
    target, via = _address(options.target), _address(options.via) if options.via else None
    children = [_spawn(options.what, target, via, options.seconds) for _ in range(options.conns)]
    done = failed = 0
    for pid, pipe in children:
        with open(pipe, "rb") as answer:
            one, errors = struct.unpack("QQ", answer.read(16))
        os.waitpid(pid, 0)
        done, failed = done + one, failed + errors
    print(f"{done / options.seconds} {failed}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dialer")
    parser.add_argument("what", choices=["bulk", "new", "source"])
    parser.add_argument("target")
    parser.add_argument("--via")
    parser.add_argument("--conns", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    return parser.parse_args(arguments)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _spawn(
    what: str, target: tuple[str, int], via: tuple[str, int] | None, seconds: float
) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        run = _bulk if what == "bulk" else _new
        os.write(writing, struct.pack("QQ", *run(target, via, time.monotonic() + seconds)))
        code = 0
    finally:
        os._exit(code)


def _dial(target: tuple[str, int], via: tuple[str, int] | None) -> socket.socket:
    sock = socket.create_connection(via or target, PATIENCE)
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
    if via is not None:
        sock.sendall(b"\5\1\0")
        if sock.recv(2) != b"\5\0":
            raise OSError("the proxy wants a login")
        sock.sendall(b"\5\1\0\1" + socket.inet_aton(target[0]) + struct.pack("!H", target[1]))
        if sock.recv(10)[:2] != b"\5\0":
            raise OSError("the proxy refuses")
    return sock


def _bulk(target: tuple[str, int], via: tuple[str, int] | None, end: float) -> tuple[int, int]:
    done, drain = 0, bytearray(PIECE)
    try:
        with _dial(target, via) as sock:
            while time.monotonic() < end:
                size = sock.recv_into(drain, PIECE, socket.MSG_TRUNC)
                if not size:
                    return done, 1
                done += size
    except OSError:
        return done, 1
    return done, 0


def _new(target: tuple[str, int], via: tuple[str, int] | None, end: float) -> tuple[int, int]:
    done = failed = 0
    while time.monotonic() < end:
        try:
            with _dial(target, via) as sock:
                sock.sendall(REQUEST)
                whole = b""
                while data := sock.recv(4096):
                    whole += data
            done += whole.startswith(b"HTTP/1.1 200")
            failed += not whole.startswith(b"HTTP/1.1 200")
        except OSError:
            failed += 1
    return done, failed


def _serve(address: tuple[str, int]) -> NoReturn:
    """Sends to each connection, from a process of its own, until it breaks."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    listening, piece = socket.create_server(address, backlog=64), bytes(PIECE)
    while True:
        sock, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            with contextlib.suppress(OSError):
                while True:
                    sock.sendall(piece)
            os._exit(0)
        sock.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
