"""How far a study is, within its volume and over all, and how long it will take: in words, for a terminal or a log."""

from __future__ import annotations

import time
from collections.abc import Callable

_TERMINAL_S, _LOG_S = 0.2, 30.0  # between two lines


class Progress:
    """Tells, not too often, how far a study is.

    Args:
        total: volumes of the study.
        tell: takes a line.
        terminal: whether lines replace each other, and may come often.
        clock: seconds from some moment.
    """

    def __init__(
        self, total: int, tell: Callable[[str], None], terminal: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._tell, self._clock = total, tell, clock
        self._every = _TERMINAL_S if terminal else _LOG_S
        self._ended, self._sampled, self._sampled_s = 0, 0, 0.0
        self._name, self._share, self._started, self._told = "", 0.0, clock(), clock()

    def begin(self, name: str) -> None:
        """The next volume is looked at."""
        self._name, self._share, self._started = name, 0.0, self._clock()

    def advance(self, share: float) -> None:
        """This share, in (0, 1], of the volume is sampled."""
        self._share = share
        if self._clock() - self._told >= self._every:
            self._told = self._clock()
            self._tell(self.line())

    def end(self, sampled: bool) -> None:
        """The volume is through; what was skipped or failed says nothing of how long others take."""
        self._ended += 1
        if sampled:
            self._sampled += 1
            self._sampled_s += self._clock() - self._started
        self._share = 0.0

    def left_s(self) -> tuple[float, float] | None:
        """Seconds that are left of the volume, and of the study; None as long as nothing is known.

        A volume takes as long as it has taken so far over the share that is sampled; those to come take as long as the
        mean of those that were sampled.
        """
        passed = self._clock() - self._started
        whole = passed / self._share if self._share > 0 else None
        each = self._sampled_s / self._sampled if self._sampled else whole
        if each is None:
            return None
        own = max(0.0, (each if whole is None else whole) - passed)
        return own, own + each * (self._total - self._ended - 1)

    def line(self) -> str:
        """Such as "[3/10] p3: 42 %, 1:20 left; study: 13:05 left"."""
        start = f"[{self._ended + 1}/{self._total}] {self._name}: {100 * self._share:.0f} %"
        left = self.left_s()
        return start if left is None else f"{start}, {clock_text(left[0])} left; study: {clock_text(left[1])} left"


def clock_text(seconds: float) -> str:
    """Seconds as "0:07", "12:30" or "3:05:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
