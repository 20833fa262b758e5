"""Fields of responses that are attributes of the response, or the server's own business: what setting one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hemi.web import preconditions
from hemi.web.fields import check_value, content_type_line

if TYPE_CHECKING:
    from hemi.web.response import Response

__all__ = ["NO_TRAILERS", "SPECIAL"]


def _set_content_type(resp: Response, value: str) -> None:
    content_type_line(value)
    resp.content_type = value


def _set_content_length(resp: Response, value: str) -> None:
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length must be a number of bytes, not {value!r}")
    resp.content_size = int(value)


def _set_connection(resp: Response, value: str) -> None:
    if "close" in value.lower():
        resp.close = True


def _set_date(resp: Response, value: str) -> None:
    resp.has_date = True
    resp.fields.append((b"date", check_value(value)))


def _set_server(resp: Response, value: str) -> None:
    resp.has_server = True
    resp.fields.append((b"server", check_value(value)))


def _set_etag(resp: Response, value: str) -> None:
    tag = check_value(value)
    if preconditions.is_etag(tag):
        resp.etag = tag
    else:
        resp.fields.append((b"etag", tag))


def _set_upgrade(resp: Response, value: str) -> None:
    """A 426 must say what to go over to (RFC 9110 §15.5.22); nothing else may, and no version but HTTP/1.1 has it."""
    if resp.status == 426 and resp.request.version == 11:
        resp.fields += [(b"upgrade", check_value(value)), (b"connection", b"upgrade")]


def _ignore(resp: Response, value: str) -> None:
    pass


SPECIAL: dict[bytes, Callable[[Response, str], None]] = {
    b"content-type": _set_content_type,
    b"content-length": _set_content_length,
    b"connection": _set_connection,
    b"date": _set_date,
    b"server": _set_server,
    b"etag": _set_etag,
    b"transfer-encoding": _ignore,
    b"keep-alive": _ignore,
    b"proxy-connection": _ignore,
    b"upgrade": _set_upgrade,
}

NO_TRAILERS = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"cookie",
        b"expect",
        b"host",
        b"location",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"vary",
        b"www-authenticate",
    )
)
"""Fields that say how to read the message, or whom it is for, before its content (RFC 9110 §6.5.1)."""
