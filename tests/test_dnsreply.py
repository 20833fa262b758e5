"""What name servers tell."""

from __future__ import annotations

import subprocess
import sys

from hemi.dnsreply import Reply
from tests.running import TOP_DIR


def test_a_reply_says_whether_the_name_exists() -> None:
    assert Reply([], 5.0, True).is_absent


def test_dnspython_is_loaded_when_a_name_is_asked_for() -> None:
    """It takes a tenth of what a start takes, and many instances ask for no name."""
    code = "import sys, hemi.resolv; print('dns' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP_DIR, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
