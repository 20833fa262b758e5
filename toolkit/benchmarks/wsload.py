"""A load of WebSockets: connections that each send a message and wait for the echo, or that do nothing.

    python -m toolkit.benchmarks.wsload PORT CONNECTIONS BYTES SECONDS

prints echoes a second and failures. Frames are made once; what comes back is counted, and looked at once a connection.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from typing import NamedTuple

KEY = b"\x37\xfa\x21\x3d"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TIMEOUT = 10.0


class Result(NamedTuple):
    """What a load came to."""

    rate: float
    failed: int


def make_frame(size: int) -> tuple[bytes, bytes]:
    """A text message as a client sends it, and as a server does."""
    text = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    if size < 126:
        length = bytes((size,))
    elif size < 65536:
        length = b"\x7e" + size.to_bytes(2)
    else:
        length = b"\x7f" + size.to_bytes(8)
    masked = bytes(byte ^ KEY[at & 3] for at, byte in enumerate(text))
    return b"\x81" + bytes((length[0] | 0x80,)) + length[1:] + KEY + masked, b"\x81" + length + text


def connect(port: int) -> socket.socket:
    """A WebSocket to a server on this machine. Raises OSError."""
    sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(HANDSHAKE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(4096)
        if not data:
            break
        answer += data
    if not answer.startswith(b"HTTP/1.1 101 "):
        sock.close()
        raise ConnectionError(f"no WebSocket: {answer[:100]!r}")
    return sock


def load(port: int, connections: int, size: int, seconds: float) -> Result:
    """Echoes as fast as the server answers."""
    frame, echo = make_frame(size)
    poll = select.epoll()
    socks = {}
    for _ in range(connections):
        sock = connect(port)
        sock.sendall(frame)
        answer = b""
        while len(answer) < len(echo):
            answer += sock.recv(len(echo) - len(answer))
        if answer != echo:
            raise ConnectionError("the echo is another message")
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    missing = dict.fromkeys(socks, len(echo))
    buffer = bytearray(262144)
    for sock in socks.values():
        sock.sendall(frame)
    done = failed = 0
    begin = now = time.perf_counter()
    while now < begin + seconds and missing:
        for fd, _ in poll.poll(1.0):
            got = socks[fd].recv_into(buffer, min(missing[fd], len(buffer)))
            if not got:
                failed += 1
                poll.unregister(fd)
                del missing[fd]
                continue
            missing[fd] -= got
            if not missing[fd]:
                done += 1
                missing[fd] = len(echo)
                socks[fd].sendall(frame)
        now = time.perf_counter()
    for sock in socks.values():
        sock.close()
    return Result(done / (now - begin), failed)


if __name__ == "__main__":
    result = load(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    print(f"{result.rate:.1f} {result.failed}")
