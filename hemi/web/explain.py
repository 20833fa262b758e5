"""What a request would meet, without serving it: server, webapp, rules and why they match, handlets, revisers.

The request goes through the real parser of a connection without a socket, and through the real tables; only the
handlets are not run. So all that depends on what they do is told as a possibility.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, quote, urlsplit

from hemi.errors import UsageError
from hemi.sockets import Peer
from hemi.tls import TLSInfo
from hemi.web.errors import HTTPError
from hemi.web.h1.conn import Server1Conn
from hemi.web.variables import REQUEST_SCOPE
from hemi.web.websocket.handshake import is_upgrade

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.rule import Rule
    from hemi.web.server import HTTPXServer
    from hemi.web.webapp import Webapp

__all__ = ["explain"]

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_VARIABLE = re.compile(r"\$([a-z_][A-Za-z0-9_]*)")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
LONGEST = 200
"""Characters of a variable's value that are told."""


def explain(
    server: HTTPXServer, method: str, url: str, fields: list[tuple[str, str]], source: str
) -> dict[str, Any] | None:
    """What a request meets at a server; None when one for this URL does not come here. Raises UsageError."""
    parts = _split(method, url)
    if not _serves(server, parts):
        return None
    told: dict[str, Any] = {"server": server.name, "addresses": server.urls(), "refusal": "", "webapp": ""}
    request, refusal = _parse(server, method, parts, fields, source)
    if refusal:
        return told | {"refusal": refusal}
    webapp = request.webapp
    if webapp is None:
        return told | {"why": f'no webapp of this server has the host name "{request.hostname}"'}
    told |= {"webapp": webapp.name, "why": _why(webapp, request), "place": _place(webapp)}
    if webapp.force_https and request.scheme == "http":
        return told | {"rules": [], "outcome": "force_https: 308 to https"}
    rules, outcome = _search(webapp, request)
    return told | {"rules": rules, "outcome": outcome}


def _split(method: str, url: str) -> SplitResult:
    if not _METHOD.fullmatch(method):
        raise UsageError(f"{method!r} is no method")
    try:
        parts = urlsplit(url if "://" in url or url.startswith("/") else f"http://{url}")
        parts.port  # noqa: B018  it is checked now
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in ("", "http", "https"):
        raise UsageError(f"the scheme of {url!r} must be http or https")
    if any(ord(c) < 33 or c == "\x7f" for c in url):
        raise UsageError(f"a URL must not have spaces or control characters: {url!r}")
    return parts


def _serves(server: HTTPXServer, parts: SplitResult) -> bool:
    """True when a client of this URL would dial the server, as far as scheme and port tell; a path goes anywhere."""
    if not parts.scheme:
        return True
    scheme = server.forced_scheme or ("https" if server.tls else "http")
    ports = {address.rpartition(":")[2] for address in server.addresses if "/" not in address}
    usual = "443" if parts.scheme == "https" else "80"
    if parts.port is not None:
        return str(parts.port) in ports
    # Without a port in the URL: something in front may pass requests on to any port of ours.
    return parts.scheme == scheme and (usual in ports or not {"80", "443"} & ports)


def _parse(
    server: HTTPXServer, method: str, parts: SplitResult, fields: list[tuple[str, str]], source: str
) -> tuple[Request, str]:
    """The request, as a connection of the server takes it; and why it would refuse it, if so."""
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in fields):
        lines.append(f"Host: {parts.netloc.rpartition('@')[2] or 'localhost'}")
    for name, value in fields:
        if not _METHOD.fullmatch(name) or any(c in value for c in "\r\n\0"):
            raise UsageError(f"{name!r} is no field")
        lines.append(f"{name}: {value}")
    head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
    agreed = _handshake(server, parts, fields)
    channel: Any = SimpleNamespace(tls=agreed, sock=None)
    gate: Any = SimpleNamespace(server=server, closing=False, successor=None)
    conn = Server1Conn(gate, channel, Peer(source, 0))
    conn.trusted = bool(server.trusted) and source in server.trusted
    conn.feed(head)
    if not conn._queue:
        failure = conn._failure
        raise UsageError(f"the request is malformed: {failure.text if failure else 'its head has no end'}")
    stream = conn._queue[0]
    refusal = stream.refusal
    return stream.request, f"{refusal.status} {refusal.text}" if refusal is not None else ""


