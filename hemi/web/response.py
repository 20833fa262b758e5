"""The response as handlets make it, the same over every HTTP version.

Either one `send…` (the size is known, one write where possible), or `echo` as often as needed (streamed).
Conditional requests, ranges of files, HEAD and the framing are taken care of here and in the stream.
"""

from __future__ import annotations

import json
import os
import stat
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hemi.web import errorpages, preconditions
from hemi.web.cookies import SameSite, build_cookie
from hemi.web.dates import format_date
from hemi.web.errors import AlreadySent, HTTPError
from hemi.web.fields import check_name, check_value, split_list
from hemi.web.filesend import send_ranges
from hemi.web.mime import type_of
from hemi.web.specialfields import NO_TRAILERS, SPECIAL
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.reviser import Filter, Reviser
    from hemi.web.stream import ServerStream

HTML = "text/html; charset=utf-8"
BINARY = "application/octet-stream"


class Response:
    """One response. `content_size` is in bytes, -1 while it is vague; `bytes_sent` counts content only.

    `ended` is when the exchange was over (monotonic seconds), 0 before.
    `close` makes this the last response on its connection (HTTP/1). `lines` are ready-made field lines of bytes that
    go out as they are.
    """

    __slots__ = (
        "_filters",
        "bytes_sent",
        "close",
        "content_size",
        "content_type",
        "ended",
        "etag",
        "fields",
        "has_date",
        "has_server",
        "is_sent",
        "last_modified",
        "lines",
        "record",
        "request",
        "revisers",
        "status",
        "stream",
        "trailer_fields",
    )

    def __init__(self, request: Request, stream: ServerStream) -> None:
        self.request = request
        self.stream = stream
        self.status = 200
        self.fields: list[tuple[bytes, bytes]] = []
        self.lines = b""
        self.content_type = ""
        self.content_size = -1
        self.etag: bytes | None = None
        self.last_modified: float | None = None
        self.revisers: tuple[Reviser, ...] = ()
        self._filters: list[Filter] | None = None
        self.trailer_fields: list[tuple[bytes, bytes]] | None = None
        self.record: Any = None
        self.is_sent = False
        self.has_date = False
        self.has_server = False
        self.close = False
        self.bytes_sent = 0
        self.ended = 0.0

    def __repr__(self) -> str:
        return f"<Response {self.status} {'sent' if self.is_sent else 'open'} bytes={self.bytes_sent}>"

    # Head

    def add_header(self, name: str, value: str) -> None:
        """Adds a field. Raises ValueError when name or value can't be sent, AlreadySent when it is too late.

        Fields that say how the message is framed (Content-Length, Transfer-Encoding, Connection …) are the server's
        own business: `Connection: close` is honoured, a Content-Length is taken as the promised size.
        """
        self._check_open()
        key = check_name(name).lower()
        special = SPECIAL.get(key)
        if special is not None:
            special(self, value)
        else:
            self.fields.append((key, check_value(value)))

    def set_header(self, name: str, value: str) -> None:
        """Sets a field in place of all of its name."""
        self.delete_header(name)
        self.add_header(name, value)

    def delete_header(self, name: str) -> None:
        """Removes all fields of this name."""
        self._check_open()
        key = check_name(name).lower()
        if key == b"content-type":
            self.content_type = ""
        elif key == b"etag":
            self.etag = None
        elif key == b"last-modified":
            self.last_modified = None
        elif key == b"date":
            self.has_date = False
        elif key == b"server":
            self.has_server = False
        self.fields = [field for field in self.fields if field[0] != key]

    def header(self, name: str, default: str | None = None) -> str | None:
        """The last value of a field set so far."""
        key = name.lower().encode("latin-1")
        if key == b"content-type":
            return self.content_type or default
        if key == b"etag" and self.etag is not None:
            return self.etag.decode("latin-1")
        if key == b"last-modified" and self.last_modified is not None:
            return format_date(self.last_modified).decode()
        for known, value in reversed(self.fields):
            if known == key:
                return value.decode("latin-1")
        if self.lines:
            for line in self.lines.split(b"\r\n"):
                if line.partition(b": ")[0] == key:
                    return line.partition(b": ")[2].decode("latin-1")
        return default

    def header_text(self, name: str) -> str:
        """The value of a field or "": for templates."""
        return self.header(name) or ""

    def vary(self, name: str) -> None:
        """Says that the response depends on a request field (RFC 9110 §12.5.5), once."""
        lines = [value.decode("latin-1") for key, value in self.fields if key == b"vary"]
        present = split_list(", ".join(lines)) if lines else []
        if not {name.lower(), "*"}.intersection(map(str.lower, present)):
            self.set_header("vary", ", ".join([*present, name]))

    def set_etag(self, tag: str, weak: bool = False) -> None:
        """Sets the entity tag, given without quotes; `send` then answers conditional requests by itself."""
        self._check_open()
        self.etag = check_value(f'W/"{tag}"' if weak else f'"{tag}"')

    def set_last_modified(self, seconds: float) -> None:
        """Sets when the content changed last, in Unix seconds; `send` then answers conditional requests by itself."""
        self._check_open()
        self.last_modified = seconds

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        path: str | None = "/",
        domain: str | None = None,
        expires: float | None = None,
        max_age: int | None = None,
        secure: bool | None = None,
        http_only: bool = True,
        same_site: SameSite | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Adds a cookie, safe unless told otherwise: HttpOnly, SameSite=Lax, and Secure when the request was.

        `expires` is in Unix seconds, `max_age` in seconds. Raises ValueError for what browsers would refuse.
        """
        self._check_open()
        if secure is None:
            secure = self.request.scheme == "https"
        line = build_cookie(
            name,
            value,
            path=path,
            domain=domain,
            expires=expires,
            max_age=max_age,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
            partitioned=partitioned,
        )
        self.fields.append((b"set-cookie", line))

    def delete_cookie(self, name: str, *, path: str | None = "/", domain: str | None = None) -> None:
        """Makes the client forget a cookie; path and domain must be those it was set with."""
        self.set_cookie(name, "", path=path, domain=domain, expires=0, max_age=0)

    def _check_open(self) -> None:
        if self.is_sent:
            raise AlreadySent("the head of the response has gone out already")

    # Whole messages

    def send(self, content: str | bytes = b"", status: int | None = None) -> None:
        """Sends the whole response. Text goes out as UTF-8 and, if nothing else is said, as HTML: escape what users
        typed. Raises AlreadySent when called twice."""
        if self.is_sent:
            raise AlreadySent("a response is sent once")
        if status is not None:
            self.status = status
        if content.__class__ is not bytes:
            if isinstance(content, str):
                content = content.encode("utf-8", "surrogateescape")
                if not self.content_type:
                    self.content_type = HTML
            else:
                content = bytes(content)
        if not self.content_type and content:
            self.content_type = BINARY
        if self.etag is not None or self.last_modified is not None:
            self._evaluate()
        if self.revisers:
            self._send_revised(content)
        else:
            self.stream.send_whole(self, content)

    def deliver(self, content: bytes) -> None:
        """Sends the whole response with a head that was made elsewhere, by an app or a backend: it stays as it is, but
        for the revisers."""
        if self.revisers:
            self._send_revised(content)
        else:
            self.stream.send_whole(self, content)

    def send_json(self, value: Any, status: int | None = None) -> None:
        """Sends a value as JSON."""
        self.content_type = "application/json"
        self.send(
            json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape"),
            status,
        )

    def redirect(self, location: str, status: int = 302) -> None:
        """Sends a redirection. `location` may be a path or a URL, with non-ASCII characters."""
        self.set_header("location", quote_location(location))
        self.send(b"", status)

    def error(self, status: int, text: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Sends the error page of this status: the webapp's own if it has one, else the built-in one.

        What was set for the response that failed (fields, type, validators, cookies) is dropped.
        """
        self.reset()
        self.status = status
        for name, value in headers:
            self.add_header(name, value)
        webapp = self.request.webapp
        page = webapp.error_page(status) if webapp is not None else None
        if page is not None:
            self.content_type, content = page
        else:
            self.content_type, content = errorpages.error_page(status, self.request.header("accept"), text)
        self._send_revised(content)

    def reset(self) -> None:
        """Drops what was set so far: status, fields, type, validators, cookies."""
        self._check_open()
        self.status = 200
        self.fields, self.lines, self.content_type = [], b"", ""
        self.etag = self.last_modified = None
        self.has_date = self.has_server = False
        self.content_size = -1

    def early_hints(self, *links: str) -> None:
        """Sends 103 Early Hints with these Link values (RFC 8297), where the client's version allows it."""
        self._check_open()
        if self.stream.has_informational:
            self.stream.send_informational(103, [(b"link", check_value(link)) for link in links])

    # Files

    def send_file(
        self,
        path: str,
        *,
        content_type: str | None = None,
        download: str | None = None,
        status: int | None = None,
    ) -> None:
        """Sends a regular file by sendfile(2), with validators, ranges and conditional requests.

        `download` makes the browser save it under this name. Raises HTTPError 404 when there is no such file.
        """
        self._check_open()
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise HTTPError(404) from error
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise HTTPError(404)
            if status is not None:
                self.status = status
            self.content_type = content_type or self.content_type or type_of(path)
            if download is not None:
                self.set_header("content-disposition", attachment(download))
            if self.etag is None:
                self.etag = b'"%x-%x"' % (found.st_mtime_ns, found.st_size)
            if self.last_modified is None:
                self.last_modified = found.st_mtime
            self.send_open_file(file, found.st_size)
        finally:
            os.close(file)

    def send_open_file(self, file: int | bytes, size: int) -> None:
        """Sends `size` bytes of an open file descriptor, which stays open, or of a file's content; answers conditions
        and ranges by the validators that were set."""
        self._evaluate()
        send_ranges(self, file, size)

    def _evaluate(self) -> None:
        """Answers the request's preconditions (RFC 9110 §13). Raises HTTPError 412; turns the status into 304."""
        etag, modified = self.etag, self.last_modified
        if etag is not None:
            self.fields.append((b"etag", etag))
        if modified is not None:
            self.fields.append((b"last-modified", format_date(modified)))
        if 200 <= self.status < 300:
            verdict = preconditions.evaluate(self.request.method, self.request.index, etag, modified)
            if verdict == 412:
                raise HTTPError(412)
            if verdict:
                self.status = verdict
                if not self.revisers:  # these want to know what type of content it would have been
                    self.content_type = ""

    # Streamed messages

    def echo(self, data: str | bytes) -> None:
        """Sends a piece of a streamed response; the first one sends the head. Blocks while the client is slow."""
        if not self.is_sent:
            if isinstance(data, str) and not self.content_type:
                self.content_type = HTML
            self.begin()
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        if self._filters:
            for filter_ in self._filters:
                data = filter_.update(data)
        if data:
            self.stream.send_data(data)

    def begin(self) -> None:
        """Readies the head of a streamed response; it goes out with the first piece or by `flush`."""
        self._check_open()
        if not self.content_type and self.status not in NO_CONTENT:
            self.content_type = BINARY
        if self.etag is not None or self.last_modified is not None:
            self._evaluate()
        self.open()

    def open(self) -> None:
        """Does the same for a head that was made elsewhere, by an app or a backend: it stays as it is, but for the
        revisers."""
        if self.revisers:
            size = self.content_size if self.content_size >= 0 else None
            self._filters = self._revise_head(size)
            if self._filters:
                self.content_size = -1
                if self.request.method == "HEAD":
                    self._filters = None  # nobody will see what they would make of the content
        self.stream.send_head(self)

    @property
    def has_filters(self) -> bool:
        """Whether revisers change the content of this streamed response: then it must go through `echo`."""
        return bool(self._filters)

    def flush(self) -> None:
        """Sends the head of a streamed response now, before there is any content."""
        if not self.is_sent:
            self.begin()
        self.stream.flush()

    def add_trailer(self, name: str, value: str) -> None:
        """Adds a field behind the content of a streamed response (RFC 9110 §6.5); dropped where the version has none.

        Raises ValueError for fields that must not stand there.
        """
        key = check_name(name).lower()
        if key in NO_TRAILERS or key in SPECIAL:
            raise ValueError(f"{name} must not be a trailer field (RFC 9110 §6.5.1)")
        if self.trailer_fields is None:
            self.trailer_fields = []
        self.trailer_fields.append((key, check_value(value)))

    def finish(self) -> None:
        """Ends a streamed response. The server does it by itself when the handlet returns."""
        if self._filters:
            rest = b""
            for filter_ in self._filters:
                rest = (filter_.update(rest) if rest else b"") + filter_.finish()
            self._filters = None
            if rest:
                self.stream.send_data(rest)
        if self.trailer_fields:
            self.stream.send_trailers(self.trailer_fields)
        else:
            self.stream.finish()

    # Revisers

    def _revise_head(self, size: int | None) -> list[Filter]:
        filters = []
        for reviser in self.revisers:
            filter_ = reviser.revise_response(self.request, self, size)
            if filter_ is not None:
                filters.append(filter_)
                size = None
        if self.status == 304:
            self.content_type = ""  # it says nothing about content (RFC 9110 §15.4.5)
        return filters

    def _send_revised(self, content: bytes) -> None:
        size = len(content)
        if self.request.method == "HEAD" and not size and self.content_size > 0:
            size = self.content_size  # an app that leaves the content out by itself, and says how long it is
        filters = self._revise_head(size)
        if filters and self.request.method == "HEAD":
            # How long the content would get is not worth finding out: a HEAD may leave the length out.
            self.content_size = -1
            self.stream.send_head(self)
            self.stream.finish()
            return
        for filter_ in filters:
            content = filter_.update(content) + filter_.finish()
        self.stream.send_whole(self, content)

    def send_unchanged(self, size: int | None = None) -> None:
        """Sends the 304 that the status says already; `size` is that of the content that is not sent."""
        self._revise_head(size)
        self.stream.send_whole(self, b"")

    def elapsed(self) -> str:
        """Seconds from the first bytes of the request to the end of the response, or till now; for logs."""
        return f"{(self.ended or monotonic()) - self.request.started:.3f}"


def quote_location(location: str) -> str:
    """A path or URL as a Location field may carry it: what is not allowed in a URL is percent-encoded as UTF-8."""
    return quote(location, safe="!#$%&'()*+,/:;=?@[]~", errors="surrogateescape")


def attachment(name: str) -> str:
    """The Content-Disposition that makes a browser save a file under this name (RFC 6266, RFC 8187)."""
    plain = name.encode("ascii", "replace").decode().replace("\\", "_").replace('"', "_")
    plain = "".join(char if char.isprintable() else "_" for char in plain)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
