"""The test mirror: hemi/a/b.py is tested by tests/a/test_b.py, or hemi/a as a whole by tests/test_a.py.

The other way round, every test file stands for a module that is there, unless its folder or itself is listed here.
"""

from __future__ import annotations

import sys
from pathlib import Path

TOP_DIR = Path(__file__).resolve().parents[2]

# Folders of tests about more than one module.
FREE_FOLDERS = frozenset({"configs", "conformance", "processes", "security", "examples", "toolkit"})

# Tests of the tree as a whole.
FREE_TESTS = frozenset({"test_tree", "test_budget", "test_configs", "test_hemi", "test_examples"})


def untested(folder: Path) -> list[str]:
    """Returns the modules of hemi, below a folder, that no test file stands for."""
    missing = []
    for path in sorted(folder.glob("hemi/**/*.py")):
        words = path.relative_to(folder / "hemi").with_suffix("").parts
        if words[-1].startswith("__"):
            continue
        # tests/a/b/test_c.py, or for the packages around it tests/a/test_b.py, tests/test_a.py
        candidates = [
            folder.joinpath("tests", *words[:depth], f"test_{words[depth]}.py") for depth in range(len(words))
        ]
        if not any(candidate.exists() for candidate in candidates):
            missing.append(f"{path.relative_to(folder)}: there is no {candidates[-1].relative_to(folder)}")
    return missing


def homeless(folder: Path) -> list[str]:
    """Returns the test files, below a folder, that stand for no module of hemi."""
    found = []
    for path in sorted(folder.glob("tests/**/test_*.py")):
        words = path.relative_to(folder / "tests").with_suffix("").parts
        name = words[-1].removeprefix("test_")
        target = folder.joinpath("hemi", *words[:-1], name)
        free = words[0] in FREE_FOLDERS or (len(words) == 1 and words[0] in FREE_TESTS)
        if not free and not target.with_suffix(".py").exists() and not target.is_dir():
            found.append(f"{path.relative_to(folder)}: there is no {target.relative_to(folder)}.py")
    return found


def main() -> int:
    """Prints what is wrong; 1 if anything is."""
    wrong = untested(TOP_DIR) + homeless(TOP_DIR)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
