"""What the chief of a run shows and saves of it."""

import time

from lottery_tf.errors import InputError
from lottery_tf.method import pruning
from lottery_tf.output.summaries import Summaries
from lottery_tf.repulsion.optima import describe
from lottery_tf.store import checkpoints
from lottery_tf.terminal import console

REPULSION = ("repel_loss", "cosine_nearest", "cosine_mean")
LAST_EPOCH = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", *REPULSION)


class Recorder:
    """The console, TensorBoard, checkpoints and rounds of an open run directory.

    Args:
        run: an open RunDir.
        config: Config.
        engine: Engine.
    """

    def __init__(self, run, config, engine):
        self.run, self.config, self.engine = run, config, engine
        self.summaries = Summaries(run.path)
        self.progress = None
        self.saved = time.perf_counter()

    def report(self, line):
        """Tells the user, and log.txt."""
        self.run.log(line)
        console.say(line)

    def start_round(self, round, checkpoint):
        """Begins a round, or goes on with one at a checkpoint: (Moment, state)."""
        self.round, self.began, history = round, time.perf_counter(), []
        if checkpoint:
            moment, _ = checkpoint
            history = moment.history
            self.began -= sum(row["seconds"] for row in history) + moment.seconds
            self.run.log(f"round {round} continues at step {moment.step}")
        self.progress = console.Progress(round, self.config.rounds, self.engine.steps)
        self.summaries.start_round(round)
        for row in history:
            self.summaries.add_epoch(row)

    def show(self, moment):
        """Moves the progress bar."""
        steps = self.engine.steps_per_epoch
        self.progress.update(moment.step, steps, moment.loss, moment.accuracy)

    def is_checkpoint_due(self, moment):
        """Whether the last one is too old; at the end of a round there is no need of one."""
        age = time.perf_counter() - self.saved
        minutes = self.config.checkpoint_minutes
        return 0 < minutes <= age / 60 and moment.step < self.engine.steps

    def save_checkpoint(self, moment, state):
        """Saves a checkpoint; one that cannot be saved is reported, and the training goes on."""
        try:
            self.run.check_is_there()
            checkpoints.save(self.run.path, self.round, moment, state)
        except InputError as error:
            self.report(f"No checkpoint at step {moment.step}: {error}")
        self.saved = time.perf_counter()

    def close_round(self):
        """Removes the progress bar, whether the round is finished or not."""
        self.progress.close()

    def finish_round(self, masks, start, final, history, threshold, saliency):
        """Saves a round and prints its row.

        Args:
            masks, final: {path: array}, as RunDir.save_round takes them.
            start: one_round.Start.
            history: one {column: number} per epoch.
            threshold: pruning.Threshold of the pruning after the round.
            saliency: {kernel path: array}, or None.
        """
        metrics = {
            "round": self.round,
            "density": pruning.density(masks),
            "threshold": threshold.removed,
            **{name: history[-1][name] for name in LAST_EPOCH if name in history[-1]},
            "seconds": time.perf_counter() - self.began,
            "train_seconds": sum(row["train_seconds"] for row in history),
            "compile_seconds": self.engine.compile_seconds,
            "smallest_kept": threshold.kept,
            "remaining": pruning.remaining(masks),
        }
        self.summaries.finish_round(metrics, final, masks)
        self.run.save_round(
            self.round,
            masks=masks,
            initial=start.initial,
            final=final,
            history=history,
            metrics=metrics,
            saliency=saliency,
            tables={"repulsion.csv": describe(final, start.optima)} if start.optima else {},
        )
        checkpoints.forget(self.run.path)
        self.saved = time.perf_counter()
        console.print_row(metrics)
