"""SECURITY.md, row 10: paths that climb, links that lead out, files that are none. Raw bytes over a real server."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

import hemi.builtin  # noqa: F401  registers its components
from tests.webkit import Answer, Client, Site, serve

SECRET = b"the secret outside of the root"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a secret beside it, above it, and in a folder whose name begins the same."""
    root = tmp_path / "site" / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(b"index")
    (root / "sub" / "file.txt").write_bytes(b"file")
    for folder in (
        tmp_path,
        tmp_path / "site",
        tmp_path / "site" / "root-old",
        tmp_path / "site" / "root.bak",
    ):
        folder.mkdir(exist_ok=True)
        (folder / "secret.txt").write_bytes(SECRET)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(SECRET)
    return root


@pytest.fixture(params=["within_root", "always", "never"])
def site(request: Any, root: Path) -> Iterator[Site]:
    """A site for each policy of symbolic links: none of them has a say about paths."""
    static = {
        "symlinks": request.param,
        "auto_index": True,
        "dotfiles": "serve",
        "alias": {"/files/": str(root / "sub")},
        "precompressed": ["gzip"],
    }
    rules = [
        {
            "if": '$path ^= "/try/"',
            "handlets": [{"static": {**static, "try": ["$path", "/$query_f", "=404"]}}],
        },
        {"handlets": [{"static": static}]},
    ]
    with serve(rules=rules, webapp={"web_root": str(root)}) as site:
        yield site


def ask(client: Client, target: bytes, method: bytes = b"GET") -> Answer:
    client.send(method + b" " + target + b" HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n")
    return client.answer(method.decode())


UPS = [
    b"..",
    b"%2e%2e",
    b".%2e",
    b"%2E.",
    b"%252e%252e",
    b"..%00",
    b"..;",
    b"...",
    b"..%20",
    b"%c0%ae%c0%ae",
    b"%e0%80%ae%e0%80%ae",
    b"%u002e%u002e",
    b"\xc0\xae\xc0\xae",
    b"\xef\xbc\x8e\xef\xbc\x8e",
    b"%ef%bc%8e%ef%bc%8e",
    b"..%0d",
]
SLASHES = [
    b"/",
    b"%2f",
    b"%2F",
    b"%252f",
    b"\\",
    b"%5c",
    b"%255c",
    b"//",
    b"/./",
    b"%c0%af",
    b"%e2%88%95",
    b"\xe2\x88\x95",
    b"/%00/",
]
PREFIXES = [b"/", b"/sub", b"/sub/", b"/files", b"/files/", b"/try/", b"//", b"/.", b"/index.html/"]
GOALS = [b"secret.txt", b"etc/passwd", b"root-old/secret.txt"]


def attacks() -> Iterator[bytes]:
    """Every way to write "up" with every way to write "/", once to three times."""
    for up, slash, prefix in itertools.product(UPS, SLASHES, PREFIXES):
        for times, goal in ((1, GOALS[0]), (2, GOALS[1]), (3, GOALS[0])):
            yield prefix + (up + slash) * times + goal
    for prefix, goal in itertools.product(PREFIXES, GOALS):
        yield prefix + b"sub/../../" + goal


def test_no_path_climbs(site: Site) -> None:
    seen: set[int] = set()
    client = site.connect()
    for target in attacks():
        answer = ask(client, target)
        seen.add(answer.status)
        assert SECRET not in answer.content, target
        if answer.status == 200:  # `try` went on to its next step, the root
            assert target.startswith(b"/try/") and answer.content == b"index", target
        else:
            assert answer.status in (301, 400, 403, 404), (answer.status, target)
        if answer.status == 301:
            location = answer.header("location") or ""
            assert location[:1] == "/" and location[1:2] not in ("/", "\\")
        if answer.closes:
            client.close()
            client = site.connect()
    client.close()
    assert {400, 404} <= seen
    assert not site.log.of("error"), "no attack got as far as an exception"


@pytest.mark.parametrize(
    "target",
    [
        b"/../secret.txt",
        b"/%2e%2e/secret.txt",
        b"/..%2fsecret.txt",
        b"/sub/../../secret.txt",
        b"/sub/%2e%2e%2f%2e%2e%2fsecret.txt",
        b"/sub%00/file.txt",
        b"/sub/file.txt%00.html",
        b"/%",
        b"/%2",
        b"/%zz",
    ],
)
def test_above_the_root_and_nul_are_400(site: Site, target: bytes) -> None:
    with site.connect() as client:
        answer = ask(client, target)
        assert (answer.status, answer.closes) == (400, True)


@pytest.mark.parametrize(
    "target", [b"/sub/..\\..\\secret.txt", b"/..%5csecret.txt", b"/sub\\file.txt", b"/c:/x", b"/C:\\x"]
)
def test_a_backslash_is_no_slash(site: Site, target: bytes) -> None:
    with site.connect() as client:
        assert ask(client, target).status == 404


def test_decoding_happens_once(site: Site, root: Path) -> None:
    (root / "%2e%2e").mkdir()
    (root / "%2e%2e" / "file.txt").write_bytes(b"a folder with an odd name")
    with site.connect() as client:
        assert ask(client, b"/%252e%252e/file.txt").content == b"a folder with an odd name"


@pytest.mark.parametrize(
    "form", [b"http://a.example/../secret.txt", b"http://a.example/sub/..%2f..%2fsecret.txt"]
)
def test_the_absolute_form_is_no_way_round(site: Site, form: bytes) -> None:
    with site.connect() as client:
        assert ask(client, form).status == 400


