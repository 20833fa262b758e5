"""Sources of nodes: the text of files, names, services. Nobody is asked over the network here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.resolv import Service
from hemi.source import Dirs
from hemi.upstream.discovery import (
    DiscoveryError,
    FileSource,
    Found,
    NameSource,
    ServiceSource,
    parse_nodes,
)
from hemi.values import Addr

DIRS = Dirs("/top", "/top/log", "/top/tmp", "/top/var")


def test_a_file_of_nodes() -> None:
    text = """
    # the first rack
    10.0.0.1:8080
    10.0.0.2:8080 weight=2 max_conns=50   # large
    [2001:db8::1]:80 tier=1
    db.internal:5432
    unix:run/app.sock
    @abstract
    """
    assert parse_nodes(text, DIRS) == [
        Found(Addr("10.0.0.1", 8080)),
        Found(Addr("10.0.0.2", 8080), weight=2, max_conns=50),
        Found(Addr("2001:db8::1", 80), tier=1),
        Found(Addr("db.internal", 5432)),
        Found(Addr(path="/top/run/app.sock")),
        Found(Addr(path="@abstract")),
    ]


def test_an_empty_file_has_no_nodes() -> None:
    assert parse_nodes("# none\n\n", DIRS) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.0.0.1", "line 1: the address must be an address such as"),
        ("\n10.0.0.1:0", 'line 2: the address must have a port, not "10.0.0.1:0"'),
        ("a:1 wieght=2", 'line 1: "wieght=2" must be weight=N, tier=N, max_conns=N'),
        ("a:1 weight=0", 'line 1: weight must be 1 to 1000, not "0"'),
        ("a:1 weight=-1", 'not "-1"'),
        ("a:1 weight=²", 'not "²"'),
        ("a:1 weight=99999999999999999999", "weight must be 1 to 1000"),
        ("a:1 tier", '"tier" must be'),
        ("a:1\nb:1\na:1", "line 3: a:1 is there twice"),
        ("\n".join(f"a:{port}" for port in range(1, 10_002)), "more than 10000 nodes"),
    ],
)
def test_files_that_are_wrong(text: str, problem: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        parse_nodes(text, DIRS)
    assert problem in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_nodes_or_wrong(text: str) -> None:
    try:
        for found in parse_nodes(text, DIRS):
            assert found.address.path or found.address.port
    except DiscoveryError as error:
        assert str(error).startswith("line ")


def test_a_file_is_read_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    path.write_text("a:1\n")
    source = FileSource(str(path), DIRS)
    assert source.look() == [Found(Addr("a", 1))]
    assert source.look() is None
    fresh = tmp_path / "fresh"
    fresh.write_text("b:1\n")
    fresh.replace(path)
    assert source.look() == [Found(Addr("b", 1))]


def test_nonsense_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    path.write_text("nonsense\n")
    source = FileSource(str(path), DIRS)
    with pytest.raises(DiscoveryError, match="line 1"):
        source.look()
    assert source.look() is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    source = FileSource(str(tmp_path / "none"), DIRS)
    with pytest.raises(DiscoveryError, match="cannot be read: no such file or directory"):
        source.look()
    (tmp_path / "odd").write_bytes(b"\xff\n")
    with pytest.raises(DiscoveryError, match="cannot be read"):
        FileSource(str(tmp_path / "odd"), DIRS).look()
    (tmp_path / "large").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(DiscoveryError, match="has more than"):
        FileSource(str(tmp_path / "large"), DIRS).look()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DiscoveryError, match="is not a regular file"):
        FileSource(str(tmp_path / "fifo"), DIRS).look()


class Names:
    """A resolver that knows what it is told."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.services: list[Service] = []

    def lookup(self, host: str, *, timeout: float | None = None) -> list[str]:
        return self.addresses

    def lookup_srv(self, name: str, *, timeout: float | None = None) -> list[Service]:
        return self.services


def test_the_addresses_of_a_name() -> None:
    names = Names()
    names.addresses = ["10.0.0.2", "10.0.0.1", "2001:db8::1"]
    source = NameSource(Addr("api.internal", 80), names)
    found = source.look()
    assert found is not None
    assert [str(one.address) for one in found] == ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"]
    assert {one.server_name for one in found} == {"api.internal"}  # what their certificates have
    names.addresses.reverse()
    assert source.look() is None  # the order of answers changes all the time
    names.addresses.pop()
    assert source.look() is not None


def test_services() -> None:
    names = Names()
    names.services = [
        Service(10, 60, 8080, "big.internal"),
        Service(10, 0, 8080, "small.internal"),
        Service(20, 65535, 9090, "spare.internal"),
    ]
    found: Any = ServiceSource("_http._tcp.internal", names).look()
    assert sorted(found) == [
        Found(Addr("big.internal", 8080), 60, 0, None, "big.internal"),
        Found(Addr("small.internal", 8080), 1, 0, None, "small.internal"),
        Found(Addr("spare.internal", 9090), 1000, 1, None, "spare.internal"),
    ]
