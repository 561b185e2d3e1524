"""What a listener has still to do when a job has ended, in steps between other events."""

from __future__ import annotations

import numpy as np
import pytest
from SlicerHost import errors, lifecycle, qt
from SlicerHost.processes import alive
from worker_driver import Heard, begin, do, ended, until_progress

ENDS = {
    "finished": ("answers", {}),
    "failed": ("raises", {"error": "ValueError", "values": []}),
    "cancelled": ("waits", {}),
}


def until(condition):
    """Steps that are done until something else has made it true."""
    for _ in range(100_000):
        if condition():
            return
        yield
    raise AssertionError("nothing else has happened between the steps")


def end_with(runner, ending, steps) -> Heard:
    """A job that has ended in this way, and whose listener has that to do; the steps are not waited for."""
    heard = begin(runner, *ENDS[ending], steps=steps)
    if ending == "cancelled":
        until_progress(heard)
        runner.cancel(heard.number)
    ended(heard)
    assert heard.ending == ending
    return heard


@pytest.mark.parametrize("ending", ENDS)
def test_the_steps_of_an_ending_are_done_between_other_events(make_runner, folder_of_folders, ending):
    runner, folders = make_runner(), []

    def steps(heard):
        for _ in range(3):
            fired = []
            qt.QTimer.singleShot(0, lambda fired=fired: fired.append(True))
            yield from until(lambda fired=fired: fired)
            runner.cancel(heard.number)  # which comes too late
            folders.append(len(list(folder_of_folders.iterdir())))

    heard = end_with(runner, ending, steps)
    lifecycle.process_events(lambda: list(folder_of_folders.iterdir()) == [])
    assert folders == [1, 1, 1] and heard.ending == ending
    assert do(runner, "answers").ending == "finished"


def test_another_job_goes_on_between_the_steps_of_an_ending(make_runner):
    runner, done = make_runner(), []
    running = begin(runner, "waits")
    until_progress(running)

    def steps(_heard):
        for _ in range(3):
            told = len(running.progress)
            yield from until(lambda told=told: len(running.progress) > told)
        done.append(True)

    dropped = begin(runner, "answers", steps=steps)
    runner.cancel(dropped.number)
    lifecycle.process_events(lambda: done)
    assert dropped.ending == "cancelled" and not running.endings
    runner.cancel(running.number)
    ended(running)
    assert running.ending == "cancelled"


def test_files_stay_until_the_last_step(make_runner, folder_of_folders):
    runner, sums = make_runner(), []

    def steps(heard):
        for _ in range(4):
            yield
            sums.append(int(np.load(heard.folder / heard.result["file"]).sum()))

    heard = end_with(runner, "finished", steps)
    lifecycle.process_events(lambda: not heard.folder.exists())
    assert sums == [3, 3, 3, 3] and list(folder_of_folders.iterdir()) == []


@pytest.mark.parametrize("ending", ENDS)
def test_a_step_that_raises_leaves_everything_in_order(make_runner, folder_of_folders, ending):
    runner, seen = make_runner(), []

    def broken(_heard):
        yield from until(lambda: "go" in seen)
        seen.append("raised")
        raise ZeroDivisionError("in a step")

    end_with(runner, ending, broken)
    seen.append("go")
    following = begin(runner, "answers", steps=lambda _heard: (seen.append("next") for _ in range(2)))
    with pytest.raises(errors.StandInError, match="ZeroDivisionError: in a step"):
        lifecycle.process_events(lambda: following.endings)
    lifecycle.process_events(lambda: following.endings and list(folder_of_folders.iterdir()) == [])
    assert following.ending == "finished" and seen == ["go", "raised", "next", "next"]


@pytest.mark.parametrize("ending", ENDS)
def test_stop_does_the_rest_of_an_ending_at_once(make_runner, folder_of_folders, ending):
    runner, seen = make_runner(), []

    def steps(_heard):
        seen.append("step")
        yield from until(lambda: "stop" in seen)
        for _ in range(3):
            seen.append(len(list(folder_of_folders.iterdir())))
            yield

    heard = end_with(runner, ending, steps)
    waiting = begin(runner, "answers", steps=lambda _heard: (seen.append("waiting") for _ in range(2)))
    lifecycle.process_events(lambda: seen)
    pid = runner.about["pid"]
    seen.append("stop")
    runner.stop()
    assert seen[seen.index("stop") :] == ["stop", 1, 1, 1, "waiting", "waiting"]
    assert list(folder_of_folders.iterdir()) == [] and not alive(pid)
    assert (heard.ending, waiting.ending) == (ending, "cancelled")
    assert do(runner, "answers").ending == "finished"


@pytest.mark.parametrize(("kind", "arguments"), [("answers", {}), ("exits", {"code": 1})])
@pytest.mark.parametrize("at", [0, 1])
def test_stop_from_inside_an_ending(make_runner, folder_of_folders, kind, arguments, at):
    """As the end is told, or in a step; with a worker, and when it has gone by itself."""
    runner, seen = make_runner(), []

    def rest():
        for number in range(1, 4):
            if number == at:
                runner.stop()
            seen.append(number)
            yield

    def steps(_heard):
        if at == 0:
            runner.stop()
        return rest()

    begin(runner, kind, arguments, steps=steps)
    lifecycle.process_events(lambda: seen == [1, 2, 3] and list(folder_of_folders.iterdir()) == [])


def test_a_step_that_raises_while_it_is_stopped_takes_no_other_along(make_runner, folder_of_folders):
    runner, seen = make_runner(), []

    def broken(_heard):
        yield from until(lambda: seen)
        raise ZeroDivisionError("in a step")

    end_with(runner, "finished", broken)
    waiting = begin(runner, "answers")
    seen.append("stop")
    with pytest.raises(ZeroDivisionError):
        runner.stop()
    assert waiting.ending == "cancelled" and list(folder_of_folders.iterdir()) == []
    assert do(runner, "answers").ending == "finished"
