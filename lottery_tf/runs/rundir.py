"""The files of a run: written aside, then renamed, with a checksum. NumPy and stdlib only."""

import contextlib
import datetime
import functools
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, TypeVar

import numpy as np

from lottery_tf.config import record
from lottery_tf.config.record import differences
from lottery_tf.errors import InputError
from lottery_tf.plots import Row
from lottery_tf.pruning import Array, Masks, Weights
from lottery_tf.runs import contents, draws, files

Parsed = TypeVar("Parsed")
METRICS, FINAL = "metrics.csv", "final.npz"


class RunDir:
    """A run directory: what it holds, and how a finished round gets into it.

    A round directory exists only whole: a killed round leaves nothing that counts as finished.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)

    # Opening a run -------------------------------------------------------------------------

    def check(self, config: Any) -> None:
        """Raise InputError if `config` cannot run here; write nothing."""
        for part in (self.path, *self.path.parents):
            if part.exists():
                if not part.is_dir():
                    raise InputError(f"--run_dir={self.path}: {part} is a file, not a directory.")
                if not os.access(part, os.W_OK | os.X_OK):
                    raise InputError(f"--run_dir={self.path}: cannot write into {part}.")
                break
        if (self.path / "config.json").exists():
            self.refuse_other_flags(config)
            with contextlib.ExitStack() as stack:
                # Nobody has held the run, or can from here, if there is no such file.
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    file = stack.enter_context(open(self.path / ".lock", "r+"))
                    self._take(file, tries=11)  # another process may only be checking, too
                self.finished_rounds()
        elif self.path.is_dir() and any(self.path.glob("round_*")):
            raise InputError(f"{self.path} has rounds but no config.json; use another --run_dir.")

    def _take(self, file: IO, tries: int = 1) -> None:
        """Lock an open .lock; InputError if another process holds it."""
        for _ in range(tries - 1):
            if files.lock(file):
                return
            time.sleep(0.1)
        if not files.lock(file):
            file.seek(0)
            raise InputError(
                f"{self.path} is in use by process {file.read().strip() or 'unknown'}. Wait "
                "for it, stop it, or use another --run_dir."
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against other processes; the kernel lets go of it when this one dies."""
        try:
            file = open(self.path / ".lock", "a+")  # noqa: SIM115 (its error is told)
        except OSError as error:
            raise InputError(f"Cannot lock {self.path}: .lock: {error.strerror}.") from None
        with file:
            self._take(file)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    @contextlib.contextmanager
    def open(self, config: Any) -> Iterator[int]:
        """Make the directory or continue it, locked; yield the number of finished rounds."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--run_dir={self.path}: {error.strerror}.") from None
        with self.lock():
            if (self.path / "config.json").exists():
                self.refuse_other_flags(config)
                for name, (old, new) in differences(self.config(), config, how=True).items():
                    self.log(f"--{name} was {old}, is now {new}")
            else:
                draws.record(self.path, config.criterion)
            files.write_text(self.path / "config.json", config.to_json())
            if flags := config.to_flags():
                files.write_text(self.path / "flags.cfg", flags)
            files.remove_leftovers(self.path)
            files.remove_leftovers(self.path / "checkpoints")
            for shared in ("analysis", "rewind_points"):  # with tools
                files.remove_leftovers(self.path / shared, held=False)
            finished = self.finished_rounds()
            self.check_rounds(read=2)
            self._write_metrics()  # a kill may have fallen between the round and its row
            yield finished

    def check_is_there(self) -> None:
        """Raise InputError if the directory was removed since it was opened."""
        if not (self.path / "config.json").exists():
            raise InputError(f"Cannot save into {self.path}: it was removed or renamed.")

    def log(self, line: str) -> None:
        """Add a line with the time to log.txt, where the disk lets it."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        log = self.path / "log.txt"  # a path in the line may hold what no encoding does
        with contextlib.suppress(OSError), open(log, "a", errors="backslashreplace") as file:
            file.write(f"{now} {line}\n")

    def refuse_other_flags(self, config: Any) -> None:
        """Raise InputError if the run, which is there, was made with other experiment flags."""
        recorded = self.config()
        other = differences(recorded, config, how=False)
        if recorded["rounds"] > config.rounds:
            other["rounds"] = (recorded["rounds"], config.rounds)
        if other:
            lines = [f"  --{name}: {old} there, {new} now" for name, (old, new) in other.items()]
            raise InputError(
                f"{self.path} was made by another experiment; use another --run_dir, or its "
                "flags:\n" + "\n".join(lines)
            )

    # Reading -------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return {flag: value} of config.json, and the defaults of flags that it does not know."""
        try:
            return record.read((path := self.path / "config.json").read_text("utf-8-sig"))
        except OSError as error:
            raise InputError(f"{self.path} is not a run: {path}: {error.strerror}.") from None
        except ValueError as error:  # what it holds, or no text at all
            raise InputError(f"{path} is damaged: {error}") from None

    def finished_rounds(self) -> int:
        """Return the number of finished rounds; InputError if one is missing among them."""
        rounds = []
        for path in self.path.glob("round_*"):
            if match := re.fullmatch(r"round_([0-9]+)", path.name):
                rounds.append(int(match[1]))
                if path != self.round_path(rounds[-1]) or not path.is_dir():
                    raise InputError(
                        f"{path} is no round: those are directories called "
                        f"{self.round_path(rounds[-1]).name}. Rename or remove it."
                    )
        rounds.sort()
        if rounds != list(range(len(rounds))):
            missing = min(set(range(rounds[-1])) - set(rounds))
            raise InputError(
                f"{self.round_path(missing)} is missing, though later rounds are there. Restore "
                "it, or remove the later ones to train them again."
            )
        return len(rounds)

    def check_rounds(self, rounds: Iterable[int] | None = None, *, read: int | None = None) -> None:
        """Raise InputError if a round is not of this run, though its checksums are right.

        Its network has other variables than that of the round before, or its masks revive a weight
        that was pruned. Only masks of --masks_from, or that are pruned anew from the dense network
        in each round (--prune_at=init, train, dynamic), need not lie in one another.

        Args:
            rounds: their numbers, ascending. Default: all finished ones.
            read: of how many at the end the masks are read, to see that they lie in one another;
                of those before only the headers of the files. Default: all.
        """
        flags = self.config() if (self.path / "config.json").exists() else {}
        nested = flags.get("prune_at", "round") == "round" and not flags.get("masks_from")
        earlier, before, layout = 0, None, None
        numbers = list(range(self.finished_rounds()) if rounds is None else rounds)
        unread = 0 if read is None else max(0, len(numbers) - read)
        for place, round in enumerate(numbers):
            masks = self.masks(round) if place >= unread else None
            after = [contents.shapes(self.round_path(round) / n) for n in (contents.MASKS, FINAL)]
            wrong = ""
            if layout is not None and after[0] != layout[0]:
                wrong = "has masks of other kernels than"
            elif layout is not None and after[1] != layout[1]:
                wrong = "has weights of other names or shapes than"
            elif nested and masks and before and (path := contents.revived(masks, before)):
                wrong = f"has weights of {path} that were pruned in"
            if wrong:
                found = f"{self.round_path(round)} {wrong} {self.round_path(earlier).name}"
                raise self._unusable(round, f"{found}: it is no round of this run.")
            earlier, before, layout = round, masks, after

    def round_path(self, round: int) -> pathlib.Path:
        """Return the directory of a round."""
        return self.path / f"round_{round:02d}"

    def masks(self, round: int) -> Masks:
        """Return {kernel path: bool array} that the round trained under."""
        return self._load(round, "masks.npz")

    def next_masks(self, round: int) -> Masks | None:
        """Return {kernel path: bool array} that the pruning after the round left.

        None where the masks of the next round come from elsewhere, or an older version made it.
        """
        try:
            saved = contents.NEXT_MASKS in files.names(self.round_path(round))
        except InputError as error:
            raise self._unusable(round, error) from None
        if not saved:
            return None
        masks = self.masks(round)
        parse = functools.partial(contents.parse_next_masks, masks=masks)
        return self._parse(round, contents.NEXT_MASKS, parse)

    def initial(self, round: int) -> Weights:
        """Return {variable path: float32 array}: where the round started; of round 0, W_0."""
        return self._load(round, "initial.npz")

    def final(self, round: int) -> Weights:
        """Return {variable path: float32 array}: where the round ended."""
        return self._load(round, "final.npz")

    def history(self, round: int) -> list[Row]:
        """Return one {column: number} per epoch of the round."""
        return self._parse(round, "history.csv", files.parse_csv)

    def squared_gradients(self, round: int) -> Weights:
        """Return {kernel path: float32 array}: mean squared gradients at the end of the round."""
        return self._load(round, "saliency.npz")

    def table(self, round: int, name: str) -> list[Row]:
        """Return one {column: number or text} per row of a further CSV file of the round."""
        return self._parse(round, name, files.parse_csv)

    def metrics(self) -> list[Row]:
        """Return one {column: number} per finished round."""
        return [self.metrics_of(round) for round in range(self.finished_rounds())]

    def metrics_of(self, round: int) -> Row:
        """Return the row of a finished round."""
        parse = functools.partial(contents.parse_metrics, round=round)
        return self._parse(round, METRICS, parse)

    def _load(self, round: int, name: str) -> dict[str, Array]:
        parse = functools.partial(contents.parse_arrays, path=self.round_path(round) / name)
        return self._parse(round, name, parse)

    def _parse(self, round: int, name: str, parse: Callable[[bytes], Parsed]) -> Parsed:
        """parse(the bytes of a round's file); what it has against them names the file."""
        path = self.round_path(round) / name
        try:
            content = files.read_checked(path)
        except InputError as error:
            raise self._unusable(round, error) from None
        try:
            return parse(content)
        except InputError as error:
            raise self._unusable(round, f"{path} is no file of a round: {error}") from None

    def _unusable(self, round: int, error: object) -> InputError:
        """Return the InputError of a round's file that cannot be used."""
        return InputError(
            f"{error} Restore it, or remove {self.round_path(round)} and all later rounds to train "
            "them again."
        )

    # Writing -------------------------------------------------------------------------------

    def save_round(
        self,
        round: int,
        *,
        masks: Masks,
        initial: Weights,
        final: Weights,
        history: list[Row],
        metrics: Row,
        tables: dict[str, list[Row]] | None = None,
        squared_gradients: Weights | None = None,
        next_masks: Masks | None = None,
    ) -> None:
        """Write a finished round, all of it or nothing, and its row of metrics.csv.

        Args:
            masks, initial, final, history: as the readers above give them.
            metrics: {column: value} of the round.
            tables: {file name: rows} of further CSV files.
            squared_gradients: {kernel path: array}, if the run is repelled with them.
            next_masks: {kernel path: bool array} that the pruning after the round left, if any.
        """
        for path, mask in masks.items():
            if np.any(final[path][~mask]):
                raise RuntimeError(f"Pruned weights of {path} are not zero.")
        written = {
            "masks.npz": files.format_npz(masks),
            "initial.npz": files.format_npz(initial),
            "final.npz": files.format_npz(final),
            "history.csv": files.format_csv(history),
            METRICS: files.format_csv([metrics]),
        } | {name: files.format_csv(rows) for name, rows in (tables or {}).items()}
        if squared_gradients:
            written["saliency.npz"] = files.format_npz(squared_gradients)
        if next_masks:
            written[contents.NEXT_MASKS] = contents.format_next_masks(masks, next_masks)
        try:
            self.check_is_there()
            files.write_directory(self.round_path(round), written)
            self._write_metrics()
        except (InputError, OSError) as error:
            reason: Exception = error
            try:
                self.check_is_there()  # it may be gone since
            except InputError as gone:
                reason = gone
            raise InputError(
                f"{reason} The rounds before are kept: free the space, or restore the directory, "
                "and launch again."
            ) from None

    def _write_metrics(self) -> None:
        if rows := self.metrics():
            files.write_text(self.path / METRICS, files.format_csv(rows).decode())
