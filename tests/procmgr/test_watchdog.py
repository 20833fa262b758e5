"""The hub watchdog, in a process of its own: a hub that is blocked on purpose."""

from __future__ import annotations

import json
import sys

from tests.running import TOP_DIR, run

CODE = """
import gevent.monkey; gevent.monkey.patch_all()
import json, os, socket, sys, time
import gevent
from hemi.procmgr.lifeline import Lifeline
from hemi.procmgr.watchdog import Watchdog
leader, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
dog = Watchdog(Lifeline(theirs.detach(), {}), lambda: {"requests": 5})
dog.notice = 0.5
logged = []
dog.log = logged.append
dog.start()

def culprit(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(1000))

gevent.sleep(0.3)
culprit(0.2 if "orphan" in sys.argv else 1.6)
leader.setblocking(False)
heard, until = [], time.monotonic() + 10
while "orphan" not in sys.argv and time.monotonic() < until:
    try:
        heard.append(json.loads(leader.recv(100000)))
    except BlockingIOError:
        gevent.sleep(0.02)
    if any("blocked" in message for message in heard) and "beat" in heard[-1]:
        break
for message in heard:
    print(json.dumps(message))
print(json.dumps({"logged": logged}))
sys.stdout.flush()
if "orphan" in sys.argv:
    leader.close()
    culprit(20)
os._exit(0)
"""


def test_a_block_is_told_with_its_stack() -> None:
    done = run([sys.executable, "-c", CODE], cwd=TOP_DIR)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    logged = messages.pop()["logged"]
    assert messages[0]["beat"] in ({}, {"requests": 5})
    assert messages[-1] == {"beat": {"requests": 5}}
    blocked = [message for message in messages if "blocked" in message]
    assert 0.7 <= blocked[0]["blocked"] <= 3
    stacks = [message["stack"] for message in blocked if message["stack"]]
    assert len(stacks) == 1
    assert "in culprit" in stacks[0]
    assert len(logged) == 1
    assert "in culprit" in logged[0]


def test_a_blocked_orphan_ends() -> None:
    done = run([sys.executable, "-c", CODE, "orphan"], cwd=TOP_DIR, timeout=15)
    assert done.returncode == 10
