"""The server `echo_server`: sends back what it gets (RFC 862), on TCP, TLS, UDP and Unix domain sockets."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any, Literal

from gevent import get_hub

from hemi.component import prop
from hemi.listeners import Listener
from hemi.net.conn import TCPXConn
from hemi.net.listening import TCPXListening
from hemi.net.udpport import SIZE, answer_info, info_room
from hemi.server import Server
from hemi.sockets import READ
from hemi.values import Duration

__all__ = ["EchoServer"]

PIECE = 65536

BATCH = 64
"""Datagrams that are echoed before others get their turn."""

LEAST_PORT = 1024
"""Datagrams from lower ports are dropped: a forged one would have us and a service there send to each other for ever
(CVE-1999-0103)."""


class EchoServer(TCPXListening, Server, sign="echo_server"):
    """Sends back what it gets, to try out clients, networks and routers. Datagrams are echoed for "udp"; those from
    ports below 1024, and from its own, are dropped, so that no two services can be made to answer each other."""

    transports: list[Literal["tcp", "udp"]] = prop(
        ["tcp"],
        "What to listen for at each address: connections, datagrams (on paths of Unix domain sockets, too), or both.",
        least=1, inherit=False,
    )  # fmt: skip
    idle_timeout: Duration = prop("1m", "How long a client may send nothing.", least="100ms")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A file is one socket."""
        yield from super().check()
        paths = [str(one) for one in self.address if one.path and not one.path.startswith("@")]
        if len(set(self.transports)) > 1 and paths:
            yield "transports", f'must be one of them for the path "{paths[0]}"'

    def prepare(self) -> None:
        """Takes the addresses."""
        self._ports: list[_Port] = []
        super().prepare()
        if "udp" in self.transports:
            for listener in self.take_datagrams():
                self._ports.append(_Port(self, listener))

    def take_addresses(self) -> None:
        """Listens for connections, if those are wanted."""
        if "tcp" in self.transports:
            super().take_addresses()

    def start(self) -> None:
        """Begins to echo."""
        super().start()
        for port in self._ports:
            port.start()

    def stop(self, deadline: float) -> None:
        """Echoes no datagrams any more, lets connections end."""
        ports, self._ports = getattr(self, "_ports", []), []
        for port in ports:
            port.stop()
        super().stop(deadline)

    @property
    def addresses(self) -> list[str]:
        """The addresses as they were bound."""
        return super().addresses + [port.listener.bound for port in self._ports]

    def urls(self) -> list[str]:
        """The same, for people."""
        return super().addresses + [f"udp {port.listener.bound}" for port in self._ports]

    def serve(self, conn: TCPXConn) -> None:
        """Echoes until the client ends."""
        channel = conn.channel
        while True:
            channel.deadline = monotonic() + self.idle_timeout
            data = channel.recv(PIECE)
            if not data:
                break
            conn.bytes_received += len(data)
            channel.send(data)
            conn.bytes_sent += len(data)


class _Port:
    """Echoes the datagrams of a listener, in the hub."""

    def __init__(self, server: EchoServer, listener: Listener) -> None:
        self.server = server
        self.listener = listener
        self.own_port = 0 if listener.address.path else listener.sock.getsockname()[1]
        self._room = info_room(listener.sock)
        self._watcher: Any = None

    def start(self) -> None:
        """Begins to read."""
        self._watcher = get_hub().loop.io(self.listener.sock.fileno(), READ)
        self._watcher.start(self._read)

    def _read(self) -> None:
        sock = self.listener.sock
        for _ in range(BATCH):
            try:
                data, info, _flags, peer = sock.recvmsg(SIZE, self._room)
                if peer and self._may_answer(peer) and len(data) < SIZE:
                    sock.sendmsg((data,), answer_info(info), 0, peer)
                    self.server.requests += 1
            except BlockingIOError:
                return
            except OSError:
                continue  # the client has gone, or its answer is lost, as datagrams are

    def _may_answer(self, peer: Any) -> bool:
        return not isinstance(peer, tuple) or (peer[1] >= LEAST_PORT and peer[1] != self.own_port)

    def stop(self) -> None:
        """Gives the address back."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        self.listener.release()
