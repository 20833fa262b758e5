"""Kinds of values: what they take, what they refuse and how, and that what they show is read again."""

from __future__ import annotations

import ipaddress
from pathlib import Path as FilePath
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.errors import BugError
from hemi.source import Dirs, Given, Reader, from_data
from hemi.values import (
    Addr,
    Address,
    Duration,
    Hostname,
    Mode,
    Network,
    Path,
    Pattern,
    Secret,
    Size,
    Wrong,
    kind_of,
    spelled,
    suggestion,
    to_ascii,
)

TOP = Dirs("/top", "/top/log", "/top/tmp", "/top/var")


class Surroundings:
    """What kinds of plain values need of a context."""

    dirs = TOP
    scope = None


def parse(annotation: Any, value: Any) -> Any:
    return kind_of(annotation).parse(value if isinstance(value, Given) else from_data(value), Surroundings())  # type: ignore[arg-type]


def written(text: str) -> Given:
    root = Reader().read(f"it: {text}", "x")
    assert root is not None
    return root.value["it"]  # type: ignore[no-any-return]


def refusal(annotation: Any, value: Any) -> str:
    with pytest.raises(Wrong) as caught:
        parse(annotation, value)
    return "; ".join(message for _, message in caught.value.problems)


@pytest.mark.parametrize(
    ("annotation", "given_value", "value"),
    [
        (bool, True, True),
        (int, -3, -3),
        (float, 2, 2.0),
        (str, "x", "x"),
        (str, 404, "404"),
        (str, True, "true"),
        (Any, {"a": [1, None]}, {"a": [1, None]}),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], 2, 2),
        (Literal["auto"] | int, 3, 3),
        (Literal["auto"] | int, "auto", "auto"),
        (Size, "64K", 65536),
        (Size, "64KB", 65536),
        (Size, 512, 512),
        (Size, "0", 0),
        (Size, "2T", 2 << 40),
        (Duration, "1m30s", 90.0),
        (Duration, "500ms", 0.5),
        (Duration, "1.5h", 5400.0),
        (Duration, "1d", 86400.0),
        (Duration, 0, 0.0),
        (Duration, "0", 0.0),
        (Duration, "30", 30.0),
        (Duration, 1.5, 1.5),
        (Path, "a/b", "/top/a/b"),
        (Path, "/a//b/../c", "/a/c"),
        (Path, ".", "/top"),
        (Mode, "0660", 0o660),
        (Mode, "755", 0o755),
        (Address, ":80", Addr("", 80)),
        (Address, "*:80", Addr("", 80)),
        (Address, "127.0.0.1:0", Addr("127.0.0.1", 0)),
        (Address, "[::1]:80", Addr("::1", 80)),
        (Address, "Example.COM:8080", Addr("example.com", 8080)),
        (Address, "/run/x.sock", Addr(path="/run/x.sock")),
        (Address, "unix:x.sock", Addr(path="/top/x.sock")),
        (Address, "@x", Addr(path="@x")),
        (Hostname, "Example.COM", "example.com"),
        (Hostname, "*.example.com", "*.example.com"),
        (Hostname, "www.*", "www.*"),
        (Hostname, "*", "*"),
        (Hostname, "bücher.example", "xn--bcher-kva.example"),
        (Hostname, "*.Bücher.example", "*.xn--bcher-kva.example"),
        (Hostname, "[::1]", "[::1]"),
        (Hostname, "10.0.0.1", "10.0.0.1"),
        (Network, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (Network, "::1", ipaddress.ip_network("::1")),
        (Secret, "s3cret", "s3cret"),
        (list[int], [1, 2], [1, 2]),
        (list[int], 1, [1]),
        (list[int], None, []),
        (dict[str, Size], {"a": "1K"}, {"a": 1024}),
        (dict[str, str], None, {}),
        (int | None, None, None),
        (bool | list[str], True, True),
        (bool | list[str], "x", ["x"]),
    ],
)
def test_what_is_taken(annotation: Any, given_value: Any, value: Any) -> None:
    found = parse(annotation, given_value)
    assert found == value
    assert type(found) is type(value)
    kind = kind_of(annotation)
    assert parse(annotation, kind.show(found)) == found or annotation is Secret
    assert isinstance(kind.schema(), dict)


