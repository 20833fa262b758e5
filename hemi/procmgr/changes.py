"""How an instance is changed while it serves: reload, rework, upgrade, more or fewer workers, and the end.

Tasks of the leader's loop. One change at a time (`Leader.changing`); the end does not wait for its turn. Each either
happens everywhere or nowhere: new things are made ready beside the old ones first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hemi.binding import ListenOptions
from hemi.procmgr.child import Child
from hemi.procmgr.loop import CommandError, Steps, say, until
from hemi.procmgr.options import MOST_WORKERS

if TYPE_CHECKING:
    from hemi.procmgr.leader import Leader

__all__ = ["leave", "reload", "replace", "resize", "rework", "upgrade"]

HEIR_GRACE = 5.0
"""Seconds that an upgrade's new leader has beyond those of its workers."""

PATIENCE = 600.0
"""Seconds that a change waits for its turn."""


def _turn(leader: Leader, what: str) -> Steps:
    """Waits until no other change is going on, and then is the one that does."""
    if leader.changing:
        yield say(f"waiting for {leader.changing}")
    mine = yield until(lambda: not leader.changing or leader.crew.leaving, PATIENCE)
    if leader.crew.leaving:
        raise CommandError(f"no {what} now: the instance is stopping")
    if not mine:
        raise CommandError(f"no {what} now: a {leader.changing} takes too long")
    leader.changing = what


# Reload


class Outcome:
    """What comes of a reload, for all who asked while it waited for its turn."""

    def __init__(self) -> None:
        self.done = False
        self.answer: dict[str, Any] = {}
        self.error: CommandError | None = CommandError("the reload that waited already was broken off")
        """None once it has come to an answer."""


def reload(leader: Leader) -> Steps:
    """Check in a forked child, prepare in all workers, then commit in all.

    While one waits for its turn, others that are asked for are the same one: it sees what all of them wanted seen.
    """
    if leader.next_reload is not None:
        yield say("another reload waits already")
        return (yield from _share(leader.next_reload))
    outcome = leader.next_reload = Outcome()
    try:
        outcome.answer = yield from _reload_in_turn(leader)
        outcome.error = None
        return outcome.answer
    except CommandError as error:
        outcome.error = error
        raise
    finally:
        outcome.done = True


def _share(outcome: Outcome) -> Steps:
    yield until(lambda: outcome.done)
    if outcome.error is not None:
        raise outcome.error
    return outcome.answer


def _reload_in_turn(leader: Leader) -> Steps:
    try:
        yield from _turn(leader, "reload")
    finally:
        leader.next_reload = None
    try:
        leader.notify.reloading()
        answer = yield from _reload(leader)
        leader.reloads += 1
        leader.log.info(f"reload: done in {answer['seconds']:.2f} s")
        return answer
    except CommandError as error:
        leader.log.error(f"reload: nothing was changed: {error}")
        for line in error.details:
            leader.log.error(f"reload: {line}")
        raise
    finally:
        leader.changing = ""
        leader.tell_state()


def _reload(leader: Leader) -> Steps:
    begun = time.monotonic()
    yield say("checking the configuration")
    checked = yield from leader.check()
    yield from _settle(leader)
    children = leader.crew.ready()
    if not children:
        raise CommandError("there is no worker that could reload")
    yield say(f"preparing {len(children)} worker(s)")
    problems, wishes = yield from _prepare_all(leader, children, checked["start_timeout"])
    try:
        if problems:
            raise CommandError(
                f"{len(problems)} of {len(children)} worker(s) cannot take the configuration",
                _lines(problems),
            )
        adjust(leader, wishes)
    except CommandError:
        yield from _rollback_all(leader, children)
        raise
    yield say("committing")
    results = yield from _commit_all(leader, children)
    leader.crew.take_settings(checked)
    for child in leader.crew.ready():
        child.thresholds = leader.crew.settings.thresholds()
    for child in [child for child in leader.crew.children if child.state == "failed"]:
        leader.crew.retry(child)
    leader.crew.release_unused()
    return {"seconds": round(time.monotonic() - begun, 3), "workers": results}


def _settle(leader: Leader) -> Steps:
    """Waits for workers that are just starting: half started, they would miss the change."""
    crew = leader.crew
    yield until(lambda: all(c.state != "starting" for c in crew.children), crew.settings.start_timeout)


def _prepare_all(leader: Leader, children: list[Child], seconds: float) -> Steps:
    for child in children:
        child.may_listen = True
    try:
        calls = [(child, child.conn.order("prepare")) for child in children if child.conn is not None]
        yield until(lambda: all(call.done for _, call in calls), seconds)
    finally:
        for child in children:
            child.may_listen = False
    problems: list[tuple[Child, str, list[str]]] = []
    wishes: dict[str, Any] = {}
    for child, call in calls:
        wishes |= call.result.get("wishes", {})
        if not call.done:
            problems.append((child, "did not get ready in time", []))
        elif call.error and child.state == "ready":  # one that died does not count: its successor starts anew
            problems.append((child, call.error, call.details))
    return problems, wishes


