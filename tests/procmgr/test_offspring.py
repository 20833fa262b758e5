"""What a forked child sheds."""

from __future__ import annotations

from tests.procmgr.loopkit import in_loop


def test_descriptors_and_signals_of_the_leader_are_shed() -> None:
    assert (
        in_loop("""
from hemi.procmgr.offspring import shed
for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    loop.on_signal(signum, lambda: log.append("leader's"))
keep, drop = os.pipe()
pid = os.fork()
if pid == 0:
    shed(loop, [keep])
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)
    left = []
    for descriptor in range(3, 100):
        try:
            os.fstat(descriptor)
            left.append(descriptor)
        except OSError:
            pass
    print(left == [keep], log, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
os.fstat(drop)
""")
        == "True [] True"
    )
