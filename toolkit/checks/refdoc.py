"""The generated documentation: reference and schema, made from the declarations, and the states of workers."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from hemi.procmgr.child import MOVES
from hemi.procmgr.program import GOROX
from hemi.reference import reference, schema

TOP_DIR = Path(__file__).resolve().parents[2]


def documents() -> dict[str, str]:
    """Returns the texts by path (below the top directory)."""
    for module in GOROX.components:
        importlib.import_module(module)
    return {
        "docs/reference.md": reference(),
        "docs/gorox.schema.json": json.dumps(schema(), indent=1, ensure_ascii=False) + "\n",
        "docs/internals/workers.md": workers(),
    }


def workers() -> str:
    """Draws the states of a worker from the table that its leader obeys."""
    ids = {state: state.replace(" ", "_") for state in MOVES}
    names = [f'    state "{state}" as {ident}' for state, ident in ids.items() if state != ident]
    arrows = [
        f"    {ids[state]} --> {ids[after]}: {event}"
        for state, moves in MOVES.items()
        for event, after in moves.items()
    ]
    diagram = "\n".join(["stateDiagram-v2", "    [*] --> new", *names, *arrows])
    return f"""# The states of a worker

Made from `MOVES` in `hemi/procmgr/child.py` by `toolkit/refdoc`; do not edit. A worker that is replaced gets a
successor with the same number; a move that is not drawn is a bug, and is reported as one.

```mermaid
{diagram}
```

`ready`: the stage has started. `exit` is followed by `fork` at once after a steady life, by `back off` (0.1 s, doubled
up to 30 s, with jitter) when it fails again and again, and by `give up` when it could never begin; the reason is
shown by `goroxctl pids`.
"""


def stale(folder: Path) -> list[str]:
    """Returns the paths of those below a folder that are missing or not what they would be made now."""
    return [
        path
        for path, text in documents().items()
        if not (folder / path).exists() or (folder / path).read_text() != text
    ]


def main(arguments: list[str]) -> int:
    """Writes what is stale; with --check only says so, and returns 1."""
    paths = stale(TOP_DIR)
    if arguments == ["--check"]:
        for path in paths:
            print(f"{path} is stale: run toolkit/refdoc")
        return 1 if paths else 0
    if arguments:
        print(f"refdoc: unexpected {arguments[0]}; usage: toolkit/refdoc [--check]", file=sys.stderr)
        return 21
    texts = documents()
    for path in paths:
        (TOP_DIR / path).parent.mkdir(exist_ok=True)
        (TOP_DIR / path).write_text(texts[path])
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
