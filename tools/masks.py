"""Overlaps of masks between rounds and runs, and what is left of each layer.

python -m tools.masks --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from absl import flags

from lottery_tf.analysis import rounds, tool
from lottery_tf.config import command

OTHER_RUN = flags.DEFINE_string(
    "other_run",
    None,
    "Run whose masks are the columns of the overlap. Default: those of --run_dir.",
)


def main(_):
    runs = tool.open_runs()
    (other,) = rounds.open_runs([OTHER_RUN.value]) if OTHER_RUN.value else (None,)
    rounds.check_same_experiment([*runs, other] if other else runs)
    from lottery_tf.analysis import masks

    masks.report(runs, other)


if __name__ == "__main__":
    command.run(main)
