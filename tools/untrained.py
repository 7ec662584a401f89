"""The command of lottery_tf/analysis/untrained.py."""

from . import shared

if __name__ == "__main__":
    shared.run_measure("untrained")
