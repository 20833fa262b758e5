"""What can go wrong in an exchange, as exceptions that end at one place: `hemi.web.exchange`."""

from __future__ import annotations

CLIENT_LEFT = 499
"""The status that logs have for a client that left before there was an answer to it (nginx's number)."""


class HTTPError(Exception):
    """Ends the exchange with an error page of this status, unless the head has gone out already.

    `text` is shown on the page, so it must not hold secrets; `headers` go with the answer.
    `close` ends the connection behind it: the rest of the request cannot be trusted, or is not wanted.
    """

    def __init__(
        self, status: int, text: str = "", *, headers: tuple[tuple[str, str], ...] = (), close: bool = False
    ) -> None:
        super().__init__(f"{status} {text}" if text else str(status))
        self.status = status
        self.text = text
        self.headers = headers
        self.close = close


class SearchAgain(Exception):
    """The request has another path now: the webapp searches its rules for it, from the first one again."""


class ClientGone(ConnectionError):
    """The client closed, or takes or gives nothing any more: whatever is done for it can stop."""


class NotProcessed(ConnectionError):
    """A node has certainly not begun with a request, which can be sent again whatever its method (RFC 9113 §8.7)."""


class LengthMismatch(RuntimeError):
    """The handlet sent more or less content than it had promised by Content-Length."""


class AlreadySent(RuntimeError):
    """The head of the response has gone out: status and headers can't change any more."""
