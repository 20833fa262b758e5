"""Loading: inheritance, references, parts, limits, what is known where, and that nothing but ConfigError comes out."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.config import Dirs, load_file, load_mapping, load_text
from hemi.errors import ConfigError
from hemi.stage import Stage
from tests import samples
from tests.samples import DIRS, load, problems

GOOD = """\
max_cached: 128K
access_log: {target: stdout}
constants: {site: example.com}
backends:
  api:
    type: http_backend
    nodes:
      - {address: "127.0.0.1:8001", weight: 2}
      - {address: "127.0.0.1:8002"}
  raw: {type: tcpx_backend, dial_timeout: 3s}
webapps:
  shop:
    hostnames: ["shop.${site}", "*.shop.example.com"]
    web_root: apps/shop
    handlets:
      files: {type: static, index_file: home.html}
    rules:
      - if: $path ^= ("/api/", "/v1/") and not ($method == "TRACE")
        handlets: [{http_proxy: {to_backend: api, spares: [raw, api]}}]
        revisers: [gzip, {gzip: {level: 9}}]
      - handlets: [files, static, {static: {max_cached: 2K}}]
        return_text: hello $header_host
servers:
  main: {type: httpx_server, address: [":3080", "[::1]:3080"], webapps: [shop], uds_mode: 0600}
"""


@pytest.fixture(autouse=True, scope="module")
def sandbox() -> Iterator[None]:
    with samples.sandbox:
        yield


def test_a_whole_configuration() -> None:
    stage = load(GOOD)
    shop = stage.members["webapps"]["shop"]
    api, raw = stage.members["backends"].values()
    assert shop.hostnames == ["shop.example.com", "*.shop.example.com"]
    first, second = shop.rules
    (proxy,) = first.handlets
    assert proxy.to_backend is api
    assert proxy.spares == [raw, api]
    assert [gzip.level for gzip in first.revisers] == [6, 9]
    files, bare, small = second.handlets
    assert files is shop.handlets["files"]
    assert [one.max_cached for one in (files, bare, small)] == [128 << 10, 128 << 10, 2 << 10]
    assert [one.web_root for one in (files, bare, small)] == ["/top/apps/shop"] * 3
    assert stage.members["servers"]["main"].webapps == [shop]
    assert stage.members["servers"]["main"].uds_mode == 0o600
    assert [node.weight for node in api.nodes] == [2, 1]


def test_python_data_loads_like_text() -> None:
    stage = load_mapping(
        {
            "webapps": {"a": {"hostnames": ("x.example",), "rules": [{"handlets": "static"}]}},
            "web_root": Path("/w"),
        },
        DIRS,
    )
    assert stage.members["webapps"]["a"].rules[0].handlets[0].web_root == "/w"


def test_problems_of_python_data_have_no_places() -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping({"webapps": {"a": {"ratio": 2, "x": object()}}, "b": b""}, DIRS)
    assert [str(problem) for problem in caught.value.problems] == [
        'stage: unknown key "b"',
        'webapp "a": unknown key "x"',
        'webapp "a": ratio must be 0 to 1, not 2',
    ]
    data: dict[str, Any] = {}
    data["a"] = data
    with pytest.raises(ConfigError, match="must be nested at most 64 deep"):
        load_mapping(data, DIRS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("start_timeout: 5m", [300.0]),
        ("start_timeout: 1500ms", [1.5]),
        ("start_timeout: 7", [7.0]),
        ("start_timeout: soon", []),
        ("drain_timeout: 1s", []),
        ("[]", []),
    ],
)
def test_the_time_for_a_start_is_told_before_anything_is_imported(
    tmp_path: Path, text: str, told: list[float]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text + ("" if text == "[]" else "\nextensions: [no_such_module]\n"))
    heard: list[float] = []
    with pytest.raises(ConfigError):
        load_file(str(path), DIRS, begun=heard.append)
    assert heard == told


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "it.yaml"
    path.write_text(GOOD)
    assert isinstance(load_file(str(path), DIRS, debug=1), Stage)
    path.write_text("webapp: {}")
    with pytest.raises(ConfigError) as caught:
        load_file(str(path), DIRS)
    assert str(caught.value) == f'{path}:1:1: stage: unknown key "webapp", did you mean "webapps"?'
    with pytest.raises(ConfigError, match="must be a readable file: No such file or directory"):
        load_file(str(tmp_path / "no.yaml"), DIRS)


# Inheritance


@pytest.mark.parametrize(("given_at", "found"), [("swrh", "h"), ("swr", "r"), ("sw", "w"), ("s", "s")])
def test_values_are_looked_up_on_parents(given_at: str, found: str) -> None:
    own = {level: {"web_root": level} if level in given_at else {} for level in "swrh"}
    rule = {"handlets": [{"static": own["h"]}], **own["r"]}
    stage = load_mapping({"webapps": {"a": {"rules": [rule], **own["w"]}}, **own["s"]}, DIRS)
    assert stage.members["webapps"]["a"].rules[0].handlets[0].web_root == f"/top/{found}"


def test_identities_are_not_inherited() -> None:
    assert 'it:1:1: stage: unknown key "address"' in problems("address: ':80'")
    found = problems("servers: {s: {type: tcpx_server}}")
    assert found == ['it:1:11: tcpx_server "s": address is required']


def test_a_section_is_not_inherited_as_a_list_of_references() -> None:
    assert (
        load("webapps: {a: {}}\nservers: {s: {type: httpx_server, address: ':0'}}")
        .members["servers"]["s"]
        .webapps
        == []
    )


def test_a_named_section_of_a_webapp_is_not_what_its_rules_run() -> None:
    stage = load("webapps: {a: {handlets: {s: {type: static, web_root: x}}, rules: [{}]}}")
    assert stage.members["webapps"]["a"].rules[0].handlets == []


def test_a_bad_inherited_value_is_reported_once() -> None:
    found = problems(
        "max_cached: 9Q\nweb_root: x\nwebapps: {a: {rules: [{handlets: [static, static]}, {handlets: static}]}}"
    )
    assert found == ['it:1:13: static: max_cached must be a size such as 64K, not "9Q"']


def test_values_that_nobody_happens_to_use_are_checked_too() -> None:
    assert problems("max_cached: 9Q") == ['it:1:13: stage: max_cached must be a size such as 64K, not "9Q"']
    assert problems("webapps: {a: {level: 10}}") == ['it:1:22: webapp "a": level must be 1 to 9, not 10']
    assert problems("to_backend: nope") == [
        'it:1:13: stage: to_backend must be the name of an http_backend, not "nope"'
    ]


def test_null_takes_an_inherited_value_away() -> None:
    stage = load("access_log: {target: stdout}\nerror_log: null")
    assert stage.error_log is None


# Components in place


def test_a_component_that_several_inherit_is_one() -> None:
    text = """