def _handshake(server: HTTPXServer, parts: SplitResult, fields: list[tuple[str, str]]) -> TLSInfo | None:
    """What a client of today that shows no certificate, and names the host that it asks for, agrees on."""
    if not server.tls:
        return None
    host = next((value for name, value in fields if name.lower() == "host"), "") if not parts.hostname else ""
    name = (parts.hostname or host.partition(":")[0] or "localhost").lower()
    site = server.tls_sites.find(name)
    if site is None:
        raise UsageError(f"no certificate is for {name!r}, and tls_strict_sni refuses the handshake")
    return TLSInfo(site, name, "TLSv1.3", "TLS_AES_256_GCM_SHA384", "http/1.1", False, None)


def _why(webapp: Webapp, request: Request) -> str:
    """By which of its host names the webapp was found."""
    name = request.hostname
    if name in webapp.hostnames:
        return f'its host name is "{name}"'
    for pattern in webapp.hostnames:
        if (pattern.startswith("*.") and name.endswith(pattern[1:])) or (
            pattern.endswith(".*") and name.startswith(pattern[:-1])
        ):
            return f'its host name "{pattern}" matches "{name}"'
    return f'its host name is "*", and no other webapp has "{name}"'


def _search(webapp: Webapp, request: Request) -> tuple[list[dict[str, Any]], str]:
    """Walks the rules as `Webapp.dispatch` does."""
    told: list[dict[str, Any]] = []
    runs: list[str] = []
    for number, (match, _, rule) in enumerate(webapp.chain, 1):
        try:
            matches = match is None or bool(match(request))
            problem = ""
        except HTTPError as error:
            matches, problem = False, f"{error.status} {error.text}"
        text = match.text if match is not None else "always"
        told.append(
            {
                "rule": number,
                "place": _place(rule) or f"rule {number}",
                "if": text,
                "variables": _variables(text, request) if match is not None else {},
                "matches": matches,
                "runs": _runs(rule),
                "revisers": [reviser.label for reviser in rule.revisers],
            }
        )
        if problem:
            return told, problem
        if matches:
            request.rule = rule
            if rule.socklets and not is_upgrade(request):
                runs.append(f"{rule.socklets[0].label}: 426, as the request does not open a WebSocket")
                return told, ", when it declines ".join(runs)
            runs += _runs(rule)
            if not rule.handlets and not rule.socklets:
                break
    if not runs:
        return told, "no rule matches: 404"
    rule = webapp.chain[len(told) - 1][2]
    if told[-1]["matches"] and not rule.handlets and not rule.socklets:
        last = ""
    else:
        last = ", and when all decline 404"
    return told, ", when it declines ".join(runs) + last


def _runs(rule: Rule) -> list[str]:
    if rule.handlets or rule.socklets:
        return [part.label for part in (*rule.handlets, *rule.socklets)]
    if rule.return_file is not None:
        return [f"return_file {rule.return_file}"]
    text = cast("Any", rule.return_text)
    return [f"return_code {rule.return_code}" + (f" {text.text!r}" if text is not None and text.text else "")]


def _variables(text: str, request: Request) -> dict[str, str]:
    """The variables of a condition, with their values for this request."""
    values = {}
    for name in _VARIABLE.findall(_TEXT.sub("", text)):
        expression = REQUEST_SCOPE.expression(name)
        if expression is not None and name not in values:
            try:
                value = str(eval(expression, {"s": request}))
            except HTTPError as error:
                value = f"({error.status} {error.text})"
            values[name] = value if len(value) <= LONGEST else value[:LONGEST] + "…"
    return values


def _place(component: Any) -> str:
    return str(component.place) if component.place is not None else ""
