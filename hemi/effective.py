"""The effective configuration: everything that holds after defaults, constants, includes and aliases, as
YAML.

What it prints loads again and means the same. Two things differ: secrets that were written out are `***`, and
a component that several inherit from one parent stands there once, where it was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from hemi import component as registry
from hemi.component import Component, Prop
from hemi.source import Given, resolve_scalar
from hemi.values import (
    ChildrenKind,
    ComponentKind,
    DictKind,
    EitherKind,
    InPlaceKind,
    Kind,
    ListKind,
    NamedKind,
    OptionalKind,
    PartsKind,
    RefKind,
    SecretKind,
)

if TYPE_CHECKING:
    from hemi.stage import Stage

_LEFT_OUT: Any = object()
_OF_THE_FILE = ("include", "constants")  # they have done their work


def effective(stage: Stage) -> str:
    """The effective configuration of a stage."""
    data = {key: value for key, value in _properties(stage).items() if key not in _OF_THE_FILE}
    text: str = yaml.dump(
        _escaped(data),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=False,
    )
    return text


def _properties(component: Component) -> dict[str, Any]:
    props = component.props()
    shown = {name: _property(component, declared) for name, declared in props.items()}
    inherited = registry.inheritable(type(component))
    for name, given in component._given.value.items():
        if name not in props and name in inherited:
            shown[name] = _inheritable(component, given, inherited[name])
    return {name: value for name, value in shown.items() if value is not _LEFT_OUT}


def _property(component: Component, declared: Prop) -> Any:
    if _holds_secrets(declared.kind):
        given = component._given.value.get(declared.name)
        return _LEFT_OUT if given is None else _masked(given)
    return _show(component, declared.kind, getattr(component, declared.attribute))


def _inheritable(component: Component, given: Given, declared: list[Prop]) -> Any:
    """A value that is written for the components inside of this one."""
    if any(_holds_secrets(one.kind) for one in declared):
        return _masked(given)
    for part in component.parts():
        if part._given is given:
            return _typed(part, None)
    return given.plain()


def _show(component: Component, kind: Kind, value: Any) -> Any:
    if isinstance(kind, OptionalKind):
        return None if value is None else _show(component, kind.item, value)
    if isinstance(kind, ComponentKind):
        return _show_components(component, kind, value)
    if isinstance(kind, EitherKind) and any(True for _ in kind.bases()):
        kind = next(
            one for one in kind.kinds if isinstance(value, Component) == any(True for _ in one.bases())
        )
        return _show(component, kind, value)
    if isinstance(kind, ListKind):
        items = [_show(component, kind.item, item) for item in value]
        return _LEFT_OUT if _LEFT_OUT in items else items
    if isinstance(kind, DictKind):
        shown = {key: _show(component, kind.item, item) for key, item in value.items()}
        return _LEFT_OUT if _LEFT_OUT in shown.values() else shown
    return kind.show(value)


def _show_components(component: Component, kind: ComponentKind, value: Any) -> Any:
    if isinstance(kind, RefKind):
        if value.name:
            return value.name
        return _typed(value, kind.base) if value.parent is component else _LEFT_OUT
    if isinstance(kind, PartsKind):
        return [part.name if part.name else {part.sign: _properties(part)} for part in value]
    if isinstance(kind, ChildrenKind):
        return [_typed(child, kind.base) for child in value]
    if isinstance(kind, NamedKind):
        return {name: _typed(one, kind.base) for name, one in value.items()}
    assert isinstance(kind, InPlaceKind)
    return _properties(value)


def _typed(component: Component, base: type[Component] | None) -> dict[str, Any]:
    """A component as a mapping, with its type unless that goes without saying."""
    if base is not None and base.sign == component.sign:
        return _properties(component)
    return {"type": component.sign, **_properties(component)}


def _holds_secrets(kind: Kind) -> bool:
    inner = (
        [kind.item] if isinstance(kind, OptionalKind | ListKind | DictKind) else getattr(kind, "kinds", ())
    )
    return isinstance(kind, SecretKind) or any(_holds_secrets(one) for one in inner)


def _masked(given: Given) -> Any:
    """A value with all scalars hidden, but for where a secret comes from."""
    if isinstance(given.value, dict):
        if len(given.value) == 1 and set(given.value) <= {"env", "file"}:
            return given.plain()
        return {key: _masked(item) for key, item in given.value.items()}
    if isinstance(given.value, list):
        return [_masked(item) for item in given.value]
    return None if given.value is None else "***"


def _escaped(value: Any) -> Any:
    """`${` in a value is text by now, and must stay it."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


class _Dumper(yaml.SafeDumper):
    """Writes what hemi.source reads: quotes texts that it would take for something else, makes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None if isinstance(resolve_scalar(value), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
