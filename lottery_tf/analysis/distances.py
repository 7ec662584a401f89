"""Distances in weight space between the rounds of a run, or of two runs, and the initialization.

All measures are on the weights alive in both networks, over all kernels as one vector (Maene et
al. 2021, section 3):

    angular    2 angle / pi: 0 for the same direction, 1 for orthogonal weights, 2 for opposite ones
    cosine     1 - cosine of the angle
    euclidean  L2 norm of the difference

All pairs together cost three matrix products. What these give of two networks that are nearly the
same is a small difference of large sums, with few correct digits. So the differences of such a pair
are summed weight by weight, in a second reading.

Networks that differ by a permutation of hidden units compute the same function. --align=permutation
permutes the units of the second one to lie nearest to the first, as `alignment` does it.

In the functions of runs `other` is a run whose rounds are the columns instead, without the
initialization.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import nan
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lottery_tf.analysis.cache import Cache, is_number, rows_of
from lottery_tf.analysis.measure import Column, Findings, Measure, Picture, Table, curve, usual
from lottery_tf.analysis.replicates import labelled, matrices_of_runs, of_runs
from lottery_tf.analysis.runs import check_same_experiment, metrics_with, network_of
from lottery_tf.config.fields import flag
from lottery_tf.errors import InputError
from lottery_tf.plots import Columns, Row
from lottery_tf.pruning import Array, Masks, Weights, streams
from lottery_tf.runs.rounds import FinishedRound, check_files, finished
from lottery_tf.runs.rundir import RunDir
from lottery_tf.terminal import console

if TYPE_CHECKING:
    import keras

BLOCK = 1 << 15  # weights of each network at once: what fits into a processor's cache
CLOSE = 1e-5  # 1 - cosine below which networks are compared weight by weight: 9 digits are left


@dataclasses.dataclass
class Products:
    """Sums over the weights alive in both networks of each pair, float64 (rows, columns)."""

    dots: Array  # of the products of their weights
    row_squares: Array  # of the squared weights of the one
    column_squares: Array  # of those of the other
    differences: Array  # of the squared differences of their weights
    unit_differences: Array  # of the networks divided by their norms; NaN where one is zero

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


def products_of_rounds(
    rows: Sequence[FinishedRound],
    columns: Sequence[FinishedRound],
    on_block: Callable[[int], object] = lambda weights: None,
) -> tuple[Products, Products]:
    """Return the Products of some rounds with others, and of each with what it started from.

    Reads kernel by kernel, in blocks, so that memory does not grow with the networks; rounds that
    are rows and columns are read once. All have the same kernels, as check_files makes sure.
    `on_block` is called with the number of weights done.

    They are (rows, columns) and (rows,), on the row's mask; InputError if a weight is not finite.
    """
    rounds = list(dict.fromkeys([*rows, *columns]))
    row_places, column_places = ([rounds.index(r) for r in group] for group in (rows, columns))
    all_by_all = row_places == column_places == list(range(len(rounds)))
    shapes = (5, len(rows), len(columns)), (5, len(rows))
    pairs, starts = (Products(*np.zeros(shape)) for shape in shapes)
    done = 0
    for path in rounds[0].shapes():
        for weights, alive, initial in _blocks(rounds, rows, path):
            (row, row_alive), (column, column_alive) = (
                (weights, alive) if all_by_all else (weights[places], alive[places])
                for places in (row_places, column_places)
            )
            # F G', (F * F) N' and M (G * G)' of the weights F, G and the masks M, N: two matrix
            # products, three if the columns are other networks, and no loop over pairs.
            pairs.dots += row @ column.T
            pairs.row_squares += row**2 @ column_alive.T
            if row is column:
                pairs.column_squares[:] = pairs.row_squares.T
            else:
                pairs.column_squares += row_alive @ (column**2).T
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
    """Yield float64 blocks of a kernel: masked weights, masks, and the initial weights of rows."""
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


def products_of_weights(start: Weights, end: Weights, masks: tuple[Masks, Masks]) -> Products:
    """Return the Products (1, 1) of two networks in memory, under a mask each."""
    sums = Products(*np.zeros((5, 1, 1)))

    def pairs() -> Iterator[Iterator[Array]]:
        for path in masks[0]:
            both = masks[0][path] & masks[1][path]
            yield (weights[path][both].astype(np.float64) for weights in (start, end))

    for one, two in pairs():
        sums.dots += one @ two
        sums.row_squares += one @ one
        sums.column_squares += two @ two
    if sums.derive_differences().any():
        sums.differences[:] = sums.unit_differences[:] = 0
        for one, two in pairs():
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

    InputError if the run has one round alone.
    """
    matrix = matrices(run, other, [metric], cache or Cache())[metric]
    return labelled(matrix, init=not other)


