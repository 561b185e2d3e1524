"""What all work for the user has in common: it is begun, under way and over, and there is something to tell of it."""

from __future__ import annotations

from collections.abc import Callable

from AmbiguousSegBridge.context import Context
from AmbiguousSegBridge.worker.runner import Failure, Job, Listener


class Work:
    """Work that a job of the runner does, one at a time.

    Attributes:
        text: what there is to tell of it.
        watchers: called whenever that changes; most panels tell it at once, before they are shown the next snapshot.
    """

    NOTHING = ""  # what did not happen, where it failed
    CANCELLED = ""

    def __init__(self, context: Context) -> None:
        self.context, self.text = context, ""
        self.watchers: list[Callable[[], None]] = []
        self._number: int | None = None

    @property
    def busy(self) -> bool:
        """Whether it is under way."""
        return self._number is not None

    def tell(self, text: str) -> None:
        """Have the panels say this of it."""
        self.text = text
        for watcher in self.watchers:
            watcher()

    def cancel(self) -> None:
        """Stop soon."""
        if self._number is not None:
            self.context.runner.cancel(self._number)

    def stop(self) -> None:
        """The scene is being closed: what still comes is of no account."""
        self._number = None
        self.tell("")

    def _begin(self, job: Job, listener: Listener, text: str) -> None:
        self._number = self.context.runner.start(job, listener)
        self.tell(text)
        self.context.refresh()

    def _end(self, text: str) -> None:
        if self.busy:
            self._number = None
            self.tell(text)
            self.context.refresh()

    def _failed(self, failure: Failure) -> None:
        if self.busy:
            self._end("")
            self.context.show_failure(failure, self.NOTHING)

    def _cancelled(self) -> None:
        self._end(self.CANCELLED)


def in_one_line(failure: Failure) -> str:
    """What happened and what to do about it, two sentences."""
    return " ".join(filter(None, [failure.message, failure.remedy]))
