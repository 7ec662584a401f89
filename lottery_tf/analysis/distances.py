"""Distances in weight space between the rounds of a run, or of two runs, and the initialization.

All measures are on the weights alive in both networks, over all kernels as one vector (Maene et
al. 2021, section 3):

    angular    2 angle / pi: 0 for the same direction, 1 for orthogonal weights, 2 for opposite ones
    cosine     1 - cosine of the angle
    euclidean  L2 norm of the difference

All pairs together cost three matrix products. What these give of two networks that are nearly the
same is a small difference of large sums, with few correct digits. So the differences of such a pair
are summed weight by weight, in a second reading.

In the functions of runs `other` is a run whose rounds are the columns instead, without the
initialization; `cache` holds what was measured before, and by default all is measured.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from math import nan
from typing import Any

import numpy as np

from lottery_tf.analysis.cache import Cache, is_number
from lottery_tf.analysis.measure import Column, Findings, Measure, Picture, Table, usual
from lottery_tf.analysis.replicates import labelled, over_matrices, without_collapsed
from lottery_tf.analysis.runs import check_same_experiment, metrics_with
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

BLOCK = 1 << 15  # weights of each network at once: what fits into a processor's cache
CLOSE = 1e-5  # 1 - cosine below which networks are compared weight by weight: 9 digits are left


@dataclasses.dataclass
class Products:
    """Sums over the weights alive in both networks of each pair, float64 (rows, columns).

    Attributes:
        dots: of the products of their weights.
        row_squares, column_squares: of the squared weights of the one, and of the other.
        differences: of the squared differences of their weights.
        unit_differences: the same of the networks divided by their norms; NaN where one is zero.
    """

    dots: Array
    row_squares: Array
    column_squares: Array
    differences: Array
    unit_differences: Array

    @classmethod
    def zeros(cls, *shape: int) -> "Products":
        """Sums over nothing."""
        return cls(*np.zeros((5, *shape)))

    def angular(self) -> Array:
        """2 angle / pi; NaN where a network is zero."""
        chords = np.sqrt(np.minimum(self.unit_differences, 4))
        return 2 / np.pi * 2 * np.arcsin(chords / 2)

    def cosine(self) -> Array:
        """1 - cosine; NaN where a network is zero."""
        return self.unit_differences / 2

    def euclidean(self) -> Array:
        """The norm of the difference."""
        return np.sqrt(self.differences)

    def derive_differences(self) -> Array:
        """Set the differences from the other sums; return where that leaves too few digits."""
        norms = np.sqrt(self.row_squares * self.column_squares)
        nothing = np.full(norms.shape, np.nan)
        cosines = np.divide(self.dots, norms, out=nothing, where=norms > 0)
        squares = self.row_squares + self.column_squares - 2 * self.dots
        self.differences = np.maximum(squares, 0)
        self.unit_differences = 2 * (1 - np.clip(cosines, -1, 1))
        return self.unit_differences < 2 * CLOSE

    def add_differences(self, place: tuple[int, ...], one: Array, other: Array) -> None:
        """Add the differences of a block of the weights alive in both networks of a pair."""
        difference = one - other
        self.differences[place] += difference @ difference
        one_norm, other_norm = np.sqrt([self.row_squares[place], self.column_squares[place]])
        difference = one / one_norm - other / other_norm
        self.unit_differences[place] += difference @ difference


METRICS = {"angular": Products.angular, "cosine": Products.cosine, "euclidean": Products.euclidean}


def add_products(
    sums: Products, rows: Array, row_masks: Array, columns: Array, column_masks: Array
) -> None:
    """Add a block of coordinates to Products: two matrix products, no loop over pairs.

    (Three, if the columns are other networks than the rows.)

    With F and G as the masked weights and M and N as the masks, dots are F G', the squared norms
    on the pair's mask (F * F) N' and M (G * G)'.

    Args:
        sums: of (rows, columns), changed in place.
        rows, columns: float64 (networks, coordinates), zero where masked.
        row_masks, column_masks: float64 0 or 1, of the same shapes.
    """
    sums.dots += rows @ columns.T
    sums.row_squares += rows**2 @ column_masks.T
    if rows is columns:
        sums.column_squares[:] = sums.row_squares.T
    else:
        sums.column_squares += row_masks @ (columns**2).T


def products_of_rounds(
    rows: Sequence[FinishedRound],
    columns: Sequence[FinishedRound],
    on_block: Callable[[int], object] = lambda weights: None,
) -> tuple[Products, Products]:
    """Return the Products of some rounds with others, and of each with what it started from.

    Reads kernel by kernel, in blocks, so that memory does not grow with the networks; rounds that
    are rows and columns are read once.

    Args:
        rows, columns: the rounds.
        on_block: called with the number of weights that are done.

    Returns:
        (Products of (rows, columns), Products of (rows,) with initial weights on the row's mask).

    Raises:
        InputError: the networks' kernels differ, or a weight is not finite.
    """
    rounds = list(dict.fromkeys([*rows, *columns]))
    row_places, column_places = ([rounds.index(r) for r in group] for group in (rows, columns))
    all_by_all = row_places == column_places == list(range(len(rounds)))
    pairs, starts = Products.zeros(len(rows), len(columns)), Products.zeros(len(rows))
    done = 0
    for path in _kernels_in_common(rounds):
        for weights, alive, initial in _blocks(rounds, rows, path):
            (row, row_alive), (column, column_alive) = (
                (weights, alive) if all_by_all else (weights[places], alive[places])
                for places in (row_places, column_places)
            )
            add_products(pairs, row, row_alive, column, column_alive)
            initial *= row_alive
            starts.dots += np.einsum("rb,rb->r", row, initial)
            starts.row_squares += np.einsum("rb,rb->r", row, row)
            starts.column_squares += np.einsum("rb,rb->r", initial, initial)
            done += weights.shape[1]
            on_block(done)
    _sum_differences(pairs, starts, rows, columns)
    return pairs, starts


def _sum_differences(
    pairs: Products,
    starts: Products,
    rows: Sequence[FinishedRound],
    columns: Sequence[FinishedRound],
) -> None:
    """Derive the differences of Products; of close networks, sum them from the weights."""
    close = np.argwhere(pairs.derive_differences()).tolist()
    from_start = np.flatnonzero(starts.derive_differences()).tolist()
    mirrored = rows == columns
    for i, j in close:
        pairs.differences[i, j] = pairs.unit_differences[i, j] = 0
    starts.differences[from_start] = starts.unit_differences[from_start] = 0
    todo = [(i, j) for i, j in close if rows[i] != columns[j] and not (mirrored and i > j)]
    rounds = [round for i, j in todo for round in (rows[i], columns[j])]
    rounds = list(dict.fromkeys([*rounds, *(rows[i] for i in from_start)]))
    place_of = {round: place for place, round in enumerate(rounds)}
    for path in rounds[0].shapes() if rounds else ():
        for weights, alive, initial in _blocks(rounds, rounds, path):
            for i, j in todo:
                row, column = place_of[rows[i]], place_of[columns[j]]
                one, other = weights[row] * alive[column], weights[column] * alive[row]
                pairs.add_differences((i, j), one, other)
            for i in from_start:
                row = place_of[rows[i]]
                starts.add_differences((i,), weights[row], initial[row] * alive[row])
    for i, j in todo if mirrored else ():
        for sums in (pairs.differences, pairs.unit_differences):
            sums[j, i] = sums[i, j]


def _blocks(
    rounds: Sequence[FinishedRound], rows: Sequence[FinishedRound], path: str
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield blocks of a kernel, float64.

    Each is (trained weights, zero where masked, and masks, of (rounds, block); initial weights of
    (rows, block)).
    """
    sources = ((rounds, "final"), (rounds, "masks"), (rows, "initial"))
    streams = [
        zip(*(round.blocks(which, path, BLOCK) for round in group), strict=True)
        for group, which in sources
    ]
    for parts in zip(*streams, strict=True):
        blocks = [np.stack(part, dtype=np.float64, casting="unsafe") for part in parts]
        for (group, which), block in zip(sources, blocks, strict=True):
            for round, total in zip(group, block.sum(1), strict=True):
                if not np.isfinite(total):
                    raise round.not_finite(which, path)
        weights, alive, initial = blocks
        weights *= alive
        yield weights, alive, initial


def _kernels_in_common(rounds: Sequence[FinishedRound]) -> dict[str, tuple[int, ...]]:
    """Return {path: shape} of the kernels of the networks; InputError if they differ."""
    first = rounds[0].shapes()
    for round in rounds[1:]:
        if round.shapes() != first:
            raise InputError(
                f"Expected networks of the same kernels. {rounds[0].path} has {first}, "
                f"{round.path} has {round.shapes()}."
            )
    return first


def products_of_weights(start: Weights, end: Weights, masks: tuple[Masks, Masks]) -> Products:
    """Return the Products (1, 1) of two networks in memory, under a mask each."""
    sums = Products.zeros(1, 1)
    for path in masks[0]:
        both = masks[0][path] & masks[1][path]
        one, two = (weights[path][both].astype(np.float64) for weights in (start, end))
        sums.dots += one @ two
        sums.row_squares += one @ one
        sums.column_squares += two @ two
    if sums.derive_differences().any():
        sums.differences[:] = sums.unit_differences[:] = 0
        for path in masks[0]:
            both = masks[0][path] & masks[1][path]
            one, two = (weights[path][both].astype(np.float64) for weights in (start, end))
            sums.add_differences((0, 0), one, two)
    return sums


# Of runs -------------------------------------------------------------------------------------


Keys = dict[FinishedRound, str]  # {round: its fingerprint}
LABELS = {
    "angular": "angular distance: 2 angle / pi, so 1 is 90 degrees",
    "cosine": "cosine distance: 1 - cosine",
    "euclidean": "Euclidean distance",
}
SUCCESSIVE: Columns = {
    **usual("round", "density", "test_accuracy"),
    "to_previous": Column("to r - 1", "{:.3f}", "distance to the round before"),
    "to_second_previous": Column("to r - 2", "{:.3f}", "distance to the second round before"),
    "to_init": Column("to init", "{:.3f}", "distance to the weights that the round started from"),
}


def between_rounds(
    run: RunDir, other: RunDir | None = None, *, metric: str = "angular", cache: Cache | None = None
) -> list[Row]:
    """Return rows of {round, 0, 1, …, init}: the distance of each round to each, and to its start.

    Raises:
        InputError: a file is missing or damaged, the runs do not go together, or the run has one
            round alone.
    """
    matrix = matrices(run, other, [metric], cache or Cache())[metric]
    return labelled(matrix, init=not other)


def successive(run: RunDir, *, metric: str = "angular", cache: Cache | None = None) -> list[Row]:
    """Return rows of {round, density, test_accuracy, to_previous, to_second_previous, to_init}."""
    values = with_initialization(*products_between(run, run, cache or Cache()), metric)
    return successive_of(metrics_with(run, "test_accuracy"), values)


def matrices(
    run: RunDir, other: RunDir | None, metrics: Sequence[str], cache: Cache
) -> dict[str, Array]:
    """Return {metric: (rounds, other's rounds), or (rounds + 1, rounds + 1) with init last}."""
    check_same_experiment([run, other])
    if not other and run.finished_rounds() < 2:
        raise InputError(f"{run.path}: expected two finished rounds or more. Found one.")
    pairs, starts = products_between(run, other or run, cache)
    return {
        metric: METRICS[metric](pairs) if other else with_initialization(pairs, starts, metric)
        for metric in metrics
    }


def products_between(run: RunDir, other: RunDir, cache: Cache) -> tuple[Products, Products]:
    """Return the Products of every round of a run with those of another, or with its own.

    Returns:
        (Products of (rounds, other's rounds), Products of (rounds,) with the initializations).
    """
    rows = {r: r.fingerprint() for r in finished(run)}
    columns = rows if other is run else {r: r.fingerprint() for r in finished(other)}

    def known(key: str, to: str) -> list[float] | None:
        return cache.find([key, to], _is_products)

    if new := _to_measure(rows, columns, known, other is run):
        _measure_new(new, columns, cache, other is run)
    pairs = [[known(key, to) for to in columns.values()] for key in rows.values()]
    starts = [known(key, "init") for key in rows.values()]
    return Products(*np.moveaxis(np.array(pairs), 2, 0)), Products(*np.array(starts).T)


def _to_measure(
    rows: Keys, columns: Keys, known: Callable[[str, str], list[float] | None], of_one_run: bool
) -> Keys:
    """Return the {FinishedRound: key} of rows with a pair that is not known, and no other gives."""
    needed = {
        r: ["init", key] if of_one_run else ["init", *columns.values()] for r, key in rows.items()
    }
    new = {r: key for r, key in rows.items() if any(known(key, to) is None for to in needed[r])}
    # A new round of one run is measured with all the others, and so they with it.
    old = [key for r, key in rows.items() if r not in new] if of_one_run else []
    return new | {
        r: key
        for r, key in rows.items()
        if key in old and any(known(key, to) is None for to in old)
    }


def _is_products(value: Any) -> bool:
    """Return whether a value of a cache is the five sums of a pair; older versions kept three."""
    return isinstance(value, list) and len(value) == 5 and all(map(is_number, value))


def _measure_new(rows: Keys, columns: Keys, cache: Cache, of_one_run: bool) -> None:
    """Put the sums of {FinishedRound: key} rows with columns into the cache."""
    check_files(list(dict.fromkeys([*rows, *columns])))
    size = sum(int(np.prod(shape)) for shape in next(iter(rows)).shapes().values())
    with console.progress(size, "weights") as bar:
        measured = products_of_rounds(
            list(rows), list(columns), lambda done: bar.update(done - bar.n)
        )
    pairs, starts = (np.stack(dataclasses.astuple(p), -1).tolist() for p in measured)
    for key, of_row, start in zip(rows.values(), pairs, starts, strict=True):
        cache.keep([key, "init"], start)
        for to, (dot, row_square, column_square, *differences) in zip(
            columns.values(), of_row, strict=True
        ):
            cache.keep([key, to], [dot, row_square, column_square, *differences])
            if of_one_run:
                cache.keep([to, key], [dot, column_square, row_square, *differences])
    cache.save()


def with_initialization(pairs: Products, starts: Products, metric: str) -> Array:
    """Return (rounds + 1, rounds + 1) distances: last those to what each round started from."""
    count = len(starts.dots)
    values = np.zeros((count + 1, count + 1))
    values[:count, :count] = METRICS[metric](pairs)
    values[:count, count] = values[count, :count] = METRICS[metric](starts)
    np.fill_diagonal(values, 0)
    return values


def _own_scale(values: Array, of_one_run: bool) -> tuple[float, float]:
    """Return (least, most) of a matrix, but for the zeros of each round to itself."""
    others = np.eye(*values.shape) == 0 if of_one_run else np.ones(values.shape, bool)
    some = values[others & np.isfinite(values)]
    return (float(some.min()), float(some.max())) if some.size else (0.0, 1.0)


def successive_of(rows: list[Row], values: Array) -> list[Row]:
    """Return the rows of `successive`, from the rows of metrics.csv and a matrix with init last."""
    found = []
    for metrics in rows[: len(values) - 1]:
        round = metrics["round"]
        row = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        row["to_previous"] = float(values[round, round - 1]) if round else nan
        row["to_second_previous"] = float(values[round, round - 2]) if round > 1 else nan
        found.append(row | {"to_init": float(values[round, -1])})
    return found


# Of a run {(metric, ""): matrix}; of several as replicates {(metric, "mean"): matrix, …}.
Value = dict[tuple[str, str], Array]


@dataclasses.dataclass
class Distances(Measure[Value]):
    """The distances in weight space between the networks of all rounds (Figs. 4, 9-11, 15-18, 21).

    python -m tools.distances --run_dir=runs/lenet
    """

    metric: str = flag(
        "angular",
        "angular: 2 angle / pi; cosine: 1 - cosine; euclidean: L2; each on the weights alive in "
        "both.",
        choices=(*METRICS, "all"),
    )

    name = "distances"
    columns = SUCCESSIVE
    other_help = "Run whose rounds are the columns. Default: those of --run_dir."
    title = "Distances between rounds"

    @property
    def metrics(self) -> list[str]:
        """The metrics that --metric names."""
        return [*METRICS] if self.metric == "all" else [self.metric]

    def measure(self, run: RunDir, cache: Cache) -> Value:
        found = matrices(run, self.other, self.metrics, cache)
        return {(metric, ""): matrix for metric, matrix in found.items()}

    def combine(self, values: list[Value]) -> Value:
        of_other = self.other.metrics() if self.other else None
        return {
            (metric, which): matrix
            for metric in self.metrics
            for which, matrix in over_matrices(
                [
                    without_collapsed(run.metrics(), of_run[metric, ""], of_other)
                    for run, of_run in zip(self.runs, values, strict=True)
                ],
                init=not self.other,
            ).items()
        }

    def findings(self, run: RunDir, value: Value, title: str) -> list[Findings]:
        """Return the table of each matrix; of a run's own and of means, pictures and curves."""
        return [
            self._of_matrix(
                run, *key, matrix, f"{key[1]} of {len(self.runs)} runs" if key[1] else title
            )
            for key, matrix in value.items()
        ]

    def _of_matrix(
        self, run: RunDir, metric: str, which: str, values: Array, title: str
    ) -> Findings:
        from lottery_tf.plots import figures

        other = self.other
        end = "".join(f"_{part}" for part in (metric, which) if part)
        end += f"_to_{other.path.name}" if other else ""
        tables, name = {end: labelled(values, init=not other)}, f"distances{end}"
        if which in ("min", "max"):
            return Findings(name, tables)
        top = 1.0 if metric != "euclidean" else float(np.nanmax(values)) or 1.0
        pictures = {}
        for of_scale, scale in (("", (0.0, top)), ("_own_scale", _own_scale(values, not other))):
            what = LABELS[metric]
            figure = figures.matrix(
                values, run, other, what=what, title=title, scale=scale, init=not other
            )
            last = run.finished_rounds() - 1
            pictures[f"distances/{name}{of_scale}"] = Picture(last, end + of_scale, figure)
        rows = [] if other else successive_of(metrics_with(run, "test_accuracy"), values)
        curves = {
            f"distances/{metric} {column}": (column, [(r["round"], r[column]) for r in rows])
            for column in (() if other else ("to_previous", "to_init"))
        }
        return Findings(name, tables, pictures, curves)

    def shown(self, values: list[Value], value: Value) -> list[str | Table]:
        """Return the distances to the rounds before and to the start, or to the same round."""
        lines: list[str | Table] = []
        if len(self.runs) > 1:
            lines.append(f"Mean of {len(self.runs)} runs; accuracies of {self.runs[0].path}:")
        matrix, metric = next(iter(value.values())), self.metrics[0]  # of replicates the mean
        if not self.other:
            columns: Columns = {"to_previous": (f"{metric} to r - 1", "{:.3f}")}
            rows = successive_of(metrics_with(self.runs[0], "test_accuracy"), matrix)
        else:
            title = f"{metric} to the same round of {self.other.path.name}"
            columns = {"distance": (title, "{:.3f}")}
            rows = [
                {"round": row["round"], "density": row["density"], "distance": matrix[i, i]}
                for i, row in enumerate(self.runs[0].metrics()[: min(matrix.shape)])
            ]
        lines.append((rows, SUCCESSIVE | columns))
        return lines + [f"({LABELS[metric]})" for metric in self.metrics]


MEASURE = Distances
