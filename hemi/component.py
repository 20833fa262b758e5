"""Components: what a configuration can name. Their declarations, their registry, their verbs.

A property is declared once, on the class, and the declaration moves off the class into a table; `configure`
sets plain instance attributes, so that reading one on the hot path costs nothing.

    class Static(Handlet, sign="static"):
        \"""Serves the files below web_root.\"""

        max_cached: Size = prop("64K", "The largest file kept in memory.", least="1K", most="1M")

The name in a configuration is the attribute's, without a trailing underscore (`if_` is written `if`). A value
is looked up on the component itself, then on its parents, up to the stage, then in the declaration. A
parent's own property of the same name counts only when it is of the same kind: `webapps:` of a stage is not
inherited by a server's list of names.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

from hemi.errors import BugError, Place
from hemi.source import Given, from_data
from hemi.values import ComponentKind, Kind, OptionalKind, PartsKind, kind_of

if typing.TYPE_CHECKING:
    from hemi.conditions import Scope
    from hemi.stage import Stage

# The kinds that a stage has, in the order of prepare and start; stop goes backwards.
STAGE_KINDS = (
    "fixtures",
    "loggers",
    "backends",
    "services",
    "hstates",
    "hcaches",
    "webapps",
    "routers",
    "servers",
    "cronjobs",
)


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()


class Prop:
    """The declaration of a property."""

    def __init__(self, default: Any, doc: str, least: Any, most: Any, inherit: bool) -> None:
        self.default = default
        self.doc = doc
        self.least = least
        self.most = most
        self.inherit = inherit
        self.attribute = ""  # the name of the instance attribute
        self.name = ""  # the name in a configuration
        self.owner: type[Component] = Component
        self.given = Given(None) if default is REQUIRED else from_data(default)
        self._annotation: Any = None
        self._kind: Kind | None = None

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def inherits(self) -> bool:
        """Whether values of parents count."""
        return self.inherit and not self.kind.structural

    @property
    def kind(self) -> Kind:
        if self._kind is None:
            self._kind = self._resolve()
        return self._kind

    @property
    def bare_kind(self) -> Kind:
        """The kind of a value that is there."""
        return self.kind.item if isinstance(self.kind, OptionalKind) else self.kind

    def _resolve(self) -> Kind:
        """Evaluates the annotation, late: it may name classes that were defined after this one."""
        holder = types.SimpleNamespace(__annotations__={"it": self._annotation})
        module = vars(sys.modules[self.owner.__module__])
        try:
            names = _Names(module)
            hint = typing.get_type_hints(holder, globalns={}, localns=names, include_extras=True)["it"]
            kind = kind_of(hint)
        except BugError as error:
            raise BugError(f"{self.owner.__qualname__}.{self.attribute}: {error}") from None
        except Exception as error:
            raise BugError(
                f"{self.owner.__qualname__}.{self.attribute}: cannot read the annotation: {error}"
            ) from error
        if self.default is None and not isinstance(kind, OptionalKind):
            kind = OptionalKind(kind)
        return kind

    def _bind(self, owner: type[Component], attribute: str, annotation: Any) -> None:
        self.owner, self.attribute, self.name = owner, attribute, attribute.removesuffix("_")
        self._annotation = annotation


class _Names(Mapping[str, Any]):
    """What an annotation may name: what its module has, then any component class by its name."""

    def __init__(self, module: dict[str, Any]) -> None:
        self._module = module

    def __getitem__(self, name: str) -> Any:
        if name in self._module:
            return self._module[name]
        return _classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._module)

    def __len__(self) -> int:
        return len(self._module)


def prop(
    default: Any = REQUIRED, doc: str = "", *, least: Any = None, most: Any = None, inherit: bool = True
) -> Any:
    """Declares a property.

    `default`, `least` and `most` are spelled as in a configuration ("64K"); without a default the property is
    required, with None it may be missing. The limits are of the value of numbers, and of the length of texts,
    lists and mappings. Without `inherit`, values of parents do not count: for what identifies a component,
    such as an address.
    """
    return Prop(default, doc, least, most, inherit)


_registry: dict[str, dict[str, type[Component]]] = {}  # kind -> sign -> class
_bases: dict[str, type[Component]] = {}  # kind -> the class that declares it
_classes: dict[str, type[Component]] = {}  # class name -> class, for annotations
_caches: list[dict[Any, Any]] = []  # of what is derived from the registry: dropped when it changes


def find(sign: str, kind: str) -> type[Component] | None:
    """The class that is registered with a sign within a kind."""
    return _registry.get(kind, {}).get(sign)


def signs(kind: str) -> list[str]:
    """The signs within a kind, sorted."""
    return sorted(_registry.get(kind, {}))


def kinds() -> dict[str, type[Component]]:
    """The kinds that are declared, with the class that declares each."""
    return dict(_bases)


def concrete(base: type[Component]) -> list[type[Component]]:
    """The registered classes that are `base` or below it, by sign."""
    return [cls for _, cls in sorted(_registry.get(base.kind, {}).items()) if issubclass(cls, base)]


def forget(modules: set[str]) -> None:
    """Forgets the classes of modules, and those modules, so that they can be imported anew when they are mended.

    Classes whose module is not there, because it could not be imported to its end, are forgotten as well.
    """
    tables: list[dict[str, type[Component]]] = [_bases, _classes, *_registry.values()]
    for table in tables:
        for name, cls in list(table.items()):
            if cls.__module__ in modules or cls.__module__ not in sys.modules:
                del table[name]
                sys.modules.pop(cls.__module__, None)
    for one in _caches:
        one.clear()


def resolve_all() -> None:
    """Reads the annotations of all registered classes; raises BugError when one cannot be read."""
    for table in list(_registry.values()):  # reading an annotation may import a module that has more classes
        for cls in list(table.values()):
            for declared in cls.props().values():
                _ = declared.kind


def cache() -> dict[Any, Any]:
    """A dictionary that is emptied whenever a class is registered."""
    _caches.append({})
    return _caches[-1]


class Component:
    """The base of all components.

    Class keywords: `sign`, the type in a configuration, makes the class usable there; `kind` declares a new
    kind, whose components share this class; `nested` says that the kind lives inside others instead of in a
    section of the stage.
    """

    sign: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    nested: ClassVar[bool] = False
    scope: ClassVar[Scope | None] = None  # the variables that conditions and templates below may use
    __props__: ClassVar[dict[str, Prop]] = {}

    name: str
    parent: Component | None
    place: Place | None
    stage: Stage

    def __init_subclass__(
        cls, *, sign: str = "", kind: str = "", nested: bool = False, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        cls.sign = sign
        if kind:
            if not nested and kind not in STAGE_KINDS and kind != "stages":
                raise BugError(f"{cls.__qualname__}: there is no kind {kind!r} in the stage's list of kinds")
            other = _bases.setdefault(kind, cls)
            if _full(other) == _full(cls):
                _bases[kind] = cls
            elif kind != "fixtures":  # these have nothing in common but being one each
                raise BugError(f"kind {kind!r} is declared by both {_full(other)} and {_full(cls)}")
            cls.kind, cls.nested = kind, nested
        _declare(cls)
        if _full(_classes.setdefault(cls.__name__, cls)) == _full(cls):
            _classes[cls.__name__] = cls
        if sign:
            _register(cls)
        for one in _caches:
            one.clear()

    def __init__(self, name: str = "", parent: Component | None = None, place: Place | None = None) -> None:
        self.name = name
        self.parent = parent
        self.place = place
        if parent is not None:
            self.stage = parent.stage
        self._given: Given = Given({})
        self._parts: list[Component] = []
        self._named: dict[str, dict[str, Component]] = {}  # property -> name -> component

    @classmethod
    def props(cls) -> dict[str, Prop]:
        """The properties, by their names in a configuration."""
        return cls.__props__

    @property
    def label(self) -> str:
        """What messages call this component: `static`, `webapp "shop"`."""
        sign = self.sign or type(self).__name__.lower()
        return f'{sign} "{self.name}"' if self.name else sign

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>" if self.name else f"<{type(self).__name__}>"

    @final
    def configure(self, loading: Any) -> None:
        """Sets an attribute for each property. Pure; `loading` collects the problems."""
        for declared in self.props().values():
            loading.configure(self, declared)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Yields problems across properties: a message, or a property's name and "must be …"."""
        return iter(())

    def prepare(self) -> None:
        """Takes what can fail: files, certificates, sockets. May raise EnvError or UsageError."""

    def start(self) -> None:
        """Goes to work."""

    def take_over(self, predecessor: Stage) -> None:
        """Takes over what can go on from a stage that retires. Called when the whole new stage has started.

        Until then the old one must be able to serve on as if nothing had happened.
        """

    def stop(self, deadline: float) -> None:
        """Takes no new work, finishes the current until `deadline` (time.monotonic() seconds), releases
        everything.

        Idempotent, and legal in every state: prepare may have failed half-way.
        """

    def parts(self) -> Iterator[Component]:
        """The components that were written inside of this one."""
        return iter(self._parts)