to_backend: {type: http_backend, nodes: [{address: ':1'}]}
webapps: {a: {rules: [{handlets: http_proxy}, {handlets: http_proxy}]}}
"""
    stage = load(text)
    one, two = (rule.handlets[0].to_backend for rule in stage.members["webapps"]["a"].rules)
    assert one is two
    assert one.parent is stage
    assert one in list(stage.parts())


def test_aliases_make_components_of_their_own() -> None:
    text = "web_root: x\nwebapps: {a: {rules: [{handlets: &h [{static: {max_cached: 2K}}]}, {handlets: *h}]}}"
    one, two = (rule.handlets[0] for rule in load(text).members["webapps"]["a"].rules)
    assert one is not two
    assert (one.max_cached, two.max_cached) == (2048, 2048)


def test_names_come_before_signs() -> None:
    stage = load(
        "webapps: {a: {handlets: {static: {type: static, web_root: mine}}, rules: [{handlets: static}]}}"
    )
    assert stage.members["webapps"]["a"].rules[0].handlets[0].web_root == "/top/mine"


def test_kinds_without_components_are_unknown_keys() -> None:
    assert problems("cronjobs: {}") == ['it:1:1: stage: unknown key "cronjobs"']


# Many more mistakes are in tests/configs


def test_all_problems_are_found_at_once_and_in_order() -> None:
    text = (
        GOOD.replace("weight: 2", "weight: 0")
        .replace("to_backend: api", "to_backend: apy")
        .replace("level: 9", "level: 99")
    )
    text = (
        text.replace(":3080", ":99999")
        .replace("3s}", "3s, x: 1}")
        .replace("servers:", "server: {}\nservers:")
    )
    found = problems(text)
    assert len(found) == 7
    lines = [int(problem.split(":")[1]) for problem in found]
    assert lines == sorted(lines)


def test_a_broken_component_does_not_make_its_references_wrong() -> None:
    found = problems(GOOD.replace("type: http_backend", "type: htp_backend"))
    assert found == [
        (
            'it:6:11: backend "api": type must be http_backend or tcpx_backend, not "htp_backend", '
            'did you mean "http_backend"?'
        )
    ]


def test_checks_across_properties() -> None:
    assert problems("webapps: {a: {tls: true}}") == [
        'it:1:11: webapp "a": hostnames must be exact when there is tls'
    ]
    found = problems("webapps: {a: {tls: true, hostnames: ['*']}}")
    assert found == ['it:1:37: webapp "a": hostnames must be exact when there is tls']
    assert problems("webapps: {a: {ratio: 0.25}}") == [
        'it:1:11: webapp "a": cannot be checked: RuntimeError: odd'
    ]
    assert len(problems("webapps: {a: {ratio: 0.25, x: 1}}")) == 1


def test_limits() -> None:
    assert load("webapps: {a: {workers: auto}}").members["webapps"]["a"].workers == "auto"
    assert problems("webapps: {a: {workers: 0}}") == [
        'it:1:24: webapp "a": workers must be at least 1, not 0'
    ]
    assert problems("webapps: {a: {hostnames: []}}") == [
        'it:1:26: webapp "a": hostnames must be at least 1 item, not 0'
    ]


def test_conditions_point_at_the_very_place() -> None:
    found = problems("webapps: {a: {rules: [{if: $path == 'a' adn $path == 'b'}]}}")
    assert found[0].startswith("it:1:41: rule: if must be a condition, not ")
    found = problems("webapps: {a: {rules: [{if: \"$path ~= '('\"}, {return_text: hi $who}]}}")
    assert found[0].startswith("it:1:28: rule: if must be a condition")
    assert found[1].startswith("it:1:62: rule: return_text must be text with variables")


def test_suggestions_stop_when_a_file_is_hopeless() -> None:
    text = "\n".join(f"web_rot{n}: 1" for n in range(3000))
    began = time.monotonic()
    assert len(problems(text)) == 3000
    assert time.monotonic() - began < 5


def test_a_long_configuration_loads_quickly() -> None:
    apps = []
    for n in range(160):
        rules = "".join(
            f'      - if: $path ^= ("/a{i}", "/b") and $method != "TRACE"\n'
            "        web_root: w\n        handlets: static\n"
            for i in range(10)
        )
        apps.append(f"  a{n}:\n    rules:\n{rules}")
    text = "webapps:\n" + "".join(apps)
    assert text.count("\n") > 5000
    took = []
    for _ in range(3):
        began = time.process_time()
        load(text)
        took.append(time.process_time() - began)
    assert min(took) < 1


def test_importing_needs_no_gevent() -> None:
    code = "import sys, hemi.config, hemi.stage, hemi.component; sys.exit('gevent' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Whatever is written, ConfigError is all that comes out

BROKEN = st.sampled_from(
    [
        "",
        " ",
        "\n",
        ":",
        "-",
        "[",
        "]",
        "{",
        "}",
        "*a",
        "&a ",
        "null",
        "1",
        "0x",
        "'",
        '"',
        "${",
        "${x}",
        "$",
        "type",
        "!",
        "\t",
        "x: ",
        "<<: ",
    ]
)


def attempt(text: str) -> None:
    try:
        load_text(text, DIRS, "it")
    except ConfigError as error:
        assert error.problems
        assert all(str(problem) for problem in error.problems)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutations_of_a_good_configuration(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = begin + data.draw(st.sampled_from([0, 0, 1, 2, 5, 20]))
        text = text[:begin] + data.draw(BROKEN) + text[end:]
    attempt(text)


KEYS = st.sampled_from(
    [
        "webapps",
        "a",
        "rules",
        "handlets",
        "revisers",
        "static",
        "http_proxy",
        "to_backend",
        "type",
        "if",
        "backends",
        "nodes",
        "address",
        "hostnames",
        "include",
        "constants",
        "extensions",
        "fcache",
        "access_log",
        "servers",
        "x",
        "${x}",
        "gzip",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_random_trees(data: dict[str, Any]) -> None:
    try:
        load_mapping(data, DIRS)
    except ConfigError as error:
        assert error.problems


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abwrules:-[]{}&*<'\"|>#!?%$ \n\t0", max_size=200))
def test_random_text(text: str) -> None:
    attempt(text)


def test_directories_below_a_top() -> None:
    assert Dirs.below("/t") == Dirs("/t", "/t/log", "/t/tmp", "/t/var")
