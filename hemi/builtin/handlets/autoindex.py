"""Listings of folders for the handlet `static`: as a page for people, as JSON for programs.

The page needs nothing but itself: no script, no picture, no font. Sorting is by links (`?sort=size&order=desc`).
Names are whatever bytes a file system has, so they are escaped for HTML and percent-encoded in links, each of which
starts with "./": a file called "javascript:alert(1)" stays a file.
"""

from __future__ import annotations

import html
import json
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent

from hemi.web.errors import HTTPError
from hemi.web.uri import quote_path

if TYPE_CHECKING:
    from hemi.fcache import Follow
    from hemi.web.request import Request
    from hemi.web.response import Response

MAX_ENTRIES = 10_000
"""The most entries that a listing has: 3 MB of page. More are of no use to anybody who looks."""

SORTS = ("name", "size", "time")

# Nothing may run or load in the page, whatever a file is called; the site's icon is shown.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'none'"


class Folder(NamedTuple):
    """What to list: the path in the URL, the folder on disk, and how to open it."""

    path: str
    name: str
    root: str
    follow: Follow
    with_dotfiles: bool
    open: Callable[[str, str, Follow], int]


class Entry(NamedTuple):
    """A file or folder. `size` in bytes, 0 for folders; `time` of the last change in Unix seconds."""

    name: str
    is_dir: bool
    size: int
    time: float


def send(req: Request, resp: Response, folder: Folder) -> None:
    """Answers with the listing, as JSON when the client prefers that to HTML.

    The work is done by a thread: a stat per file may wait for a disk, or for a file server.
    """
    as_json = req.accepts("text/html", "application/json") == "application/json"
    sort, order = req.query("sort") or "name", req.query("order") or ""
    sort = sort if sort in SORTS else "name"
    order = order if order in ("asc", "desc") else "asc" if sort == "name" else "desc"
    content: bytes = gevent.get_hub().threadpool.apply(_make, (folder, sort, order, as_json))
    resp.content_type = "application/json" if as_json else "text/html; charset=utf-8"
    resp.vary("accept")
    resp.set_header("cache-control", "no-cache")
    resp.set_header("content-security-policy", POLICY)
    resp.set_header("x-content-type-options", "nosniff")
    resp.set_etag(f"{zlib.crc32(content):x}-{len(content):x}", weak=True)
    resp.send(content)


def _make(folder: Folder, sort: str, order: str, as_json: bool) -> bytes:
    entries, truncated = scan(folder)
    entries = arrange(entries, sort, order)
    if as_json:
        return render_json(folder.path, entries, truncated)
    return render_html(folder.path, entries, sort, order, truncated)


# Reading the folder


def scan(folder: Folder) -> tuple[list[Entry], bool]:
    """The entries of a folder that could be fetched from it, and whether there are more than MAX_ENTRIES.

    Raises HTTPError 403 or 404 when it cannot be read.
    """
    entries: list[Entry] = []
    try:
        descriptor = folder.open(folder.name, folder.root, folder.follow)
        try:
            with os.scandir(descriptor) as found:
                for item in found:
                    entry = _entry(item, folder)
                    if entry is not None:
                        if len(entries) >= MAX_ENTRIES:
                            return entries, True
                        entries.append(entry)
        finally:
            os.close(descriptor)
    except PermissionError:
        raise HTTPError(403) from None
    except (FileNotFoundError, NotADirectoryError):
        raise HTTPError(404) from None
    return entries, False


def _entry(item: os.DirEntry[str], folder: Folder) -> Entry | None:
    if item.name.startswith(".") and not folder.with_dotfiles:
        return None
    try:
        if item.is_symlink() and not _may_follow(item.name, folder):
            return None
        status = item.stat()
    except OSError:  # a link to nowhere, or removed meanwhile
        return None
    is_dir = stat.S_ISDIR(status.st_mode)
    if not is_dir and not stat.S_ISREG(status.st_mode):
        return None
    return Entry(item.name, is_dir, 0 if is_dir else status.st_size, status.st_mtime)


def _may_follow(name: str, folder: Folder) -> bool:
    if folder.follow == "root":
        root = os.path.realpath(folder.root).rstrip("/")
        target = os.path.realpath(os.path.join(folder.name, name))
        return target == root or target.startswith(root + "/")
    return folder.follow == "always"


