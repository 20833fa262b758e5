"""admConn, the leader's end: workers dial it on 127.0.0.1, show the key they were forked with, and take orders.

Messages from a worker: `{"hello": KEY}` first; `{"event": NAME, …}`; `{"answer": ID, "result": {…}}` or
`{"answer": ID, "error": TEXT, "details": […]}`; `{"progress": ID, …}`. Messages to a worker: `{"order": NAME,
"id": ID, "args": {…}}`. A key is good for one connection.
"""

from __future__ import annotations

import hmac
import itertools
import selectors
import socket
from collections.abc import Callable
from typing import Any

from hemi.procmgr.framedconn import FramedConn
from hemi.procmgr.loop import Loop
from hemi.procmgr.messages import Message

__all__ = ["AdmConn", "Call", "Door"]

MOST_STRANGERS = 32
"""How many connections that have not shown a key may be open."""


class Call:
    """An order under way. `done` turns true with the answer, or when the worker has gone."""

    def __init__(self, progress: Callable[[Message], None] | None) -> None:
        self.done = False
        self.result: dict[str, Any] = {}
        self.error = ""
        self.details: list[str] = []
        self.progress = progress

    def __repr__(self) -> str:
        return f"<Call {'failed: ' + self.error if self.error else 'done' if self.done else 'under way'}>"

    def end(self, result: dict[str, Any], error: str = "", details: list[str] | None = None) -> None:
        """Notes the answer."""
        self.done = True
        self.result, self.error, self.details = result, error, details or []


class AdmConn:
    """The connection to a worker."""

    def __init__(
        self, conn: FramedConn, event: Callable[[Message], None], ended: Callable[[str], None]
    ) -> None:
        self._conn = conn
        self._event = event
        self._ended = ended
        self._ids = itertools.count(1)
        self._calls: dict[int, Call] = {}
        conn.received = self._received
        conn.ended = self._end

    def __repr__(self) -> str:
        return f"<AdmConn {'open' if self._conn.open else 'closed'} calls={len(self._calls)}>"

    def order(
        self, name: str, args: dict[str, Any] | None = None, progress: Callable[[Message], None] | None = None
    ) -> Call:
        """Gives an order; the call tells when it has been carried out."""
        call = Call(progress)
        number = next(self._ids)
        self._calls[number] = call
        self._conn.send({"order": name, "id": number, "args": args or {}})
        if not self._conn.open:
            call.end({}, "the worker has gone")
        return call

    def drain(self) -> None:
        """Takes what a worker that has ended said last, then closes."""
        self._conn.drain()
        self.close()

    def close(self) -> None:
        """Ends the connection; the worker stops when it sees that."""
        self._conn.close("closed by the leader")

    def _received(self, message: Message) -> None:
        if "event" in message:
            self._event(message)
        elif "progress" in message:
            call = self._calls.get(message["progress"])
            if call is not None and call.progress is not None:
                call.progress(message)
        elif "answer" in message:
            call = self._calls.pop(message["answer"], None)
            if call is not None:
                call.end(message.get("result") or {}, message.get("error") or "", message.get("details"))

    def _end(self, reason: str) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end({}, "the worker has gone")
        self._ended(reason)


class Door:
    """Where workers dial in. `find(key_matches)` returns the child whose key is shown, or None."""

    def __init__(
        self,
        loop: Loop,
        welcome: Callable[[FramedConn, Callable[[str], bool]], bool],
        complain: Callable[[str], None],
    ) -> None:
        self.loop = loop
        self.welcome = welcome
        self.complain = complain
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.sock.setblocking(False)
        self.strangers: set[FramedConn] = set()
        loop.watch(self.sock, selectors.EVENT_READ, self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Where to dial."""
        host, port = self.sock.getsockname()
        return host, port

    def close(self) -> None:
        """Lets nobody in any more."""
        self.loop.unwatch(self.sock)
        self.sock.close()
        for conn in list(self.strangers):
            conn.close("the leader stops")

    def _accept(self) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError:
            return
        if len(self.strangers) >= MOST_STRANGERS:
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        holder: list[FramedConn] = []

        def received(message: Message) -> None:
            self._greet(holder[0], message)

        def ended(reason: str) -> None:
            self.strangers.discard(holder[0])

        holder.append(FramedConn(self.loop, sock, received, ended))
        self.strangers.add(holder[0])

    def _greet(self, conn: FramedConn, message: Message) -> None:
        shown = message.get("hello")
        self.strangers.discard(conn)
        if not isinstance(shown, str) or not self.welcome(conn, lambda key: _same(key, shown)):
            self.complain("somebody without a key dialled admConn")
            conn.close("wrong key")


def _same(key: str, shown: str) -> bool:
    return hmac.compare_digest(key.encode(), shown.encode("utf-8", "replace"))
