"""What a round starts from. NumPy only: weights and masks are {variable path: array}."""

from lottery_tf.method.pruning import apply_masks


def init(initialization, masks, round):
    """The initialization of round 0 under the round's masks: the lottery ticket."""
    return apply_masks(initialization(0), masks)


def reinit(initialization, masks, round):
    """A fresh initialization in every round, under the round's masks: the control."""
    return apply_masks(initialization(round), masks)


# A reset is called with `initialization`, a function of the round that gives the fresh weights
# {variable path: array} of that round (those of round 0 are W_0), the masks, and the round.
RESETS = {"init": init, "reinit": reinit}
