"""Changes that cannot be made: nothing changes anywhere, and whoever asked for them is told why."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.processes.leaderkit import CONFIG, TRICKS, TRICKY, Leader, kill_hard
from tests.running import TOP_DIR, run, until
from tests.waiting import gone

CTL = TOP_DIR / "bin/goroxctl"
NO_IMPORT = "raise RuntimeError('out of order')\n"

Start = Callable[..., Leader]


@pytest.fixture
def lead_two(lead: Start) -> Start:
    """Starts leaders with two workers and a door for operators."""

    def start(config: str = TRICKY, *arguments: str, **options: Any) -> Leader:
        leader = lead(config, "--workers", "2", "--cmdui", "127.0.0.1:0", *arguments, **options)
        leader.wait_workers(2)
        return leader

    return start


def ctl(leader: Leader, *words: str) -> tuple[int, Any]:
    done = run([str(CTL), *words, "--json", "--top-dir", str(leader.folder)])
    assert not done.stderr
    answer = json.loads(done.stdout)
    return done.returncode, answer["answer"] if answer["ok"] else [answer["error"], *answer["details"]]


def levels(leader: Leader) -> set[str]:
    return {each["level"] for each in ctl(leader, "log")[1]["workers"]}


def test_orders_outlive_what_fails(lead_two: Start) -> None:
    """Not even the leader takes anything over from a configuration that was refused in the end."""
    leader = lead_two(CONFIG)
    assert ctl(leader, "log", "debug")[0] == 0
    wrong = CONFIG.replace("webapps:", "log_level: error\nmax_requests: 1\nwebapps:", 1)
    leader.config.write_text(wrong.replace('"127.0.0.1:0"', '["127.0.0.1:0", "192.0.2.1:1"]'))
    for action in ("reload", "rework"):
        status, told = ctl(leader, action)
        assert (status, "cannot listen on 192.0.2.1:1" in str(told)) == (1, True)
    leader.config.write_text(CONFIG)
    victim = leader.workers()[0]
    kill_hard(victim)
    leader.wait_log("is ready (process", count=3)
    assert until(lambda: levels(leader) == {"debug"}), "the successor has the level that was ordered"
    assert leader.end() == 0


def test_an_application_that_cannot_be_imported(lead_two: Start) -> None:
    leader = lead_two()
    workers = leader.workers()
    (leader.folder / "tricks.py").write_text(NO_IMPORT)
    for words in (("rework",), ("workers", "3"), ("upgrade",)):
        status, told = ctl(leader, *words)
        assert (status, "out of order" in str(told)) == (1, True), told
    assert ctl(leader, "status")[1]["wanted"] == 2
    assert leader.workers() == workers
    assert leader.fetch() == "first"
    (leader.folder / "tricks.py").write_text(TRICKS)
    assert ctl(leader, "workers", "3")[0] == 0
    assert len(leader.wait_workers(3)) == 3
    assert leader.end() == 0


def test_an_application_that_hangs_at_its_start(lead_two: Start) -> None:
    leader = lead_two("start_timeout: 1s\n" + TRICKY)
    workers = leader.workers()
    (leader.folder / "tricks.py").write_text(
        "import time\n\n\ndef stuck():\n    time.sleep(99)\n\n\nstuck()\n"
    )
    status, told = ctl(leader, "rework")
    assert (status, told) == (
        1,
        ["a new worker did not get ready: it was not ready after 1 s: killed by SIGABRT"],
    )
    leader.wait_log("in stuck")  # where it hangs
    status, told = ctl(leader, "upgrade")
    assert (status, told[1]) == (
        1,
        "the first worker did not get ready: it was not ready after 1 s: killed by SIGABRT",
    )
    assert leader.workers() == workers
    assert leader.fetch() == "first"
    assert leader.end() == 0


def test_a_first_start_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text("import time\ntime.sleep(99)\n")
    config = "start_timeout: 1s\n" + CONFIG.replace("webapps:", "extensions: [stuck]\nwebapps:", 1)
    leader = Leader(tmp_path, config, "--cmdui", "off", wait=False)
    try:
        assert leader.wait() == 11
    finally:
        leader.kill()
    assert "the first worker did not get ready: it was not ready after 1 s: killed by SIGABRT" in leader.log()


def test_a_worker_that_answers_badly_is_not_ready(lead: Start) -> None:
    warm = TRICKY.replace("[one]}", "[one], warm_up: [/work]}")
    leader = lead(warm)
    workers = leader.workers()
    (leader.folder / "tricks.py").write_text(
        TRICKS.replace("word = req.path[1:]", 'raise RuntimeError("tired")')
    )
    status, told = ctl(leader, "rework")
    assert status == 1
    assert "warm_up: the answer to GET /work must be below 500, not 500; see the error log" in told[1]
    leader.wait_log("RuntimeError: tired")
    assert leader.workers() == workers
    assert leader.fetch() == "first"
    assert leader.end() == 0


def test_who_waits_for_a_change_is_told_of_the_end(lead_two: Start) -> None:
    leader = lead_two()
    (leader.folder / "slow.py").write_text("import time\ntime.sleep(20)\n")
    leader.config.write_text(TRICKY.replace("[tricks]", "[tricks, slow]"))
    waiting = gevent.spawn(ctl, leader, "reload")
    leader.wait_log("cmdui: reload")
    assert ctl(leader, "quit") == (0, {"stopped": True})
    assert waiting.get(timeout=20) == (1, ["the instance has ended meanwhile"])


def test_many_reloads_at_a_time(lead_two: Start) -> None:
    leader = lead_two()
    (leader.folder / "slow.py").write_text("import time\ntime.sleep(0.5)\n")
    leader.config.write_text(TRICKY.replace("[tricks]", "[tricks, slow]"))
    asking = [gevent.spawn(ctl, leader, "reload") for _ in range(5)]
    assert [each.get(timeout=30)[0] for each in asking] == [0] * 5
    reloads = ctl(leader, "status")[1]["reloads"]
    assert 2 <= reloads <= 3, "those that waited were one"
    for _ in range(50):
        leader.process.send_signal(1)
    assert until(
        lambda: ctl(leader, "status")[1]["reloads"] > reloads and not ctl(leader, "status")[1]["changing"]
    )
    assert "warning" not in leader.log().replace("the workers run as root", "").partition("reload: done")[2]
    assert leader.end() == 0


def test_only_who_leads_tells_the_service_manager(lead_two: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        leader = lead_two(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        (tmp_path / "tricks.py").write_text(NO_IMPORT)
        assert ctl(leader, "upgrade")[0] == 1
        (tmp_path / "tricks.py").write_text(TRICKS)
        status, told = ctl(leader, "upgrade")
        assert status == 0
        assert leader.wait() == 0
        assert until(lambda: ctl(leader, "quit")[0] == 0)
        assert until(lambda: gone(told["leader"]))
        heard = []
        manager.setblocking(False)
        while True:
            try:
                heard.append(manager.recv(4096).decode())
            except BlockingIOError:
                break
    assert f"MAINPID={told['leader']}" in heard
    assert heard.count("STATUS=stopped") == 1
    assert heard[-1] == "STATUS=stopped"