def test_texts_are_as_spelled() -> None:
    assert parse(str, written("1.10")) == "1.10"
    assert parse(str, written("0x10")) == "0x10"
    assert parse(Literal["1.2", "1.3"], written("1.2")) == "1.2"
    assert parse(Mode, written("660")) == 0o660


@pytest.mark.parametrize(
    ("annotation", "given_value", "message"),
    [
        (bool, "on", 'must be true or false, not "on"'),
        (bool, 1, "must be true or false, not 1"),
        (int, "4", 'must be a whole number, not "4"'),
        (int, 4.5, "must be a whole number, not 4.5"),
        (int, True, "must be a whole number, not true"),
        (int, None, "must be a whole number, not nothing"),
        (float, "x", 'must be a number, not "x"'),
        (float, float("inf"), "must be a number, not inf"),
        (float, 10**400, f"must be a number, not {10**400}"),
        (str, [], "must be text, not a list"),
        (str, {"a": 1}, "must be text, not a mapping"),
        (Literal["red", "green"], "gren", 'must be red or green, not "gren", did you mean "green"?'),
        (Literal["a", "b", "c"], 1, "must be a, b or c, not 1"),
        (Size, "64k", 'must be a size such as 64K, not "64k"'),
        (Size, "1.5M", 'must be a size such as 64K, not "1.5M"'),
        (Size, -1, "must be a size such as 64K, not -1"),
        (Duration, "30x", 'must be a duration such as 30s, not "30x"'),
        (Duration, "1s1m", 'must be a duration such as 30s, not "1s1m"'),
        (Duration, "", 'must be a duration such as 30s, not ""'),
        (Duration, -1, "must be a duration such as 30s, not -1"),
        (Path, "", 'must be a path, not ""'),
        (Path, "a\0b", r'must be a path, not "a\x00b"'),
        (Mode, "0888", 'must be permissions such as 0660, not "0888"'),
        (Address, "80", None),
        (Address, ":99999", None),
        (Address, ":http", None),
        (Address, "::1:80", None),
        (Address, "[::g]:80", None),
        (Address, "a b:80", None),
        (Address, "1.2.3.400:80", None),
        (Address, "@", None),
        (Address, "unix:", None),
        (Address, 80, None),
        (Address, "/" + "x" * 120, None),
        (Hostname, "a b", None),
        (Hostname, "a..b", None),
        (Hostname, "*.*", None),
        (Hostname, "a.*.b", None),
        (Hostname, "", None),
        (Hostname, "x" * 64, None),
        (Hostname, "1.2.3.4.5", None),
        (Hostname, "a:80", None),
        (Hostname, "\u0378.example", None),
        (
            Network,
            "10.0.0.1/8",
            'must be a network such as "10.0.0.0/8", not "10.0.0.1/8" with host bits set',
        ),
        (Network, "10/8/9", 'must be a network such as "10.0.0.0/8" or an address, not "10/8/9"'),
        (Pattern, "(", None),
        (Secret, [], "must be text, {env: NAME} or {file: PATH}, not a list"),
        (Secret, {"vault": "x"}, "must be text, {env: NAME} or {file: PATH}"),
        (
            Secret,
            {"env": "HEMI_NO_SUCH"},
            "must be in the environment variable HEMI_NO_SUCH, which is not set",
        ),
        (Secret, {"file": "no"}, 'must be in a readable file, not "no": no such file'),
        (list[int], [1, "x", 2, "y"], 'must be a whole number, not "x"; must be a whole number, not "y"'),
        (dict[str, int], {"a": "x"}, '"a" must be a whole number, not "x"'),
        (dict[str, int], [1], "must be a mapping, not a list"),
        (int | Literal["auto"], "x", 'must be a whole number or auto, not "x"'),
        (bool | list[int], ["x"], 'must be a whole number, not "x"'),
    ],
)
def test_what_is_refused(annotation: Any, given_value: Any, message: str | None) -> None:
    found = refusal(annotation, given_value)
    assert found == message if message else found.startswith("must be ")