def test_no_alias_is_left_by_what_follows_it(site: Site, root: Path) -> None:
    """nginx's `location /files { alias …/; }` served /files../x from beside the folder."""
    with site.connect() as client:
        assert ask(client, b"/files/file.txt").content == b"file"
        for target in (
            b"/files..",
            b"/files../index.html",
            b"/files.txt",
            b"/filesfile.txt",
            b"/files../sub/file.txt",
        ):
            assert ask(client, target).status == 404, target


def test_no_query_climbs_through_a_template(site: Site) -> None:
    with site.connect() as client:
        assert ask(client, b"/try/?f=sub/file.txt").content == b"file"
        for up in (b"..", b"%2e%2e", b"sub/../..", b"./..", b"/..", b"sub/%2e%2e/%2e%2e"):
            for slash in (b"/", b"%2f", b"%5c", b"\\"):
                answer = ask(client, b"/try/?f=" + up + slash + b"secret.txt")
                assert (answer.status, SECRET in answer.content) == (404, False), (up, slash)


# Links


def links(root: Path) -> dict[str, str]:
    """Names of links in the root, and where they lead."""
    outside = root.parent / "secret.txt"
    return {
        "relative.txt": "../secret.txt",
        "absolute.txt": str(outside),
        "beside.txt": "../root-old/secret.txt",
        "folder": "..",
        "chain.txt": "relative.txt",
        "sub/deep.txt": "../../secret.txt",
        "proc": "/proc/self/root",
    }


@pytest.mark.parametrize("symlinks", ["within_root", "never"])
def test_links_out_of_the_root_are_refused(root: Path, symlinks: str) -> None:
    for name, target in links(root).items():
        (root / name).symlink_to(target)
    (root / "a.txt").write_bytes(b"a")
    (root / "a.txt.gz").symlink_to("../secret.txt")
    (root / "dir").mkdir()
    (root / "dir" / "index.html").symlink_to("../../secret.txt")
    static = {"symlinks": symlinks, "auto_index": True, "precompressed": ["gzip"]}
    rules = [{"handlets": [{"static": static}]}]
    with serve(rules=rules, webapp={"web_root": str(root)}) as site, site.connect() as client:
        for name in (
            "relative.txt",
            "absolute.txt",
            "beside.txt",
            "chain.txt",
            "sub/deep.txt",
            "folder/secret.txt",
        ):
            answer = ask(client, b"/" + name.encode())
            assert (answer.status, SECRET in answer.content) == (403, False), name
        for name in ("folder/", "folder", "proc/etc/passwd", "proc/", "dir/"):
            answer = ask(client, b"/" + name.encode())
            assert answer.status == 403, name
        assert ask(client, b"/a.txt").content == b"a", "not the compressed one, which is a link"


def test_a_link_that_appears_later_is_refused_too(root: Path) -> None:
    with (
        serve(
            rules=[{"handlets": ["static"]}],
            webapp={"web_root": str(root)},
            stage={"fcache": {"cache_timeout": 0}},
        ) as site,
        site.connect() as client,
    ):
        assert ask(client, b"/sub/file.txt").content == b"file"
        os.rename(root / "sub", root / "was-sub")
        (root / "sub").symlink_to("../root-old")
        (root / "sub" / "file.txt").write_bytes(SECRET)
        answer = ask(client, b"/sub/file.txt")
        assert (answer.status, SECRET in answer.content) == (403, False)


# What is no file


def test_what_is_no_file_is_neither_opened_nor_waited_for(site: Site, root: Path) -> None:
    os.mkfifo(root / "fifo")
    os.mkfifo(root / "sub" / "index.html")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(root / "socket"))
    listening.listen()
    with listening, site.connect() as client, gevent.Timeout(5, AssertionError("the server waits")):
        for name in (b"fifo", b"socket", b"sub/index.html"):
            assert ask(client, b"/" + name).status == 403, name
            assert ask(client, b"/" + name, b"HEAD").status == 403, name
        assert ask(client, b"/sub/").status in (200, 403)
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
    with pytest.raises(OSError) as caught:
        os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    assert caught.value.errno == errno.ENXIO, "somebody has it open for reading"


@pytest.mark.parametrize("name", ["null", "zero", "tty", "stdin"])
def test_devices(name: str) -> None:
    for symlinks in ("within_root", "always", "never"):
        static = {"web_root": "/dev", "symlinks": symlinks}
        with serve(rules=[{"handlets": [{"static": static}]}]) as site, site.connect() as client:
            assert ask(client, b"/" + name.encode()).status in (403, 404)


def test_a_device_behind_a_link(root: Path) -> None:
    (root / "zero").symlink_to("/dev/zero")
    with serve(
        rules=[{"handlets": [{"static": {"symlinks": "always"}}]}], webapp={"web_root": str(root)}
    ) as site:
        assert site.get("/zero").status == 403


@pytest.mark.parametrize(("code", "status"), [(errno.EACCES, 403), (errno.EPERM, 403), (errno.EMFILE, 503)])
def test_what_may_not_be_opened(site: Site, monkeypatch: pytest.MonkeyPatch, code: int, status: int) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(site.stage.fcache.cache.opener, "open", refuse)
    assert site.get("/sub/file.txt").status == status


def test_odd_names_are_no_trouble(site: Site) -> None:
    with site.connect() as client:
        for target in (
            b"/" + b"a" * 300,
            b"/" + b"a/" * 2500,
            b"/%0a",
            b"/%7f",
            b"/%ff%fe",
            b"/:",
            b"/sub/file.txt/",
        ):
            assert ask(client, target).status == 404, target[:40]
    assert not site.log.of("error")