def _full(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _register(cls: type[Component]) -> None:
    if not cls.kind:
        raise BugError(f"{_full(cls)} has the sign {cls.sign!r}, but no kind")
    table = _registry.setdefault(cls.kind, {})
    other = table.get(cls.sign, cls)
    if _full(other) != _full(cls):  # the same again is a module that is imported anew, after it failed
        raise BugError(
            f"sign {cls.sign!r} within {cls.kind} is declared by both {_full(other)} and {_full(cls)}"
        )
    table[cls.sign] = cls


def _declare(cls: type[Component]) -> None:
    """Moves the declarations of a class into its table, in the order of the documentation: first what is required, then
    what is its own, then what it shares with others."""
    table: dict[str, Prop] = {}
    for base in reversed(cls.__mro__[1:]):
        table.update(vars(base).get("__props__", {}))
    own: dict[str, Prop] = {}
    annotations = inspect.get_annotations(cls)
    for attribute, declared in list(vars(cls).items()):
        if not isinstance(declared, Prop):
            continue
        name = attribute.removesuffix("_")
        annotation = annotations.get(attribute)
        if annotation is None and name in table:
            declared._bind(table[name].owner, attribute, table[name]._annotation)
        elif annotation is None:
            raise BugError(f"{_full(cls)}.{attribute} has no annotation")
        else:
            declared._bind(cls, attribute, annotation)
        if name in _RESERVED:
            raise BugError(f"{_full(cls)}.{attribute}: a property cannot have this name")
        own[name] = declared
        delattr(cls, attribute)
    table = own | {name: declared for name, declared in table.items() if name not in own}
    cls.__props__ = dict(sorted(table.items(), key=lambda item: not item[1].required))


_RESERVED = frozenset((*dir(Component), "name", "parent", "place", "stage", "type"))

_inheritable_cache = cache()
_below_cache = cache()


def below(cls: type[Component]) -> set[type[Component]]:
    """The registered classes whose components belong inside of one of `cls`.

    Not those that it refers to, although they may be written in place: nobody expects a server to pass on what is
    meant for its webapps, which usually stand elsewhere.
    """
    found: set[type[Component]] | None = _below_cache.get(cls)
    if found is None:
        found, todo = set(), [cls]
        while todo:
            for declared in todo.pop().props().values():
                for base in declared.kind.bases() if declared.kind.structural else ():
                    fresh = set(concrete(typing.cast("type[Component]", base))) - found
                    found |= fresh
                    todo += fresh
        _below_cache[cls] = found
    return found


def inheritable(cls: type[Component]) -> dict[str, list[Prop]]:
    """The properties that components inside of one of `cls` inherit, so that they may be written on it."""
    table: dict[str, list[Prop]] | None = _inheritable_cache.get(cls)
    if table is None:
        table = {}
        for inner in sorted(below(cls), key=lambda one: (one.kind, one.sign)):
            for name, declared in inner.props().items():
                if declared.inherits and declared not in table.setdefault(name, []):
                    table[name].append(declared)
        _inheritable_cache[cls] = {name: found for name, found in table.items() if found}
    return _inheritable_cache[cls]  # type: ignore[no-any-return]


__all__ = [
    "REQUIRED",
    "STAGE_KINDS",
    "Component",
    "ComponentKind",
    "PartsKind",
    "Prop",
    "below",
    "cache",
    "concrete",
    "find",
    "forget",
    "inheritable",
    "kinds",
    "prop",
    "resolve_all",
    "signs",
]
