"""Listings of folders: what they show, in which order, and what they must not let through."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from gevent import subprocess

import hemi.builtin  # noqa: F401  registers its components
from hemi.builtin.handlets import autoindex
from hemi.builtin.handlets.autoindex import Entry, arrange, human_size, render_html, render_json
from tests.webkit import Site, serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MTIME = 1_700_000_000  # 2023-11-14 22:13:20 UTC


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    for name, size in {"b.txt": 10, "A.txt": 3000, "c.txt": 200}.items():
        (root / name).write_bytes(b"x" * size)
        os.utime(root / name, (MTIME + size, MTIME + size))
    (root / ".hidden").write_bytes(b"")
    return root


@pytest.fixture
def site(root: Path) -> Iterator[Site]:
    with serve(rules=[{"handlets": [{"static": {"web_root": str(root), "auto_index": True}}]}]) as site:
        yield site


def links(page: bytes) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'<td class="name"><a href="([^"]*)"', page.decode())]


def test_a_page(site: Site) -> None:
    answer = site.get("/", accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.status == 200
    assert answer.header("content-type") == "text/html; charset=utf-8"
    assert answer.header("vary") == "accept"
    assert "default-src 'none'" in (answer.header("content-security-policy") or "")
    assert links(answer.content) == ["./sub/", "./A.txt", "./b.txt", "./c.txt"]
    page = answer.content.decode()
    assert "2.9 KB" in page and 'title="3,000 bytes"' in page
    assert '<time datetime="2023-11-14T22:13:30Z">2023-11-14 22:13</time>' in page
    assert "1 folder · 3 files, 3.1 KB" in page
    assert "http" not in page, "nothing is loaded from elsewhere"


def test_below_the_root(site: Site) -> None:
    page = site.get("/sub/").content
    assert links(page) == ["../", "./deep/"]
    assert b'<a href="/">/</a> sub' in page
    page = site.get("/sub/deep/").content
    assert b'<a href="/sub/">sub</a>' in page
    assert b"This folder is empty." in page
    assert site.get("/sub").header("location") == "/sub/"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=name&order=desc", "c b A"),
        ("sort=size", "A c b"),
        ("sort=size&order=asc", "b c A"),
        ("sort=time", "A c b"),
        ("sort=time&order=asc", "b c A"),
        ("sort=%3Cscript%3E&order=%22", "A b c"),
    ],
)
def test_sorting(site: Site, query: str, expected: str) -> None:
    page = site.get(f"/?{query}").content
    assert links(page) == ["./sub/", *(f"./{name}.txt" for name in expected.split())], "folders stay first"
    assert b"<script" not in page


def test_the_heads_sort_the_other_way_round() -> None:
    page = render_html("/", [], "size", "desc", False).decode()
    assert '<a href="?sort=size&amp;order=asc">Size ↓</a>' in page
    assert '<a href="?sort=name&amp;order=asc">Name</a>' in page
    assert '<a href="?sort=time&amp;order=desc">' in page
    assert page.count("aria-sort=") == 1


def test_json(site: Site) -> None:
    answer = site.get("/", accept="application/json")
    assert answer.header("content-type") == "application/json"
    listing = json.loads(answer.content)
    assert listing["path"] == "/"
    assert [entry["name"] for entry in listing["entries"]] == ["sub", "A.txt", "b.txt", "c.txt"]
    assert listing["entries"][2] == {
        "name": "b.txt",
        "url": "./b.txt",
        "type": "file",
        "size": 10,
        "modified": "2023-11-14T22:13:30Z",
    }
    assert (
        site.get("/", accept="application/json;q=0.5, text/html").header("content-type") != "application/json"
    )


def test_a_listing_that_did_not_change_is_304(site: Site, root: Path) -> None:
    etag = site.get("/").header("etag") or ""
    assert etag.startswith("W/")
    assert site.get("/", if_none_match=etag).status == 304
    (root / "new.txt").write_bytes(b"")
    assert site.get("/", if_none_match=etag).status == 200


def test_the_index_file_goes_before(site: Site, root: Path) -> None:
    (root / "index.html").write_bytes(b"index")
    assert site.get("/").content == b"index"


HOSTILE = [
    "<script>alert(1)<",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "https:evil.example",
    "a?b#c",
    "100%41",
    "a b+c&amp;d",
    "'quoted'",
    "\\back",
    "line\nbreak",
    "gr\u00fc\u00dfe",
    "txt.\u202eexe",
    os.fsdecode(b"latin-\xe9"),
]


def test_hostile_names(site: Site, root: Path) -> None:
    for name in HOSTILE:
        (root / "sub" / name).write_bytes(b"content")
    page = site.get("/sub/").content
    text = page.decode()
    assert "<script" not in text and "<img" not in text
    assert "\u202e" not in text, "nothing turns the line round"
    found = links(page)[2:]
    assert len(found) == len(HOSTILE)
    for link in found:
        assert link.startswith("./")
        url = urljoin("http://site.example/sub/", link)
        assert url.startswith("http://site.example/sub/")
        name = os.fsdecode(unquote_to_bytes(link[2:]))
        assert name in HOSTILE
        expected = 404 if "\\" in name else 200
        assert site.get(link[1:].join(["/sub", ""])).status == expected, name


def test_only_what_can_be_fetched_is_listed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    os.mkfifo(root / "fifo")
    (root / "inside").symlink_to("b.txt")
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "dangling").symlink_to("nowhere")
    expected = {
        "within_root": {"inside"},
        "always": {"inside", "outside"},
        "never": set(),
    }
    for symlinks, more in expected.items():
        props: dict[str, Any] = {"web_root": str(root), "auto_index": True, "symlinks": symlinks}
        with serve(rules=[{"handlets": [{"static": props}]}]) as site:
            listed = {link[2:] for link in links(site.get("/").content)}
            assert listed == {"sub/", "A.txt", "b.txt", "c.txt"} | more


def test_dotfiles_that_are_served_are_listed(root: Path) -> None:
    props: dict[str, Any] = {"web_root": str(root), "auto_index": True, "dotfiles": "serve"}
    with serve(rules=[{"handlets": [{"static": props}]}]) as site:
        assert "./.hidden" in links(site.get("/").content)


def test_there_may_be_too_many(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoindex, "MAX_ENTRIES", 2)
    page = site.get("/").content
    assert len(links(page)) == 2
    assert b"There are more entries; 2 are shown." in page
    assert json.loads(site.get("/", accept="application/json").content)["truncated"] is True


@pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="needs the package chromium")
def test_a_browser_shows_it(site: Site, root: Path, tmp_path: Path) -> None:
    for name in ("<b>bold<", "javascript:alert(1)"):
        (root / name).write_bytes(b"")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        "--window-size=800,600",
        "--virtual-time-budget=2000",
        "--dump-dom",
    ]
    command = [CHROMIUM or "chromium", *options, f"--user-data-dir={tmp_path / 'browser'}"]
    shown = subprocess.run([*command, f"http://{site.address}/"], capture_output=True, timeout=60, check=True)
    dom, console = shown.stdout.decode(), shown.stderr.decode()
    assert [html.unescape(name) for name in re.findall("</svg>([^<]*)</a>", dom)] == [
        "sub",
        "<b>bold<",
        "A.txt",
        "b.txt",
        "c.txt",
        "javascript:alert(1)",
    ]
    assert "CONSOLE" not in console, "the page breaks its own policy, or has an error"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (1536, "1.5 KB"),
        (10188, "9.9 KB"),
        (10200, "10 KB"),
        (1023 * 1024, "1.0 MB"),
        (10 << 20, "10 MB"),
        (1 << 40, "1.0 TB"),
        (1 << 70, "1048576 PB"),
    ],
)
def test_human_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


def test_arrange_is_stable() -> None:
    entries = [Entry("b", False, 1, 1.0), Entry("a", False, 1, 1.0), Entry("z", True, 0, 0.0)]
    assert [one.name for one in arrange(entries, "size", "desc")] == ["z", "a", "b"]


def test_json_of_names_that_are_no_text() -> None:
    listing = json.loads(render_json("/", [Entry(os.fsdecode(b"\xff"), False, 1, 0.0)], False))
    assert listing["entries"][0]["name"] == "\ufffd"
    assert listing["entries"][0]["url"] == "./%FF"
