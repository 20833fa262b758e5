"""The handlet `static`: files, as they lie in folders.

What a path names is decided here, by text, before any file is touched; that the file system does not lead
elsewhere (symbolic links, FIFOs, devices, races) is the business of `hemi.fcache`, which opens what is kept in
memory or as a descriptor. The page that lists a folder is in `hemi.builtin.handlets.autoindex`.

Where it stands in a rule: `static` answers whatever reaches it, with 404 for what is not there. With
`fallthrough: true` it declines instead, and the next handlet or rule has its turn; refusals (403) stay.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hemi.builtin.handlets import autoindex
from hemi.component import prop
from hemi.values import Path, Template
from hemi.web.codings import SUFFIXES, Coding, choose
from hemi.web.dates import format_date
from hemi.web.errors import HTTPError
from hemi.web.fields import check_value, is_token
from hemi.web.handlet import Handlet
from hemi.web.mime import DEFAULT, type_of
from hemi.web.uri import quote_path

if TYPE_CHECKING:
    from hemi.conditions import CompiledTemplate
    from hemi.fcache import OpenFile
    from hemi.web.request import Request
    from hemi.web.response import Response

ALLOW = "GET, HEAD, OPTIONS"

# A request that has one of these takes the way with conditions and ranges. If-Range means nothing without Range.
_CONDITIONAL = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"range"}
)

_STATUS = re.compile(r"=([45][0-9]{2})")
_FOLLOW: dict[str, Any] = {"within_root": "root", "always": "always", "never": "never"}


class _Root(NamedTuple):
    """A prefix of paths, without a slash at its end, and the folder that stands for it."""

    prefix: str
    folder: str
    base: str  # the folder without a slash at its end: "" for /


class _Ready:
    """What is the same in every response with one file; it lies in the file's slot."""

    __slots__ = ("coding", "content_type", "due", "etag", "fields", "lines", "modified", "owner", "siblings")

    def __init__(
        self, owner: Static, file: OpenFile, content_type: str, cache_control: str, coding: str
    ) -> None:
        self.owner = owner
        self.coding = coding
        self.content_type = content_type
        self.etag = b'"%x-%x%b"' % (file.mtime_ns, file.size, b"-" + coding.encode() if coding else b"")
        self.modified = file.mtime
        self.fields: list[tuple[bytes, bytes]] = []
        if cache_control:
            self.fields.append((b"cache-control", cache_control.encode("latin-1")))
        if coding:
            self.fields.append((b"content-encoding", coding.encode()))
            self.fields.append((b"vary", b"accept-encoding"))
        self.siblings: tuple[str, ...] = ()
        self.due = 0.0
        self.make_lines()

    def make_lines(self) -> None:
        """Makes the field lines of a plain 200."""
        fields = [*self.fields, (b"etag", self.etag), (b"last-modified", format_date(self.modified))]
        fields.append((b"accept-ranges", b"bytes"))
        self.lines = b"".join([b"%b: %b\r\n" % field for field in fields])

    def set_siblings(self, siblings: tuple[str, ...]) -> None:
        """Notes the codings that can be had; a response that could have been another one says so (Vary)."""
        if siblings != self.siblings:
            self.siblings = siblings
            self.fields = [field for field in self.fields if field[0] != b"vary"]
            if siblings:
                self.fields.append((b"vary", b"accept-encoding"))
            self.make_lines()