def test_secrets_come_from_the_environment_or_a_file(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEMI_SECRET", "from env")
    file = tmp_path / "key"
    file.write_text("from file\n")
    assert parse(Secret, {"env": "HEMI_SECRET"}) == "from env"
    assert parse(Secret, {"file": str(file)}) == "from file"
    assert kind_of(Secret).show("from env") == "***"


def test_addresses_know_what_to_bind() -> None:
    assert Addr("::1", 80).sockaddr == ("::1", 80)
    assert Addr(path="/x").sockaddr == "/x"
    assert Addr(path="@x").sockaddr == "\0x"
    assert Addr(path="@x").is_abstract
    assert str(Addr("::1", 80)) == "[::1]:80"
    assert str(Addr("", 80)) == ":80"


def test_annotations_that_mean_nothing_are_bugs() -> None:
    for annotation in (bytes, set[int], dict[int, str], tuple[int, ...]):
        with pytest.raises(BugError):
            kind_of(annotation)


def test_kinds_compare_by_what_they_take() -> None:
    assert kind_of(list[Size]) == kind_of(list[Size])
    assert kind_of(list[Size]) != kind_of(list[int])
    assert kind_of(Literal["a"]) != kind_of(Literal["b"])
    assert len({kind_of(Size), kind_of(Size), kind_of(int)}) == 2


def test_suggestions() -> None:
    assert suggestion("web_rot", ["web_root", "address"]) == ', did you mean "web_root"?'
    assert suggestion("xyz", ["web_root", "address"]) == ""
    assert suggestion("x" * 100_000, ["x" * 10]) == ""


def test_spelling_is_short_and_printable() -> None:
    assert spelled("a\nb") == r'"a\nb"'
    assert len(spelled("x" * 1000)) < 90
    assert spelled({"a": [1, True, None]}) == "{a: [1, true, null]}"


@given(st.integers(0, 1 << 62))
def test_sizes_round_trip(value: int) -> None:
    assert parse(Size, kind_of(Size).show(value)) == value


@given(st.one_of(st.floats(0, 1e9), st.integers(0, 10**9).map(lambda n: n / 1000)))
def test_durations_round_trip(value: float) -> None:
    assert parse(Duration, kind_of(Duration).show(value)) == pytest.approx(value, rel=1e-12, abs=0)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_addresses_round_trip(ip: Any, port: int) -> None:
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    value = parse(Address, text)
    assert parse(Address, kind_of(Address).show(value)) == value


@given(st.ip_addresses(), st.integers(0, 32))
def test_networks_round_trip(ip: Any, length: int) -> None:
    value = ipaddress.ip_network(f"{ip}/{length}", strict=False)
    assert parse(Network, kind_of(Network).show(value)) == value


ANNOTATIONS = [
    bool, int, float, str, Any, Size, Duration, Path, Mode, Address, Hostname, Network, Pattern, Secret,
    Literal["a", 1], list[Size], dict[str, Duration], int | None, bool | list[Address],
]  # fmt: skip
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(ANNOTATIONS), DATA)
def test_anything_is_taken_or_refused(annotation: Any, data: Any) -> None:
    try:
        value = parse(annotation, data)
    except Wrong as wrong:
        assert all(message for _, message in wrong.problems)
    else:
        kind_of(annotation).show(value)


@given(st.text(max_size=80))
def test_host_names_are_ascii_or_refused(text: str) -> None:
    try:
        name = to_ascii(text)
    except ValueError:
        return
    assert name.isascii()
    assert to_ascii(name) == name
