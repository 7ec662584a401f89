"""The command of lottery_tf/analysis/pixels.py."""

from . import shared

if __name__ == "__main__":
    shared.run_measure("pixels")