def successive(run: RunDir, *, metric: str = "angular", cache: Cache | None = None) -> list[Row]:
    """Return rows of {round, density, test_accuracy, to_previous, to_second_previous, to_init}."""
    values = with_initialization(*products_between(run, run, cache or Cache()), metric)
    return successive_of(metrics_with(run, "density", "test_accuracy"), values)


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
    """Return the Products of the rounds of a run with another's, or its own, and with their starts.

    They are (rounds, other's rounds) and (rounds,).
    """
    rows = {r: r.fingerprint() for r in finished(run)}
    columns = rows if other is run else {r: r.fingerprint() for r in finished(other)}

    def fits(value: Any) -> bool:  # as the five sums of a pair; older versions kept three
        return isinstance(value, list) and len(value) == 5 and all(map(is_number, value))

    def known(key: str, to: str) -> list[float] | None:
        return cache.find([key, to], fits)

    def lacking(some: Keys, to: Callable[[str], Iterable[str]]) -> Keys:
        return {r: key for r, key in some.items() if any(known(key, t) is None for t in to(key))}

    if other is not run:
        new = lacking(rows, lambda key: ["init", *columns.values()])
    else:  # new rounds are measured with all the others, and so they with them
        new = lacking(rows, lambda key: ["init", key])
        old = {r: key for r, key in rows.items() if r not in new}
        new |= lacking(old, lambda key: old.values())
    if new:
        check_files(list(dict.fromkeys([*new, *columns])))
        size = sum(map(math.prod, next(iter(new)).shapes().values()))
        with console.progress(size, "weights") as bar:
            measured = products_of_rounds(
                list(new), list(columns), lambda done: bar.update(done - bar.n)
            )
        sums, from_start = (np.stack(dataclasses.astuple(p), -1).tolist() for p in measured)
        for i, (key, start) in enumerate(zip(new.values(), from_start, strict=True)):
            cache.keep([key, "init"], start)
            for to, (dot, one, two, *differences) in zip(columns.values(), sums[i], strict=True):
                cache.keep([key, to], [dot, one, two, *differences])
                if other is run:
                    cache.keep([to, key], [dot, two, one, *differences])
        cache.save()
    pairs = [[known(key, to) for to in columns.values()] for key in rows.values()]
    starts = [known(key, "init") for key in rows.values()]
    return Products(*np.moveaxis(np.array(pairs), 2, 0)), Products(*np.array(starts).T)


