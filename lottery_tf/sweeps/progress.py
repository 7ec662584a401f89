"""How far a study is: bars in a terminal, and the time left."""

from collections.abc import Callable, Sequence

from tqdm import tqdm

from lottery_tf.errors import InputError
from lottery_tf.runs import files
from lottery_tf.runs.rundir import METRICS
from lottery_tf.sweeps.grid import Point
from lottery_tf.sweeps.scheduling import State, rounds_of

MOST_BARS = 16  # of runs, below that of the study


class Pace:
    """Seconds that the rounds of a study take, by those that are finished."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # {name: (rounds, their seconds)}

    def look(self, point: Point) -> int:
        """The finished rounds of a run, whose seconds are counted from now on."""
        finished = rounds_of(point)
        if finished and self._known.get(point.name, (0, 0.0))[0] != finished:
            path = point.directory / METRICS
            try:
                rows = files.parse_csv(path.read_bytes())
                seconds = [float(row["seconds"]) for row in rows]
            except (OSError, InputError, KeyError, ValueError):  # it is written this moment
                return finished
            self._known[point.name] = finished, sum(seconds) * finished / len(seconds)
        return finished

    def seconds_left(self, points: Sequence[Point]) -> float | None:
        """Seconds that the rounds left take, one after another; None if none is finished yet.

        Runs without a finished round count by the mean of the others.
        """
        left = {point.name: point.config.rounds - self.look(point) for point in points}
        rounds, seconds = (sum(numbers) for numbers in zip(*self._known.values(), strict=True)) \
            if self._known else (0, 0.0)  # fmt: skip
        if not rounds:
            return None
        total = 0.0
        for name, count in left.items():
            own_rounds, own_seconds = self._known.get(name, (rounds, seconds))
            total += max(0, count) * own_seconds / own_rounds
        return total


class Bars:
    """A bar of all rounds with the time left, and one of each run that goes on.

    Args:
        states: of the runs.
        slots: a function that gives how many go on at once.
    """

    def __init__(self, states: Sequence[State], slots: Callable[[], int]):
        self.slots, self.pace = slots, Pace()
        rounds = sum(state.point.config.rounds for state in states)
        self.whole = self._bar(rounds, "rounds of the study", 0)
        self.bars: list[tqdm] = []

    def _bar(self, total, name, position):
        form = "{desc}: {n_fmt} of {total_fmt} |{bar}|{postfix}"
        return tqdm(total=total, desc=name, position=position, leave=False, dynamic_ncols=True,
                    disable=None, bar_format=form)  # fmt: skip

    def show(self, states: Sequence[State]) -> None:
        """Moves the bars."""
        done = sum(self.pace.look(state.point) for state in states if not state.failure)
        seconds = self.pace.seconds_left([s.point for s in states if s.is_open or s.future])
        left = "?" if seconds is None else tqdm.format_interval(seconds / max(1, self.slots()))
        finished = sum(state.finished for state in states)
        self.whole.set_postfix_str(f"{finished} of {len(states)} runs, about {left} left", False)
        self.whole.n = done
        self.whole.refresh()
        running = [state.point for state in states if state.future][:MOST_BARS]
        while len(self.bars) < len(running):
            self.bars.append(self._bar(1, "", len(self.bars) + 1))
        while len(self.bars) > len(running):
            self.bars.pop().close()
        for bar, point in zip(self.bars, running, strict=True):
            bar.total, bar.n = point.config.rounds, self.pace.look(point)
            bar.set_description_str(point.name)

    def close(self) -> None:
        """Removes the bars."""
        for bar in [*self.bars, self.whole]:
            bar.close()
