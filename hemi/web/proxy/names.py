"""Names of fields that proxies treat in their own way (RFC 9110 §7.6.1, RFC 9112 §11)."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CLAIMS", "CONNECTION", "FRAMING", "passable_trailers"]

CONNECTION = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"upgrade",
    }
)
"""Fields that are about one connection, and end with it."""

FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""Fields that say where a content ends: each hop says it anew."""

CLAIMS = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-real-ip",
    }
)
"""Fields by which proxies tell of the client. From anybody but a trusted proxy they are lies until proven true."""

_NO_TRAILERS = (
    CONNECTION
    | FRAMING
    | CLAIMS
    | {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"host",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"trailer",
        b"vary",
        b"www-authenticate",
    }
)


def passable_trailers(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those of the trailers that may be passed on: who merged the others into a head would believe them (§6.5.1)."""
    return [field for field in fields if field[0] not in _NO_TRAILERS]