def adjust(leader: Leader, wishes: dict[str, Any]) -> None:
    """Has the listening sockets be as the workers' configuration wants them.

    Raises CommandError, and has changed nothing then.
    """
    try:
        leader.listening.adjust({key: ListenOptions(*options) for key, options in wishes.items()})
    except OSError as error:
        raise CommandError(error.strerror or str(error)) from error


def wishes_of(children: list[Child]) -> dict[str, Any]:
    """How workers that have just got ready want their sockets."""
    return {key: options for child in children for key, options in child.told.get("wishes", {}).items()}


def _rollback_all(leader: Leader, children: list[Child]) -> Steps:
    yield from leader.ask_all("rollback", children=[child for child in children if child.state == "ready"])
    leader.crew.release_unused()


def _commit_all(leader: Leader, children: list[Child]) -> Steps:
    """Has all workers swap. One that fails now is replaced: a new process begins with the new configuration."""
    committing = [child for child in children if child.state == "ready"]
    results = yield from leader.ask_all("commit", children=committing)
    by_pid = {child.pid: child for child in committing}
    for result in results:
        child = by_pid[result["pid"]]
        if "error" in result and child.state == "ready":
            leader.log.error(
                f"reload: worker {child.number} cannot commit and is replaced: {result['error']}"
            )
            try:
                yield from _replace(leader, child, "it could not commit a reload")
                result["replaced"] = True
            except CommandError as failure:
                result["details"] = [*result["details"], str(failure), *failure.details]
    return results


def _lines(problems: list[tuple[Child, str, list[str]]]) -> list[str]:
    """What went wrong in which worker; said once when all say the same."""
    texts = [[error, *details] for _, error, details in problems]
    if all(text == texts[0] for text in texts):
        return texts[0]
    return [
        f"worker {child.number}: {line}"
        for (child, _, _), text in zip(problems, texts, strict=True)
        for line in text
    ]


# Other processes


def replace(leader: Leader, child: Child, reason: str) -> Steps:
    """Replaces one worker: the new one is ready before the old one drains."""
    yield from _turn(leader, "replacement")
    try:
        if child.state == "ready":
            leader.log.info(f"worker {child.number} is replaced: {reason}")
            yield from _replace(leader, child, reason)
    finally:
        leader.changing = ""
    return {}


def _replace(leader: Leader, child: Child, reason: str) -> Steps:
    new = leader.crew.add(child.number, candidate=True, replaces=child)
    try:
        yield from _await_ready(leader, [new])
    except CommandError as error:
        child.thresholds = {}
        leader.loop.after(60.0, lambda: child.thresholds.update(leader.crew.settings.thresholds()))
        raise CommandError(f"worker {child.number} cannot be replaced: {error}", error.details) from error
    leader.crew.confirm(new)
    leader.crew.drain(child, reason)
    yield until(lambda: not child.alive)


def _await_ready(leader: Leader, candidates: list[Child], others: Sequence[Child] = ()) -> Steps:
    """Waits until all candidates are ready.

    Raises CommandError when one is not, or takes longer than start_timeout (the crew kills it then); all of them, and
    those that got ready before, are dismissed.
    """
    crew = leader.crew
    yield until(lambda: all(child.state not in ("new", "starting") for child in candidates) or crew.leaving)
    failed = [child for child in candidates if child.state != "ready"]
    if not failed and not crew.leaving:
        return
    why, problems = failed[0].reason if failed else "", failed[0].told.get("problems", []) if failed else []
    _dismiss(leader, [*others, *candidates])
    if crew.leaving:
        raise CommandError("the instance is stopping")
    raise CommandError(f"a new worker did not get ready: {why}", problems)


def _dismiss(leader: Leader, candidates: list[Child]) -> None:
    for child in candidates:
        leader.crew.dismiss(child)


def rework(leader: Leader) -> Steps:
    """New workers beside the old ones; only when all are ready do the old ones drain."""
    yield from _turn(leader, "rework")
    begun = time.monotonic()
    try:
        old = leader.crew.lasting()
        yield say(f"starting {leader.crew.wanted} new worker(s)")
        leader.stock.discard()  # it has imported what may be old code by now
        new = yield from _start_beside(leader, old)
        try:
            adjust(leader, wishes_of(new))
        except CommandError:
            _dismiss(leader, new)
            raise
        for child in new:
            leader.crew.confirm(child)
        yield say(f"{len(new)} worker(s) ready; the old ones drain")
        for child in old:
            leader.crew.drain(child, "replaced by rework")
        drained = [child for child in old if child.alive]
        yield until(lambda: not any(child.alive for child in drained))
        leader.crew.release_unused()
        seconds = round(time.monotonic() - begun, 3)
        leader.log.info(f"rework: done in {seconds:.2f} s")
        return {"seconds": seconds, "workers": [child.to_dict() for child in new]}
    except CommandError as error:
        leader.log.error(f"rework: nothing was changed: {error}")
        raise
    finally:
        leader.changing = ""
        leader.stock.refill()
        leader.tell_state()


