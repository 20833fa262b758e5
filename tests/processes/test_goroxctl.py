"""goroxctl against a real leader: every action, every fault of an operator, as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.leaderkit import CONFIG, TRICKY, Leader
from tests.running import TOP_DIR, run, until
from tests.waiting import gone

GOROXCTL = str(TOP_DIR / "bin" / "goroxctl")

Control = Callable[..., subprocess.CompletedProcess[str]]


def control(folder: Path, *arguments: str, timeout: float = 30, **options: Any) -> Any:
    """Runs goroxctl for the instance below a folder."""
    command = [sys.executable, "-IS", GOROXCTL, *arguments, "--top-dir", str(folder)]
    return run(command, timeout=timeout, **options)


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    """A leader with two workers, for all tests that leave it as it is."""
    leader = Leader(tmp_path_factory.mktemp("leader"), TRICKY, "--workers", "2", "--cmdui", "127.0.0.1:0")
    leader.wait_workers(2)
    yield leader
    leader.end()
    leader.kill()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Callable[..., Leader]]:
    """Starts leaders that a test may end."""
    running: list[Leader] = []

    def start(*arguments: str, config: str = CONFIG) -> Leader:
        if "--cmdui" not in arguments:
            arguments = (*arguments, "--cmdui", "127.0.0.1:0")
        leader = Leader(tmp_path, config, "--no-spare", *arguments)
        running.append(leader)
        return leader

    yield start
    for leader in running:
        if leader.process.poll() is None:
            leader.end()
        leader.kill()


def ask(folder: Path, *arguments: str, status: int = 0) -> Any:
    """The answer to an action."""
    done = control(folder, *arguments, "--json")
    assert done.returncode == status, done
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["ok"] is (status == 0)
    return told.get("answer", told)


# Reports


def test_status_health_and_pids(leader: Leader) -> None:
    status = ask(leader.folder, "status")
    assert (status["state"], status["ready"], status["wanted"]) == ("serving", 2, 2)
    assert status["pid"] == leader.process.pid
    assert ask(leader.folder, "health")["healthy"]
    pids = ask(leader.folder, "pids")
    assert sorted(each["pid"] for each in pids["workers"]) == sorted(leader.workers())
    assert ask(leader.folder, "leader")["pid"] == leader.process.pid
    for action in ("stages", "worker"):
        assert [each["worker"] for each in ask(leader.folder, action)["workers"]] == [1, 2]


@pytest.mark.parametrize("action", ["status", "health", "pids", "leader", "worker", "stages", "backends"])
def test_tables_are_plain_when_piped(leader: Leader, action: str) -> None:
    done = control(leader.folder, action)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_top_counts_what_was_asked(leader: Leader) -> None:
    watcher = subprocess.Popen(
        [sys.executable, GOROXCTL, "top", "--interval", "1.5", "--json", "--top-dir", str(leader.folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    count = 0
    while watcher.poll() is None:
        leader.fetch()
        count += 1
    assert watcher.stdout is not None
    told = json.loads(watcher.stdout.read())["answer"]
    watcher.stdout.close()
    rate = told["total"]["requests_per_second"]
    assert 0 < rate * told["seconds"] <= count
    site = next(each for each in told["components"] if each["kind"] == "webapps")
    assert site["name"] == "one"
    assert site["latency"]["p50"] > 0
    assert sum(each["requests_per_second"] for each in told["workers"]) == pytest.approx(rate, abs=0.2)
    text = control(leader.folder, "top", "--interval", "0.1", "--count", "2").stdout
    assert text.count("requests/s,") == 2


def test_explain(leader: Leader) -> None:
    told = ask(leader.folder, "explain", "GET", leader.url + "/x", "-H", "X: y")
    assert told["servers"][0]["webapp"] == "one"
    assert told["servers"][0]["outcome"].startswith("tricks")
    assert "rule yes" in control(leader.folder, "explain", "GET", "/").stdout
    refused = control(leader.folder, "explain", "GET", "http://127.0.0.1:1/")
    assert (refused.returncode, refused.stderr) == (
        1,
        "goroxctl: no server gets a request for http://127.0.0.1:1/\n",
    )


def test_advise_with_and_without_a_leader(leader: Leader, tmp_path: Path) -> None:
    advice = ask(leader.folder, "advise")["advice"]
    assert {"open files", "clock", "processors"} <= {each["item"] for each in advice}
    done = control(tmp_path, "advise")
    assert done.returncode == 0
    assert "not the leader's" in done.stderr


# Looks


def look_while_blocking(leader: Leader, seconds: float, *arguments: str) -> Any:
    """Looks while requests keep the workers' hubs from running for so long, again and again."""
    told: list[Any] = []
    look = threading.Thread(target=lambda: told.append(ask(leader.folder, *arguments)))
    look.start()
    while look.is_alive():
        leader.fetch(f"/block?s={seconds}")
    look.join()
    return told[0]


