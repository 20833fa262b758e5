"""A client that sends the bytes it is told and reads answers strictly: for tests of what goes over the wire."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Answer:
    """A response as it came."""

    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    content: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    head: bytes = b""

    def header(self, name: str) -> str | None:
        """The values of a field, joined by commas; None if there is none."""
        values = self.headers(name)
        return ", ".join(values) if values else None

    def headers(self, name: str) -> list[str]:
        """The values of a field, line by line."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode()


class Client:
    """A connection to a server. What blocks for more than timeout seconds raises TimeoutError."""

    def __init__(
        self,
        address: str,
        timeout: float = 10,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
    ) -> None:
        if address.startswith(("/", "@")):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        else:
            host, _, port = address.rpartition(":")
            host = host.strip("[]").replace("0.0.0.0", "127.0.0.1")
            self.socket = socket.create_connection((host if host != "::" else "::1", int(port)), timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=server_name)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        """Sends bytes (text is sent as latin-1)."""
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def request(
        self,
        method: str,
        target: str,
        *fields: str,
        content: bytes = b"",
        host: str = "localhost",
        close: bool = False,
    ) -> Answer:
        """One exchange; fields are whole lines without the line end."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
        if content:
            lines.append(f"Content-Length: {len(content)}")
        if close:
            lines.append("Connection: close")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        return self.read_answer(method)

    def read_answer(self, method: str = "GET") -> Answer:
        """Reads a final response, or an interim one if that is what comes. Raises EOFError at the end."""
        head = self.read_until(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        answer = Answer(version, int(status), reason, [_field(line) for line in lines], head=head)
        coding = (answer.header("transfer-encoding") or "").lower()
        size = answer.header("content-length")
        assert not (coding and size), f"both Transfer-Encoding and Content-Length: {head!r}"
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
            return answer
        if coding:
            assert coding == "chunked", coding
            self._read_chunks(answer)
        elif size is not None:
            answer.content = self.read_exactly(int(size))
        elif method != "CONNECT":
            answer.content = self.read_to_end()
        return answer

    def _read_chunks(self, answer: Answer) -> None:
        chunks = []
        while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
            chunks.append(self.read_exactly(size))
            assert self.read_exactly(2) == b"\r\n"
        answer.content = b"".join(chunks)
        while (line := self.read_until(b"\r\n")) != b"\r\n":
            answer.trailers.append(_field(line[:-2].decode("latin-1")))

    def read_until(self, mark: bytes) -> bytes:
        """Reads up to and with a mark. Raises EOFError."""
        while (end := self.buffer.find(mark)) < 0:
            self._more()
        data, self.buffer = self.buffer[: end + len(mark)], self.buffer[end + len(mark) :]
        return data

    def read_exactly(self, size: int) -> bytes:
        """Reads so many bytes. Raises EOFError."""
        parts = [self.buffer]
        have = len(self.buffer)
        while have < size:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the connection ended {size - have} bytes early")
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self.buffer = whole[size:]
        return whole[:size]

    def read_to_end(self) -> bytes:
        """Reads until the other side closes; a reset counts as a close."""
        parts, self.buffer = [self.buffer], b""
        try:
            while data := self.socket.recv(65536):
                parts.append(data)
        except (ConnectionResetError, ssl.SSLEOFError):
            pass
        return b"".join(parts)

    def is_closed(self) -> bool:
        """Waits for the other side to close, and says whether it did so without sending more."""
        return self.read_to_end() == b""

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the connection ended after {self.buffer!r}")
        self.buffer += data


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip(" \t")