def _start_beside(leader: Leader, old: list[Child]) -> Steps:
    """Starts a whole crew beside the old one, or nothing. The first goes ahead: when it fails, the others would too."""
    crew = leader.crew
    olds = {child.number: child for child in old}
    new: list[Child] = []
    for numbers in ([1], range(2, crew.wanted + 1)):
        batch = [crew.add(number, candidate=True, replaces=olds.get(number)) for number in numbers]
        yield from _await_ready(leader, batch, new)
        new += batch
    return new


def resize(leader: Leader, count: Callable[[int], int]) -> Steps:
    """Starts more workers, or has those with the highest numbers drain. `count` makes the new number of the old."""
    yield from _turn(leader, "change of the number of workers")
    crew = leader.crew
    try:
        before = crew.wanted
        number = count(before)
        if not 1 <= number <= MOST_WORKERS:
            raise CommandError(f"the number of workers must be 1 to {MOST_WORKERS}, not {number}")
        staying = [child for child in crew.lasting() if child.number <= number]
        joining = [crew.add(candidate=True) for _ in range(number - len(staying))]
        yield from _await_ready(leader, joining)
        crew.wanted = number
        for child in joining:
            crew.confirm(child)
        leaving = [child for child in crew.lasting() if child.number > number]
        for child in leaving:
            crew.drain(child, "fewer workers are wanted")
        yield until(lambda: not any(child.alive for child in leaving))
        leader.log.info(f"{number} worker(s) instead of {before}")
        return {"workers": [child.to_dict() for child in crew.children]}
    finally:
        leader.changing = ""
        leader.tell_state()


# Upgrade


def upgrade(leader: Leader) -> Steps:
    """A new leader, from the code as it is now, takes the sockets over; then this one drains and ends."""
    if os.getpid() == 1:
        raise CommandError(
            "process 1 cannot be upgraded: the container would end with it; use rework, or a new container"
        )
    yield from _turn(leader, "upgrade")
    done = False
    try:
        yield say("starting the new leader")
        heir = leader.start_heir()
        # Its first worker gets ready, then the others at the same time; it should tell itself which of them does not.
        seconds = 2 * leader.crew.settings.start_timeout + HEIR_GRACE
        yield until(lambda: heir.ready or heir.status is not None, seconds)
        if not heir.ready:
            heir.kill()
            raise CommandError("the new leader did not get ready; see its messages in the log", heir.problems)
        leader.log.info(f"upgrade: process {heir.pid} leads now, this one drains")
        leader.notify.main_pid(heir.pid)
        done = True
    except CommandError as error:
        leader.log.error(f"upgrade: nothing was changed: {error}")
        raise
    finally:
        if not done:
            leader.changing = ""
    leader.handed_over = True
    leader.cmdui.release()
    leader.loop.spawn(leave(leader, graceful=True))
    return {"leader": heir.pid}


# The end


def leave(leader: Leader, graceful: bool) -> Steps:
    """Ends the instance: gracefully within drain_timeout, or at once. A second call can only hurry the first."""
    crew = leader.crew
    if graceful and crew.leaving:
        raise CommandError("the instance is stopping already")
    crew.leaving = True
    leader.stock.close()
    leader.hurried = leader.hurried or not graceful
    leader.state = "stopping"
    if not leader.handed_over:
        leader.notify.stopping()
    if graceful:
        yield from _delay(leader)
    reason = "the instance ends"
    # Before the workers: who closes a socket last must have emptied its queue.
    leader.listening.close(unlink=not leader.handed_over)
    for child in list(crew.children):
        if graceful:
            crew.drain(child, reason)
        else:
            crew.stop(child, reason)
    yield until(lambda: not crew.alive(), crew.settings.drain_timeout + 5.0)
    for child in crew.alive():
        crew.kill(child, "it did not end")
    yield until(lambda: not crew.alive(), 2.0)
    yield say("stopped")
    leader.finish(0 if graceful and not leader.hurried else 10)
    return {"stopped": True}


def _delay(leader: Leader) -> Steps:
    """Lets load balancers see that readiness checks fail, while everything is still served."""
    seconds = leader.crew.settings.shutdown_delay
    if seconds and not leader.handed_over:
        leader.log.info(f"stopping in {seconds:g} s")
        yield from leader.ask_all("leaving")
        yield until(lambda: leader.hurried, seconds)
