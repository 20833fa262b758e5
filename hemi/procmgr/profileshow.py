"""What goroxctl makes of the processor profiles of all workers: one flame graph, collapsed stacks, a table."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

from hemi.errors import EnvError
from hemi.library.flamegraph import collapse, render

__all__ = ["functions", "merge", "save_cpu"]

MOST_FUNCTIONS = 15


def save_cpu(answer: dict[str, Any], output: str | None) -> dict[str, Any]:
    """Writes the picture and the stacks to files, and returns what to show. Raises EnvError."""
    stacks = merge(answer)
    seen = [each for each in answer["workers"] if "error" not in each]
    seconds = max((each["seconds"] for each in seen), default=0.0)
    busy = sum(each["busy"] for each in seen)
    name = output or time.strftime("gorox-cpu-%Y%m%d-%H%M%S.svg")
    beside = os.path.splitext(name)[0] + ".txt"
    samples = sum(stacks.values())
    subtitle = (
        f"{samples} samples in {seconds:.1f} s of {len(seen)} worker(s), which used {busy:.0%} of a processor"
    )
    title = time.strftime("gorox: what the processor does, %Y-%m-%d %H:%M:%S")
    try:
        for path, text in ((name, render(stacks, title, subtitle)), (beside, collapse(stacks))):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise EnvError(f"{error.filename} cannot be written: {error.strerror}; see --output") from None
    return {
        "samples": samples,
        "seconds": seconds,
        "busy": busy,
        "workers_seen": len(seen),
        "functions": functions(stacks),
        "svg": os.path.abspath(name),
        "stacks": os.path.abspath(beside),
        "workers": [
            {key: value for key, value in each.items() if key != "stacks"} for each in answer["workers"]
        ],
    }


def merge(answer: dict[str, Any]) -> dict[tuple[str, ...], int]:
    """The samples of all workers together."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for each in answer["workers"]:
        for names, count in each.get("stacks", []):
            stacks[tuple(names)] += count
    return dict(stacks)


def functions(stacks: dict[tuple[str, ...], int]) -> list[tuple[str, float, float]]:
    """The functions that take most themselves: name, share of its own, share with what it calls."""
    total = sum(stacks.values()) or 1
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, count in stacks.items():
        if stack:
            own[stack[-1]] += count
        for name in set(stack):
            whole[name] += count
    return [(name, count / total, whole[name] / total) for name, count in own.most_common(MOST_FUNCTIONS)]