def test_cpu_draws_a_flame_graph_of_the_culprit(leader: Leader, tmp_path: Path) -> None:
    picture = tmp_path / "cpu.svg"
    told = look_while_blocking(leader, 0.1, "cpu", "--seconds", "1", "--output", str(picture))
    assert any("culprit_of_the_block" in name for name, _, _ in told["functions"])
    assert "culprit_of_the_block" in picture.read_text()
    assert "culprit_of_the_block" in Path(told["stacks"]).read_text()
    assert told["samples"] > 20


def test_block_names_the_culprit(leader: Leader) -> None:
    told = look_while_blocking(leader, 0.3, "block", "--seconds", "1.5", "--limit", "100")
    calls = [call for each in told["workers"] for call in each["calls"]]
    assert any("culprit_of_the_block" in line for call in calls for line in call["stack"]), calls
    assert 0.25 < max(call["longest"] for call in calls) < 2


def test_greenlets_threads_heap_and_collector(leader: Leader) -> None:
    slow = threading.Thread(target=leader.fetch, args=("/slow?s=2",))
    slow.start()
    assert until(lambda: "sleeps" in control(leader.folder, "greenlet").stdout, 5)
    slow.join()
    assert "hub" in control(leader.folder, "thread").stdout
    first = ask(leader.folder, "heap", "on", "--worker", "1")["workers"]
    assert [each["worker"] for each in first] == [1]
    assert first[0]["tracing"]
    for _ in range(20):
        leader.fetch("/leak")
    second = ask(leader.folder, "heap")["workers"]
    lines = {where: growth for where, _, growth, _ in second[0]["lines"]}
    assert second[0]["worker"] == 1
    assert not second[1]["tracing"]
    if second[0]["pid"] == int(leader.fetch("/leak")):
        assert any("tricks.py" in where and growth > 0 for where, growth in lines.items())
    assert not ask(leader.folder, "heap", "off", "--worker", "1")["workers"][0]["tracing"]
    assert all(each["objects"] for each in ask(leader.folder, "gc")["workers"])


# Changes


def test_log_changes_the_level_live(leader: Leader) -> None:
    assert {each["level"] for each in ask(leader.folder, "log")["workers"]} == {"info"}
    assert {each["level"] for each in ask(leader.folder, "log", "error")["workers"]} == {"error"}
    assert {each["level"] for each in ask(leader.folder, "log", "info")["workers"]} == {"info"}
    done = control(leader.folder, "log", "loud")
    assert done.returncode == 1
    assert "must be one of debug, info" in done.stderr


def test_an_ordered_level_lasts_until_the_configuration_has_another(alone: Callable[..., Leader]) -> None:
    leader = alone()
    leader.wait_workers(1)

    def levels() -> set[str]:
        return {each["level"] for each in ask(leader.folder, "log")["workers"]}

    ask(leader.folder, "log", "error")
    ask(leader.folder, "reload")
    assert levels() == {"error"}
    ask(leader.folder, "rework")
    assert until(lambda: levels() == {"error"}, 5)
    leader.config.write_text(f"log_level: warning\n{CONFIG}")
    ask(leader.folder, "reload")
    assert levels() == {"warning"}
    ask(leader.folder, "rework")
    assert levels() == {"warning"}


