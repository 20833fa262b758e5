"""The reference documentation, a JSON Schema and `gorox help SIGN`, made from the declarations of the
components.

Pure functions: what is registered goes in, text comes out, and the same goes in and out on every machine.
"""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from hemi import component as registry
from hemi.component import STAGE_KINDS, Component, Prop
from hemi.config import describe_limits
from hemi.errors import UsageError
from hemi.stage import Stage
from hemi.values import NamedKind, spelled, suggestion

OWN = " *own*"

_HEAD = """\
# Reference

Made from the declarations in the code by `toolkit/refdoc`; do not edit. `gorox help SIGN` shows the same.

A property is looked up on the component, then on its parents, up to the stage; those marked *own* only on the
component. A property without a default is required. Required ones come first, then what is special to the component,
then what it shares with others. The forms of values:

| form | examples |
|---|---|
| size | `64K` `1M` `2G` `512` (bytes; K, M, G, T are powers of 1024) |
| duration | `500ms` `30s` `1m30s` `2h` `1d` `0` `1.5` (seconds) |
| address | `:80` `127.0.0.1:80` `[::1]:80` `name:80` `/path.sock` `unix:relative.sock` `@abstract` |
| path | `apps/shop` (from the top directory) `/srv/shop` `~/shop` |
| host name | `example.com` `*.example.com` `www.*` `*` |
| network | `10.0.0.0/8` `::1` |
| secret | `{env: NAME}` `{file: PATH}` or the text itself |
| condition | `$path ^= ("/api/", "/v1/") and not ($method == "TRACE")` |
| regular expression | RE2: as in Python, without back-references and look-around |
| reference | the name of a component of that kind, or a mapping with its `type` and properties in place |

`true` and `false` are the only booleans, and `on`, `no`, `1:30` or `0660` are text. `${top_dir}` `${log_dir}`
`${tmp_dir}` `${var_dir}` `${env:NAME}` `${env:NAME:-default}` and `${name}` of the `constants` are replaced
when the file is read, `$${` stands for `${`.
"""


_INCLUDE = {"type": ["string", "array"], "items": {"type": "string"}, "description": "Files to splice in."}


def classes() -> list[type[Component]]:
    """The registered classes in the order of the documentation: the stage, its kinds, the nested kinds."""
    Stage.props()  # loads the core's own components
    nested = sorted(kind for kind, base in registry.kinds().items() if base.nested and kind != "stages")
    found: list[type[Component]] = [Stage]
    for kind in (*STAGE_KINDS, *nested):
        found += [cls for sign in registry.signs(kind) if (cls := registry.find(sign, kind))]
    return found


def reference() -> str:
    """The text of docs/reference.md."""
    parts = [_HEAD]
    kind = ""
    for cls in classes():
        if cls.kind != kind:
            kind = cls.kind
            parts.append(f"\n## {'The stage' if cls is Stage else kind}\n")
        parts.append(_section(cls))
    return "".join(parts)


def _section(cls: type[Component]) -> str:
    lines = ["" if cls is Stage else f"\n### {cls.sign}\n", _doc(cls), ""]
    props = [declared for declared in cls.props().values() if not _is_section(cls, declared)]
    if props:
        lines += ["| property | value | default | |", "|---|---|---|---|"]
        lines += [
            f"| `{one.name}` | {_cell(_value(one))} | {_cell(_default(one))} | {_cell(_about(one))} |"
            for one in props
        ]
    else:
        lines.append("No properties.")
    if cls.scope is not None:
        lines += ["", "Variables: " + " ".join(f"`${name}`" for name in cls.scope.names())]
    if cls is Stage:
        lines += [
            "",
            "Sections and fixtures: "
            + ", ".join(f"`{n}`" for n, p in cls.props().items() if _is_section(cls, p)),
        ]
    return "\n".join(lines) + "\n"


def _is_section(cls: type[Component], declared: Prop) -> bool:
    return cls is Stage and declared.kind.structural


def _doc(cls: type[Component]) -> str:
    """The docstring of the class itself, as Markdown; examples are indented in it."""
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "")


def _value(declared: Prop) -> str:
    value = declared.bare_kind.noun
    if declared.least is not None or declared.most is not None:
        value += f", {describe_limits(declared)}"
    return value


def _default(declared: Prop) -> str:
    if declared.required:
        return "required"
    if declared.default is None:
        return "none"
    return spelled(declared.given.plain())


def _about(declared: Prop) -> str:
    own = "" if declared.inherits or declared.kind.structural else OWN
    return f"{declared.doc}{own}".strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")


def help_sign(sign: str) -> str:
    """The text of `gorox help SIGN`; raises UsageError when there is no such sign."""
    found = [cls for cls in classes() if cls.sign == sign]
    if not found:
        near = suggestion(sign, [cls.sign for cls in classes()])
        raise UsageError(f"there is no component {spelled(sign)}{near}")
    return "\n".join(_help(cls) for cls in found)


