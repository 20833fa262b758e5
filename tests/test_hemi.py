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
