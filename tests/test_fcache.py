"""Kept files: safety, freshness, bounds."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hemi import fcache
from hemi.fcache import FileCache, Opener, below, has_openat2, walk

OPENERS = [pytest.param(True, id="openat2"), pytest.param(False, id="walk")]


@pytest.fixture(params=OPENERS)
def opener(request: Any) -> Opener:
    if request.param and not has_openat2():
        pytest.skip("the kernel has no openat2")
    return Opener(request.param)


@pytest.fixture
def make(opener: Opener) -> Iterator[Callable[..., FileCache]]:
    made: list[FileCache] = []

    def maker(**settings: Any) -> FileCache:
        made.append(FileCache(opener=opener, **settings))
        return made[-1]

    before = open_paths()
    yield maker
    for cache in made:
        cache.clear()
    assert open_paths() == before, "descriptors are left open"


def open_paths() -> list[str]:
    """What this process has open below the folders of tests."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # that of the listing itself
    return sorted(link for link in links if "pytest-" in link or link in ("/", "/dev"))


def settle(path: Path, age: float = 10.0) -> None:
    """Make a file old enough for its times to be believed."""
    os.utime(path, (time.time() - age,) * 2)


def test_a_small_file(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"hello")
    os.utime(file, ns=(0, 1_500_000_000_123_456_789))
    found = make().get(str(file), str(tmp_path))
    assert (found.content, found.size, found.fd, found.is_dir) == (b"hello", 5, -1, False)
    assert (found.mtime, found.mtime_ns) == (1_500_000_000, 1_500_000_000_123_456_789)


