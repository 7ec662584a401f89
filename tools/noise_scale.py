"""The command of lottery_tf/analysis/noise_scale.py."""

from . import shared

if __name__ == "__main__":
    shared.run_measure("noise_scale")