def test_a_bad_configuration_changes_nothing_and_every_problem_is_told(leader: Leader) -> None:
    leader.config.write_text(TRICKY.replace("handlets:", "handletz:").replace("address:", "adress:"))
    try:
        for action in ("check", "reload"):
            done = control(leader.folder, action)
            assert done.returncode == 1
            assert done.stdout == ""
            lines = done.stderr.splitlines()
            assert lines[0] == f"goroxctl: {len(lines) - 1} problem(s) in the configuration"
            assert any("handletz" in line for line in lines)
            assert any("adress" in line for line in lines)
        assert leader.fetch() == "first"
        assert ask(leader.folder, "reload", status=1)["details"]
    finally:
        leader.config.write_text(TRICKY)
    assert "the configuration is fine" in control(leader.folder, "check").stdout


def test_reload_tells_what_each_worker_did(leader: Leader) -> None:
    told = ask(leader.folder, "reload")
    assert [each["worker"] for each in told["workers"]] == [1, 2]
    assert not any("error" in each for each in told["workers"])
    assert "reload: done in" in control(leader.folder, "reload").stdout


def test_reopen_and_node(leader: Leader) -> None:
    assert control(leader.folder, "reopen").stdout == "reopen: done in 2 worker(s)\n"
    done = control(leader.folder, "node", "api", "127.0.0.1:1", "down")
    assert done.returncode == 1
    assert done.stderr == 'goroxctl: there is no backend "api"; there is none\n'


def test_workers_rework_and_the_end(alone: Callable[..., Leader]) -> None:
    leader = alone()
    leader.wait_workers(1)
    assert len(ask(leader.folder, "workers", "2")["workers"]) == 2
    before = set(leader.wait_workers(2))
    assert "rework: done" in control(leader.folder, "rework").stdout
    assert not before & set(leader.workers())
    assert control(leader.folder, "workers", "0").returncode == 2
    done = control(leader.folder, "quit")
    assert (done.returncode, done.stdout) == (0, "quit: all requests are answered, the instance has ended\n")
    assert leader.wait(2) == 0
    assert control(leader.folder, "health").returncode == 1


def test_quit_waits_for_requests_stop_does_not(alone: Callable[..., Leader]) -> None:
    leader = alone(config=TRICKY)
    answers: list[str] = []
    slow = threading.Thread(target=lambda: answers.append(leader.fetch("/slow?s=1")))
    slow.start()
    assert until(lambda: "Tricks" in control(leader.folder, "greenlet").stdout, 5)
    assert control(leader.folder, "quit").returncode == 0
    slow.join(5)
    assert answers == ["done at last"]


def test_stop_is_at_once(alone: Callable[..., Leader]) -> None:
    leader = alone(config=TRICKY)
    pids = leader.wait_workers(1)
    done = control(leader.folder, "stop")
    assert (done.returncode, done.stdout) == (0, "stop: the instance has ended\n")
    assert all(gone(pid) for pid in pids)
    assert leader.wait(2) == 10


def test_recmd_moves_the_control_port(alone: Callable[..., Leader], tmp_path: Path) -> None:
    leader = alone()
    old = ask(leader.folder, "status")["cmdui"]
    assert ask(leader.folder, "recmd", "./c.sock")["address"] == str(tmp_path / "c.sock")
    assert control(leader.folder, "health", "--target", old).returncode == 1
    assert control(leader.folder, "health").returncode == 0
    assert control(leader.folder, "recmd", old).returncode == 0
    assert control(leader.folder, "health", "--target", old).returncode == 0
    bad = control(leader.folder, "recmd", "192.0.2.1:9527")
    assert bad.returncode == 2
    assert "loopback" in bad.stderr


def test_upgrade_passes_the_control_port_on(alone: Callable[..., Leader]) -> None:
    leader = alone("--pid-file", "gorox.pid")
    leader.wait_workers(1)
    before = ask(leader.folder, "status")
    heir = ask(leader.folder, "upgrade")["leader"]
    assert heir != before["pid"]
    assert until(lambda: gone(before["pid"]), 15)
    after = ask(leader.folder, "status")
    assert (after["pid"], after["cmdui"]) == (heir, before["cmdui"])
    assert control(leader.folder, "stop").returncode == 0
    assert until(lambda: gone(heir), 5)


