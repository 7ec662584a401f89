"""The former place of `lottery_tf.masked`, `prune` and `rounds`; saved models ask for it."""

from lottery_tf.fit import Round, prune, rounds
from lottery_tf.masking import MaskedGroupQueryAttention, MaskedMultiHeadAttention, masked

__all__ = [
    "MaskedGroupQueryAttention",
    "MaskedMultiHeadAttention",
    "Round",
    "masked",
    "prune",
    "rounds",
]
