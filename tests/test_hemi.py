"""What `import hemi` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hemi


def test_exports_are_what_they_are_called() -> None:
    assert hemi.__version__
    for name in hemi.__all__:
        assert getattr(hemi, name) is not None
    assert set(hemi.__all__) <= set(dir(hemi))
    with pytest.raises(AttributeError):
        _ = hemi.nothing


def test_importing_loads_little() -> None:
    code = "import sys, hemi; sys.exit(any(name.startswith(('gevent', 'hemi.', 'yaml')) for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_components_load_nothing_that_few_need() -> None:
    few = ("h2", "wsproto", "jinja2", "brotli", "cryptography")
    code = f"import sys, hemi.builtin; print(*[name for name in {few!r} if name in sys.modules])"
    made = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.PIPE)
    assert made.stdout.decode().split() == []
