"""The import direction: library ← core ← net, rpc, web ← builtin, contrib; procmgr knows the core only.

Imports inside of functions and for type checking count too: what depends on what is a matter of the source, not of
the moment.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

TOP_DIR = Path(__file__).resolve().parents[2]

# Each part of hemi, and the parts that it may import. "core" is what stands directly in hemi/, and hemi.values.
ALLOWED: dict[str, frozenset[str]] = {
    "library": frozenset({"library"}),
    "core": frozenset({"library", "core"}),
    "net": frozenset({"library", "core", "upstream", "net"}),
    "rpc": frozenset({"library", "core", "upstream", "rpc"}),
    "web": frozenset({"library", "core", "upstream", "web"}),
    "builtin": frozenset({"library", "core", "upstream", "net", "rpc", "web", "builtin"}),
    "contrib": frozenset({"library", "core", "upstream", "net", "rpc", "web", "builtin", "contrib"}),
    "upstream": frozenset({"library", "core", "upstream"}),
    "procmgr": frozenset({"library", "core", "procmgr"}),
}


def part_of(module: str) -> str:
    """The part of hemi that a module belongs to: "hemi.web.rule" is of "web"."""
    words = module.split(".")
    return words[1] if len(words) > 1 and words[1] in ALLOWED else "core"


def imports_of(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yields the line and the name of every module of hemi that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                words = module.split(".")
                words = words[: len(words) - node.level + is_package]
                base = ".".join([*words, base] if base else words)
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "hemi" else [base]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "hemi")


def wrong_imports(folder: Path) -> list[str]:
    """Returns the imports below a folder (that holds hemi) that go the wrong way, one message each."""
    wrong = []
    for path in sorted(folder.glob("hemi/**/*.py")):
        words = list(path.relative_to(folder).with_suffix("").parts)
        is_package = words[-1] == "__init__"
        module = ".".join(words[:-1] if is_package else words)
        part = part_of(module)
        for line, name in imports_of(path.read_text(), module, is_package):
            if part_of(name) not in ALLOWED[part]:
                wrong.append(
                    f"{path.relative_to(folder)}:{line}: {part} must not import {name} of {part_of(name)}"
                )
    return wrong


def main() -> int:
    """Prints what is wrong; 1 if anything is."""
    wrong = wrong_imports(TOP_DIR)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
