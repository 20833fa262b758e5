"""Components: declarations, the registry, and what classes that are declared badly raise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hemi import component as registry
from hemi.component import Component, prop
from hemi.errors import BugError
from hemi.values import Ref, Size
from tests import samples
from tests.samples import load


@pytest.fixture(autouse=True)
def sandbox() -> Iterator[None]:
    with samples.sandbox:
        yield


def test_declarations_move_off_the_class() -> None:
    assert "web_root" not in vars(samples.Static)
    assert list(samples.Static.props()) == ["web_root", "max_cached", "index_file", "types", "fails"]
    assert samples.Static.props()["max_cached"].doc == "The largest file kept."


def test_what_is_required_comes_first_then_what_is_a_class_s_own() -> None:
    class Shown(samples.Static):
        colour: str = prop("red", "Of the page.")
        index_file = prop("start.html", "For folders.")

    assert list(Shown.props()) == ["web_root", "colour", "index_file", "fails", "max_cached", "types"]


def test_values_are_plain_attributes() -> None:
    stage = load("webapps: {a: {rules: [{handlets: [{static: {web_root: x}}]}]}}")
    (static,) = stage.members["webapps"]["a"].rules[0].handlets
    assert vars(static)["web_root"] == "/top/x"
    assert vars(static)["max_cached"] == 65536


def test_a_trailing_underscore_is_not_written() -> None:
    declared = samples.Rule.props()["if"]
    assert (declared.name, declared.attribute) == ("if", "if_")


def test_labels_and_reprs() -> None:
    stage = load("webapps: {a: {rules: [{}]}}")
    webapp = stage.members["webapps"]["a"]
    assert (webapp.label, webapp.rules[0].label, stage.label) == ('webapp "a"', "rule", "stage")
    assert (repr(webapp), repr(webapp.rules[0])) == ("<Webapp a>", "<Rule>")


def test_parents_stages_and_places() -> None:
    stage = load(
        "webapps:\n  a:\n    handlets: {s: {type: static, web_root: x}}\n    rules:\n      - handlets: s\n"
    )
    webapp = stage.members["webapps"]["a"]
    (rule,) = webapp.rules
    (static,) = rule.handlets
    assert (webapp.parent, rule.parent, static.parent) == (stage, webapp, webapp)
    assert {webapp.stage, rule.stage, static.stage} == {stage}
    assert [str(one.place) for one in (webapp, rule, static)] == ["it:2:3", "it:5:9", "it:3:16"]
    assert list(webapp.parts()) == [static, rule]
    assert list(rule.parts()) == []


def test_finding_classes() -> None:
    assert registry.find("static", "handlets") is samples.Static
    assert registry.find("static", "revisers") is None
    assert registry.signs("backends") == ["http_backend", "tcpx_backend"]
    assert registry.concrete(samples.Backend) == [samples.HTTPBackend, samples.TCPXBackend]
    assert registry.concrete(samples.HTTPBackend) == [samples.HTTPBackend]


def test_what_is_below_and_inherited() -> None:
    assert samples.Node in registry.below(samples.HTTPBackend)
    assert samples.Node not in registry.below(samples.HTTPXServer)
    assert {"max_cached", "level"} <= set(registry.inheritable(samples.Webapp))
    assert "address" not in registry.inheritable(samples.Webapp)


def test_a_new_class_is_known_at_once() -> None:
    assert "shiny" not in registry.inheritable(samples.Rule)

    class Shiny(samples.Handlet, sign="shiny"):
        shiny: bool = prop(False)

    assert "shiny" in registry.inheritable(samples.Rule)


def test_subclasses_inherit_and_override_declarations() -> None:
    class Big(samples.Static):
        max_cached = prop("128K", "More.", most="1M")

    declared = Big.props()["max_cached"]
    assert declared.given.value == "128K"
    assert declared.kind == samples.Static.props()["max_cached"].kind
    assert samples.Static.props()["max_cached"].given.value == "64K"
    assert "index_file" in Big.props()
    assert Big.sign == ""


def test_duplicate_signs_are_bugs_that_name_both() -> None:
    with pytest.raises(
        BugError, match=r"'static' within handlets is declared by both .*samples\.Static and .*Other"
    ):

        class Other(samples.Handlet, sign="static"):
            pass


def test_the_same_sign_in_another_kind_is_fine() -> None:
    class Other(samples.Reviser, sign="static"):
        pass

    assert registry.find("static", "revisers") is Other
    assert registry.find("static", "handlets") is samples.Static


def test_a_module_that_failed_can_be_imported_anew() -> None:
    def define() -> type[Component]:
        class Again(samples.Handlet, sign="again"):
            pass

        return Again

    define()
    second = define()
    assert registry.find("again", "handlets") is second


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: type("A", (Component,), {}, sign="a"), "has the sign 'a', but no kind"),
        (lambda: type("A", (Component,), {}, kind="gadgets"), "there is no kind 'gadgets'"),
        (
            lambda: type("A", (Component,), {}, kind="handlets", nested=True),
            "kind 'handlets' is declared by both",
        ),
        (lambda: type("A", (Component,), {"x": prop(1)}), "A.x has no annotation"),
        (
            lambda: type("A", (Component,), {"type": prop("x"), "__annotations__": {"type": "str"}}),
            "A.type: a property cannot have this name",
        ),
        (
            lambda: type("A", (Component,), {"parent": prop("x"), "__annotations__": {"parent": "str"}}),
            "A.parent: a property cannot have this name",
        ),
    ],
)
def test_bad_classes_are_bugs(define: Any, message: str) -> None:
    with pytest.raises(BugError, match=message):
        define()


@pytest.mark.parametrize("annotation", ["Nowhere", "bytes", "Ref[str]", "list[Nowhere]"])
def test_bad_annotations_are_bugs_at_first_use(annotation: str) -> None:
    cls = type(
        "A", (Component,), {"x": prop(1), "__annotations__": {"x": annotation}, "__module__": __name__}
    )
    with pytest.raises(BugError, match=r"A\.x: "):
        _ = cls.props()["x"].kind  # type: ignore[attr-defined]


def test_annotations_can_name_any_component_class() -> None:
    cls = type(
        "A",
        (Component,),
        {"x": prop(None), "__annotations__": {"x": "Ref[TCPXBackend]"}, "__module__": __name__},
    )
    assert list(cls.props()["x"].kind.bases()) == [samples.TCPXBackend]  # type: ignore[attr-defined]


def test_bad_defaults_and_limits_are_bugs() -> None:
    class Bad(samples.Handlet, sign="bad"):
        size: Size = prop("64Q")

    with pytest.raises(BugError, match=r"Bad\.size has a bad default"):
        load("webapps: {a: {rules: [{handlets: bad}]}}")

    class Bad2(samples.Handlet, sign="bad2"):
        size: Size = prop("64K", least="x")

    with pytest.raises(BugError, match=r"Bad2\.size has a bad limit"):
        load("webapps: {a: {rules: [{handlets: [{bad2: {size: 1}}]}]}}")


def test_hooks_do_nothing_by_default() -> None:
    component = Component()
    component.prepare()
    component.start()
    component.stop(0.0)
    assert list(component.check()) == []
    assert list(component.parts()) == []


__all__ = ["Ref"]
