"""The reviser `head`: adds, sets and deletes fields of requests and responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hemi.component import prop
from hemi.values import Template
from hemi.web.fields import check_name, check_value
from hemi.web.reviser import Filter, Reviser

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

# Fields by which messages are framed and connections are run (RFC 9110 §7.6.1, RFC 9112 §6): a change of theirs
# would make the next party see another message than was sent.
FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
OWN_REQUEST = {"host": "requests have found their webapp by it", "expect": "the server answers it"}
OWN_RESPONSE = {"date": "the server sends the time itself"}
OWN_DELETED = {**OWN_RESPONSE, "server": "what it says is the server's property server_header"}

Values = tuple[tuple[str, Callable[[Any], str]], ...]


class Head(Reviser, sign="head"):
    """Changes the head of requests before the handlets see it, and the head of responses before the client does.

    First fields are deleted, then set (all fields of the name are replaced), then added. Values may have $variables of
    the request; one that comes to nothing leaves its field out.
    """

    delete_request: list[str] = prop([], "Request fields to delete.")
    set_request: dict[str, Template] = prop({}, "Request fields to set.")
    add_request: dict[str, Template] = prop({}, "Request fields to add.")
    delete_response: list[str] = prop([], "Response fields to delete.")
    set_response: dict[str, Template] = prop({}, "Response fields to set.")
    add_response: dict[str, Template] = prop({}, "Response fields to add.")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Names must be field names that are not the server's own business; constant values must be sendable."""
        for side in ("request", "response"):
            for verb in ("delete", "set", "add"):
                name = f"{verb}_{side}"
                given = getattr(self, name)
                own = OWN_REQUEST if side == "request" else OWN_DELETED if verb == "delete" else OWN_RESPONSE
                for field in given:
                    problem = _problem_of(field, own)
                    if problem:
                        yield name, problem
                if isinstance(given, dict):
                    yield from self._check_values(name, given)
        if not any(getattr(self, name) for name in type(self).props()):
            yield "must have something to add, set or delete"

    def _check_values(self, name: str, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for field, template in given.items():
            try:
                check_value(template.constant or "")
            except ValueError as error:
                yield name, f'"{field}": {error}'

    def prepare(self) -> None:
        """Readies the values."""
        self._deleted_request = tuple(name.lower() for name in self.delete_request)
        self._deleted_response = tuple(name.lower() for name in self.delete_response)
        self._set_request, self._added_request = _ready(self.set_request), _ready(self.add_request)
        self._set_response, self._added_response = _ready(self.set_response), _ready(self.add_response)

    def revise_request(self, req: Request) -> Filter | None:
        """Changes the head of the request. All values are made of the request as it was before."""
        changes = [(name, text(req), True) for name, text in self._set_request]
        changes += [(name, text(req), False) for name, text in self._added_request]
        for name in self._deleted_request:
            req.delete_header(name)
        for name, text, instead in changes:
            if instead:
                req.delete_header(name)
            if text:
                req.add_header(name, text)
        return None

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Filter | None:
        """Changes the head of the response."""
        for name in self._deleted_response:
            resp.delete_header(name)
        for name, text in self._set_response:
            resp.delete_header(name)
            value = text(req)
            if value:
                resp.add_header(name, value)
        for name, text in self._added_response:
            value = text(req)
            if value:
                resp.add_header(name, value)
        return None


def _problem_of(field: str, own: dict[str, str]) -> str:
    try:
        check_name(field)
    except ValueError as error:
        return str(error)
    name = field.lower()
    if name in FRAMING:
        return f'must not have "{field}": it says where the message ends, which is the server\'s business'
    return f'must not have "{field}": {own[name]}' if name in own else ""


def _ready(given: dict[str, Any]) -> Values:
    return tuple(
        (name.lower(), _constant(one.constant) if one.constant is not None else _safe(one))
        for name, one in given.items()
    )


def _constant(text: str) -> Callable[[Any], str]:
    text = check_value(text).decode("latin-1")
    return lambda req: text


def _safe(template: Any) -> Callable[[Any], str]:
    """A value of variables, in which what a field can't carry (a decoded path may have anything) is percent-encoded."""

    def value(req: Request) -> str:
        text: str = template(req)
        if text.isascii() and text.isprintable():
            return text
        return quote(text, safe=_VISIBLE, errors="surrogateescape")

    return value


_VISIBLE = "".join(map(chr, range(0x20, 0x7F)))