def help_signs() -> str:
    """A list of all signs with their first sentences, for `gorox help signs`."""
    lines = []
    kind = ""
    for cls in classes():
        if cls.kind != kind:
            kind = cls.kind
            lines.append(f"{kind}:")
        sentence = " ".join(_doc(cls).partition("\n\n")[0].split()).partition(". ")[0]
        lines.append(f"  {cls.sign:<18} {sentence.rstrip('.')}")
    return "\n".join(lines) + "\n"


def _help(cls: type[Component]) -> str:
    kind = "the top of a configuration" if cls is Stage else f"one of the {cls.kind}"
    lines = [f"{cls.sign} ({kind})", "", *_indented(_doc(cls), 2)]
    for declared in cls.props().values():
        default = "required" if declared.required else f"default {_default(declared)}"
        lines += ["", f"  {declared.name}: {_value(declared)} ({default})", *_indented(_about(declared), 6)]
    if any(_about(declared).endswith(OWN) for declared in cls.props().values()):
        lines += ["", f"  Those marked{OWN} are not inherited from what the component is in."]
    if cls.scope is not None:
        lines += ["", *_indented("Variables: " + " ".join(f"${name}" for name in cls.scope.names()), 2)]
    return "\n".join(lines) + "\n"


def _indented(text: str, width: int) -> list[str]:
    """A text as indented lines; its paragraphs are wrapped anew, its examples are left as they are."""
    lines: list[str] = []
    gathered = ""
    for line in [*text.splitlines(), ""]:
        if line and not line.startswith((" ", "- ")):
            gathered = f"{gathered} {line}" if gathered else line
            continue
        if gathered:
            lines += textwrap.wrap(gathered, 100 - width, break_on_hyphens=False)
        gathered = line if line.startswith("- ") else ""
        if not gathered:
            lines.append(line)
    return [(" " * width + line).rstrip() for line in lines[:-1]]


def schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of configurations, for editors."""
    definitions = {f"{cls.kind}.{cls.sign}": _class_schema(cls) for cls in classes()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gorox configuration",
        "$ref": "#/$defs/stages.stage",
        "$defs": definitions,
    }


def _class_schema(cls: type[Component]) -> dict[str, Any]:
    """The schema of one component's mapping. A property may stand on a parent: none is required here."""
    properties: dict[str, Any] = {"type": {"const": cls.sign}} if cls is not Stage else {}
    for name, inherited in sorted(registry.inheritable(cls).items()):
        forms: list[dict[str, Any]] = []
        for one in inherited:
            if (form := _prop_schema(one)) not in forms:
                forms.append(form)
        properties[name] = forms[0] if len(forms) == 1 else {"anyOf": forms}
    for declared in cls.props().values():
        properties[declared.name] = _prop_schema(declared)
        if cls is Stage and isinstance(declared.kind, NamedKind):
            properties[declared.name]["properties"] = {"include": _INCLUDE}
    if cls.kind in STAGE_KINDS and cls.kind != "fixtures":
        properties["include"] = _INCLUDE
    return {
        "type": "object",
        "description": _doc(cls).partition("\n\n")[0],
        "properties": properties,
        "additionalProperties": False,
    }


def _prop_schema(declared: Prop) -> dict[str, Any]:
    form = _resolved(declared.kind.schema(), declared)
    described: dict[str, Any] = {"description": declared.doc} if declared.doc else {}
    if not declared.required and declared.default is not None:
        described["default"] = declared.given.plain()
    # A scalar may also be a text with ${…}, which is replaced before the value is looked at.
    replaced = {"type": "string", "pattern": r"\$\{"}
    return described | ({"anyOf": [form, replaced]} if not declared.kind.structural else form)


def _resolved(form: Any, declared: Prop) -> Any:
    """Puts references to the definitions of components where a kind says that components are written."""
    if isinstance(form, list):
        return [_resolved(one, declared) for one in form]
    if not isinstance(form, dict):
        return form
    if "x-components" not in form:
        return {key: _resolved(value, declared) for key, value in form.items()}
    kind = form["x-components"]
    known = [one for one in registry.signs(kind) if form.get("x-sign", one) == one]
    links = {sign: {"$ref": f"#/$defs/{kind}.{sign}"} for sign in known}
    if form["x-form"] == "bare":
        return {"anyOf": [*links.values(), {"type": "null"}]}
    if form["x-form"] == "part":
        properties = {sign: {"anyOf": [link, {"type": "null"}]} for sign, link in links.items()}
        part = {"type": "object", "properties": properties, "additionalProperties": False, "maxProperties": 1}
        return {"anyOf": [{"type": "string"}, part]}
    return _typed_schema(links)


def _typed_schema(links: dict[str, Any]) -> dict[str, Any]:
    if len(links) == 1:
        return {"anyOf": [*links.values(), {"type": "null"}]}
    forms = [{"allOf": [link, {"required": ["type"]}]} for link in links.values()]
    return {"anyOf": forms} if forms else {}


__all__ = ["classes", "help_sign", "help_signs", "reference", "schema"]
