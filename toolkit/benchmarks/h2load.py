"""One run of h2load, and what it says."""

from __future__ import annotations

import re
import subprocess

from toolkit.benchmarks.servers import BenchError, find_program, pinned
from toolkit.benchmarks.wrk import Run

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def run(
    url: str, seconds: int, core: int | None, conns: int = 16, streams: int = 32, fields: tuple[str, ...] = ()
) -> Run:
    """Loads a URL over so many connections with so many streams each, for some seconds, from one thread on a core."""
    program = find_program("h2load")
    if program is None:
        raise BenchError("h2load is missing (Debian, Ubuntu: apt install nghttp2-client)")
    command = [*pinned(core), program, "-t1", f"-c{conns}", f"-m{streams}", f"-D{seconds}"]
    for line in fields:
        command += ["-H", line]
    done = subprocess.run(
        [*command, url],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise BenchError(f"h2load failed on {url}: {done.stderr or done.stdout}")
    return parse(done.stdout)


def parse(output: str) -> Run:
    """Reads what h2load prints."""
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s, ([\d.]+)([KMG]?)B/s", output)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    if rate is None or counts is None:
        raise BenchError(f"h2load said something unexpected:\n{output}")
    done, succeeded, failed, errored, late = (int(number) for number in counts.groups())
    return Run(
        succeeded,
        float(rate[1]),
        float(rate[2]) * _UNITS[rate[3]],
        max(done - succeeded, failed + errored + late),
    )
