"""The reference, the JSON Schema and the help, and that every declaration of every component makes sense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from hemi import reference
from hemi.errors import UsageError
from hemi.source import Reader
from tests import samples
from tests.samples import load
from tests.test_config import GOOD


@pytest.fixture(autouse=True)
def sandbox() -> Iterator[None]:
    with samples.sandbox:
        yield


def test_the_reference_has_every_component_and_property() -> None:
    text = reference.reference()
    for cls in reference.classes():
        assert f"### {cls.sign}\n" in text or cls.sign == "stage"
        for name, declared in cls.props().items():
            assert f"`{name}`" in text
            assert declared.doc.replace("|", "\\|") in text or declared.kind.structural
    assert '| `max_cached` | a size such as 64K, 1K to 1M | "64K" | The largest file kept. |' in text
    assert "| `web_root` | a path | required | The folder. |" in text
    assert "| `address` | an address such as" in text
    assert "`$header_NAME`" in text


def test_the_reference_is_the_same_every_time() -> None:
    assert reference.reference() == reference.reference()
    assert json.dumps(reference.schema()) == json.dumps(reference.schema())


def test_help_of_a_sign() -> None:
    text = reference.help_sign("static")
    assert text.startswith("static (one of the handlets)\n\n  Serves files.\n")
    assert (
        '  max_cached: a size such as 64K, 1K to 1M (default "64K")\n      The largest file kept.\n' in text
    )
    assert "  web_root: a path (required)\n" in text
    assert max(map(len, text.splitlines())) <= 110


def test_help_of_what_does_not_exist() -> None:
    with pytest.raises(UsageError, match=r'there is no component "statc", did you mean "static"\?'):
        reference.help_sign("statc")


def test_help_of_all_signs() -> None:
    text = reference.help_signs()
    assert "handlets:\n  http_proxy         Asks a backend\n  static             Serves files\n" in text


def validate(text: str) -> list[str]:
    reader = Reader()
    root = reader.read(text, "it")
    assert root is not None
    validator = jsonschema.Draft202012Validator(reference.schema())
    return [error.message for error in validator.iter_errors(root.plain())]


def test_the_schema_is_one_and_takes_what_loads() -> None:
    jsonschema.Draft202012Validator.check_schema(reference.schema())
    load(GOOD)
    assert validate(GOOD) == []
    assert validate("fcache: {cache_timeout: 2s}\naccess_log: {target: stdout}\nwebapps: {a: null}") == []


@pytest.mark.parametrize(
    "text",
    [
        "webapp: {}",
        "webapps: {a: {hostname: [x]}}",
        "webapps: {a: {tls: 'yes'}}",
        "webapps: {a: {rules: [{handlets: [{statc: {}}]}]}}",
        "webapps: {a: {rules: [{handlets: [{static: {max_cached: 2k}}]}]}}",
        "backends: {a: {type: x}}",
        "backends: {a: {type: tcpx_backend, balancer: odd}}",
        "fcache: 3",
    ],
)
def test_the_schema_refuses_what_does_not_load(text: str) -> None:
    assert validate(text)


def test_the_schema_takes_the_effective_configuration() -> None:
    from hemi.config import effective

    printed: Any = effective(load(GOOD))
    assert validate(printed) == []
    assert yaml.safe_load(printed)


def test_help_is_wrapped_once() -> None:
    """The lines of the code are not those of the screen; examples and lists stay as they are."""
    text = "One " + "word " * 30 + "\nmore.\n\n    an  example\n- a\n- b\n  indented"
    lines = reference._indented(text, 2)
    assert lines[-5:] == ["", "      an  example", "  - a", "  - b", "    indented"]
    assert all(len(line) <= 100 for line in lines) and len(lines[0]) > 90
    assert lines[1].endswith("more.") and reference._indented("", 2) == []
