"""The effective configuration: it has the defaults, hides secrets, and loads to the same again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hemi.config import effective
from tests import samples
from tests.samples import load
from tests.test_config import GOOD


@pytest.fixture(autouse=True)
def sandbox() -> Iterator[None]:
    with samples.sandbox:
        yield


def again(text: str) -> str:
    """The effective text, after it was loaded and printed once more."""
    printed = effective(load(text))
    assert effective(load(printed)) == printed
    return printed


def test_defaults_are_there_and_it_loads_again() -> None:
    data = yaml.safe_load(again(GOOD))
    shop = data["webapps"]["shop"]
    assert shop["hostnames"] == ["shop.example.com", "*.shop.example.com"]
    assert shop["handlets"]["files"]["max_cached"] == "128K"
    assert shop["handlets"]["files"]["type"] == "static"
    assert shop["rules"][0]["if"] == '$path ^= ("/api/", "/v1/") and not ($method == "TRACE")'
    assert shop["rules"][1]["handlets"][0] == "files"
    assert shop["rules"][0]["revisers"][1]["gzip"]["level"] == 9
    assert data["backends"]["api"]["nodes"][0] == {"fails": None, "address": "127.0.0.1:8001", "weight": 2}
    assert data["drain_timeout"] == "30s"
    assert data["clock"] is not None
    assert "constants" not in data


def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEMI_SECRET", "hunter2")
    nodes = "nodes: [{address: ':1'}]"
    printed = again(
        f"""
password: hunter2
backends:
  a: {{type: http_backend, password: hunter2, {nodes}}}
  b: {{type: http_backend, password: {{env: HEMI_SECRET}}, {nodes}}}
  c: {{type: http_backend, {nodes}}}
"""
    )
    assert "hunter2" not in printed
    data = yaml.safe_load(printed)
    assert data["password"] == "***"
    assert [one.get("password") for one in data["backends"].values()] == ["***", {"env": "HEMI_SECRET"}, None]


def test_texts_stay_texts() -> None:
    values = [
        "1",
        "0x1F",
        "0o17",
        "1e3",
        "true",
        "null",
        "",
        "~",
        "on",
        "1:30",
        "a: b",
        "# x",
        "${x}",
        "$${x}",
        "a\nb",
        "é",
        "- a",
        "<<",
    ]
    quoted = ", ".join('"' + value.replace("${", "$${").replace("\n", "\\n") + '"' for value in values)
    text = f"webapps: {{a: {{settings: {{all: [{quoted}], n: 1, f: 1e-7, t: true, z: null}}}}}}"
    printed = again(text)
    settings = load(printed).members["webapps"]["a"].settings
    assert settings == {"all": values, "n": 1, "f": 1e-7, "t": True, "z": None}


def test_components_in_place_stand_where_they_were_written() -> None:
    text = """
to_backend: {type: http_backend, nodes: [{address: ":1"}]}
access_log: {target: stdout}
webapps:
  a:
    rules:
      - handlets: [http_proxy, {http_proxy: {to_backend: {type: http_backend, nodes: [{address: ":2"}]}}}]
"""
    data = yaml.safe_load(again(text))
    assert data["to_backend"]["nodes"][0]["address"] == ":1"
    assert data["access_log"]["target"] == "stdout"
    one, two = data["webapps"]["a"]["rules"][0]["handlets"]
    assert "to_backend" not in one["http_proxy"]
    assert two["http_proxy"]["to_backend"]["nodes"][0]["address"] == ":2"


def test_the_smallest_configuration() -> None:
    assert yaml.safe_load(again(""))["webapps"] == {}
