"""Static files over a real server: what is found, what is said about it, and which part is sent."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from hemi.web.dates import format_date
from tests.webkit import Answer, Site, config, hello, load, scripted, serve

BIG = bytes(range(256)) * 1024  # 256 KiB: kept as a descriptor
MTIME = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of files, all with the same time."""
    root = tmp_path / "root"
    for name, content in {
        "hello.txt": b"hello, world",
        "page.html": b"<p>page",
        "app.js": b"let x = 1;" * 30,
        "data.json": b"{}",
        "README": b"read me",
        "unknown.xyz": b"?",
        "empty.txt": b"",
        "big.bin": BIG,
        ".env": b"SECRET=1",
        ".git/config": b"[core]",
        "docs/.hidden/x": b"x",
        ".well-known/acme/token": b"token",
        ".well-known/.secret": b"no",
        "docs/index.html": b"<p>docs",
        "plain/a.txt": b"a",
        "gr\u00f6\u00dfe & 100%.txt": b"umlaut",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        os.utime(root / name, (MTIME, MTIME))
    return root


@contextmanager
def files(root: Path | None, rules: list[dict[str, Any]] | None = None, **props: Any) -> Iterator[Site]:
    """A site of one static handlet."""
    rules = rules or [{"handlets": [{"static": props}]}]
    with serve(rules=rules, webapp={"web_root": str(root)} if root else {}) as site:
        yield site


def problems(root: Path | None, **props: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(
            config(rules=[{"handlets": [{"static": props}]}], webapp={"web_root": str(root)} if root else {})
        )
    return str(caught.value)


def head(site: Site, target: str, **fields: str) -> Answer:
    with site.connect() as client:
        client.request("HEAD", target, {name.replace("_", "-"): value for name, value in fields.items()})
        answer = client.answer("HEAD")
        client.request("GET", "/hello.txt")
        assert client.answer().content == b"hello, world", "the HEAD sent content"
    return answer


# What is found


def test_a_file(root: Path) -> None:
    with files(root) as site:
        for _ in range(2):  # read, then kept
            answer = site.get("/hello.txt")
            assert (answer.status, answer.content) == (200, b"hello, world")
            assert answer.header("content-type") == "text/plain; charset=utf-8"
            assert answer.header("last-modified") == format_date(MTIME).decode()
            assert answer.header("accept-ranges") == "bytes"
            assert answer.header("cache-control") is None
            assert answer.header("vary") is None
            etag = answer.header("etag") or ""
            assert etag.startswith('"') and etag.endswith('-c"')


def test_a_big_file_is_sent_from_its_descriptor(root: Path) -> None:
    with files(root) as site:
        answer = site.get("/big.bin")
        assert (answer.status, answer.content) == (200, BIG)
        assert answer.header("content-type") == "application/octet-stream"
        kept = site.stage.fcache.cache.large
        assert [file.users for file in kept.values()] == [0], "the descriptor is given back"


@pytest.mark.parametrize("target", ["/hello.txt", "/big.bin", "/empty.txt", "/docs/"])
def test_head_is_get_without_content(root: Path, target: str) -> None:
    with files(root) as site:
        got, answer = site.get(target), head(site, target)
        assert [pair for pair in got.fields if pair[0] != "date"] == [
            pair for pair in answer.fields if pair[0] != "date"
        ]


def test_names_are_decoded_once(root: Path) -> None:
    with files(root) as site:
        assert site.get("/gr%C3%B6%C3%9Fe%20&%20100%25.txt").content == b"umlaut"
        assert site.get("/hello%2etxt").content == b"hello, world"
        assert site.get("/hello%252etxt").status == 404


@pytest.mark.parametrize(
    "name", ["a.html/", "nothing", "hello.txt/", "docs/nothing/", "x" * 300, "HELLO.TXT"]
)
def test_what_is_not_there_is_404(root: Path, name: str) -> None:
    with files(root) as site:
        assert site.get("/" + name).status == 404


def test_a_file_that_changes_is_seen(root: Path) -> None:
    with serve(
        rules=[{"handlets": ["static"]}],
        webapp={"web_root": str(root)},
        stage={"fcache": {"cache_timeout": 0}},
    ) as site:
        first = site.get("/hello.txt")
        (root / "hello.txt").write_bytes(b"other")
        second = site.get("/hello.txt")
        assert second.content == b"other"
        assert first.header("etag") != second.header("etag")
        (root / "hello.txt").unlink()
        assert site.get("/hello.txt").status == 404


def test_methods(root: Path) -> None:
    with files(root) as site, site.connect() as client:
        for method in ("POST", "PUT", "DELETE", "PROPFIND"):
            client.request(method, "/hello.txt", content=b"")
            answer = client.answer()
            assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS")
        client.request("OPTIONS", "/hello.txt")
        answer = client.answer()
        assert (answer.status, answer.header("allow"), answer.content) == (204, "GET, HEAD, OPTIONS", b"")


def test_fallthrough_declines(root: Path) -> None:
    rules = [{"handlets": [{"static": {"fallthrough": True}}]}, {"handlets": [scripted(hello)]}]
    with files(root, rules) as site, site.connect() as client:
        assert site.get("/hello.txt").content == b"hello, world"
        for target in ("/nothing", "/plain/", "/plain", "/.env", "/a%5cb"):
            assert site.get(target).content == b"hello", target
        assert site.get("/docs").status == 301
        for method in ("POST", "OPTIONS"):
            client.request(method, "/hello.txt", content=b"")
            assert client.answer().content == b"hello"


# Folders


def test_folders(root: Path) -> None:
    with files(root) as site:
        assert site.get("/docs/").content == b"<p>docs"
        assert site.get("/plain/").status == 403, "neither an index nor a listing"
        assert site.get("/plain").status == 403
        answer = site.get("/docs?a=1&b=%2F")
        assert (answer.status, answer.header("location")) == (301, "/docs/?a=1&b=%2F")


def test_index_files_in_order(root: Path) -> None:
    (root / "docs" / "start.html").write_bytes(b"start")
    with files(root, index_file=["none.html", "start.html", "index.html"]) as site:
        assert site.get("/docs/").content == b"start"


def test_an_index_that_is_a_folder_is_none(root: Path) -> None:
    (root / "plain" / "index.html").mkdir()
    with files(root) as site:
        assert site.get("/plain/").status == 403


@pytest.mark.parametrize(
    "target", ["//evil.example", "/%2fevil.example", "//evil.example/..", "/./%2f%2fevil.example"]
)
def test_a_redirection_stays_here(root: Path, target: str) -> None:
    (root / "evil.example").mkdir()
    (root / "evil.example" / "index.html").write_bytes(b"")
    with files(root, auto_index=True) as site:
        location = site.get(target).header("location")
        assert location in ("/evil.example/", None)


def test_alias(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "a.txt").write_bytes(b"other a")
    (other / "index.html").write_bytes(b"other index")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    with files(root, alias={"/static/": str(other), "/static/docs": str(root / "docs")}) as site:
        assert site.get("/static/a.txt").content == b"other a"
        assert site.get("/static/").content == b"other index"
        assert site.get("/static").header("location") == "/static/"
        assert site.get("/static/docs/").content == b"<p>docs", "the longest prefix counts"
        assert site.get("/hello.txt").content == b"hello, world"
        for target in ("/statica.txt", "/static../secret.txt", "/static/..%2fsecret.txt", "/static%2f../x"):
            assert site.get(target).status == 404, target


def test_alias_without_web_root(root: Path) -> None:
    with files(None, alias={"/files": str(root)}) as site:
        assert site.get("/files/hello.txt").content == b"hello, world"
        assert site.get("/hello.txt").status == 404


def test_try(root: Path) -> None:
    with files(root, **{"try": ["$path", "$path.html", "$path/", "/docs/index.html"]}) as site:
        assert site.get("/hello.txt").content == b"hello, world"
        assert site.get("/page").content == b"<p>page"
        assert site.get("/docs").header("location") == "/docs/"
        assert site.get("/docs/").content == b"<p>docs"
        for target in ("/some/route", "/plain", "/plain/", "/", "/.env"):
            assert site.get(target).content == b"<p>docs", target


def test_try_ends_with_a_status(root: Path) -> None:
    with files(root, **{"try": ["$path", "=410"]}) as site:
        assert site.get("/hello.txt").status == 200
        assert site.get("/nothing").status == 410


@pytest.mark.parametrize(
    "value", ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "a\\b", "%00", ".env", ""]
)
def test_try_with_what_clients_say(root: Path, tmp_path: Path, value: str) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    for symlinks in ("within_root", "always"):
        with files(root, symlinks=symlinks, **{"try": ["/$query_file", "=404"]}) as site:
            assert site.get(f"/?file={value}").status == 404
            assert site.get("/?file=hello.txt").status == 200


# Policies


def test_dotfiles(root: Path) -> None:
    with files(root) as site:
        for target in ("/.env", "/.git/config", "/docs/.hidden/x", "/.well-known/.secret", "/.git", "/.git/"):
            assert site.get(target).status == 404, target
        assert site.get("/.well-known/acme/token").content == b"token"
    with files(root, dotfiles="serve") as site:
        assert site.get("/.env").content == b"SECRET=1"
        assert site.get("/.git/config").content == b"[core]"


@pytest.mark.parametrize(
    ("symlinks", "inside", "outside"), [("within_root", 200, 403), ("always", 200, 200), ("never", 403, 403)]
)
def test_symlinks(root: Path, tmp_path: Path, symlinks: str, inside: int, outside: int) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (root / "inside.txt").symlink_to("hello.txt")
    (root / "outside.txt").symlink_to("../secret.txt")
    (root / "absolute.txt").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to("..")
    (root / "dangling.txt").symlink_to("nowhere")
    with files(root, symlinks=symlinks) as site:
        assert site.get("/inside.txt").status == inside
        for target in ("/outside.txt", "/absolute.txt", "/up/secret.txt"):
            assert site.get(target).status == outside, target
        assert site.get("/dangling.txt").status == 404


def test_types(root: Path) -> None:
    with files(root, mime_types={".xyz": "text/x-own", "JSON": "application/x-json"}) as site:
        for target, expected in {
            "/page.html": "text/html; charset=utf-8",
            "/app.js": "text/javascript; charset=utf-8",
            "/data.json": "application/x-json",
            "/README": "application/octet-stream",
            "/unknown.xyz": "text/x-own; charset=utf-8",
        }.items():
            assert site.get(target).header("content-type") == expected
    with files(root, default_type="text/plain", charset="latin-1") as site:
        assert site.get("/README").header("content-type") == "text/plain; charset=latin-1"
        assert site.get("/page.html").header("content-type") == "text/html; charset=latin-1"
    with files(root, charset="") as site:
        assert site.get("/page.html").header("content-type") == "text/html"


def test_cache_control(root: Path) -> None:
    with files(root, cache_control="max-age=60") as site:
        assert site.get("/hello.txt").header("cache-control") == "max-age=60"
    with files(root, cache_control={".html": "no-cache", "js": "immutable", "*": "max-age=1"}) as site:
        assert site.get("/docs/").header("cache-control") == "no-cache"
        assert site.get("/app.js").header("cache-control") == "immutable"
        assert site.get("/README").header("cache-control") == "max-age=1"
        assert site.get("/big.bin").header("cache-control") == "max-age=1"
        assert site.get("/nothing").header("cache-control") is None


# Conditions (RFC 9110 §13) and ranges (§14)


@pytest.mark.parametrize("target", ["/hello.txt", "/big.bin"])
def test_conditions(root: Path, target: str) -> None:
    with files(root, cache_control="max-age=60") as site:
        whole = site.get(target)
        etag, date = whole.header("etag") or "", whole.header("last-modified") or ""
        old = format_date(MTIME - 10).decode()
        for fields, status in [
            ({"if_none_match": etag}, 304),
            ({"if_none_match": f'"other", W/{etag}'}, 304),
            ({"if_none_match": "*"}, 304),
            ({"if_none_match": '"other"'}, 200),
            ({"if_modified_since": date}, 304),
            ({"if_modified_since": old}, 200),
            ({"if_none_match": '"other"', "if_modified_since": date}, 200),  # the tag goes before the date
            ({"if_match": etag}, 200),
            ({"if_match": '"other"'}, 412),
            ({"if_match": f"W/{etag}"}, 412),
            ({"if_unmodified_since": date}, 200),
            ({"if_unmodified_since": old}, 412),
            ({"if_match": etag, "if_unmodified_since": old}, 200),
            ({"if_match": '"other"', "if_none_match": etag}, 412),
        ]:
            answer = site.get(target, **fields)
            assert answer.status == status, fields
            if status == 304:
                assert answer.content == b""
                assert answer.header("etag") == etag
                assert answer.header("cache-control") == "max-age=60"
                assert answer.header("content-type") is None


@pytest.mark.parametrize(("target", "content"), [("/hello.txt", b"hello, world"), ("/big.bin", BIG)])
def test_one_range(root: Path, target: str, content: bytes) -> None:
    size = len(content)
    with files(root) as site:
        for given, start, stop in [("0-4", 0, 5), ("7-", 7, size), ("-5", size - 5, size), ("2-2", 2, 3)]:
            answer = site.get(target, range=f"bytes={given}")
            assert (answer.status, answer.content) == (206, content[start:stop])
            assert answer.header("content-range") == f"bytes {start}-{stop - 1}/{size}"
            assert answer.header("content-type") == site.get(target).header("content-type")
        answer = site.get(target, range=f"bytes={size}-")
        assert (answer.status, answer.header("content-range")) == (416, f"bytes */{size}")
        for ignored in ("bytes=5-2", "lines=1-2", "bytes=x", "bytes="):
            assert site.get(target, range=ignored).status == 200
        assert head(site, target, range="bytes=0-1").header("content-length") == str(size)


def test_several_ranges(root: Path) -> None:
    with files(root) as site:
        answer = site.get("/big.bin", range="bytes=0-1,1000-1003,-2")
        assert answer.status == 206
        kind, _, boundary = (answer.header("content-type") or "").partition("; boundary=")
        assert kind == "multipart/byteranges"
        parts = answer.content.split(b"--" + boundary.encode())
        assert parts[0] == b"" and parts[-1] == b"--\r\n"
        size = len(BIG)
        for part, (start, stop) in zip(parts[1:-1], [(0, 2), (1000, 1004), (size - 2, size)], strict=True):
            lines, _, content = part.partition(b"\r\n\r\n")
            assert f"Content-Range: bytes {start}-{stop - 1}/{size}".encode() in lines
            assert content == BIG[start:stop] + b"\r\n"
        assert site.get("/big.bin", range="bytes=" + ",".join(["0-"] * 20)).status == 200


def test_several_ranges_of_what_is_in_memory(root: Path) -> None:
    (root / "kept.bin").write_bytes(BIG[:4096])
    with files(root) as site:
        answer = site.get("/kept.bin", range="bytes=0-1,1000-1003")
        assert answer.status == 206
        assert b"\r\n\r\n" + BIG[1000:1004] + b"\r\n--" in answer.content


def test_if_range(root: Path) -> None:
    with files(root) as site:
        whole = site.get("/big.bin")
        for validator in (whole.header("etag"), whole.header("last-modified")):
            assert site.get("/big.bin", range="bytes=0-1", if_range=validator or "").status == 206
        for validator in ('"other"', f"W/{whole.header('etag')}", format_date(MTIME + 1).decode()):
            assert site.get("/big.bin", range="bytes=0-1", if_range=validator).status == 200


# Files that were compressed before


def test_precompressed(root: Path) -> None:
    compressed = zlib.compress((root / "app.js").read_bytes(), wbits=31)
    for suffix in (".gz", ".br"):
        (root / f"app.js{suffix}").write_bytes(compressed + suffix.encode())
        os.utime(root / f"app.js{suffix}", (MTIME, MTIME))
    with files(root, precompressed=["br", "gzip"], cache_control={"js": "immutable"}) as site:
        tags = set()
        for accepted, coding in {
            "gzip, br": "br",
            "gzip": "gzip",
            "br;q=0.5, gzip": "gzip",
            "identity": None,
            "zstd": None,
            "gzip;q=0": None,
            "*": "br",
        }.items():
            answer = site.get("/app.js", accept_encoding=accepted)
            assert (answer.status, answer.header("content-encoding")) == (200, coding), accepted
            assert answer.header("vary") == "accept-encoding"
            assert answer.header("content-type") == "text/javascript; charset=utf-8"
            assert answer.header("cache-control") == "immutable"
            tags.add(answer.header("etag"))
            unchanged = site.get(
                "/app.js", accept_encoding=accepted, if_none_match=answer.header("etag") or ""
            )
            assert (unchanged.status, unchanged.header("vary")) == (304, "accept-encoding")
        assert len(tags) == 3, "a tag for each coding"
        assert site.get("/app.js").header("content-encoding") is None
        part = site.get("/app.js", accept_encoding="gzip", range="bytes=0-1")
        assert (part.status, part.content) == (206, compressed[:2])
        assert site.get("/hello.txt", accept_encoding="gzip").header("vary") is None, "there is no other one"
        direct = site.get("/app.js.gz", accept_encoding="gzip")
        assert direct.header("content-type") == "application/gzip"
        assert direct.header("content-encoding") is None
        assert site.get("/app.js", accept_encoding="gzip").header("content-encoding") == "gzip"


def test_precompressed_is_not_older(root: Path) -> None:
    (root / "app.js.gz").write_bytes(b"old")
    os.utime(root / "app.js.gz", (MTIME - 1, MTIME - 1))
    with files(root, precompressed=["gzip"]) as site:
        answer = site.get("/app.js", accept_encoding="gzip")
        assert (answer.header("content-encoding"), answer.header("vary")) == (None, None)


def test_a_big_precompressed_file(root: Path) -> None:
    (root / "big.bin.gz").write_bytes(BIG[::-1])
    with files(root, precompressed=["gzip"]) as site:
        assert site.get("/big.bin", accept_encoding="gzip").content == BIG[::-1]
        assert site.get("/big.bin").content == BIG


def test_handlets_that_share_a_file_keep_apart(root: Path) -> None:
    rules = [
        {"if": '$query_a == "1"', "handlets": [{"static": {"cache_control": "max-age=1"}}]},
        {"handlets": [{"static": {"cache_control": "max-age=2"}}]},
    ]
    with files(root, rules) as site:
        for query, expected in [("a=1", "max-age=1"), ("a=2", "max-age=2"), ("a=1", "max-age=1")]:
            assert site.get(f"/hello.txt?{query}").header("cache-control") == expected


# What must not be


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({"alias": {"files/": "/x"}}, 'alias must have normal paths such as "/assets/", not "files/"'),
        ({"alias": {"/a/../b": "/x"}}, 'not "/a/../b"'),
        ({"index_file": ["../x"]}, 'index_file must be names of files, not "../x"'),
        ({"try": ["=404", "$path"]}, 'must have "=404" at its end'),
        ({"try": ["=999"]}, 'must have statuses such as =404, not "=999"'),
        ({"try": ["index.html"]}, 'must have paths that start with "/" or a variable, not "index.html"'),
        ({"try": ["$nothing"]}, "there is no variable $nothing"),
        ({"mime_types": {"x": "html"}}, 'mime_types must be media types such as "text/html", not "html"'),
        ({"default_type": "a/b\r\nx: y"}, "default_type must be media types"),
        ({"charset": "a b"}, 'charset must be a charset such as "utf-8", not "a b"'),
        ({"cache_control": {"js": "a\nb"}}, "cache_control must be a field value"),
        ({"symlinks": "some"}, "symlinks must be"),
        ({"precompressed": ["lzma"]}, "precompressed must be"),
    ],
)
def test_problems(root: Path, props: dict[str, Any], message: str) -> None:
    assert message in problems(root, **props)


def test_problems_of_roots(root: Path) -> None:
    assert "web_root is required, unless there is an alias" in problems(None)
    assert 'web_root must be a folder, which "' in problems(None, web_root=str(root / "hello.txt"))
    with files(root / "nowhere") as site:
        assert "there is no folder" in site.log.of("warning", "static")[0].message
        assert site.get("/").status == 404


def test_the_call_budget(root: Path) -> None:
    """A kept small file costs few Python calls: they are exact, where times are noise."""
    calls: list[str] = []

    def count(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    def counted(req: Any, resp: Any) -> bool:
        sys.setprofile(count)
        try:
            return handle(req, resp)  # type: ignore[no-any-return]
        finally:
            sys.setprofile(None)

    with files(root) as site:
        rule = site.stage.members["webapps"]["app"].rules[0]  # type: ignore[attr-defined]
        handle = rule.handlets[0].handle
        chain = site.stage.members["webapps"]["app"]
        chain.chain = ((None, counted, rule),)  # type: ignore[attr-defined]
        site.get("/hello.txt")
        calls.clear()
        site.get("/hello.txt")
    inside = calls[: next(at for at, name in enumerate(calls) if name.endswith("send_whole"))]
    assert len(inside) <= 8, inside
