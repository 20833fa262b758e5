"""The command line of goroxctl; what it does with a leader is in tests/processes/test_goroxctl.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hemi.errors import UsageError
from hemi.procmgr.actions import ACTIONS
from hemi.procmgr.ctl import action_usage, arguments, control, is_control, locate, parse, usage


def test_the_original_s_spellings() -> None:
    order = parse(["reconf", "-topDir", "/x", "-target", "127.0.0.1:1"])
    assert order.action == "reload"
    assert order.options == {"top-dir": "/x", "target": "127.0.0.1:1"}


def test_where_the_leader_is(tmp_path: Path) -> None:
    var = tmp_path / "data" / "var"
    assert locate(parse(["pids"]), str(tmp_path)) == ("127.0.0.1:9527", str(var / "cmdui.key"))
    var.mkdir(parents=True)
    (var / "cmdui.target").write_text("127.0.0.1:7\n")
    assert locate(parse(["pids"]), str(tmp_path))[0] == "127.0.0.1:7"
    assert locate(parse(["pids", "--target", ":8"]), str(tmp_path))[0] == "127.0.0.1:8"
    assert locate(parse(["pids", "--key-file", str(var / "k")]), "/")[1] == str(var / "k")
    (var / "cmdui.target").write_text("evil.test:7\n")
    with pytest.raises(UsageError):
        locate(parse(["pids"]), str(tmp_path))


def test_arguments() -> None:
    assert arguments(parse(["workers", "4"])) == {"count": 4}
    assert arguments(parse(["log"])) == {}
    assert arguments(parse(["log", "debug"])) == {"level": "debug"}
    assert arguments(parse(["heap", "off", "--worker", "2"])) == {"worker": 2, "trace": False}
    assert arguments(parse(["block", "--limit", "20"])) == {"seconds": 10.0, "limit": 0.02}
    assert arguments(parse(["recmd", "./c.sock"])) == {"address": "./c.sock"}
    assert arguments(parse(["explain", "GET", "/", "-H", "A: b:c", "--header=D:"])) == {
        "method": "GET",
        "url": "/",
        "fields": [["A", "b:c"], ["D", ""]],
        "from": "127.0.0.1",
    }


def test_sources_of_requests() -> None:
    for given, meant in (("::1", "::1"), ("2001:DB8:0::7", "2001:db8::7"), ("unix:", "unix:")):
        assert arguments(parse(["explain", "GET", "/", "--from", given]))["from"] == meant
    for wrong in ("example.org", "10.0.0.1:80", "10.0.0.0/8"):
        with pytest.raises(UsageError, match="must be the address of a client"):
            arguments(parse(["explain", "GET", "/", "--from", wrong]))


def test_advice_without_a_leader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert control(["advise", "--json", "--top-dir", str(tmp_path)], None) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "there is no key file" in json.loads(told.out)["answer"]["here"]
    assert control(["advise", "--top-dir", str(tmp_path)], None) == 0
    assert "about this process, not the leader's" in capsys.readouterr().err


def test_what_gorox_passes_on() -> None:
    assert is_control("pids")
    assert is_control("goroutine")
    assert not any(is_control(word) for word in ("serve", "check", "help", "version", "x"))


@pytest.mark.parametrize("action", ACTIONS)
def test_help_of_each_action(action: str) -> None:
    text = action_usage(action, "goroxctl", None)
    assert text.startswith(f"usage: goroxctl {action}")
    assert all(f"--{option}" in text for option in ACTIONS[action].options)
    assert f"  {action}" in usage("goroxctl", None)
    assert max(map(len, usage("goroxctl", None).splitlines())) < 120
