"""The public place of `prune`, `rounds` and `summary`: pruning around the user's own training."""

from lottery_tf.loop.pruning import prune
from lottery_tf.loop.rounds import rounds
from lottery_tf.loop.summary import summary
from lottery_tf.loop.turns import Round
from lottery_tf.loop.watching import RewindPoint

__all__ = ["RewindPoint", "Round", "prune", "rounds", "summary"]