def aligned(
    run: RunDir,
    other: RunDir | None = None,
    *,
    metric: str = "angular",
    cache: Cache | None = None,
    data_dir: str | None = None,
) -> list[Row]:
    """Return rows of {round, density, distance, permuted, chance}, to another run's same round.

    Without another run, they are to the round before. "permuted" is the distance once the units of
    the second network, with their masks, are permuted to lie nearest to the first, and "chance" is
    that of a second network whose weights and masks were shuffled within each kernel: what remains
    of it is what permuting finds between any two networks, as it also chooses which weights share a
    place. What the cache does not hold builds the network of the run, which imports TensorFlow.
    """
    check_same_experiment([run, other])
    rounds, metrics = finished(run), metrics_with(run, "density")
    pairs = list(zip(rounds[1:], rounds, strict=False))
    if other:
        pairs = list(zip(rounds, finished(other), strict=False))

    @functools.cache
    def network() -> "keras.Model":
        return network_of(run, data_dir=data_dir)

    def compute(one: FinishedRound, two: FinishedRound) -> list[Row]:
        built = network()  # it imports TensorFlow, without its messages
        from lottery_tf.analysis import alignment

        symmetries, (weights, masks) = alignment.find(built), (one.final(), one.masks())

        def distance(to: Weights, under: Masks, *, permute: bool = True) -> float:
            if permute:
                order = alignment.match(symmetries, weights, to)
                to, under = (alignment.permute(symmetries, of, order) for of in (to, under))
            products = products_of_weights(weights, to, (masks, under))
            return float(METRICS[metric](products)[0, 0])

        generator = streams.random_masks(run.config()["init_seed"], one.round, 0)
        to, under = two.final(), two.masks()
        shuffled, shuffled_masks = dict(to), {}
        for path, mask in under.items():
            places = generator.permutation(mask.size).reshape(mask.shape)
            shuffled[path], shuffled_masks[path] = to[path].flat[places], mask.flat[places]
        found = {"distance": distance(to, under, permute=False), "permuted": distance(to, under)}
        return [found | {"chance": distance(shuffled, shuffled_masks)}]

    rows, kept = [], cache or Cache()
    fits = rows_of("distance", "permuted", "chance", count=1)
    for one, two in console.progress(pairs, "pairs"):
        found = kept.reuse([one, two], ["permuted", metric], compute, one, two, fits=fits)
        rows.append(metrics[one.round] | found[0])
    return rows


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
        row = {name: metrics[name] for name in ("round", "density", "test_accuracy")}
        round = row["round"]
        for back, name in enumerate(("to_previous", "to_second_previous"), 1):
            row[name] = float(values[round, round - back]) if round >= back else nan
        found.append(row | {"to_init": float(values[round, -1])})
    return found


# Of a run {(metric, ""): matrix}; of several as replicates {(metric, "mean"): matrix, …}. Then what
# `aligned` gives, {metric: rows}, with --align.
Value = tuple[dict[tuple[str, str], Array], dict[str, list[Row]]]
ALIGNED: Columns = {
    **usual("round", "density"),
    "distance": ("distance", "{:.3f}"),
    "permuted": ("permuted", "{:.3f}"),
    "chance": ("by chance", "{:.3f}"),
}


