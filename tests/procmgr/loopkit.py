"""Code that runs with a leader's loop, in a process of its own: the loop must not meet gevent's select."""

from __future__ import annotations

import sys

from tests.running import TOP_DIR, run

HEAD = """
import json, os, signal, socket, sys, time
from hemi.procmgr.loop import CommandError, Loop, pause, say, until
log = []
loop = Loop(lambda text, error: log.append((text, repr(error))))
loop.after(15, lambda: os._exit(99))
def finish():
    loop.stop()
"""


def in_loop(code: str) -> str:
    """Runs the code, then the loop until `finish()`; returns what it printed."""
    done = run([sys.executable, "-c", HEAD + code], cwd=TOP_DIR)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
