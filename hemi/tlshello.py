"""The first message of a TLS client, read before TLS begins: which server does it ask for?

The certificate, the demand for client certificates, the versions and the keys of session tickets all belong
to an OpenSSL context, and a context that is exchanged in OpenSSL's own SNI callback brings its certificate
only: the verify mode, the options and the ticket keys stay those of the first one (the root of
CVE-2025-23419). So the name is read here, and the connection is made from the right context from its first
byte.

Pure functions on bytes, no sockets. RFC 8446 §4.1.2 and §5.1 (RFC 5246 §7.4.1.2 has the same form), RFC 6066
§3 for the server name, RFC 7301 §3.1 for ALPN. What is malformed is refused, never guessed at.
"""

from __future__ import annotations

HANDSHAKE = 0x16
"""The type of the record that a TLS connection begins with."""

MAX_HELLO = 16384
"""Bytes of a ClientHello. Those with post-quantum keys have about 1800; one record holds this much."""

MAX_RAW = 32768
"""Bytes of all the records of a ClientHello, with their heads: a hello may come in many small records."""

_RECORD_HEAD = 5
_CLIENT_HELLO = 1
_EXT_SERVER_NAME = 0
_EXT_ALPN = 16


class MalformedHello(ValueError):
    """The bytes are no TLS ClientHello."""


class HelloReader:
    """Takes a ClientHello apart while it arrives, in whatever pieces.

    `raw` is all that was fed. When `feed` has returned True, `server_name` is known (lower case, "" when none
    was sent), and `suites`, the cipher suites in two bytes each.
    """

    __slots__ = ("_alpn", "_message", "_position", "_size", "_wanted", "raw", "server_name", "suites")

    def __init__(self) -> None:
        self.raw = bytearray()
        self.server_name = ""
        self.suites = b""
        self._alpn: bytes | None = None
        self._message = bytearray()
        self._position = 0  # in raw: where the next record begins
        self._wanted = _RECORD_HEAD  # bytes of raw that are needed to go on
        self._size = 0  # of the message, when its head is known

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes; returns True when the whole message is there. Raises MalformedHello."""
        raw = self.raw
        raw += data
        while len(raw) >= self._wanted:
            if self._take_record():
                self._parse(bytes(self._message))
                return True
        if len(raw) > MAX_RAW:
            raise MalformedHello("the ClientHello is too long")
        return False

    def _take_record(self) -> bool:
        """Takes a record, when it is there in full; returns True when the message is complete."""
        raw, begin = self.raw, self._position
        if raw[begin] != HANDSHAKE or raw[begin + 1] != 3:
            raise MalformedHello("this is no TLS handshake record")
        size = raw[begin + 3] << 8 | raw[begin + 4]
        if not 0 < size <= MAX_HELLO:
            raise MalformedHello("a record of the ClientHello is empty or too long")
        end = begin + _RECORD_HEAD + size
        if len(raw) < end:
            self._wanted = end
            return False
        self._message += raw[begin + _RECORD_HEAD : end]
        self._position = end
        self._wanted = end + _RECORD_HEAD
        message = self._message
        if not self._size and len(message) >= 4:
            if message[0] != _CLIENT_HELLO:
                raise MalformedHello("the first message is no ClientHello")
            self._size = 4 + int.from_bytes(message[1:4], "big")
            if self._size > MAX_HELLO:
                raise MalformedHello("the ClientHello is too long")
        return 0 < self._size <= len(message)

    def _parse(self, message: bytes) -> None:
        size = len(message)
        if size != self._size:
            raise MalformedHello("bytes follow the ClientHello in its record")
        at = 4 + 2 + 32  # the head, legacy_version, random
        at = _skip(message, at, 1)  # legacy_session_id
        begin, at = at + 2, _skip(message, at, 2)
        self.suites = message[begin:at]
        at = _skip(message, at, 1)  # legacy_compression_methods
        if at == size:
            return  # TLS 1.2 without extensions
        if _skip(message, at, 2) != size:
            raise MalformedHello("the extensions do not fill the ClientHello")
        at += 2
        seen = set()
        while at < size:
            if at + 4 > size:
                raise MalformedHello("an extension is cut off")
            kind = message[at] << 8 | message[at + 1]
            body = at + 4
            at = body + (message[at + 2] << 8 | message[at + 3])
            if at > size:
                raise MalformedHello("an extension is cut off")
            if kind in seen:
                raise MalformedHello("an extension occurs twice")
            seen.add(kind)
            if kind == _EXT_SERVER_NAME:
                self.server_name = _server_name(message[body:at])
            elif kind == _EXT_ALPN:
                self._alpn = message[body:at]

    def alpn(self) -> list[bytes]:
        """The protocols that the client offers, in its order of preference. Raises MalformedHello."""
        return _protocols(self._alpn) if self._alpn is not None else []


def _skip(data: bytes, at: int, width: int) -> int:
    """Where the vector at `at` ends, whose length is written in `width` bytes."""
    begin = at + width
    end = begin + int.from_bytes(data[at:begin], "big")
    if end > len(data) or begin > len(data):
        raise MalformedHello("a length in the ClientHello is wrong")
    return end


def _server_name(body: bytes) -> str:
    """The one host name of a server_name extension. RFC 6066 allows one name of a type, and one type
    exists."""
    if len(body) < 5 or _skip(body, 0, 2) != len(body) or body[2] != 0 or _skip(body, 3, 2) != len(body):
        raise MalformedHello("the server name is malformed")
    name = body[5:]
    try:
        text = name.decode("ascii").lower()
    except UnicodeDecodeError:
        raise MalformedHello("the server name is not ASCII") from None
    if not 0 < len(text) <= 255 or not text.isprintable():
        raise MalformedHello("the server name is malformed")
    return text.rstrip(".")


def _protocols(body: bytes) -> list[bytes]:
    if len(body) < 2 or _skip(body, 0, 2) != len(body):
        raise MalformedHello("the ALPN extension is malformed")
    names = []
    at = 2
    while at < len(body):
        end = _skip(body, at, 1)
        if end == at + 1:
            raise MalformedHello("the ALPN extension is malformed")
        names.append(body[at + 1 : end])
        at = end
    return names