@dataclasses.dataclass
class Distances(Measure[Value]):
    """Measures distances in weight space between all rounds (Figs. 4, 9-11, 15-18, 21).

    python -m tools.distances --run_dir=runs/lenet
    """

    metric: str = flag(
        "angular",
        "Distance to compute, on the weights alive in both networks. angular: 2 angle / pi. "
        "cosine: 1 - cosine. euclidean: L2.",
        choices=(*METRICS, "all"),
    )
    align: str = flag(
        "none",
        "permutation: first permute the units of the second network of each pair to lie nearest to "
        "the first, beside the plain distances and what chance gives.",
        choices=("none", "permutation"),
    )
    data_dir: str | None = flag(
        None,
        "Directory of the prepared datasets, for the network of --align. Default: the run's.",
        path=True,
    )

    name = "distances"
    columns = SUCCESSIVE
    other_help = "Run whose rounds form the columns. Default: those of --run_dir."
    title = "Distances between rounds"
    csv_files: ClassVar = {
        "distances_{metric}.csv": "the matrix of distances: one row and one column for each round",
        "distances_{metric}_permutation_to_{run}.csv": "one row for each round, to the same one of "
        "--other_run; distances_{metric}_permutation.csv without it, to the round before",
        "successive.csv": "of tools.successive: one row for each run and round",
    }
    csv_columns: ClassVar = {
        "distance": ("", "distance of the networks as they are"),
        "permuted": ("", "the same, once units are permuted to lie nearest"),
        "chance": ("", "the same, of a second network that is shuffled first"),
        "init": ("", "distance to the weights that the round started from"),
        "run": ("", "path of the run"),
    }
    picture_tags: ClassVar = {
        "distances/distances_{metric}": ("distances_{metric}.png", "the matrix of distances"),
        "distances/distances_{metric}_own_scale": (
            "distances_{metric}_own_scale.png",
            "the same, scaled from its least to its largest value",
        ),
        "distances/distances_{metric}_permutation": (
            "distances_{metric}_permutation.png",
            "distances with units permuted, against density",
        ),
    }

    @property
    def metrics(self) -> list[str]:
        """The metrics that --metric names."""
        return [*METRICS] if self.metric == "all" else [self.metric]

    def measure(self, run: RunDir, cache: Cache) -> Value:
        found = matrices(run, self.other, self.metrics, cache)
        tables = {
            metric: aligned(run, self.other, metric=metric, cache=cache, data_dir=self.data_dir)
            for metric in self.metrics
            if self.align != "none"
        }
        return {(metric, ""): matrix for metric, matrix in found.items()}, tables

    def combine(self, values: list[Value]) -> Value:
        found: dict[tuple[str, str], Array] = {}
        for metric in self.metrics:
            of_metric = [of_run[metric, ""] for of_run, _ in values]
            over = matrices_of_runs(self.runs, of_metric, self.other, init=not self.other)
            found |= {(metric, which): matrix for which, matrix in over.items()}
        tables = {
            metric: of_runs(self.runs, [of_run[metric] for _, of_run in values], ("round",))
            for metric in values[0][1]
        }
        return found, tables

    def findings(self, run: RunDir, value: Value, title: str) -> list[Findings]:
        """Return the table of each matrix; of a run's own and of means, pictures and curves."""
        of_several = f"of {len(self.runs)} runs"
        found, tables = value
        return [
            *(self._of_aligned(metric, rows, title) for metric, rows in tables.items()),
            *(
                self._of_matrix(
                    run, metric, which, matrix, f"{which} {of_several}" if which else title
                )
                for (metric, which), matrix in found.items()
            ),
        ]

    def _of_aligned(self, metric: str, rows: list[Row], title: str) -> Findings:
        """Return the table of aligned distances, and their curves against density."""
        from lottery_tf.plots import figures

        end = f"_{metric}_permutation" + (f"_to_{self.other.path.name}" if self.other else "")
        curves = {ALIGNED[name][0]: (rows, name) for name in ("distance", "permuted", "chance")}
        figure = figures.against_density(curves, what=LABELS[metric], title=title)
        name = f"distances{end}"
        return Findings(name, {end: rows}, {f"distances/{name}": Picture(figure, end)})

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
        pictures, labels = {}, {"what": LABELS[metric], "title": title}
        for of_scale, scale in (("", (0.0, top)), ("_own_scale", _own_scale(values, not other))):
            figure = figures.matrix(values, run, other, **labels, scale=scale, init=not other)
            pictures[f"distances/{name}{of_scale}"] = Picture(figure, end + of_scale)
        if other:
            return Findings(name, tables, pictures)
        rows = successive_of(metrics_with(run, "density", "test_accuracy"), values)
        columns = ("to_previous", "to_init")
        curves = {f"distances/{metric} {column}": curve(rows, column) for column in columns}
        return Findings(name, tables, pictures, curves)

    def shown(self, values: list[Value], value: Value) -> list[str | Table]:
        """Return the distances to the rounds before and to the start, or to the same round."""
        lines: list[str | Table] = []
        if len(self.runs) > 1:
            lines.append(f"Mean of {len(self.runs)} runs; accuracies of {self.runs[0].path}:")
        found, tables = value
        matrix, metric = next(iter(found.values())), self.metrics[0]  # of replicates the mean
        if not self.other:
            columns: Columns = {"to_previous": (f"{metric} to r - 1", "{:.3f}")}
            rows = successive_of(metrics_with(self.runs[0], "density", "test_accuracy"), matrix)
        else:
            title = f"{metric} to the same round of {self.other.path.name}"
            columns = {"distance": (title, "{:.3f}")}
            pairs = zip(metrics_with(self.runs[0], "density"), matrix.diagonal(), strict=False)
            rows = [row | {"distance": distance} for row, distance in pairs]
        lines.append((rows, SUCCESSIVE | columns))
        lines += [f"({LABELS[metric]})" for metric in self.metrics]
        for metric, rows in tables.items():
            to = f"the same round of {self.other.path.name}" if self.other else "the round before"
            lines += [f"{metric} to {to}, with units permuted:", (rows, ALIGNED)]
        return lines


MEASURE = Distances
