"""Pruning thresholds against density, of one run or of two beside one another (Fig. 6).

python -m tools.thresholds --run_dir=runs/lenet --other_run=runs/lenet_reset=reinit
"""

from lottery_tf.analysis import tool
from lottery_tf.config import command

tool.define_groups()


def main(_):
    groups = tool.open_groups()
    from lottery_tf.analysis import thresholds

    thresholds.report(groups)


if __name__ == "__main__":
    command.run(main)
