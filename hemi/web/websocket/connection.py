"""A WebSocket as apps use it: messages in blocking style, over any channel that a stream gave up.

Laws of this module:
- One greenlet receives; any may send.
- Pings are answered and closes noticed even while nobody receives: the keeper then reads ahead, a bounded bit.
- Nothing that is done for the whole (pings, the end of a stage, broadcasts) waits for a single client.
- A WebSocket ends once; `close_code` says of what: the peer's code, ours when we ended it, 1006 without a handshake.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from hemi.sockets import Channel, DeadlinePassed
from hemi.web.errors import ClientGone
from hemi.web.websocket.deflate import LEAST, Inflater, deflate
from hemi.web.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Control,
    Decoder,
    Failure,
    build_frame,
    close_payload,
    parse_close,
)
from hemi.web.websocket.outbox import Outbox

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response
    from hemi.web.websocket.keeper import Keeper
    from hemi.web.websocket.terms import WebSocketTerms

__all__ = ["WebSocket", "WebSocketClosed"]

RECV = 16384
RECV_MOST = 262144
"""How much is read at once: at first, and of a client that sends more than that."""

CONTROLS = 128
CONTROL_SECONDS = 5.0
"""More control frames than this within so many seconds are a flood. A client pings every few seconds."""

DISCARD = 1 << 20
"""Bytes that are read and dropped behind a failure, so that the client can take its reason."""

AHEAD = 64
"""Messages that are read ahead at the most while nobody receives."""

LOOK_SECONDS = 2.0
"""How often the keeper looks at each WebSocket, at least."""

ABNORMAL = 1006


class WebSocketClosed(ClientGone):
    """The WebSocket has ended, so nothing can be sent any more."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the WebSocket has ended: {code}{f' {reason}' if reason else ''}")
        self.code = code
        self.reason = reason


