"""The answers of a fleet as they come: how many, how whole, second by second. Pure: time comes in."""

from collections import deque
from typing import Final

import msgspec

from edge_agent.answer import Answer

KEPT_S: Final = 300
_RECENT_S: Final = 5
_LATEST: Final = 6


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, by the name of its label."""

    label: str
    complete: bool
    guess: bool


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The last minutes: an entry a second, the present one last; `expected` is None when nothing was known."""

    answers: list[int]
    complete: list[int]
    guesses: list[int]
    expected: list[float | None]


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """All answers since the beginning, and the last seconds of them; shares are None without any."""

    complete: int
    incomplete: int
    guesses: int
    per_s: float
    complete_share: float | None
    guess_share: float | None
    latest: tuple[Latest, ...]
    course: Course


class _Second(msgspec.Struct):
    answers: int = 0
    complete: int = 0
    guesses: int = 0
    expected: float | None = None


class Tally:
    """Counts answers; `began_s` is when."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._all = _Second()
        self._seconds = deque([_Second()], maxlen=KEPT_S)
        self._passed = 0
        self._latest: deque[Latest] = deque(maxlen=_LATEST)

    def on_answer(self, answer: Answer, now_s: float) -> None:
        """Take in an answer."""
        self.on_time(now_s, self._seconds[-1].expected)
        for each in (self._all, self._seconds[-1]):
            each.answers += 1
            each.complete += answer.complete
            each.guesses += answer.guess
        self._latest.append(Latest(label=answer.name, complete=answer.complete, guess=answer.guess))

    def on_time(self, now_s: float, expected: float | None) -> None:
        """Take in that time has passed, and which accuracy is predicted now."""
        passed = int(now_s - self._began_s)
        self._seconds += [_Second(expected=expected) for _ in range(min(passed - self._passed, KEPT_S))]
        self._passed = passed
        self._seconds[-1].expected = expected

    def summary(self) -> Answers:
        """Return how it stands; what is recent are the last whole seconds."""
        seconds = list(self._seconds)
        recent = seconds[-_RECENT_S - 1 : -1]
        answers, complete, guesses = (
            sum(getattr(each, name) for each in recent) for name in ("answers", "complete", "guesses")
        )
        return Answers(
            complete=self._all.complete,
            incomplete=self._all.answers - self._all.complete,
            guesses=self._all.guesses,
            per_s=answers / len(recent) if recent else 0.0,
            complete_share=complete / answers if answers else None,
            guess_share=guesses / answers if answers else None,
            latest=tuple(self._latest),
            course=Course(
                answers=[each.answers for each in seconds],
                complete=[each.complete for each in seconds],
                guesses=[each.guesses for each in seconds],
                expected=[each.expected for each in seconds],
            ),
        )