def arrange(entries: Iterable[Entry], sort: str, order: str) -> list[Entry]:
    """The entries in order, folders first; equal ones by name."""
    named = sorted(entries, key=lambda entry: (entry.name.lower(), entry.name))
    backwards = order == "desc"
    if sort == "name":
        if backwards:
            named.reverse()
    else:
        key: Callable[[Entry], Any] = (lambda one: one.size) if sort == "size" else (lambda one: one.time)
        named.sort(key=key, reverse=backwards)
    return [entry for entry in named if entry.is_dir] + [entry for entry in named if not entry.is_dir]


# JSON


def render_json(path: str, entries: list[Entry], truncated: bool) -> bytes:
    """The listing for programs: times in UTC (ISO 8601), sizes of files in bytes.

    Bytes of names that are no UTF-8 show as U+FFFD in `name`; `url` is right all the same.
    """
    items = [
        {"name": _shown(entry.name), "url": _link(entry), "type": "folder", "modified": _iso(entry.time)}
        if entry.is_dir
        else {
            "name": _shown(entry.name),
            "url": _link(entry),
            "type": "file",
            "size": entry.size,
            "modified": _iso(entry.time),
        }
        for entry in entries
    ]
    listing: dict[str, Any] = {"path": _shown(path), "entries": items}
    if truncated:
        listing["truncated"] = True
    return json.dumps(listing, ensure_ascii=False, separators=(",", ":")).encode()


# HTML

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --ink: #24292f; --faint: #6b737c; --mark: #2a6fdb;
  --line: #e4e5e3; --hover: #f1f3f6; --folder: #d9822b; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16191d; --ink: #e4e7ea; --faint: #949ca5; --mark: #7fb2ff; --line: #2b3036;
    --hover: #1f242a; --folder: #f0a352; }
}
* { box-sizing: border-box; margin: 0; }
body { padding: 2.5rem 1.25rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main, footer { max-width: 60rem; margin: 0 auto; }
h1 { margin-bottom: 1.25rem; padding: 0 .6rem; font-size: 1.35rem; font-weight: 600; line-height: 1.4;
  overflow-wrap: anywhere; }
h1 span { color: var(--faint); font-weight: 400; }
a { color: var(--mark); text-decoration: none; }
a:hover { text-decoration: underline; }
a:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; border-radius: 3px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-size: .85rem; font-weight: 500; border-bottom: 1px solid var(--line); }
th a { display: inline-block; padding: .45rem 0; color: var(--faint); }
th[aria-sort] a { color: var(--ink); }
th, td { padding: 0 .6rem; }
td { border-bottom: 1px solid var(--line); color: var(--faint); white-space: nowrap; }
td.name { width: 100%; white-space: normal; overflow-wrap: anywhere; }
td.name a { display: block; position: relative; padding: .5rem 0 .5rem 1.9rem; }
.size { text-align: right; }
tbody tr:hover td { background: var(--hover); }
svg { position: absolute; left: 0; top: .7rem; width: 1.2rem; height: 1.2rem; fill: none; stroke: var(--faint);
  stroke-width: 1.5; stroke-linejoin: round; }