class Static(Handlet, sign="static"):
    """Serves the files below web_root.

    Answers 404 for what is not there, unless `fallthrough` is set. Takes care of conditional requests, ranges,
    entity tags, media types, index files and listings of folders; sends large files by sendfile(2).
    """

    web_root: Path | None = prop(None, "The folder of the files.")
    alias: dict[str, Path] = prop(
        {},
        "Folders that stand for prefixes of the path: with {/assets/: dist}, /assets/x is the file dist/x.",
        inherit=False,
    )
    index_file: list[str] = prop(["index.html"], "The files to send for a folder; the first that is there.")
    auto_index: bool = prop(False, "List folders that have no index file.")
    try_: list[Template] = prop(
        [],
        'Paths to try instead of $path, in this order; one with "/" at its end is a folder. The last may be a status: '
        '["$path", "$path/", "/index.html"] or ["$path", "=404"].',
        inherit=False,
    )
    fallthrough: bool = prop(
        False,
        "Decline what is not there, and methods but GET and HEAD, instead of answering 404 or 405.",
        inherit=False,
    )
    precompressed: list[Coding] = prop(
        [],
        "Codings whose files lie beside the originals, such as app.js.br; sent to clients that accept them, if not "
        "older than the original. The preferred one first.",
    )
    mime_types: dict[str, str] = prop({}, "Media types by suffix, before the built-in ones.")
    default_type: str = prop(DEFAULT, "The media type of files with an unknown suffix.")
    charset: str = prop("utf-8", "The charset of text files; none is said when empty.")
    cache_control: str | dict[str, str] = prop(
        None,
        'The Cache-Control of files; or a mapping of suffixes to it: {html: no-cache, "*": "max-age=86400"}.',
    )
    symlinks: Literal["within_root", "always", "never"] = prop(
        "within_root",
        "Which symbolic links are followed: those that end below the root, all of them, none.",
    )
    dotfiles: Literal["hide", "serve"] = prop(
        "hide",
        "Files and folders whose names begin with a dot: as if not there (but for /.well-known/), or served.",
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together, and texts that could not be sent."""
        if self.web_root is None and not self.alias:
            yield "web_root is required, unless there is an alias"
        for name, folder in [("web_root", self.web_root), *(("alias", one) for one in self.alias.values())]:
            if folder is not None and os.path.exists(folder) and not os.path.isdir(folder):
                yield name, f'must be a folder, which "{folder}" is not'
        for prefix in self.alias:
            if not prefix.startswith("/") or "//" in prefix or not {".", ".."}.isdisjoint(prefix.split("/")):
                yield "alias", f'must have normal paths such as "/assets/", not "{prefix}"'
        for name in self.index_file:
            if not name or name.startswith("/") or ".." in name.split("/"):
                yield "index_file", f'must be names of files, not "{name}"'
        yield from self._check_try()
        yield from self._check_texts()

    def _check_try(self) -> Iterator[tuple[str, str]]:
        for at, step in enumerate(self.try_):
            if step.text.startswith("="):
                if _STATUS.fullmatch(step.text) is None:
                    yield "try", f'must have statuses such as =404, not "{step.text}"'
                elif at != len(self.try_) - 1:
                    yield "try", f'must have "{step.text}" at its end: what follows is never tried'
            elif not step.text.startswith(("/", "$")):
                yield "try", f'must have paths that start with "/" or a variable, not "{step.text}"'

    def _check_texts(self) -> Iterator[tuple[str, str]]:
        types = [("mime_types", media_type) for media_type in self.mime_types.values()]
        for name, media_type in [*types, ("default_type", self.default_type)]:
            kind, slash, rest = media_type.partition(";")[0].strip().partition("/")
            if not (slash and is_token(kind.encode()) and is_token(rest.encode()) and _is_value(media_type)):
                yield name, f'must be media types such as "text/html", not "{media_type}"'
        if self.charset and not is_token(self.charset.encode()):
            yield "charset", f'must be a charset such as "utf-8", not "{self.charset}"'
        given = self.cache_control
        for value in given.values() if isinstance(given, dict) else [given or ""]:
            if not _is_value(value):
                yield "cache_control", f'must be a field value such as "max-age=86400", not "{value}"'

    def prepare(self) -> None:
        """Lays out what is looked up per request."""
        self._get: Callable[..., OpenFile] = self.stage.fcache.get
        self._follow: Any = _FOLLOW[self.symlinks]
        pairs = sorted(
            ((_bare(prefix), folder) for prefix, folder in self.alias.items()), key=lambda pair: -len(pair[0])
        )
        if self.web_root is not None:
            pairs.append(("", self.web_root))
        self._roots = tuple(_Root(prefix, folder, folder.rstrip("/")) for prefix, folder in pairs)
        # Without aliases, and with nothing or the path itself to try first, most requests need one look only.
        self._direct = len(pairs) == 1 and not self.alias and (not self.try_ or self.try_[0].text == "$path")
        self._base = self._roots[-1].base
        self._folder = self._roots[-1].folder
        self._index = self.index_file[0] if self.index_file else ""
        self._types = {_suffix(suffix): media_type for suffix, media_type in self.mime_types.items()}
        given = self.cache_control
        self._cache_controls: dict[str, str] = (
            {_suffix(suffix): value for suffix, value in given.items()}
            if isinstance(given, dict)
            else {"*": given or ""}
        )
        for _, folder in pairs:
            if not os.path.isdir(folder):
                self.stage.log.warning("static", f"{self.place or self.label}: there is no folder {folder}")

    def handle(self, req: Request, resp: Response) -> bool:
        """Sends the file that the path names."""
        method = req.method
        if method != "GET" and method != "HEAD":
            return self._refuse_method(req, resp)
        path = req.path
        if self._direct and "/." not in path and "\\" not in path and path != "*":
            name = self._base + path
            try:
                file = self._get(name if path[-1] != "/" else name + self._index, self._folder, self._follow)
            except OSError:
                pass  # it is remembered, and told apart below
            else:
                if not file.is_dir:
                    return self._send(req, resp, file, self._folder)
        return self._search(req, resp)

    def _refuse_method(self, req: Request, resp: Response) -> bool:
        if self.fallthrough or req.path == "*":
            return False
        if req.method == "OPTIONS":
            resp.add_header("allow", ALLOW)
            resp.send(b"", 204)
        else:
            resp.error(405, headers=(("allow", ALLOW),))
        return True

    # From paths to files

    def _search(self, req: Request, resp: Response) -> bool:
        if not self.try_:
            if self._serve(req, resp, req.path):
                return True
        else:
            for step in self.try_:
                if step.text[0] == "=":
                    resp.error(int(step.text[1:]))
                    return True
                if self._attempt(req, resp, step):
                    return True
        if self.fallthrough:
            return False
        resp.error(404)
        return True

    def _attempt(self, req: Request, resp: Response, step: CompiledTemplate) -> bool:
        """Serves what one step of `try` comes to, which may be anything when it has variables of the client."""
        path = re.sub("//+", "/", step(req))
        if path[:1] != "/":
            return False
        if path[-1] == "/" and path[:-1] == req.path:
            path = path[:-1]  # the folder that the client named without its slash: it is sent there
            if not self._is_folder(path):
                return False
        elif path[-1] != "/" and self._is_folder(path):
            return False
        return self._serve(req, resp, path)

    def _is_folder(self, path: str) -> bool:
        place = self._locate(path)
        file = self._look(place[0], place[1]) if place is not None else None
        return file is not None and file.is_dir

    def _serve(self, req: Request, resp: Response, path: str) -> bool:
        """Sends the file, index, listing or redirection for a path; False when there is nothing."""
        place = self._locate(path)
        if place is None:
            return False
        name, root = place
        file = self._look(name, root)
        if file is None:
            return False
        if not file.is_dir:
            return self._send(req, resp, file, root)
        index = self._find_index(name, root)
        if index is None and not self.auto_index:
            if self.fallthrough or self.try_:
                return False
            raise HTTPError(403)
        if path[-1] != "/":
            # One slash at its start: "//evil.example/" would be another site.
            location = "/" + quote_path(path).lstrip("/") + "/"
            resp.redirect(f"{location}?{req.query_string}" if req.query_string else location, 301)
        elif index is not None:
            return self._send(req, resp, index, root)
        else:
            autoindex.send(req, resp, self._listing(path, name, root))
        return True

    def _listing(self, path: str, name: str, root: str) -> autoindex.Folder:
        opener = self.stage.fcache.cache.opener
        return autoindex.Folder(path, name, root, self._follow, self.dotfiles == "serve", opener.open)

    def _find_index(self, name: str, root: str) -> OpenFile | None:
        for index in self.index_file:
            file = self._look(f"{name.rstrip('/')}/{index}", root)
            if file is not None and not file.is_dir:
                return file
        return None

    def _locate(self, path: str) -> tuple[str, str] | None:
        """The name of the file for a path, and its root; None for paths that name nothing here."""
        if "\\" in path or "\0" in path or path[:1] != "/":
            return None
        for prefix, folder, base in self._roots:
            if not prefix or path == prefix or path.startswith(prefix + "/"):
                rest = path[len(prefix) :]
                if "/." in rest and self._is_hidden(rest, bool(prefix)):
                    return None
                return base + rest or "/", folder
        return None

    def _is_hidden(self, rest: str, aliased: bool) -> bool:
        for at, segment in enumerate(rest.split("/")[1:]):
            if segment == "." or segment == "..":
                return True
            well_known = segment == ".well-known" and at == 0 and not aliased  # RFC 8615
            if segment[:1] == "." and self.dotfiles == "hide" and not well_known:
                return True
        return False

    def _look(self, name: str, root: str) -> OpenFile | None:
        try:
            return self._get(name, root, self._follow)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise HTTPError(403) from None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise HTTPError(503, headers=(("retry-after", "1"),)) from error
            raise

    # From files to responses

    def _send(self, req: Request, resp: Response, file: OpenFile, root: str) -> bool:
        ready = file.slot
        if ready is None or ready.owner is not self or ready.coding:
            ready = self._make_ready(file, file.path, "")
        if self.precompressed:
            file, ready = self._choose(req, file, ready, root)
        content = file.content
        if content is not None and not resp.revisers and _CONDITIONAL.isdisjoint(req.index):
            resp.content_type = ready.content_type
            resp.lines = ready.lines
            resp.stream.send_whole(resp, content)
            return True
        resp.content_type = ready.content_type
        resp.fields += ready.fields
        resp.etag = ready.etag
        resp.last_modified = ready.modified
        if content is not None:
            resp.send_open_file(content, file.size)
            return True
        descriptor = file.acquire()
        try:
            resp.send_open_file(descriptor, file.size)
        finally:
            file.release()
        return True

    def _make_ready(self, file: OpenFile, name: str, coding: str) -> _Ready:
        """Readies a file; `name` decides about its type, and is that of the original for a compressed one."""
        dot = name.rfind(".", name.rfind("/") + 2)
        suffix = name[dot + 1 :].lower() if dot >= 0 else ""
        controls = self._cache_controls
        control = controls.get(suffix, controls.get("*", "")) if suffix != "*" else ""
        ready = _Ready(self, file, self._type_of(name), control, coding)
        file.slot = ready
        return ready

    def _type_of(self, name: str) -> str:
        media_type = type_of(name, self._types, self.default_type)
        if media_type.startswith("text/"):
            media_type = media_type.removesuffix("; charset=utf-8")
            if self.charset and ";" not in media_type:
                media_type += f"; charset={self.charset}"
        return media_type

    def _choose(self, req: Request, file: OpenFile, ready: _Ready, root: str) -> tuple[OpenFile, _Ready]:
        """The compressed sibling that the client likes best, or the file itself."""
        now = monotonic()
        if now >= ready.due:
            ready.due = now + self.stage.fcache.cache_timeout
            siblings = [
                coding for coding in self.precompressed if self._sibling(file, coding, root) is not None
            ]
            ready.set_siblings(tuple(siblings))
        coding = choose(ready.siblings, req.index.get(b"accept-encoding")) if ready.siblings else ""
        sibling = self._sibling(file, coding, root) if coding else None
        if sibling is None:
            return file, ready
        other = sibling.slot
        if other is None or other.owner is not self or other.coding != coding:
            other = self._make_ready(sibling, file.path, coding)
        return sibling, other

    def _sibling(self, file: OpenFile, coding: str, root: str) -> OpenFile | None:
        try:
            sibling = self._get(file.path + SUFFIXES[coding], root, self._follow)
        except OSError:
            return None
        if sibling.is_dir:
            return None
        # Tools that keep times in whole seconds cut the rest off.
        cut = sibling.mtime_ns % 1_000_000_000 == 0 and sibling.mtime == file.mtime
        return sibling if cut or sibling.mtime_ns >= file.mtime_ns else None


def _bare(prefix: str) -> str:
    return prefix.rstrip("/")


def _suffix(suffix: str) -> str:
    return suffix.lower().lstrip(".")


def _is_value(text: str) -> bool:
    try:
        check_value(text)
    except ValueError:
        return False
    return True
