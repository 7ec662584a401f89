"""The command of lottery_tf/analysis/predictions.py."""

from . import shared

if __name__ == "__main__":
    shared.run_measure("predictions")
