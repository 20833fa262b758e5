"""Cookies: the Cookie field of a request read, the Set-Cookie field of a response made.

RFC 6265bis. Reading is as lenient as browsers and frameworks are, making is strict.

Quoting: a value of cookie octets goes out as it is. Any other value goes out in double quotes with octal
escapes, ``"a\\073b"``: what Python's http.cookies writes, and what Django, Werkzeug and Starlette read. It
keeps every text whole, and what is on the wire is always plain ASCII without a separator.
"""

from __future__ import annotations

import re
from typing import Literal

from hemi.web.dates import format_date

SameSite = Literal["strict", "lax", "none"]

MAX_COOKIES = 1000
"""The most pairs that `parse_cookies` looks at."""

_BAD = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPE = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)


def parse_cookies(value: bytes | str, most: int = MAX_COOKIES) -> dict[str, str]:
    """The cookies of a Cookie field (several joined with ``; ``), in order.

    Of two with one name the first counts: browsers send the one of the longer path first. Pairs without
    a name or with controls are skipped; quotes around a value are removed. Text is UTF-8, bad bytes become
    U+FFFD. Only space and tab are stripped, as browsers do: whoever strips more turns ``\\xa0__Host-id``
    into a name that browsers protect.
    """
    raw = value.encode("latin-1", "replace") if isinstance(value, str) else value
    cookies: dict[str, str] = {}
    for pair in raw.split(b";", most)[:most]:
        name, equals, content = pair.partition(b"=")
        name = name.strip(b" \t")
        if not equals or not name or _BAD.search(pair) is not None:
            continue
        content = content.strip(b" \t")
        if len(content) > 1 and content[:1] == content[-1:] == b'"':
            content = content[1:-1]
            if b"\\" in content:
                content = _ESCAPE.sub(_unescape, content)
        cookies.setdefault(name.decode("utf-8", "replace"), content.decode("utf-8", "replace"))
    return cookies


def _unescape(match: re.Match[bytes]) -> bytes:
    octal, char = match.groups()
    return bytes((int(octal, 8),)) if octal else char


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")  # RFC 6265bis §4.1.1: cookie-octet
_NOT_PLAIN = re.compile(rb"[^\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]")
_PATH = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_SAME_SITES: dict[str, bytes] = {"strict": b"Strict", "lax": b"Lax", "none": b"None"}

MAX_COOKIE_SIZE = 4096
"""Bytes of name and value together that browsers keep (RFC 6265bis §5.6)."""


def build_cookie(
    name: str,
    value: str,
    *,
    path: str | None = "/",
    domain: str | None = None,
    expires: float | None = None,
    max_age: int | None = None,
    secure: bool = False,
    http_only: bool = True,
    same_site: SameSite | None = "lax",
    partitioned: bool = False,
) -> bytes:
    """The value of a Set-Cookie field.

    `expires` is in Unix seconds, `max_age` in seconds. Raises ValueError for whatever browsers would refuse
    or read differently: bad characters, a cookie too large, ``SameSite=None`` or Partitioned without Secure,
    a broken rule of the prefixes ``__Secure-``, ``__Host-``, ``__Http-`` and ``__Host-Http-``.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"a cookie name must be a token, not {name!r}")
    pair = name.encode() + b"=" + quote_value(value)
    if len(pair) - 1 > MAX_COOKIE_SIZE:
        raise ValueError(f"a cookie must not be larger than {MAX_COOKIE_SIZE} bytes: {name!r}")
    if path is not None and (len(path) > 1024 or _PATH.fullmatch(path) is None):
        raise ValueError(f"a cookie path must start with / and have no controls or semicolons: {path!r}")
    if domain is not None and (len(domain) > 254 or _DOMAIN.fullmatch(domain) is None):
        raise ValueError(f"a cookie domain must be a host name: {domain!r}")
    if same_site is not None and same_site not in _SAME_SITES:
        raise ValueError(f'same_site must be "strict", "lax" or "none", not {same_site!r}')
    if not secure and (same_site == "none" or partitioned):
        raise ValueError(f"a cookie with SameSite=None or Partitioned must be secure: {name!r}")
    _check_prefix(name.lower(), secure, http_only, path, domain)
    parts = [pair]
    if path is not None:
        parts.append(b"Path=" + path.encode())
    if domain is not None:
        parts.append(b"Domain=" + domain.removeprefix(".").encode())
    if expires is not None:
        parts.append(b"Expires=" + format_date(expires))
    if max_age is not None:
        parts.append(b"Max-Age=%d" % max_age)
    if secure:
        parts.append(b"Secure")
    if http_only:
        parts.append(b"HttpOnly")
    if same_site is not None:
        parts.append(b"SameSite=" + _SAME_SITES[same_site])
    if partitioned:
        parts.append(b"Partitioned")
    return b"; ".join(parts)


def quote_value(value: str) -> bytes:
    """The wire form of a cookie value; `parse_cookies` turns it back.

    Raises ValueError for lone surrogates.
    """
    if _PLAIN_VALUE.fullmatch(value) is not None:
        return value.encode()
    raw = value.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return b'"' + _NOT_PLAIN.sub(lambda match: b"\\%03o" % match.group()[0], raw) + b'"'


def _check_prefix(name: str, secure: bool, http_only: bool, path: str | None, domain: str | None) -> None:
    if name.startswith(("__secure-", "__host-", "__http-")) and not secure:
        raise ValueError(f"a cookie named {name[: name.index('-') + 1]!r}… must be secure")
    if name.startswith(("__http-", "__host-http-")) and not http_only:
        raise ValueError("a cookie named __Http-… or __Host-Http-… must be http_only")
    if name.startswith("__host-") and (domain is not None or path != "/"):
        raise ValueError("a cookie named __Host-… must have the path / and no domain")
