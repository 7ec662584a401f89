"""The public place of `prune`, `rounds` and `summary`: pruning around the user's own training."""

from lottery_tf.fitting.pruning import prune
from lottery_tf.fitting.rounds import rounds
from lottery_tf.fitting.summary import summary
from lottery_tf.fitting.turns import Round
from lottery_tf.fitting.watching import RewindPoint

__all__ = ["RewindPoint", "Round", "prune", "rounds", "summary"]
