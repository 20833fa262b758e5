"""The TLS channel: reads and writes like a `hemi.sockets.Channel`, encrypted. The server's side.

OpenSSL works on two memory buffers, and the channel moves the bytes between them and its raw socket. On the
socket itself OpenSSL reads every record in two calls (head, body), needs MSG_PEEK to find the site before it
starts, and cannot be told what was read before (a PROXY header). Over the buffers an exchange is one recv and
one send, at the price of copying, and each connection starts in the right context.

Laws of this module:
- The greenlet of the connection does the handshake, never the acceptor's.
- Plaintext that is here already comes before any wait for the socket.
- What OpenSSL wants to say while reading (key updates, alerts) is sent without waiting, or with the next
  data; what it piles up for a peer that takes nothing is bounded.
- Every failure of TLS is an OSError, as if the peer had gone; what a handshake failed of is in
  HandshakeFailed.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
import time
from _socket import socket as RawSocket
from contextlib import suppress
from typing import Any, NoReturn

import gevent

from hemi.sockets import Channel, DeadlinePassed
from hemi.tls import ClientCertificate, Site, SiteTable, TLSInfo, reason_of
from hemi.tlshello import HANDSHAKE, HelloReader, MalformedHello

RECORD = 16384
"""The most plaintext that a record holds: one read returns a whole record, and leaves nothing hidden in
OpenSSL."""

RAW_SIZE = RECORD + 512
"""Bytes taken from the socket at once. More would stay allocated in the buffer of each idle connection."""

BURST = 4 * RECORD
"""Plaintext bytes that are encrypted before they are sent, in a large transfer."""

FAIR_BYTES = 1 << 20
"""After so many bytes sent without waiting, the other greenlets get their turn."""

MAX_UNSENT = 65536
"""Bytes of key updates and alerts that wait for a peer that takes nothing."""

ALERT_LINGER = 1.0
"""Seconds to let a peer read why its handshake failed."""

PLAIN_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 41\r\n\r\n"
    b"plain HTTP request was sent to a TLS port"
)
"""For `handshake(plain_answer=…)`."""

_ALERT_DECODE_ERROR = b"\x15\x03\x01\x00\x02\x02\x32"
_ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x01\x00\x02\x02\x70"
_PLAIN_HTTP = re.compile(rb"[A-Z]{1,20}(?: |$)")


class HandshakeFailed(ConnectionResetError):
    """No TLS connection came about. `quiet` is set when the peer came and left without a word, as probes
    do."""

    def __init__(self, reason: str, quiet: bool = False) -> None:
        super().__init__(errno.ECONNRESET, reason)
        self.reason = reason
        self.quiet = quiet

    def __str__(self) -> str:
        return self.reason


class TLSChannel(Channel):
    """A connected socket with TLS on it. Call `handshake` first; `tls` is its TLSInfo afterwards.

    `truncated` says that the peer ended the connection without saying so in TLS: what was read last may lack
    its end.
    """

    __slots__ = (
        "_backlog",
        "_encrypt",
        "_ended",
        "_incoming",
        "_outgoing",
        "_plain",
        "_sending",
        "_ssl",
        "truncated",
    )

    def __init__(self, sock: RawSocket, write_timeout: float = 60.0) -> None:
        Channel.__init__(self, sock, write_timeout)
        self.truncated = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl: Any = None  # set when the handshake is done
        self._encrypt: Any = _not_yet
        self._plain = b""  # decrypted, not yet taken
        self._ended = False  # nothing more will come
        self._sending = False  # a greenlet waits in the middle of sending
        self._backlog = b""  # encrypted, to be sent before anything else

    @classmethod
    def over(cls, channel: Channel) -> TLSChannel:
        """Takes over the socket of a channel, which is closed to others then: for what begins without TLS."""
        new = cls(channel.sock, channel.write_timeout)
        new.deadline = channel.deadline
        channel._reader.close()
        channel._reader = None
        if channel._writer is not None:
            channel._writer.close()
            channel._writer = None
        return new

    # The handshake

    def handshake(
        self, sites: SiteTable, timeout: float = 10.0, *, received: bytes = b"", plain_answer: bytes = b""
    ) -> TLSInfo:
        """Becomes a TLS connection of the site that the client asks for, within `timeout` seconds.

        `received` is what was read from the socket already. `plain_answer` is sent to a client that talks
        plain HTTP. Raises HandshakeFailed; all that remains is to close the channel then.
        """
        before = self.deadline
        self.deadline = min(before, time.monotonic() + timeout)
        try:
            hello = self._read_hello(received, plain_answer)
            site = sites.find(hello.server_name)
            if site is None:
                self._refuse(_ALERT_UNRECOGNIZED_NAME, f'there is no site "{hello.server_name}"')
            self._incoming.write(hello.raw)
            # What SSLContext.wrap_bio calls; the SSLObject around it would cost a call more each time.
            context: Any = site.context if site.h1_context is None else site.context_for(hello.suites)
            session = context._wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._shake(session)
            self.tls = _info(session, site, hello.server_name)
        except DeadlinePassed:
            raise HandshakeFailed(f"not done within {timeout:g} seconds") from None
        except HandshakeFailed:
            raise
        except OSError as error:
            raise HandshakeFailed((error.strerror or str(error)).lower()) from None
        finally:
            self.deadline = before
        self._ssl = session
        self._encrypt = session.write
        return self.tls  # type: ignore[no-any-return]

    def _read_hello(self, received: bytes, plain_answer: bytes) -> HelloReader:
        data = received or self.sock_recv(RAW_SIZE)
        if not data:
            raise HandshakeFailed("the peer closed the connection", quiet=True)
        if data[0] != HANDSHAKE:
            if plain_answer and _PLAIN_HTTP.match(data[:21]):
                self._refuse(plain_answer, "a plain HTTP request")
            raise HandshakeFailed("the peer does not talk TLS")
        hello = HelloReader()
        try:
            while not hello.feed(data):
                data = self.sock_recv(RAW_SIZE)
                if not data:
                    raise HandshakeFailed("the peer closed the connection")
        except MalformedHello as error:
            self._refuse(_ALERT_DECODE_ERROR, str(error))
        return hello

    def _refuse(self, answer: bytes, reason: str) -> NoReturn:
        with suppress(OSError):  # a peer that has gone changes nothing of the reason
            Channel.send(self, answer)
            self.linger(ALERT_LINGER)
        raise HandshakeFailed(reason)

    def _exchange(self, end: str) -> None:
        """Sends what is there of a handshake, and takes what comes then. Raises HandshakeFailed for the end."""
        self._flush()
        Channel.wait_readable(self)  # the answer cannot be here yet
        data = self.sock_recv(RAW_SIZE)
        if not data:
            raise HandshakeFailed(end) from None
        self._incoming.write(data)

    def _shake(self, session: Any) -> None:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange("the peer closed the connection")
            except ssl.SSLError as error:
                self._refuse(self._outgoing.read(), reason_of(error))
        if session.session_reused:
            self._check_resumed(session)
        if session.version() == "TLSv1.3":
            # The client has all it needs. The ticket goes with the first answer, and saves a system call.
            self._backlog = self._outgoing.read()
        else:
            self._flush()

    def _check_resumed(self, session: Any) -> None:
        """A session that resumes brings the certificate of its first handshake, which may be over by now."""
        der = session.getpeercert(True)
        if der and ClientCertificate(der, session.getpeercert(False)).not_after < time.time():
            raise HandshakeFailed("the client certificate of the resumed session has expired")

    # Reading

    def recv(self, size: int) -> bytes:
        """Returns 1 to `size` bytes, or b"" at the end. Raises DeadlinePassed, OSError."""
        if self._plain:
            return self._take(size)
        while True:
            if self._incoming.pending:
                data = self._decrypt()
                if data:
                    if len(data) <= size:
                        return data
                    self._plain = data
                    return self._take(size)
            if self._ended:
                return b""
            try:
                raw = self.sock.recv(RAW_SIZE)
            except BlockingIOError:
                Channel.wait_readable(self)
                continue
            if raw:
                self._incoming.write(raw)
            else:
                self._ended = self.truncated = True

    def recv_waiting(self, size: int) -> bytes:
        """Like `recv`, for who expects to wait: saves a system call when nothing is here."""
        if not self._plain and not self._incoming.pending and not self._ended:
            Channel.wait_readable(self)
        return self.recv(size)

    def wait_readable(self) -> None:
        """Waits until there is something to read, or the end. Raises DeadlinePassed, OSError."""
        if not self._plain:
            self._plain = self.recv_waiting(RECORD)

    def peek(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes without taking them, or b"" at the end."""
        self.wait_readable()
        return self._plain[:size]

    def sock_recv(self, size: int) -> bytes:
        """Reads from the socket below the encryption."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                Channel.wait_readable(self)

    def _take(self, size: int) -> bytes:
        data = self._plain
        if len(data) <= size:
            self._plain = b""
            return data
        self._plain = data[size:]
        return data[:size]

    def _decrypt(self) -> bytes:
        """The next record's plaintext; b"" when there is none yet, or no more (`_ended`)."""
        try:
            data: bytes = self._ssl.read(RECORD)
            if not data:
                self._end_of_tls()
        except ssl.SSLWantReadError:
            data = b""
        except ssl.SSLZeroReturnError:
            self._end_of_tls()
            data = b""
        except ssl.SSLError as error:
            self._ended = self.truncated = True
            self._try_flush()
            raise ConnectionResetError(errno.ECONNRESET, f"tls: {reason_of(error)}") from None
        if self._outgoing.pending:
            self._try_flush()
        return data

    def _end_of_tls(self) -> None:
        self._ended = True
        self._incoming.read()  # what follows the end is nothing

    # Writing

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises DeadlinePassed when the peer takes nothing for `write_timeout`,
        OSError."""
        if len(data) > RECORD:
            self._send_large(data)
            return
        if not data:
            return  # an empty record would be legal, and of no use
        try:
            self._encrypt(data)
        except ssl.SSLError as error:
            raise _broken(error) from None
        raw = self._outgoing.read()
        if self._backlog:
            raw, self._backlog = self._backlog + raw, b""
        try:
            sent = self.sock.send(raw)
        except BlockingIOError:
            sent = 0
        if sent != len(raw):
            self._send_raw_rest(raw, sent)

    def send_pieces(self, pieces: list[bytes]) -> None:
        """Sends the pieces one after another, small ones in one record."""
        self.send(b"".join(pieces))

    def send_file(self, file: int, start: int, size: int, head: bytes = b"") -> None:
        """Sends `head`, then `size` bytes of the open file from `start`. Raises EOFError when the file is
        shorter."""
        if not size:
            self.send(head)
            return
        end = start + size
        fair = start + FAIR_BYTES
        while start < end:
            data = os.pread(file, min(end - start, BURST), start)
            if not data:
                raise EOFError(f"the file ends {end - start} bytes early")
            start += len(data)
            if head:
                data, head = head + data, b""
            self._send_burst(data)
            if start >= fair:
                gevent.sleep(0)
                fair = start + FAIR_BYTES

    def _send_large(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(data), BURST):
            if at and at % FAIR_BYTES == 0:
                gevent.sleep(0)
            self._send_burst(view[at : at + BURST])

    def _send_burst(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._encrypt(view[:RECORD]) :]
        except ssl.SSLError as error:
            raise _broken(error) from None
        self._flush()

    def _flush(self) -> None:
        """Sends all that OpenSSL has to say."""
        raw = self._outgoing.read()
        if self._backlog:
            raw, self._backlog = self._backlog + raw, b""
        if not raw:
            return
        try:
            sent = self.sock.send(raw)
        except BlockingIOError:
            sent = 0
        if sent != len(raw):
            self._send_raw_rest(raw, sent)

    def _send_raw_rest(self, raw: bytes, sent: int) -> None:
        self._sending = True
        try:
            self._send_rest(memoryview(raw)[sent:])
            while self._outgoing.pending:  # the reader's part, meanwhile
                Channel.send(self, self._outgoing.read())
        finally:
            self._sending = False

    def _try_flush(self) -> None:
        """Sends what came up while reading, as far as that goes without waiting."""
        if not self._sending:
            raw = self._backlog + self._outgoing.read()
            try:
                self._backlog = raw[self.sock.send(raw) :]
            except BlockingIOError:
                self._backlog = raw
            except OSError:
                self._backlog = b""  # the next read or write will tell
        if len(self._backlog) + self._outgoing.pending > MAX_UNSENT:
            raise ConnectionResetError(errno.ECONNRESET, "tls: the peer floods and takes no answers")

    # Ending

    def shutdown_write(self) -> None:
        """Says that no more will be sent; reading goes on."""
        if self._ssl is not None:
            with suppress(OSError):
                while self._incoming.pending:  # OpenSSL would take data for an error once it has said goodbye
                    data = self._decrypt()
                    if not data:
                        break
                    self._plain += data
                self._say_goodbye()
                self._flush()
        Channel.shutdown_write(self)

    def _say_goodbye(self) -> None:
        self._encrypt = _not_any_more
        try:
            self._ssl.shutdown()
        except ssl.SSLError:
            return  # it wants the peer's close_notify, which nobody waits for

    def close(self) -> None:
        """Says goodbye as far as that goes without waiting, and closes. Idempotent."""
        if self._reader is not None and self._ssl is not None and not self.late and not self._sending:
            with suppress(OSError):
                if self._encrypt is not _not_any_more:
                    self._say_goodbye()
                self.sock.send(self._backlog + self._outgoing.read())
        self._ended = True
        self._ssl = None
        self._encrypt = _not_any_more
        Channel.close(self)

    def reset(self) -> None:
        """Closes with a reset, so that the peer cannot take a message that was cut for a whole one."""
        self._ssl = None
        Channel.reset(self)


def _not_yet(data: Any) -> int:
    raise ConnectionAbortedError(errno.ECONNABORTED, "the TLS handshake is not done")


def _not_any_more(data: Any) -> int:
    raise BrokenPipeError(errno.EPIPE, "the TLS connection has ended")


def _broken(error: ssl.SSLError) -> OSError:
    return BrokenPipeError(errno.EPIPE, f"tls: {reason_of(error)}")


def _info(session: Any, site: Site, server_name: str) -> TLSInfo:
    certificate = None
    if site.policy.client_auth != "off":
        der = session.getpeercert(True)
        if der:
            certificate = ClientCertificate(der, session.getpeercert(False))
    return TLSInfo(
        site,
        server_name,
        session.version(),
        session.cipher()[0],
        session.selected_alpn_protocol() or "",
        session.session_reused,
        certificate,
    )
