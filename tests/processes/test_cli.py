"""The command line: what it prints, and how it exits."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest

from hemi import __version__
from tests.running import TOP_DIR, GoroxProcess, run

GOROX = str(TOP_DIR / "bin" / "gorox")

FINE = """\
webapps:
  one: {hostnames: ["*"], rules: [{return_code: 200, return_text: hi}]}
servers:
  main: {type: httpx_server, address: "127.0.0.1:0", webapps: [one]}
"""

WRONG = """\
webapps:
  one: {hostnames: ["*"], rules: [{return_cod: 200}]}
servers:
  main: {type: httpx_server, adress: "127.0.0.1:0", webapps: [two]}
"""


def call(*arguments: str, cwd: Path | None = None) -> CompletedProcess[str]:
    return run([sys.executable, GOROX, *arguments], cwd=cwd)


def test_version() -> None:
    done = call("version")
    assert done.returncode == 0
    assert done.stdout == f"gorox {__version__} (Python {sys.version.split()[0]})\n"
    assert done.stderr == ""
    assert call("--version").stdout == done.stdout


@pytest.mark.parametrize("spelling", ["help", "-h", "--help", "-help"])
def test_help_tells_every_action_option_signal_and_code(spelling: str) -> None:
    done = call(spelling)
    assert done.returncode == 0
    for word in (
        "serve",
        "check",
        "help [SIGN]",
        "version",
        "--config FILE",
        "--top-dir DIR",
        "TERM",
        "exit codes",
    ):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 130


def test_help_of_all_components() -> None:
    done = call("help", "signs")
    assert done.returncode == 0
    assert "\nhandlets:\n" in done.stdout and "\n  static " in done.stdout


def test_help_of_a_component() -> None:
    done = call("help", "static")
    assert done.returncode == 0
    assert done.stdout.startswith("static")
    assert "web_root" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sevre"], 'gorox: unknown action "sevre", did you mean serve?; see: gorox help'),
        (["xyzzy"], 'gorox: unknown action "xyzzy"; see: gorox help'),
        (["shop.yaml"], 'gorox: unknown action "shop.yaml", did you mean --config shop.yaml?'),
        (["--confg", "x"], "gorox: unknown option --confg, did you mean --config?; see: gorox help"),
        (["-topDri", "x"], "gorox: unknown option -topDri, did you mean --top-dir?; see: gorox help"),
        (["--config"], "gorox: --config needs a value: FILE"),
        (["--single=yes"], "gorox: --single takes no value"),
        (["--debug", "4"], 'gorox: --debug must be 0 to 3, not "4"'),
        (["serve", "--print"], "gorox: --print is no option of serve; see: gorox help"),
        (["serve", "now"], 'gorox: serve: unexpected "now"; see: gorox help'),
        (["help", "statc"], 'gorox: there is no component "statc", did you mean "static"?'),
    ],
)
def test_wrong_command_lines_are_one_line_and_exit_21(arguments: list[str], message: str) -> None:
    done = call(*arguments)
    assert done.returncode == 21
    assert done.stdout == ""
    assert done.stderr.splitlines() == [message]


@pytest.mark.parametrize("action", [["serve", "--single"], ["check"]])
def test_a_missing_config(action: list[str], tmp_path: Path) -> None:
    done = call(*action, "--config", "no/such.yaml", "--top-dir", str(tmp_path))
    assert done.returncode == 21
    assert done.stderr == f"gorox: --config no/such.yaml: there is no such file below {tmp_path}\n"


def test_check_of_a_fine_configuration(tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(FINE)
    done = call("check", "-config", "fine.yaml", "-topDir", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "the configuration is fine\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.yaml"]


def test_check_print_prints_what_loads_again(tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(FINE)
    done = call("check", "--print", "--config", "fine.yaml", "--top-dir", str(tmp_path))
    assert done.returncode == 0
    assert "keepalive_timeout: 1m15s" in done.stdout
    (tmp_path / "again.yaml").write_text(done.stdout)
    again = call("check", "--print", "--config", "again.yaml", "--top-dir", str(tmp_path))
    assert again.stdout == done.stdout


@pytest.mark.parametrize(("action", "code"), [(["check"], 1), (["serve", "--single"], 21)])
def test_all_problems_at_once(action: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    done = call(*action, "--config", "wrong.yaml", "--top-dir", str(tmp_path))
    assert done.returncode == code
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) >= 4
    assert all(line.startswith(f"{tmp_path}/wrong.yaml:") for line in lines), lines
    assert "did you mean" in done.stderr


def test_an_address_in_use(tmp_path: Path, gorox: object) -> None:
    first = gorox(FINE)  # type: ignore[operator]
    (tmp_path / "same.yaml").write_text(FINE.replace("127.0.0.1:0", first.address))
    done = call("serve", "--single", "--config", "same.yaml", "--top-dir", str(tmp_path))
    assert done.returncode == 22
    assert len(done.stderr.splitlines()) == 1
    assert first.address in done.stderr


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(FINE)
    (tmp_path / "file").write_text("")
    done = call("--single", "--config", "fine.yaml", "--top-dir", str(tmp_path), "--var-dir", "file/var")
    assert done.returncode == 22
    assert done.stderr == f"gorox: --var-dir {tmp_path}/file/var cannot be created: File exists\n"


def test_directories_are_made(tmp_path: Path, gorox: object) -> None:
    gorox(FINE, "--log-dir", "logs")  # type: ignore[operator]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["data", "logs"]
    assert stat.S_IMODE((tmp_path / "data" / "var").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / "tmp").stat().st_mode) == 0o755


def test_through_a_link_and_from_anywhere(tmp_path: Path) -> None:
    link = tmp_path / "gorox"
    link.symlink_to(GOROX)
    done = run([str(link), "check"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "the configuration is fine\n"), done.stderr


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "fine.yaml").write_text(FINE)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(["sh", "-c", f'"{sys.executable}" "{GOROX}" help >&{writer}'], pass_fds=[writer])
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr


def test_a_crash_is_told_by_its_code(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from hemi.web.handlet import Handlet\n\n\n"
        "class Broken(Handlet, sign='broken'):\n"
        "    def prepare(self):\n"
        "        raise SystemError('it broke')\n"
    )
    (tmp_path / "broken.yaml").write_text(
        "extensions: [broken]\n" + FINE.replace("{return_code: 200, return_text: hi}", "{handlets: broken}")
    )
    done = run(
        [sys.executable, GOROX, "--single", "--config", "broken.yaml", "--top-dir", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode in (11, 20, 22)
    assert "it broke" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root by chance")
def test_root_without_a_word_about_it_serves_without_workers(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(FINE)
    command = [sys.executable, GOROX, "--config", str(config), "--top-dir", str(tmp_path)]
    process = GoroxProcess(tmp_path, None, command=command, env={"GOROX_ALLOW_ROOT": ""})
    try:
        assert "root without --user NAME or --allow-root has no workers" in process.err.read_text()
        assert psutil.Process(process.process.pid).children() == []
    finally:
        process.kill()
    done = run([*command, "--workers", "2"], env={**os.environ, "GOROX_ALLOW_ROOT": ""})
    assert done.returncode == 21
    assert "the workers would run as root" in done.stderr