class WebSocket:
    """One WebSocket. Iterating it yields its messages until it ends.

    `request` is the one that opened it. `closed` says that nothing can be sent any more, `close_code` and
    `close_reason` why (RFC 6455 §7.4); the code is 0 while it is open. `subprotocol` is "" for none.
    """

    __slots__ = (
        "_active_at",
        "_ahead",
        "_arrived",
        "_channel",
        "_controls",
        "_controls_from",
        "_decoder",
        "_done",
        "_heard_at",
        "_outbox",
        "_over",
        "_patience",
        "_reading",
        "_recv",
        "_size",
        "_waiting",
        "active",
        "bits",
        "close_code",
        "close_reason",
        "closed",
        "due",
        "heard",
        "keeper",
        "pinged",
        "request",
        "response",
        "rooms",
        "state",
        "subprotocol",
        "terms",
    )

    def __init__(
        self,
        req: Request,
        resp: Response,
        channel: Channel,
        data: bytes,
        terms: WebSocketTerms,
        keeper: Keeper,
        subprotocol: str = "",
        bits: int = 0,
    ) -> None:
        self.request = req
        self.response = resp
        self.terms = terms
        self.subprotocol = subprotocol
        self.closed = False
        self.close_code = 0
        self.close_reason = ""
        self.state: Any = None
        """For the app."""
        self.rooms: Any = None
        """The rooms that it is in, for `hemi.web.websocket.rooms`."""
        self.heard = self.active = True
        """Something came, a message went either way, since the keeper looked last."""
        self.pinged = 0.0
        """When a ping went out that has no answer yet (monotonic seconds), 0 for none."""
        times = (LOOK_SECONDS, terms.ping_interval, terms.ping_timeout, terms.idle_timeout)
        self._patience = min([seconds for seconds in times if seconds])
        now = monotonic()
        self.due = now + self._patience
        """When the keeper must look next."""
        self._heard_at = self._active_at = now
        self._channel = channel
        self._recv: Any = getattr(channel, "recv_waiting", channel.recv)
        self._decoder = Decoder(terms.max_frame_size, terms.max_message_size, Inflater() if bits else None)
        self.bits = bits
        self.keeper = keeper
        self._size = RECV
        self._reading = False
        self._outbox = Outbox(channel, resp, terms.max_queue_size, self._lost)
        self._done = False
        """Nothing can be read any more."""
        self._arrived: deque[str | bytes] | None = None
        """What was read ahead."""
        self._ahead: Any = None
        self._over: Event | None = None
        self._waiting: Event | None = None
        self._controls = 0
        self._controls_from = 0.0
        req.received += len(data)
        if data:
            self._decoder.feed(data)

    def __repr__(self) -> str:
        state = f"closed {self.close_code}" if self.closed else "open"
        return f"<WebSocket {state} {self.request.path} from {self.request.src_host}>"

    def __iter__(self) -> Iterator[str | bytes]:
        while (message := self.receive()) is not None:
            yield message

    # Receiving

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Waits for the next message and returns it: str for text, bytes for binary; None when the WebSocket has ended.

        Raises TimeoutError when none comes within `timeout` seconds: the WebSocket goes on. RuntimeError when another
        greenlet is receiving.
        """
        if timeout is None:
            return self._receive()
        timer = gevent.Timeout.start_new(timeout)
        try:
            return self._receive()
        except gevent.Timeout as passed:
            if passed is not timer:
                raise
            raise TimeoutError(f"no message came within {timeout:g} seconds") from None
        finally:
            timer.close()

    def _receive(self) -> str | bytes | None:
        if self._reading:
            raise RuntimeError("another greenlet is receiving from this WebSocket")
        self._reading = True
        try:
            if self._ahead is not None or self._arrived:
                message = self._receive_ahead()
                if message is not None:
                    return message
            return self._read()
        finally:
            self._reading = False

    def _read(self) -> str | bytes | None:
        """Reads until there is a message; answers what the protocol wants answered. None at the end."""
        decoder = self._decoder
        try:
            while not self._done:
                item = decoder.next()
                if item.__class__ is str or item.__class__ is bytes:
                    self.active = True
                    return item
                if item is not None:
                    self._control(item)  # type: ignore[arg-type]
                    continue
                size = self._size
                data = self._channel.recv(size) if decoder.missing else self._recv(size)
                if len(data) == size:
                    self._size = min(size * 4, RECV_MOST)
                elif not data:
                    self._lost("the client ended the connection")
                    break
                self.heard = True
                self.request.received += len(data)
                decoder.feed(data)
        except Failure as failure:
            self._fail(failure)
        except DeadlinePassed:
            self._lost("the client did not answer in time")
        except OSError as error:
            self._lost(str(error))
        return None

    def _control(self, item: Control) -> None:
        """Does what a control frame asks for. Raises Failure."""
        opcode, payload = item
        self._controls += 1
        if self._controls > CONTROLS:
            now = monotonic()
            if now - self._controls_from < CONTROL_SECONDS:
                raise Failure(1008, "too many control frames")
            self._controls, self._controls_from = 0, now
        if opcode == PING:
            if not self.closed:
                with suppress(WebSocketClosed):
                    self._write(build_frame(PONG, payload))
        elif opcode == PONG:
            self.pinged = 0.0
        else:
            self._take_close(payload)

    def _take_close(self, payload: bytes) -> None:
        """The peer ends the WebSocket, or agrees to our ending it."""
        code, reason = parse_close(payload)
        self._finish()
        if self.closed:
            return
        self._end(code, reason)
        with suppress(ValueError, WebSocketClosed):
            # The code comes back as it came, as RFC 6455 §5.5.1 suggests.
            self._write(build_frame(CLOSE, payload[:2]), last=True)

    # Reading ahead

    def read_ahead(self) -> None:
        """Reads for an app that does not, until it does, or enough is here. The keeper's call; returns at once."""
        if not (self._reading or self._done or self._ahead is not None or self._arrived):
            self._waiting = Event()
            self._ahead = gevent.spawn(self._run_ahead)

    def _run_ahead(self) -> None:
        arrived = self._arrived = deque()
        size = 0
        try:
            while (message := self._read()) is not None:
                arrived.append(message)
                size += len(message)
                self._waiting.set()  # type: ignore[union-attr]
                # Who receives now goes on by itself.
                if self._reading or len(arrived) >= AHEAD or size >= self.terms.max_queue_size:
                    return
        finally:
            self._ahead = None
            self._waiting.set()  # type: ignore[union-attr]

    def _receive_ahead(self) -> str | bytes | None:
        """The next message of those that were read ahead; None when there is none any more."""
        while not self._arrived:
            if self._ahead is None:
                break
            self._waiting.clear()  # type: ignore[union-attr]
            self._waiting.wait()  # type: ignore[union-attr]
        return self._arrived.popleft() if self._arrived else None

    # Sending

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Sends a message, text for str and binary for bytes; waits while the client does not keep up.

        Raises WebSocketClosed when the WebSocket has ended, which is the client's business: it may be let through.
        """
        if message.__class__ is str:
            opcode, payload = TEXT, message.encode()
        elif message.__class__ is bytes:
            opcode, payload = BINARY, message
        elif isinstance(message, str):
            opcode, payload = TEXT, message.encode()
        elif isinstance(message, (bytes, bytearray, memoryview)):
            opcode, payload = BINARY, bytes(message)
        else:
            raise TypeError(f"a message must be str or bytes, not {type(message).__name__}")
        self.active = True
        if self.bits and len(payload) >= LEAST:
            self._write(build_frame(opcode, deflate(payload, self.bits), True))
        else:
            self._write(build_frame(opcode, payload))

    def ping(self, payload: bytes = b"") -> None:
        """Sends a ping with up to 125 bytes; the answer is noticed by itself. Raises WebSocketClosed, ValueError."""
        if len(payload) > 125:
            raise ValueError(f"a ping must not have more than 125 bytes, not {len(payload)}")
        self._write(build_frame(PING, payload))

    def _write(self, frame: bytes, last: bool = False) -> None:
        """Sends a frame; waits for the client, unless it is the last one. Raises WebSocketClosed."""
        if self.closed and not last:
            raise WebSocketClosed(self.close_code, self.close_reason)
        try:
            self._outbox.write(frame, not last)
        except OSError as error:
            self._lost(str(error))
            raise WebSocketClosed(self.close_code, self.close_reason) from error
        except BaseException:
            self._lost("sending was interrupted")  # in the middle of a frame, perhaps
            raise

    def offer(self, frame: bytes, most: int | None = None) -> bool:
        """Sends a whole frame without waiting. False, and nothing is sent, when more than `most` bytes would wait then,
        or when the WebSocket has ended.

        For whoever sends to many: see `hemi.web.websocket.rooms`.
        """
        self.active = True
        return not self.closed and self._outbox.offer(frame, most)

    # Ending

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Ends the WebSocket: says so, and waits up to `close_timeout` until the client agrees. Idempotent.

        Messages that the client had sent before are dropped. Raises ValueError for a code that can't be sent, and for a
        reason of more than 123 bytes.
        """
        payload = close_payload(code, reason)
        if not self.closed:
            self._end(code, reason)
            with suppress(WebSocketClosed):
                self._write(build_frame(CLOSE, payload), last=True)
        self._await_end()

    def drop(self, code: int, why: str) -> None:
        """Ends a WebSocket whose client does not keep up, and logs it. The connection is cut when the client has not
        taken what waits, and the reason behind it, within `close_timeout`."""
        self.keeper.log(self, why)
        self.go_away(code, why)

    def leave_rooms(self) -> None:
        """Leaves all rooms. Idempotent."""
        for room in list(self.rooms or ()):
            room.leave(self)

    def go_away(self, code: int, reason: str) -> None:
        """Says that the WebSocket ends, without waiting for anything. `receive` returns None when the client agrees."""
        if not self.closed:
            frame = build_frame(CLOSE, close_payload(code, reason))
            self._outbox.offer(frame)
            self._end(code, reason)

    def _await_end(self) -> None:
        """Reads on until the client has agreed to the end, for up to `close_timeout`."""
        if self._done:
            return
        if self._reading or self._ahead is not None:
            self._over = self._over or Event()
            self._over.wait(self.terms.close_timeout + 1.0)
            return
        self._reading = True
        try:
            while self._read() is not None:
                pass
        finally:
            self._reading = False

    def _end(self, code: int, reason: str) -> None:
        """Notes that the WebSocket ends, and why: the first cause counts."""
        if not self.closed:
            self.closed = True
            self.close_code, self.close_reason = code, reason
            self.due = monotonic() + self.terms.close_timeout  # the keeper cuts the connection then
            self.leave_rooms()

    def _lost(self, why: str) -> None:
        """The connection ended without a handshake."""
        self._finish()
        self._outbox.give_up()
        if not self.closed:
            self._end(ABNORMAL, why)
        with suppress(OSError):
            self._channel.cut(monotonic())

    def _fail(self, failure: Failure) -> None:
        """Ends the WebSocket for what the client did (RFC 6455 §7.1.7): says why, and reads no more of it."""
        self.keeper.note_failure(self, failure)
        if not self.closed:
            self._end(failure.code, failure.reason)
            with suppress(WebSocketClosed):
                self._write(build_frame(CLOSE, close_payload(failure.code, failure.reason)), last=True)
        self._discard()
        self._finish()

    def _discard(self) -> None:
        """Ends sending, and drops what still comes for a while: a reset would destroy the reason on its way."""
        channel = self._channel
        with suppress(OSError):
            channel.shutdown_write()
            channel.deadline = monotonic() + self.terms.close_timeout
            dropped = 0
            while dropped < DISCARD and (data := channel.recv(RECV_MOST)):
                dropped += len(data)

    def _finish(self) -> None:
        """Notes that nothing more is read."""
        self._done = True
        if self._over is not None:
            self._over.set()

    def wait_sent(self) -> None:
        """Waits until what was queued has gone out, or cannot any more, for up to `close_timeout`."""
        self._outbox.wait(self.terms.close_timeout)
        self._outbox.release()

    # Time

    def look(self, now: float) -> None:
        """Sees to what time alone brings: pings, silence, idleness, the end of waiting. The keeper's call."""
        terms = self.terms
        if self.closed:
            self._channel.cut(now)
            self.due = now + LOOK_SECONDS if self._channel.writing else math.inf
            return
        self.read_ahead()
        if self.active:
            self.active, self._active_at = False, now
        elif terms.idle_timeout and now - self._active_at >= terms.idle_timeout:
            self.go_away(1001, "nothing was said for too long")
            return
        if self.heard:
            self.heard, self.pinged, self._heard_at = False, 0.0, now
        elif self.pinged:
            if now - self.pinged >= terms.ping_timeout:
                self.keeper.log(self, "did not answer a ping")
                self._lost("the client did not answer a ping")
                return
        elif terms.ping_interval and now - self._heard_at >= terms.ping_interval:
            self.pinged = now
            self._outbox.offer(build_frame(PING, b""))
        self.due = now + self._patience
