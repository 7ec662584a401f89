"""The command of lottery_tf/analysis/distances.py."""

from . import shared

if __name__ == "__main__":
    shared.run_measure("distances")
