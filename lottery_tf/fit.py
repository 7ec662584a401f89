"""The public place of what prunes around the user's own training, and inside it."""

from lottery_tf.loop.callbacks import RewindPoint
from lottery_tf.loop.gradual import GradualPruning
from lottery_tf.loop.prune import prune
from lottery_tf.loop.rounds import Round, rounds
from lottery_tf.loop.sparse_training import SparseTraining
from lottery_tf.loop.summary import summary

__all__ = ["GradualPruning", "RewindPoint", "Round", "SparseTraining", "prune", "rounds", "summary"]
