"""The answer of a program on its way to the client.

It is kept back until the program pauses: what is complete then goes out in one piece, with its length. What takes
longer is passed on as it comes, or with `buffer_response` kept in memory, then on disk, so that a client that reads
slowly does not hold the program.

- A local redirect (Location: /path without a Status, RFC 3875 §6.2.2) searches the rules again, for GET.
- X-Accel-Redirect and X-Sendfile send a file instead of the content, if the configuration names the folders.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hemi.fcache import below
from hemi.web.cgi.answer import BadReply, CGIHead, HeadReader
from hemi.web.errors import HTTPError, SearchAgain
from hemi.web.mime import type_of
from hemi.web.proxy.spool import Spool
from hemi.web.statuses import NO_CONTENT
from hemi.web.uri import BadTarget, normalise_path

if TYPE_CHECKING:
    from hemi.fcache import Fcache, OpenFile
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["Reply", "ReplyRules", "is_special"]

_ACCEL = b"x-accel-"
_SENDFILE = b"x-sendfile"
_OF_THE_FILE = frozenset({b"accept-ranges", b"content-encoding", b"content-range", b"etag", b"last-modified"})


class ReplyRules(NamedTuple):
    """What a configuration says about answers. `send_files` are (prefix, folder) pairs, the longest prefix first."""

    fcache: Fcache
    tmp: str
    max_head: int = 65536
    buffer: bool = False
    buffer_memory: int = 262144
    max_buffer: int = 1 << 30
    send_files: tuple[tuple[str, str], ...] = ()


def is_special(name: bytes) -> bool:
    """Whether a field is for the server, not for the client."""
    return name.startswith(_ACCEL) or name == _SENDFILE


class Reply:
    """An answer. `feed` takes what the program sends, `push` passes it on when the program pauses, `check_end` and then
    `finish` end it. `warn` is told what an operator should know."""

    __slots__ = (
        "_file",
        "_left",
        "_opened",
        "_pending",
        "_reader",
        "_spool",
        "_target",
        "excess",
        "head",
        "req",
        "resp",
        "rules",
        "warn",
    )

    def __init__(self, req: Request, resp: Response, rules: ReplyRules, warn: Callable[[str], None]) -> None:
        self.req = req
        self.resp = resp
        self.rules = rules
        self.warn = warn
        self.head: CGIHead | None = None
        self.excess = False
        self._reader = HeadReader(rules.max_head)
        self._pending: list[bytes] = []
        self._left = -1  # of the promised content
        self._opened = False
        self._spool: Spool | None = None
        self._file = ""
        self._target: tuple[bytes, str] | None = None

    def __repr__(self) -> str:
        state = "begun" if self._opened else "headed" if self.head is not None else "waiting"
        return f"<Reply {state} left={self._left}>"

    def feed(self, data: bytes) -> None:
        """Takes what the program has sent. Raises BadReply."""
        if self.head is None:
            head = self._reader.feed(data)
            if head is None:
                return
            self._begin(head)
            data = self._reader.rest
        if self._left >= 0:
            if len(data) > self._left:
                self.excess = True
                data = data[: self._left]
            self._left -= len(data)
        if data and self._target is None and not self._file:
            self._pending.append(data)

    @property
    def is_whole(self) -> bool:
        """Whether all of the promised content has come."""
        return self._left == 0

    def _begin(self, head: CGIHead) -> None:
        self.head = head
        resp = self.resp
        if head.target:
            raw, _, query = head.target.partition("#")[0].partition("?")
            self._target = (raw.encode("latin-1"), query)
            try:
                normalise_path(self._target[0])
            except BadTarget as error:
                raise BadReply(f"its Location is no path: {error}") from None
            return
        self._find_file(head)
        resp.status = head.status
        resp.content_type = head.content_type
        for name, value in head.fields:
            if is_special(name):
                continue
            if self._file and name in _OF_THE_FILE:
                continue
            if name == b"date":
                resp.has_date = True
            elif name == b"server":
                resp.has_server = True
            resp.fields.append((name, value))
        if not self._file and head.status not in NO_CONTENT:
            resp.content_size = head.size
            if self.req.method != "HEAD":
                self._left = head.size
        if self.rules.buffer and head.get(b"x-accel-buffering") != b"no":
            self._spool = Spool(self.rules.buffer_memory, self.rules.tmp)

    # Passing on

    def push(self) -> None:
        """Passes on what has come. Raises ClientGone."""
        if self.head is None or self._target is not None or self._file:
            return
        if self._spool is not None and not self._opened:
            self._store(self._spool)
            if self._spool is not None:
                return
        self._open()
        pending, self._pending = self._pending, []
        if not pending:
            self.resp.flush()
        for piece in pending:
            self.resp.echo(piece)

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self.resp.open()

    def _store(self, spool: Spool) -> None:
        """Keeps what has come; passes it on when it becomes too much. Raises HTTPError 502 for a full disk."""
        pending, self._pending = self._pending, []
        try:
            for piece in pending:
                spool.write(piece)
        except OSError as error:
            self.warn(f"its answer cannot be buffered: {error}")
            raise HTTPError(502, "The answer cannot be stored.") from error
        if spool.size > self.rules.max_buffer:
            self._empty(spool)

    def _empty(self, spool: Spool) -> None:
        self._spool = None
        self._open()
        try:
            for piece in spool:
                self.resp.echo(piece)
        finally:
            spool.close()

    # The end

    def check_end(self) -> None:
        """Looks whether the answer may end here. Raises BadReply."""
        if self.head is None:
            begun = self._reader.begun
            what = f"in the middle of its head: {begun[-60:]!r}" if begun else "without a head"
            raise BadReply(f"it ends {what}")
        if self._left > 0:
            raise BadReply(f"{self._left} bytes of its content are missing")
        if self.excess:
            self.warn("it sends more than its Content-Length; the rest is dropped")

    def finish(self) -> None:
        """Sends the end, which may be all. Raises SearchAgain for a local redirect, HTTPError, ClientGone."""
        resp = self.resp
        if self._target is not None:
            self._search_again(*self._target)
        elif self._file:
            self._send_file(self._file)
        elif self._opened:
            self.push_rest()
            resp.finish()
        elif self._spool is not None and self._spool.size:
            spool = self._spool
            self._store(spool)
            resp.content_size = spool.size
            self._empty(spool)
            resp.finish()
        else:
            self._deliver(b"".join(self._pending))

    def push_rest(self) -> None:
        """Passes on what has come last."""
        for piece in self._pending:
            self.resp.echo(piece)
        self._pending = []

    def _deliver(self, content: bytes) -> None:
        resp = self.resp
        if self.req.method == "HEAD" and not content and (resp.content_size < 0 or resp.revisers):
            resp.open()  # how long the content would be is not known
            resp.finish()
            return
        resp.deliver(content)

    def close(self) -> None:
        """Frees what it has. Idempotent."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _search_again(self, raw_path: bytes, query: str) -> None:
        """Gives the request to the rules again, as a GET without content: the program has had the content."""
        req = self.req
        req.rewrite(raw_path, query)
        if req.method != "HEAD":
            req.method = "GET"
        for name in ("content-length", "content-type", "transfer-encoding"):
            req.delete_header(name)
        req.content_size = 0
        raise SearchAgain

    # Files

    def _find_file(self, head: CGIHead) -> None:
        """Finds what X-Accel-Redirect or X-Sendfile names. Raises BadReply when it must not be sent."""
        accel, sendfile = head.get(b"x-accel-redirect"), head.get(_SENDFILE)
        if accel is None and sendfile is None:
            return
        if not self.rules.send_files:
            self.warn("it asks for a file by X-Accel-Redirect or X-Sendfile, and send_files allows none")
            return
        if accel is not None:
            try:
                path = normalise_path(accel.partition(b"?")[0])
            except BadTarget as error:
                raise BadReply(f"its X-Accel-Redirect is no path: {error}") from None
            for prefix, folder in self.rules.send_files:
                if path.startswith(prefix.rstrip("/") + "/"):
                    self._file = folder.rstrip("/") + path[len(prefix.rstrip("/")) :]
                    return
            raise BadReply(f"its X-Accel-Redirect to {path} is not below the prefixes of send_files")
        path = os.path.normpath(os.fsdecode(sendfile or b""))
        if not any(below(path, folder) for _, folder in self.rules.send_files):
            raise BadReply(f"its X-Sendfile of {path} is not below the folders of send_files")
        self._file = path

    def _send_file(self, path: str) -> None:
        folder = next(folder for _, folder in self.rules.send_files if below(path, folder))
        try:
            file: OpenFile = self.rules.fcache.get(path, folder, "root")
        except OSError as error:
            self.warn(f"the file {path} that it wants to be sent cannot be had: {error.strerror}")
            raise HTTPError(403 if isinstance(error, PermissionError) else 404) from error
        if file.is_dir:
            raise HTTPError(404)
        resp = self.resp
        resp.content_type = resp.content_type or type_of(path)
        resp.etag = b'"%x-%x"' % (file.mtime_ns, file.size)
        resp.last_modified = file.mtime
        if file.content is not None:
            resp.send_open_file(file.content, file.size)
            return
        descriptor = file.acquire()
        try:
            resp.send_open_file(descriptor, file.size)
        finally:
            file.release()