def test_gorox_takes_the_actions_too(leader: Leader) -> None:
    done = run(
        [sys.executable, str(TOP_DIR / "bin" / "gorox"), "pids", "-topDir", str(leader.folder)], timeout=30
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"leader: {leader.process.pid}\n")


# Faults of operators: one line that says what to do, and the leader untouched


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["relaod"], 2, 'unknown action "relaod", did you mean reload?; see: goroxctl help'),
        (["reload", "now"], 2, 'reload: unexpected "now"'),
        (["workers"], 2, "workers needs N"),
        (["workers", "many"], 2, 'N must be 1 to 512, not "many"'),
        (["pids", "--jsno"], 2, "unknown option --jsno, did you mean --json?; see: goroxctl help"),
        (["pids", "--seconds", "1"], 2, "--seconds is no option of pids; see: goroxctl pids --help"),
        (["cpu", "--seconds", "0"], 2, '--seconds must be 0.05 to 600, not "0"'),
        (["cpu", "--worker", "7"], 1, "there is no ready worker 7; ready: 1, 2"),
        (["explain", "GET"], 2, "explain needs METHOD URL"),
        (["explain", "GET", "/", "-H", "x"], 2, "-H must be 'name: value', not 'x'"),
        (["pids", "--target", "example.com:1"], 2, "cmdui must be at a loopback address or a path"),
        (["pids", "--target", "./no.sock"], 1, "nobody listens at ./no.sock: is gorox running?"),
        (["pids", "--var-dir", "nowhere"], 1, "there is no key file"),
    ],
)
def test_wrong_command_lines(leader: Leader, arguments: list[str], status: int, message: str) -> None:
    done = control(leader.folder, *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_faults_are_json_too(leader: Leader) -> None:
    done = control(leader.folder, "relaod", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith('unknown action "relaod"')


def test_wrong_keys_and_wrong_peers(leader: Leader, tmp_path: Path) -> None:
    target = ask(leader.folder, "status")["cmdui"]
    key = tmp_path / "key"
    key.write_text("0" * 64)
    key.chmod(0o600)
    done = control(tmp_path, "stop", "--target", target, "--key-file", str(key))
    assert done.returncode == 1
    assert "does not know the key" in done.stderr
    key.chmod(0o644)
    assert "chmod 600" in control(tmp_path, "stop", "--target", target, "--key-file", str(key)).stderr
    key.write_text("not a key")
    key.chmod(0o600)
    assert "holds no key" in control(tmp_path, "stop", "--target", target, "--key-file", str(key)).stderr
    web = control(leader.folder, "pids", "--target", leader.address)
    assert web.returncode == 1
    assert web.stderr.count("\n") == 1
    assert ask(leader.folder, "health")["healthy"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_told_whom_to_become(leader: Leader) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import hemi.procmgr.client, hemi.procmgr.views;"
        "from hemi.procmgr.ctl import control; os.setgid(65534); os.setuid(65534);"
        "sys.exit(control(['stop', '--top-dir', sys.argv[2]], None))"
    )
    done = run([sys.executable, "-IS", "-c", code, str(TOP_DIR), str(leader.folder)])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be read: become the user that gorox was started by" in done.stderr
    assert ask(leader.folder, "health")["healthy"]


def test_help_tells_every_action(leader: Leader) -> None:
    done = run([sys.executable, GOROXCTL, "help"])
    assert done.returncode == 0
    for word in ("reload", "workers N", "explain METHOD URL", "--target ADDR", "exit status"):
        assert word in done.stdout
    assert "--output FILE" in run([sys.executable, GOROXCTL, "cpu", "--help"]).stdout
    assert run([sys.executable, GOROXCTL]).returncode == 2


def test_it_starts_light(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hemi.procmgr.ctl, hemi.procmgr.client;"
        "import hemi.procmgr.views; print(*sys.modules)"
    )
    loaded = run([sys.executable, "-IS", "-c", code, str(TOP_DIR)]).stdout.split()
    assert not {"gevent", "yaml", "psutil", "asyncio", "hemi.stage", "hemi.config", "inspect"} & set(loaded)