.folder svg { stroke: var(--folder); fill: color-mix(in srgb, var(--folder) 22%, transparent); }
.folder a { color: var(--ink); font-weight: 500; }
p.none { padding: 2.5rem 0; text-align: center; color: var(--faint); }
footer { display: flex; justify-content: space-between; padding: 1rem .6rem; color: var(--faint); font-size: .85rem; }
@media (max-width: 38rem) {
  body { padding: 1.25rem .5rem; }
  .time { display: none; }
}
"""

# Drawn once and used by reference: a row stays small.
_ICONS = """<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>
<path id="d" d="M2.5 6.2c0-1 .7-1.7 1.7-1.7h3.6l2 2.2h6c1 0 1.7.7 1.7 1.7
v6.4c0 1-.7 1.7-1.7 1.7H4.2c-1 0-1.7-.7-1.7-1.7z"/>
<path id="f" d="M5.2 2.5h6l3.6 3.6v9.9c0 .8-.7 1.5-1.5 1.5H5.2c-.8 0-1.5-.7-1.5-1.5V4
c0-.8.7-1.5 1.5-1.5zM11 2.7v3.6h3.6"/>
<path id="u" d="M10 16.5V4.5M5 9.2l5-5 5 5"/>
</defs></svg>
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{icons}<main>
<h1>{crumbs}</h1>
<table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}</tbody>
</table>
{note}</main>
<footer><span>{summary}</span><span>gorox</span></footer>
</body>
</html>
"""

_ROW = (
    '<tr{kind}><td class="name"><a href="{link}"><svg viewBox="0 0 20 20" aria-hidden="true">'
    '<use href="#{icon}"/></svg>{name}</a></td><td class="size"{bytes}>{size}</td><td class="time">{time}</td></tr>\n'
)


def render_html(path: str, entries: list[Entry], sort: str, order: str, truncated: bool) -> bytes:
    """The listing as a page."""
    rows = []
    if path != "/":
        rows.append(
            _ROW.format(kind=' class="up"', link="../", icon="u", name="..", bytes="", size="", time="")
        )
    rows += [_row(entry) for entry in entries]
    note = ""
    if truncated:
        note = f'<p class="none">There are more entries; {len(entries):,} are shown.</p>\n'
    elif not entries:
        note = '<p class="none">This folder is empty.</p>\n'
    page = _PAGE.format(
        title=html.escape(_shown(path)),
        style=_STYLE,
        icons=_ICONS,
        crumbs=_crumbs(path),
        heads="".join(_head(column, sort, order) for column in SORTS),
        rows="".join(rows),
        note=note,
        summary=_summary(entries),
    )
    return page.encode()


def _row(entry: Entry) -> str:
    moment = time.gmtime(entry.time)
    return _ROW.format(
        kind=' class="folder"' if entry.is_dir else "",
        link=html.escape(_link(entry)),
        icon="d" if entry.is_dir else "f",
        name=html.escape(_shown(entry.name)),
        bytes="" if entry.is_dir else f' title="{_count(entry.size, "byte")}"',
        size="" if entry.is_dir else human_size(entry.size),
        time=f'<time datetime="{time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)}">'
        f"{time.strftime('%Y-%m-%d %H:%M', moment)}</time>",
    )


_TITLES = {"name": "Name", "size": "Size", "time": "Modified (UTC)"}


def _head(column: str, sort: str, order: str) -> str:
    """The head of a column: a link that sorts by it, the other way round if that is so already."""
    first = "asc" if column == "name" else "desc"
    if column != sort:
        return f'<th class="{column}"><a href="?sort={column}&amp;order={first}">{_TITLES[column]}</a></th>'
    other = "desc" if order == "asc" else "asc"
    spoken, arrow = ("ascending", "↑") if order == "asc" else ("descending", "↓")
    return (
        f'<th class="{column}" aria-sort="{spoken}"><a href="?sort={column}&amp;order={other}">'
        f"{_TITLES[column]} {arrow}</a></th>"
    )


def _crumbs(path: str) -> str:
    """The path as links to the folders above, the last one plain."""
    names = [name for name in path.split("/") if name]
    if not names:
        return "/"
    links = ['<a href="/">/</a>']
    for at, name in enumerate(names[:-1], 1):
        target = quote_path("/" + "/".join(names[:at]) + "/")
        links.append(f'<a href="{html.escape(target)}">{html.escape(_shown(name))}</a> <span>/</span>')
    return " ".join([*links, html.escape(_shown(names[-1]))])


def _summary(entries: list[Entry]) -> str:
    folders = sum(entry.is_dir for entry in entries)
    files = len(entries) - folders
    parts = [_count(folders, "folder")] if folders else []
    if files:
        parts.append(f"{_count(files, 'file')}, {human_size(sum(entry.size for entry in entries))}")
    return " · ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def human_size(size: int) -> str:
    """A size for people, in units of 1024 bytes: "0 B", "1.5 KB", "23 MB"."""
    if size < 1024:
        return f"{size} B"
    amount, power = size / 1024, 0
    while amount >= 999.5 and power < len(_UNITS) - 1:
        amount, power = amount / 1024, power + 1
    return f"{amount:.1f} {_UNITS[power]}" if amount < 9.95 else f"{amount:.0f} {_UNITS[power]}"


_UNITS = ("KB", "MB", "GB", "TB", "PB")


# Names


def _shown(name: str) -> str:
    """A name that can be shown: bytes that are no UTF-8, and characters that change how others read, as U+FFFD."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("\ufffd" if ord(char) < 32 or char in _DIRECTIONS else char for char in text)


_DIRECTIONS = frozenset(
    "\x7f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # "exe.txt" shown backwards


def _link(entry: Entry) -> str:
    return "./" + quote_path(entry.name) + ("/" if entry.is_dir else "")


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
