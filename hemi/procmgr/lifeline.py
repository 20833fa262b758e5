"""The worker's end of the socketpair to its leader: asks for listening sockets, carries heartbeats and stacks.

Datagrams (SOCK_SEQPACKET) of JSON, descriptors beside them. Asking is for greenlets, one at a time; `tell` can be
called from the watchdog's thread as well, and never waits.
"""

from __future__ import annotations

import array
import json
import os
import socket
from _socket import socket as RawSocket
from typing import Any

from gevent.lock import RLock
from gevent.socket import wait_read

from hemi.binding import ListenOptions, Target
from hemi.errors import EnvError
from hemi.procmgr.listening import key_text

__all__ = ["Lifeline"]

PATIENCE = 10.0
"""Seconds that the leader has to answer."""


class Lifeline:
    """`inherited` are the descriptors of the listening sockets that came with the fork, by key."""

    def __init__(self, descriptor: int, inherited: dict[str, int]) -> None:
        # The plain class of the C module: gevent's would involve the hub, which the watchdog's thread must not.
        self.sock = RawSocket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
        self.sock.setblocking(False)
        self.inherited = dict(inherited)
        self._lock = RLock()

    def __repr__(self) -> str:
        return f"<Lifeline fd={self.sock.fileno()} inherited={len(self.inherited)}>"

    def take(
        self, key: tuple[str, str], target: Target, options: ListenOptions, owner: str = ""
    ) -> RawSocket:
        """Returns the listening socket for a key: one that was inherited, or one that the leader sends.

        Raises OSError when the leader cannot bind it.
        """
        text = key_text(key)
        descriptor = self.inherited.pop(text, None)
        if descriptor is None:
            descriptor = self._ask(key, target, options, owner)
        kind = socket.SOCK_DGRAM if target.is_datagram else socket.SOCK_STREAM
        sock = RawSocket(target.family, kind, 0, descriptor)
        sock.setblocking(False)
        return sock

    def close_rest(self) -> None:
        """Closes what was inherited and is not used: or it would listen on when the leader has closed it."""
        rest, self.inherited = self.inherited, {}
        for descriptor in rest.values():
            os.close(descriptor)

    def _ask(self, key: tuple[str, str], target: Target, options: ListenOptions, owner: str) -> int:
        request = {"listen": list(key), "owner": owner, "target": list(target), "options": list(options)}
        with self._lock:
            self.sock.send(json.dumps(request).encode())
            wait_read(self.sock.fileno(), PATIENCE, EnvError("the leader does not answer"))
            room = socket.CMSG_SPACE(array.array("i").itemsize)
            data, ancillary, _, _ = self.sock.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
        answer = json.loads(data) if data else {"error": "the leader has gone"}
        if "error" in answer:
            raise OSError(answer.get("errno") or 0, answer["error"])
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return int(array.array("i", content[:4])[0])
        raise OSError(0, "the leader sent no socket")

    def tell(self, message: dict[str, Any]) -> bool:
        """Sends a message to the leader if it can be sent at once; says whether it was. From any thread."""
        try:
            self.sock.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def is_cut(self) -> bool:
        """True when the leader has gone. From any thread."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
