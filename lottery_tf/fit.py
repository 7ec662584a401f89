"""The public place of `prune`, `rounds` and `summary`: pruning around the user's own training."""

from lottery_tf.loop.callbacks import RewindPoint
from lottery_tf.loop.prune import prune
from lottery_tf.loop.rounds import Round, rounds
from lottery_tf.loop.summary import summary

__all__ = ["RewindPoint", "Round", "prune", "rounds", "summary"]
