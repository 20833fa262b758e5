"""The crew with children that are no workers: what follows when they end."""

from __future__ import annotations

from tests.procmgr.loopkit import in_loop

CREW = """
from hemi.procmgr.board import Board
from hemi.procmgr.crew import Crew
from hemi.procmgr.listening import Listening
from hemi.procmgr.log import Log
from hemi.procmgr.messages import encode
from hemi.procmgr.offspring import shed
from hemi.procmgr.settings import Settings
from hemi.procmgr.stock import Stock
plan = []   # what each child does, one after another
told = {}   # its settings
def become(seat):
    shed(loop, [seat.lifeline])
    what = plan[0]
    if what == "serve":
        sock = socket.create_connection(seat.door)
        sock.sendall(encode({"hello": seat.key}))
        sock.recv(1000)
        sock.sendall(encode({"event": "checked", "settings": {"start_timeout": 99.0, **told}}))
        sock.sendall(encode({"event": "ready", "keys": [], "settings": told}))
        sock.recv(1000)
    os._exit(0 if what == "serve" else what)
listening = Listening(log.append)
crew = Crew(loop, Log(), listening, Board(), Stock(loop, lambda fd: None), become)
crew.booting = False
crew.settings = Settings(start_attempts=3)
loop.on_signal(signal.SIGCHLD, crew.reap)
"""


def test_a_child_that_cannot_begin_backs_off_and_fails() -> None:
    assert in_loop(
        CREW
        + """
plan[:] = [5]
def steps():
    child = crew.add()
    seen = []
    while child.state != "failed":
        if not seen or seen[-1] != child.state:
            seen.append(child.state)
        yield pause(0.001)
    print(seen, child.forks, child.reason)
    plan[:] = ["serve"]
    crew.retry(child)
    yield until(lambda: child.state == "ready", 5)
    print(child.state, child.failures, crew.free_number())
    crew.drain(child, "enough")
    yield until(lambda: not crew.children, 5)
    finish()
loop.spawn(steps())
loop.run()
"""
    ).splitlines() == [
        (
            "['starting', 'backing off', 'starting', 'backing off', 'starting'] 3 "
            "3 failures in a row, the last: ended (exit code 5)"
        ),
        "ready 0 2",
    ]


def test_a_candidate_is_not_tried_again_and_its_predecessor_stays() -> None:
    assert in_loop(
        CREW
        + """
plan[:] = ["serve"]
def steps():
    old = crew.add()
    yield until(lambda: old.state == "ready", 5)
    plan[:] = [6]
    new = crew.add(1, candidate=True, replaces=old)
    yield until(lambda: new.state == "dead", 5)
    print(crew.children == [old], new.exit_code, new.reason)
    crew.dismiss(new)
    plan[:] = ["serve"]
    os.kill(old.pid, 9)   # and it is started again, for nobody replaces it
    yield until(lambda: old.state != "ready", 5)
    yield until(lambda: old.state == "ready", 5)
    print(old.forks, crew.restarts)
    crew.leaving = True
    crew.stop(old, "the end")
    yield until(lambda: not crew.children, 5)
    finish()
loop.spawn(steps())
loop.run()
"""
    ).splitlines() == ["True 6 ended (exit code 6)", "2 1"]


def test_the_settings_of_a_candidate_count_when_it_is_confirmed() -> None:
    assert in_loop(
        CREW
        + """
plan[:] = ["serve"]
told |= {"log_level": "error", "max_requests": 7}
crew.log_order = "debug"
def steps():
    for confirm in (False, True):
        new = crew.add(candidate=True)
        yield until(lambda: new.state == "ready", 5)
        print(crew.settings.log_level, crew.log_order, list(new.thresholds), new.start_timeout)
        if confirm:
            crew.confirm(new)
        else:
            crew.dismiss(new)
            yield until(lambda: not crew.children, 5)
    print(crew.settings.log_level, crew.log_order, crew.settings.start_timeout)
    crew.stop(new, "the end")
    yield until(lambda: not crew.children, 5)
    finish()
loop.spawn(steps())
loop.run()
"""
    ).splitlines() == [*["info debug ['max_requests'] 99.0"] * 2, "error  120.0"]


def test_only_at_times_are_sockets_lent() -> None:
    assert in_loop(
        CREW
        + """
plan[:] = ["serve"]
request = {"listen": ["127.0.0.1:0", "m"], "owner": "m", "target": [2, ["127.0.0.1", 0], False], "options": [9]}
def steps():
    child = crew.add()
    yield until(lambda: child.state == "ready", 5)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = crew._lifelines[child]
    line.sock, real = ours, line.sock
    crew._lend(child, line, request)
    print(json.loads(theirs.recv(1000)), list(listening.held))
    child.may_listen = True
    crew._lend(child, line, request)
    data, descriptors, _, _ = socket.recv_fds(theirs, 1000, 1)
    print(json.loads(data), len(descriptors), list(listening.held), child.keys)
    crew._lend(child, line, {**request, "listen": ["x", ""], "target": [2, ["203.0.113.7", 0], False]})
    print("error" in json.loads(theirs.recv(1000)))
    line.sock = real
    crew.leaving = True
    crew.stop(child, "the end")
    yield until(lambda: not crew.children, 5)
    finish()
loop.spawn(steps())
loop.run()
"""
    ).splitlines() == [
        "{'error': 'it is not the time to ask for sockets'} []",
        "{'family': 2} 1 ['127.0.0.1:0 of m'] {'127.0.0.1:0 of m'}",
        "True",
    ]
