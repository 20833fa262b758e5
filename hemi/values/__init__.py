"""The kinds of values that properties may have, written as annotations.

    max_cached: Size = prop("64K", "The largest file kept in memory.")
    address: list[Address] = prop(doc="Where to listen.")
    to_backend: Ref[HTTPBackend] = prop(None, "Where misses go.")

Type checkers see what the attribute holds (`int` for a Size); Hemi sees the kind behind it. Besides the names
below, annotations may be bool, int, float, str, Any, Literal[…], list[T], dict[str, T], T | None and unions.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from hemi.conditions import CompiledCondition, CompiledTemplate
from hemi.errors import BugError
from hemi.patterns import Pattern as _Pattern
from hemi.values.base import Context, Kind, Wrong, named, spelled, suggestion
from hemi.values.containers import DictKind, EitherKind, ListKind, OptionalKind
from hemi.values.net import Addr, AddressKind, HostnameKind, Net, NetworkKind, to_ascii
from hemi.values.scalars import (
    AnyKind,
    BoolKind,
    ChoiceKind,
    DurationKind,
    FloatKind,
    IntKind,
    ModeKind,
    PathKind,
    PatternKind,
    SecretKind,
    SizeKind,
    TextKind,
)
from hemi.values.structure import ChildrenKind, ComponentKind, InPlaceKind, NamedKind, PartsKind, RefKind
from hemi.values.texts import ConditionKind, TemplateKind

_T = TypeVar("_T")

Size = Annotated[int, SizeKind()]
Duration = Annotated[float, DurationKind()]
Path = Annotated[str, PathKind()]
Mode = Annotated[int, ModeKind()]
Address = Annotated[Addr, AddressKind()]
Hostname = Annotated[str, HostnameKind()]
Network = Annotated[Net, NetworkKind()]
Pattern = Annotated[_Pattern, PatternKind()]
Secret = Annotated[str, SecretKind()]
Condition = Annotated[CompiledCondition, ConditionKind()]
Template = Annotated[CompiledTemplate, TemplateKind()]
Ref = Annotated[_T, RefKind]
Parts = Annotated[list[_T], PartsKind]
Children = Annotated[list[_T], ChildrenKind]
Named = Annotated[dict[str, _T], NamedKind]

__all__ = [
    "Addr",
    "Address",
    "Children",
    "ChildrenKind",
    "ComponentKind",
    "Condition",
    "Context",
    "DictKind",
    "Duration",
    "EitherKind",
    "Hostname",
    "InPlaceKind",
    "Kind",
    "ListKind",
    "Mode",
    "Named",
    "NamedKind",
    "Network",
    "OptionalKind",
    "Parts",
    "PartsKind",
    "Path",
    "Pattern",
    "Ref",
    "RefKind",
    "Secret",
    "SecretKind",
    "Size",
    "Template",
    "Wrong",
    "kind_of",
    "named",
    "spelled",
    "suggestion",
    "to_ascii",
]

_PLAIN: dict[Any, Kind] = {
    bool: BoolKind(),
    int: IntKind(),
    float: FloatKind(),
    str: TextKind(),
    Any: AnyKind(),
}


def kind_of(annotation: Any) -> Kind:
    """The kind that an annotation means; raises BugError when it means none."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(annotation, arguments)
    if origin is Literal:
        return ChoiceKind(arguments)
    if origin is list:
        return ListKind(kind_of(arguments[0]))
    if origin is dict and arguments[0] is str:
        return DictKind(kind_of(arguments[1]))
    if origin in (Union, types.UnionType):
        kinds = tuple(kind_of(one) for one in arguments if one is not type(None))
        kind = kinds[0] if len(kinds) == 1 else EitherKind(kinds)
        return OptionalKind(kind) if type(None) in arguments else kind
    raise BugError(f"{annotation!r} is not a kind of value")


def _annotated(annotation: Any, arguments: tuple[Any, ...]) -> Kind:
    for mark in arguments[1:]:
        if isinstance(mark, Kind):
            return mark
        if isinstance(mark, type) and issubclass(mark, ComponentKind):
            base = arguments[0] if mark is RefKind else get_args(arguments[0])[-1]
            if not getattr(base, "kind", ""):
                raise BugError(f"{base!r} is not a component of a kind")
            return mark(base)
    raise BugError(f"{annotation!r} is not a kind of value")
