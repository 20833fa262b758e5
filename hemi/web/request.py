"""The request as handlets see it, the same over every HTTP version.

Whatever costs something is done when somebody asks for it: fields stay bytes, queries, cookies and forms are parsed
on the first call and kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from hemi.web import negotiate
from hemi.web.cookies import parse_cookies
from hemi.web.errors import HTTPError
from hemi.web.fields import Fields, parse_parameters, split_list
from hemi.web.forms import Form, FormError, FormReader, Upload, check_charset
from hemi.web.ranges import Range, parse_ranges
from hemi.web.uri import BadTarget, normalise_path, parse_query

if TYPE_CHECKING:
    from hemi.web.reviser import Filter
    from hemi.web.rule import Rule
    from hemi.web.stream import ServerConn, ServerStream
    from hemi.web.webapp import Webapp

RECV_SIZE = 65536
VERSIONS = {10: "1.0", 11: "1.1", 20: "2.0", 30: "3.0"}


class Request:
    """One request. `fields` are (name, value) pairs of bytes in the order they came, names in lower case; `index` has
    the value of each name, lists joined. Both may be shared between requests: change them by `add_header` and
    `delete_header`. `content_size` is in bytes, -1 when the content is vague (its end is told at the end).
    `path` is decoded (UTF-8, undecodable bytes as surrogates) and normalised; `raw_path` is as it came. `target` stays
    as it came even when a handlet rewrites the path: logs and apps (REQUEST_URI) tell what the client asked for.
    `auth_user` is whom a handlet has authenticated, "" for nobody.
    """

    __slots__ = (
        "_cookies",
        "_form",
        "_queries",
        "_rest",
        "auth_user",
        "authority",
        "content_size",
        "endings",
        "fields",
        "filters",
        "hostname",
        "index",
        "limit",
        "method",
        "path",
        "port",
        "query_string",
        "raw_path",
        "received",
        "rule",
        "scheme",
        "src_host",
        "src_port",
        "started",
        "state",
        "stream",
        "target",
        "tls",
        "trailer_fields",
        "version",
        "webapp",
    )

    authority: str
    hostname: str
    port: int
    path: str
    raw_path: bytes
    query_string: str

    def __init__(
        self,
        stream: ServerStream,
        conn: ServerConn,
        version: int,
        method: str,
        target: bytes,
        fields: Sequence[tuple[bytes, bytes]],
        index: Mapping[bytes, bytes],
    ) -> None:
        self.stream = stream
        self.version = version
        self.method = method
        self.target = target
        self.fields = fields
        self.index = index
        self.started = monotonic()
        self.scheme = conn.scheme
        self.src_host, self.src_port = conn.peer
        self.tls = conn.tls
        self.content_size = 0
        self.webapp: Webapp | None = None
        self.rule: Rule | None = None
        self.limit = sys.maxsize
        self.received = 0
        self.filters: tuple[Filter, ...] = ()
        self.trailer_fields: list[tuple[bytes, bytes]] | None = None
        self.state: dict[str, Any] | None = None
        self.auth_user = ""
        self.endings: list[Callable[[], None]] | None = None
        self._rest = b""
        self._queries: list[tuple[str, str]] | None = None
        self._cookies: dict[str, str] | None = None
        self._form: Form | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target.decode('latin-1')} HTTP/{VERSIONS[self.version]}>"

    # Target

    def uri(self) -> str:
        """The path as it came, with the query: what a link to this request needs."""
        path = self.raw_path.decode("latin-1")
        return f"{path}?{self.query_string}" if self.query_string else path

    def url(self) -> str:
        """The whole URL, as far as this end can know it."""
        return f"{self.scheme}://{self.authority}{self.uri()}"

    def line(self) -> str:
        """The request line, for logs; "" for bytes that were none."""
        if not self.method:
            return ""
        return f"{self.method} {self.target.decode('latin-1')} HTTP/{VERSIONS[self.version]}"

    def rewrite(self, raw_path: bytes, query_string: str) -> None:
        """Gives the request another path, encoded, and another query: what rules and handlets see from now on.

        `target` stays. Raises BadTarget for a path that no client could have sent, such as one that climbs out.
        """
        self.path = normalise_path(raw_path)
        self.raw_path = raw_path
        self.query_string = query_string
        self._queries = None

    def version_text(self) -> str:
        """The version as `1.1`."""
        return VERSIONS[self.version]

    @property
    def is_secure(self) -> bool:
        """True when the client used https, to us or to a trusted proxy before us."""
        return self.scheme == "https"

    # Fields

    def header(self, name: str, default: str | None = None) -> str | None:
        """The value of a field, joined by commas if it came several times; `default` when there is none."""
        value = self.index.get(name.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def header_list(self, name: str) -> list[str]:
        """All members of a list-valued field, such as Accept, from all its lines."""
        wanted = name.lower().encode("latin-1")
        return [
            member
            for key, value in self.fields
            if key == wanted
            for member in split_list(value.decode("latin-1"))
        ]

    @property
    def headers(self) -> Fields:
        """All fields as a read-only mapping, whatever the case of the names."""
        return Fields(list(self.fields))

    def header_text(self, name: str) -> str:
        """The value of a field or "": the variable $header_NAME."""
        return self.index.get(name.encode("latin-1"), b"").decode("latin-1")

    def add_header(self, name: str, value: str) -> None:
        """Adds a field, as a reviser may do before handlets look."""
        key, data = name.lower().encode("latin-1"), value.encode("latin-1")
        self.fields = (*self.fields, (key, data))
        if key in self.index:
            data = self.index[key] + (b"; " if key == b"cookie" else b", ") + data
        self.index = {**self.index, key: data}
        self._cookies = None

    def delete_header(self, name: str) -> None:
        """Removes all fields of this name."""
        key = name.lower().encode("latin-1")
        if key in self.index:
            self.fields = [field for field in self.fields if field[0] != key]
            self.index = {name: value for name, value in self.index.items() if name != key}
            self._cookies = None

    @property
    def content_type(self) -> str:
        """The media type in lower case without parameters, or ""."""
        return self.media_type()

    def media_type(self) -> str:
        """The same: the variable $content_type."""
        value = self.index.get(b"content-type")
        return value.partition(b";")[0].strip().lower().decode("latin-1") if value else ""

    @property
    def charset(self) -> str:
        """The charset parameter of the content type; utf-8 when there is none."""
        return parse_parameters(self.header_text("content-type"))[1].get("charset", "utf-8")

    # Queries, cookies, credentials

    @property
    def queries_list(self) -> list[tuple[str, str]]:
        """All (name, value) pairs of the query string, in order."""
        if self._queries is None:
            try:
                self._queries = parse_query(self.query_string)
            except BadTarget as error:
                raise HTTPError(400, f"The query is not usable: {error}.") from error
        return self._queries

    def query(self, name: str, default: str | None = None) -> str | None:
        """The first value of a name in the query string."""
        for key, value in self.queries_list:
            if key == name:
                return value
        return default

    def queries(self, name: str) -> list[str]:
        """All values of a name in the query string."""
        return [value for key, value in self.queries_list if key == name]

    def query_text(self, name: str) -> str:
        """The variable $query_NAME."""
        return self.query(name) or ""

    @property
    def cookies(self) -> dict[str, str]:
        """All cookies; of several of one name the first, which is the most specific (RFC 6265 §5.4)."""
        if self._cookies is None:
            lines = [value.decode("latin-1") for key, value in self.fields if key == b"cookie"]
            self._cookies = parse_cookies("; ".join(lines)) if lines else {}
        return self._cookies

    def cookie(self, name: str, default: str | None = None) -> str | None:
        """One cookie."""
        return self.cookies.get(name, default)

    def cookie_text(self, name: str) -> str:
        """The variable $cookie_NAME."""
        return self.cookies.get(name, "")

    def basic_auth(self) -> tuple[str, str] | None:
        """User and password of Basic authentication (RFC 7617), or None. Nobody has checked them."""
        scheme, _, credentials = self.header_text("authorization").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, colon, password = text.partition(":")
        return (user, password) if colon else None

    def bearer_token(self) -> str | None:
        """The token of Bearer authentication (RFC 6750), or None. Nobody has checked it."""
        scheme, _, token = self.header_text("authorization").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def user(self) -> str:
        """Whom a handlet has authenticated, or else the name that Basic authentication claims: the variable $user."""
        if self.auth_user:
            return self.auth_user
        if b"authorization" not in self.index:
            return ""
        credentials = self.basic_auth()
        return credentials[0] if credentials else ""

    def tls_text(self, name: str) -> str:
        """An attribute of the TLS connection as text, "" without TLS: the variables $tls_… and $client_subject."""
        return str(getattr(self.tls, name, None) or "") if self.tls is not None else ""

    # Negotiation

    def accepts(self, *types: str) -> str | None:
        """The one of these media types that the client likes best, or None when it wants none of them."""
        return negotiate.best(types, self._joined(b"accept"))

    def accept_encoding(self, *codings: str) -> str | None:
        """The one of these content codings that the client likes best, or None for identity."""
        return negotiate.best_coding(codings, self._joined(b"accept-encoding"))

    def accept_language(self, *languages: str) -> str | None:
        """The one of these languages that the client likes best, or None."""
        return negotiate.best_language(languages, self._joined(b"accept-language"))

    def _joined(self, name: bytes) -> str | None:
        if name not in self.index:
            return None
        return ", ".join(value.decode("latin-1") for key, value in self.fields if key == name)

    def ranges(self, size: int) -> list[Range] | None:
        """The ranges asked for of a content of this size in bytes; None for the whole, [] when none can be had."""
        value = self.index.get(b"range")
        return parse_ranges(value, size) if value is not None else None

    # Content

    def receive(self) -> bytes:
        """The next piece of the content as it arrives, b"" at the end.

        Raises HTTPError 413 past `max_content_size`, 408 when the client is too slow, ClientGone when it left.
        """
        while True:
            data = self.stream.read(RECV_SIZE)
            if data:
                data = self._account(data)
            if not self.filters:
                return data
            last = not data
            for filter_ in self.filters:
                data = filter_.update(data) + (filter_.finish() if last else b"")
            if last:
                self.filters = ()
            if data or last:
                return self._account(data)

    def _account(self, data: bytes) -> bytes:
        self.received += len(data)
        if self.received > self.limit:
            raise HTTPError(413, f"The content is larger than {self.limit} bytes.", close=True)
        return data

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes of the content, fewer only at its end; all the rest when negative."""
        pieces = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            data = self.receive()
            if not data:
                break
            pieces.append(data)
            have += len(data)
            if size < 0:
                self._check_memory(have)
        whole = b"".join(pieces)
        if size < 0:
            self._rest = b""
            return whole
        self._rest = whole[size:]
        return whole[:size]

    def _check_memory(self, have: int) -> None:
        limit = self.owner.max_memory_content_size
        if have > limit:
            raise HTTPError(413, f"The content is larger than {limit} bytes.", close=True)

    def __iter__(self) -> Iterator[bytes]:
        """The content in pieces, as they arrive."""
        if self._rest:
            rest, self._rest = self._rest, b""
            yield rest
        while data := self.receive():
            yield data

    def content(self) -> bytes:
        """The whole content. Raises HTTPError 413 past `max_memory_content_size`."""
        return self.read()

    def text(self) -> str:
        """The whole content as text in its charset. Raises HTTPError 400 when it is not that, 415 for unknown ones."""
        try:
            charset = check_charset(self.charset)
            return self.content().decode(charset)
        except FormError as error:
            raise HTTPError(error.status, str(error)) from error
        except UnicodeDecodeError as error:
            raise HTTPError(400, f"The content is not text in {charset}.") from error

    def json(self) -> Any:
        """The whole content as JSON. Raises HTTPError 400 when it is none."""
        try:
            return json.loads(self.content())
        except (ValueError, RecursionError) as error:
            raise HTTPError(400, "The content is not JSON.") from error

    @property
    def trailers(self) -> Fields:
        """The fields behind the content; complete when the content has been read to its end."""
        return Fields(self.trailer_fields or [])

    # Forms

    @property
    def owner(self) -> Any:
        """Where the limits for this request are: its rule, or its webapp while no rule has been chosen."""
        return self.rule if self.rule is not None else self.webapp

    def read_form(self) -> Form:
        """Reads and parses the form, urlencoded or multipart, while it arrives; empty when there is none.

        Files past `spool_size` go to disk. Raises HTTPError 400, 413, 415 or 507.
        """
        if self._form is None:
            owner = self.owner
            if self.media_type() not in ("application/x-www-form-urlencoded", "multipart/form-data"):
                self._form = Form([], [])
                return self._form
            spool_dir = owner.stage.dirs.tmp
            try:
                reader = FormReader(self.header_text("content-type"), owner.form_limits(), spool_dir)
            except FormError as error:  # no boundary, or a charset that is none
                raise HTTPError(error.status, str(error)) from error
            try:
                for data in self:
                    reader.feed(data)
                self._form = reader.finish()
            except FormError as error:
                reader.close()
                raise HTTPError(error.status, str(error), close=error.status == 413) from error
            except BaseException:
                reader.close()
                raise
        return self._form

    def form(self, name: str, default: str | None = None) -> str | None:
        """The first value of a field of the form."""
        for key, value in self.read_form().fields:
            if key == name:
                return value
        return default

    def forms(self, name: str) -> list[str]:
        """All values of a field of the form."""
        return [value for key, value in self.read_form().fields if key == name]

    def upload(self, name: str) -> Upload | None:
        """The first file of the form under this name. It is gone after the exchange: `save` it."""
        for upload in self.read_form().uploads:
            if upload.name == name:
                return upload
        return None

    def uploads(self, name: str | None = None) -> list[Upload]:
        """All files of the form, or those under this name."""
        return [upload for upload in self.read_form().uploads if name is None or upload.name == name]

    def at_end(self, call: Callable[[], None]) -> None:
        """Has `call` called when the exchange has ended, however it ends."""
        if self.endings is None:
            self.endings = []
        self.endings.append(call)

    def dispose(self) -> None:
        """Frees what the exchange has spooled."""
        if self._form is not None:
            self._form.close()
            self._form = None

    # For conditions

    def file_path(self) -> str:
        """The file that $path names below web_root, for -f, -d and -e; "" when there is none."""
        root = cast("str", getattr(self.owner, "web_root", "") or "")
        return root + self.path if root and "\\" not in self.path else ""
