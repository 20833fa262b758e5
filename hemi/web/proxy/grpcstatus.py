"""Errors of a proxy in the words of gRPC: its clients expect HTTP's 200, and how it went in fields (gRPC over HTTP/2,
"Responses"). Without this, they tell their users of a content type that makes no sense.

Which HTTP error is which status of gRPC says its "HTTP to gRPC Status Code Mapping"; only 504 differs: there was a
deadline here, and the caller's code looks for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.web.statuses import reason_of

if TYPE_CHECKING:
    from hemi.web.errors import HTTPError
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["answer_error", "is_grpc", "status_of"]

UNKNOWN = 2

_STATUSES = {
    400: 13,  # INTERNAL
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    413: 8,  # RESOURCE_EXHAUSTED
    429: 14,  # UNAVAILABLE
    431: 8,
    502: 14,
    503: 14,
    504: 4,
    507: 8,
}


def status_of(http_status: int) -> int:
    """The status of gRPC for one of HTTP."""
    return _STATUSES.get(http_status, UNKNOWN)


def is_grpc(req: Request) -> bool:
    """Whether a client speaks gRPC."""
    return req.index.get(b"content-type", b"")[:16].lower().startswith(b"application/grpc")


def answer_error(req: Request, resp: Response, error: HTTPError) -> bool:
    """Answers a request of gRPC that failed; False when something of another answer has gone out already."""
    if resp.is_sent and not resp.stream.retract():
        return False
    resp.reset()
    resp.revisers = ()
    resp.content_type = req.index[b"content-type"].decode("latin-1")
    resp.add_header("grpc-status", str(status_of(error.status)))
    resp.add_header("grpc-message", _message(error))
    if error.close:
        resp.close = True
    resp.deliver(b"")
    return True


def _message(error: HTTPError) -> str:
    """The reason; the field has percent-encoding of its own."""
    text = error.text or reason_of(error.status)
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(one) if 0x20 <= one <= 0x7E and one != 0x25 else f"%{one:02X}" for one in data)
