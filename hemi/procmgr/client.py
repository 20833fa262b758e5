"""The operator's end of cmdui: connects, proves itself, has actions run. Blocking, for programs that do little else.

    with Client.connect("127.0.0.1:9527", key) as leader:
        leader.call("reload", progress=lambda data: print(data["text"]))

Standard library only, and little of that: goroxctl must start at once.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hemi.errors import EnvError
from hemi.procmgr import keyfile
from hemi.procmgr.messages import Decoder, Message, MessageError, encode

__all__ = ["Client", "Refused"]

Progress = Callable[[dict[str, Any]], None]

CONNECT_PATIENCE = 5.0
"""Seconds for connecting and proving."""

RETRY = 0.5
"""For how long a connection that is refused is tried again: an upgrade's leaders pass the address on."""


class Refused(Exception):
    """The leader cannot do what was asked, or will not. `details` are more lines."""

    def __init__(self, message: str, details: list[str] | None = None) -> None:
        self.details = details or []
        super().__init__(message)


class Client:
    """A connection to a leader, made by `connect`. `pid` and `version` are the leader's."""

    def __init__(self, sock: socket.socket, target: str) -> None:
        self.target = target
        self.pid = 0
        self.version = ""
        self._sock = sock
        self._decoder = Decoder()
        self._arrived: list[Message] = []

    def __repr__(self) -> str:
        return f"<Client of {self.target} pid={self.pid}>"

    @classmethod
    def connect(cls, target: str, key: str, patience: float = CONNECT_PATIENCE) -> Client:
        """Connects to a target ("127.0.0.1:9527", "/run/gorox.sock") and proves itself. Raises EnvError, Refused."""
        client = cls(_dial(target, patience), target)
        try:
            client._prove(key)
        except BaseException:
            client.close()
            raise
        client._sock.settimeout(None)
        return client

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._sock.close()

    def call(
        self,
        action: str,
        args: dict[str, Any] | None = None,
        progress: Progress | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Has an action run and returns its answer.

        `seconds` is how long the leader may say nothing; default: for ever. Raises Refused, or EnvError when the
        connection breaks.
        """
        self._sock.settimeout(seconds)
        self._send({"call": action, "args": args or {}})
        while True:
            message = self._receive()
            if "progress" in message:
                if progress is not None:
                    progress(message["progress"])
            elif "answer" in message:
                answer: dict[str, Any] = message["answer"]
                return answer
            else:
                raise Refused(str(message.get("error", "?")), message.get("details"))

    def tell(self, action: str, args: dict[str, Any] | None = None) -> None:
        """Has an action begun, and returns when the leader has taken it. Raises as `call` does."""
        self._send({"tell": action, "args": args or {}})
        message = self._receive()
        if "acknowledged" not in message:
            raise Refused(str(message.get("error", "?")), message.get("details"))

    def wait_end(self, seconds: float) -> bool:
        """Waits for the leader's end; says whether it came."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv(4096):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def _prove(self, key: str) -> None:
        mine = keyfile.nonce()
        self._send({"hello": mine})
        message = self._receive()
        theirs = message.get("nonce")
        if "error" in message:
            raise Refused(str(message["error"]))
        if not isinstance(theirs, str) or not keyfile.proves(
            message.get("proof"), key, "leader", mine, theirs
        ):
            raise EnvError(
                f"who listens at {self.target} does not know the key: it is another instance, or a stranger; "
                "see --target, --top-dir and --key-file"
            )
        self._send({"proof": keyfile.prove(key, "operator", mine, theirs)})
        message = self._receive()
        if "welcome" not in message:
            raise Refused(str(message.get("error", "the leader does not let us in")))
        self.pid = int(message["welcome"])
        self.version = str(message.get("version", ""))

    def _send(self, message: Message) -> None:
        try:
            self._sock.sendall(encode(message))
        except MessageError as error:
            raise Refused(str(error)) from None
        except OSError:
            pass  # the reason can often still be read

    def _receive(self) -> Message:
        while not self._arrived:
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                raise EnvError(f"the leader at {self.target} does not answer") from None
            except OSError as error:
                raise EnvError(f"the connection to {self.target} broke: {error.strerror}") from None
            if not data:
                raise EnvError(f"{self.target} has closed the connection; is it gorox? See its log")
            try:
                self._arrived = self._decoder.feed(data)
            except MessageError as error:
                raise EnvError(f"{self.target}: {error}") from None
        return self._arrived.pop(0)


def _dial(target: str, patience: float) -> socket.socket:
    until = time.monotonic() + RETRY
    while True:
        sock = socket.socket(_family(target), socket.SOCK_STREAM)
        sock.settimeout(patience)
        try:
            sock.connect(_sockaddr(target))
            if sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername():
                raise ConnectionRefusedError  # by chance the port was ours for a moment
        except (ConnectionRefusedError, FileNotFoundError):
            sock.close()
            if time.monotonic() >= until:
                raise EnvError(
                    f"nobody listens at {target}: is gorox running? Its address is --target"
                ) from None
            time.sleep(0.05)
        except OSError as error:
            sock.close()
            raise EnvError(f"{target} cannot be reached: {error.strerror or error}") from None
        else:
            return sock


def _family(target: str) -> int:
    if "/" in target:
        return socket.AF_UNIX
    return socket.AF_INET6 if target.startswith("[") else socket.AF_INET


def _sockaddr(target: str) -> str | tuple[str, int]:
    if "/" in target:
        return target.removeprefix("unix:")
    host, _, port = target.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
