"""One run of wrk, and what it says."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

from toolkit.benchmarks.servers import BenchError, pinned
from toolkit.benchmarks.works import Work

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


class Run(NamedTuple):
    """What a run came to."""

    requests: int
    requests_per_s: float
    bytes_per_s: float
    failed: int
    """Answers that were no success, and connections that failed."""
    refused: int = 0
    """Those of the connections that were refused."""


def run(
    url: str, seconds: int, core: int | None, conns: int = 64, fields: tuple[str, ...] = (), timeout: int = 10
) -> Run:
    """Loads a URL over so many connections for some seconds, from one thread on a core."""
    command = [*pinned(core), "wrk", "-t1", f"-c{conns}", f"-d{seconds}s", "--timeout", f"{timeout}s"]
    for line in fields:
        command += ["-H", line]
    done = subprocess.run(
        [*command, url],
        capture_output=True,
        text=True,
        timeout=seconds + timeout + 20,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise BenchError(f"wrk failed on {url}: {done.stderr or done.stdout}")
    return parse(done.stdout)


def load(url: str, seconds: int, core: int | None, work: Work) -> Run:
    """Loads a URL as a work wants it."""
    return run(url, seconds, core, fields=work.fields)


def parse(output: str) -> Run:
    """Reads what wrk prints."""
    requests = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", output)
    transfer = re.search(r"Transfer/sec:\s*([\d.]+)([KMG]?)B", output)
    if requests is None or rate is None or transfer is None:
        raise BenchError(f"wrk said something unexpected:\n{output}")
    failed = sum(int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", output))
    failed += sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    refused = re.search(r"connect (\d+)", output)
    return Run(
        int(requests[1]),
        float(rate[1]),
        float(transfer[1]) * _UNITS[transfer[2]],
        failed,
        int(refused[1]) if refused else 0,
    )
