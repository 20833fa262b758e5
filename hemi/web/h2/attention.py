"""What the reader of a connection waits for: its client, or its streams and writer; and how it is called from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent

if TYPE_CHECKING:
    from hemi.sockets import Channel

RECV_SIZE = 65536


class Attention:
    """The reader's. `waits` says that it waits for the streams or the writer."""

    __slots__ = ("_reader", "_receives", "waits")

    def __init__(self) -> None:
        self.waits = False
        self._receives = False
        self._reader: Any = None

    def __repr__(self) -> str:
        return f"<Attention {'waits' if self.waits else 'receives' if self._receives else 'elsewhere'}>"

    def receive(self, channel: Channel) -> bytes:
        """What has come, b"" when the reader is called. Raises OSError at the end."""
        self._reader = getcurrent()
        self._receives = True
        try:
            data = channel.recv_waiting(RECV_SIZE)
        except _LookAround:
            return b""
        finally:
            self._receives = False
        if not data:
            raise ConnectionResetError("the client has closed the connection")
        return data

    def wait(self) -> None:
        """Waits until the reader is called."""
        self._reader = getcurrent()
        self.waits = True
        try:
            get_hub().switch()
        finally:
            self.waits = False

    def call(self) -> None:
        """Has the reader look around soon, wherever it waits; from any greenlet."""
        get_hub().loop.run_callback(self._wake)

    def _wake(self) -> None:
        if self.waits:
            self.waits = False
            self._reader.switch()
        elif self._receives:
            self._receives = False
            self._reader.throw(_LookAround())


class _LookAround(Exception):
    """Thrown into the reader where it waits for the client, as something else has happened."""