def test_an_empty_file(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert make().get(str(tmp_path / "a"), str(tmp_path)).content == b""


def test_a_large_file(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"x" * 101)
    found = make(small_size=100).get(str(file), str(tmp_path))
    assert (found.content, found.size) == (None, 101)
    assert os.pread(found.fd, 200, 0) == b"x" * 101
    assert not os.get_inheritable(found.fd)


def test_a_folder(make: Any, tmp_path: Path) -> None:
    cache = make()
    assert cache.get(str(tmp_path), str(tmp_path)).is_dir
    assert cache.get(str(tmp_path) + "/", str(tmp_path)).is_dir
    (tmp_path / "sub").mkdir()
    assert cache.get(str(tmp_path / "sub"), str(tmp_path)).is_dir
    assert cache.get(str(tmp_path / "sub") + "/", str(tmp_path)).content is None


def test_a_hit_does_not_open_again(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2" * 200)
    cache = make(timeout=100, small_size=100)
    for name in ("a", "b"):
        assert cache.get(str(tmp_path / name)) is cache.get(str(tmp_path / name))
    assert cache.loads == 2


def test_a_hit_is_two_calls_at_most(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    Path(path).write_text("1")
    cache = FileCache(timeout=100)
    cache.get(path)
    calls = []
    get = cache.get
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name) if event == "call" else None)
    get(path)
    sys.setprofile(None)
    assert calls == ["get"]


# --- what must not be opened


@pytest.mark.parametrize("name", ["none", "file/x", "nul\0", "x" * 300, "\ud800"])
@pytest.mark.parametrize("follow", ["root", "always", "never"])
def test_names_that_lead_nowhere(make: Any, tmp_path: Path, name: str, follow: Any) -> None:
    (tmp_path / "file").touch()
    cache = make()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            cache.get(f"{tmp_path}/{name}", str(tmp_path), follow)


@pytest.mark.parametrize("follow", ["root", "always", "never"])
def test_special_files_are_refused_without_blocking(make: Any, tmp_path: Path, follow: Any) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        cache = make()
        for name in ("fifo", "sock"):
            with pytest.raises(PermissionError):
                cache.get(str(tmp_path / name), str(tmp_path), follow)
        with pytest.raises(PermissionError):
            cache.get("/dev/null", "/dev", follow)


def test_a_fifo_that_comes_between_look_and_open(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    plain = os.stat(tmp_path / "file")
    monkeypatch.setattr(fcache.os, "stat", lambda *_, **__: plain)
    with pytest.raises(PermissionError):
        make().get(str(tmp_path / "fifo"), str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a").touch(0)
    with pytest.raises(PermissionError):
        make().get(str(tmp_path / "a"), str(tmp_path))


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """root/ with links of all kinds; secret is outside."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "file").write_text("outside")
    for name, to in {
        "relative": "sub/file",
        "absolute": str(root / "sub" / "file"),
        "folder": "sub",
        "around": "../root/sub/file",
        "out": "../secret",
        "out-absolute": str(tmp_path / "secret"),
        "out-folder": "../outer",
        "loop": "loop",
        "dangling": "none",
        "sub/up": "../../secret",
    }.items():
        os.symlink(to, root / name)
    return root


@pytest.mark.parametrize("name", ["relative", "absolute", "folder/file", "around"])
def test_links_within_the_root(make: Any, links: Path, name: str) -> None:
    cache = make()
    assert cache.get(str(links / name), str(links)).content == b"inside"
    assert cache.get(str(links / name), str(links), "always").content == b"inside"
    with pytest.raises(PermissionError):
        cache.get(str(links / name), str(links), "never")


@pytest.mark.parametrize(
    "name", ["out", "out-absolute", "out-folder/file", "sub/up", "folder/up", "../secret"]
)
def test_links_out_of_the_root(make: Any, links: Path, name: str) -> None:
    cache = make()
    for _ in range(2):
        for follow in ("root", "never"):
            with pytest.raises(PermissionError):
                cache.get(f"{links}/{name}", str(links), follow)
    assert cache.get(f"{links}/{name}", str(links), "always").content == b"outside"


@pytest.mark.parametrize("name", ["loop", "dangling"])
def test_links_to_nowhere(make: Any, links: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        make().get(str(links / name), str(links))


def test_the_root_itself_may_be_a_link(make: Any, links: Path, tmp_path: Path) -> None:
    os.symlink("root", tmp_path / "current")
    for follow in ("root", "never"):
        assert make().get(f"{tmp_path}/current/sub/file", f"{tmp_path}/current", follow).content == b"inside"


def test_a_root_that_is_switched(make: Any, tmp_path: Path) -> None:
    """Deployments turn a link from one release to the next."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    os.symlink("one", tmp_path / "current")
    cache = make(timeout=0)
    assert cache.get(f"{tmp_path}/current/file", f"{tmp_path}/current").content == b"one"
    os.symlink("two", tmp_path / "next")
    os.replace(tmp_path / "next", tmp_path / "current")
    assert cache.get(f"{tmp_path}/current/file", f"{tmp_path}/current").content == b"two"


def test_a_file_that_becomes_a_link_out(make: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    cache = make(timeout=0)
    assert cache.get(str(root / "a"), str(root)).content == b"inside"
    os.symlink("../secret", root / "b")
    os.replace(root / "b", root / "a")
    with pytest.raises(PermissionError):
        cache.get(str(root / "a"), str(root))


def test_policies_do_not_share_entries(make: Any, links: Path) -> None:
    cache = make(timeout=100)
    cache.get(str(links / "out"), str(links), "always")
    with pytest.raises(PermissionError):
        cache.get(str(links / "out"), str(links), "root")


def test_a_path_beside_the_root(make: Any, tmp_path: Path) -> None:
    (tmp_path / "rootless").write_text("x")
    (tmp_path / "root").mkdir()
    with pytest.raises(PermissionError):
        make().get(str(tmp_path / "rootless"), str(tmp_path / "root"))


@pytest.mark.parametrize(
    ("path", "root", "inner"),
    [
        ("/a/b", "/a", "b"),
        ("/a", "/a", "."),
        ("/a/", "/a", "."),
        ("/a//b/", "/a/", "b"),
        ("/ab", "/a", None),
        ("/x", "/", "x"),
    ],
)
def test_below(path: str, root: str, inner: str | None) -> None:
    assert below(path, root) == inner


def test_the_walk_refuses_dots(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:
            walk(fd, "../x")
        assert caught.value.errno == errno.EXDEV
    finally:
        os.close(fd)


# --- freshness


@pytest.mark.parametrize("size", [10, 1000], ids=["small", "large"])
@pytest.mark.parametrize("change", ["replace", "grow", "cut", "rewrite"])
def test_a_change_becomes_visible(make: Any, tmp_path: Path, size: int, change: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1" * size)
    settle(file)
    cache = make(timeout=0, small_size=100)
    old = cache.get(str(file), str(tmp_path))
    assert cache.get(str(file), str(tmp_path)) is old
    if change == "replace":
        (tmp_path / "b").write_bytes(b"2" * size)
        os.replace(tmp_path / "b", file)
    elif change == "grow":
        with open(file, "ab") as out:
            out.write(b"3")
    elif change == "cut":
        os.truncate(file, size - 1)
    else:
        file.write_bytes(b"2" * size)
    new = cache.get(str(file), str(tmp_path))
    assert new is not old
    assert (new.content if new.fd < 0 else os.pread(new.fd, 9999, 0)) == file.read_bytes()


def test_a_change_within_the_same_tick(make: Any, tmp_path: Path) -> None:
    """Same size, same times: only its youth betrays it."""
    file = tmp_path / "a"
    cache = make(timeout=0)
    for number in range(200):
        file.write_text(f"{number:03}")
        assert cache.get(str(file)).content == b"%03d" % number


def test_nothing_is_looked_at_before_the_timeout(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    cache = make(timeout=100)
    cache.get(str(file))
    file.write_text("22")
    assert cache.get(str(file)).content == b"1"
    cache.small[(str(file), None, "root")].due = 0
    assert cache.get(str(file)).content == b"22"


def test_a_removed_file(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    cache = make(timeout=0)
    cache.get(str(file))
    file.unlink()
    with pytest.raises(FileNotFoundError):
        cache.get(str(file))


def test_a_miss_is_kept_for_a_while(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "a"
    cache = make(timeout=100)
    for _ in range(3):
        with pytest.raises(FileNotFoundError) as caught:
            cache.get(str(file))
        assert caught.value.filename == str(file)
    assert cache.loads == 1
    file.write_text("1")
    cache.missing.clear()
    assert cache.get(str(file)).content == b"1"


def test_a_file_that_grows_while_it_is_read(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1" * 50)
    real, grown = os.pread, []

    def pread(fd: int, size: int, offset: int) -> bytes:
        data = real(fd, size, offset)
        if not grown:
            grown.append(True)
            with open(file, "ab") as out:
                out.write(b"2" * 100)
        return data

    monkeypatch.setattr(fcache.os, "pread", pread)
    found = make(small_size=100).get(str(file))
    assert found.content is None
    assert found.size == 150


# --- bounds


def test_bounds_of_small_files(make: Any, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).write_bytes(b"x" * 10)
    cache = make(timeout=100, max_small_files=5)
    for number in range(20):
        cache.get(str(tmp_path / str(number)))
        cache.get(str(tmp_path / "0"))
    assert len(cache.small) == 5
    assert (str(tmp_path / "0"), None, "root") in cache.small
    assert cache.small_bytes == 50
    cache = make(timeout=100, max_small_bytes=35)
    for number in range(20):
        cache.get(str(tmp_path / str(number)))
    assert (len(cache.small), cache.small_bytes) == (3, 30)


def test_bounds_of_misses(make: Any, tmp_path: Path) -> None:
    cache = make(timeout=100, max_missing=10)
    for number in range(100):
        with pytest.raises(FileNotFoundError):
            cache.get(str(tmp_path / str(number)))
    assert len(cache.missing) == 10


def test_evicted_descriptors_are_closed_when_unused(make: Any, tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).write_bytes(bytes(2000))
    cache = make(timeout=100, small_size=10, max_open_files=3)
    first = cache.get(str(tmp_path / "0"))
    fd = first.acquire()
    second = cache.get(str(tmp_path / "1"))
    for number in range(2, 10):
        cache.get(str(tmp_path / str(number)))
    assert len(cache.large) == 3
    assert second.fd == -1
    cache.clear()
    assert os.pread(fd, 5, 0) == bytes(5)
    first.release()
    assert first.fd == -1
    with pytest.raises(OSError):
        os.fstat(fd)


def test_nothing_is_kept_when_nothing_may_be(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(bytes(100))
    cache = make(timeout=100, small_size=10, max_small_files=0)
    assert cache.get(str(tmp_path / "a")).content == b"x"
    assert not cache.small and cache.small_bytes == 0


def test_out_of_descriptors(make: Any, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / str(number)).write_bytes(bytes(100))
    cache = make(timeout=100, small_size=10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
        for number in range(60):
            found = cache.get(str(tmp_path / str(number)), str(tmp_path))
            assert os.fstat(found.fd).st_size == 100
        cache.clear()
        with pytest.raises(OSError):
            while True:
                held.append(os.open(tmp_path / "0", os.O_RDONLY))
        with pytest.raises(OSError) as caught:
            cache.get(str(tmp_path / "0"), str(tmp_path))
        assert caught.value.errno == errno.EMFILE
        assert not cache.missing
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cache.get(str(tmp_path / "0"), str(tmp_path)).size == 100
