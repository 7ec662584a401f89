"""The command of lottery_tf/analysis/curvature.py."""

from . import shared

if __name__ == "__main__":
    shared.run_measure("curvature")
