"""Every stream of random numbers of a run, by its key. NumPy only.

| stream | key | what it draws |
|---|---|---|
| initialization | init_seed, round | a seed for Keras, which draws the fresh weights of a round |
| order | data_seed, round, epoch | the order of the examples |
| augmentation | data_seed, round, epoch, 1 | the augmentation of every example |
| dropout | data_seed, round, first step, 2, layer | the state of a dropout layer |
| of a worker | the key of the noise, 3, worker | where each worker reads files of its own |
| random masks | init_seed, round, replicate, 4 | the control of tools.stability |
| old random scores | init_seed, round, 5 | those of runs that older versions began |
| shuffled weights | init_seed, round, 6 | the order of the values of --reset=shuffle |
| shuffled masks | init_seed, 0, 7 | the places of --shuffle_masks, the same in every round |
| held out | 0, 0, 0, 8 | the examples that --test_fraction keeps from training, for all seeds |
| random scores | init_seed; spawn key 9, round | the scores of --criterion=random |
| validation | 0; spawn key 10 | the examples that --validation_fraction holds out, for all seeds |
| growth | init_seed; spawn key 11, round, step | the scores by which weights grow at random |
| examples of growth | seed; spawn key 12, round, step | by whose gradient weights grow in `fit` |
| nudged weight | init_seed; spawn key 13, round, number | which weight a copy starts with changed |

A key names its stream for ever: a run of an older version repeats bit for bit. A new stream takes
the next number and comes from `stream`, whose spawn keys no other stream has.

The streams up to 8 are lists of numbers. NumPy reads missing numbers at the end of a list as 0, so
some of them are the same where init_seed and data_seed are: initialization and the order of epoch
0, of which one seeds Keras and the other shuffles; and the old random scores, shuffled weights and
shuffled masks are the order of epoch 5, of epoch 6, and of epoch 7 of round 0. A number of 2**32
or more counts as two numbers, so seeds are bounded.
"""

import dataclasses

import numpy as np

from lottery_tf.pruning import Masks, Weights

SEEDS = 2**32  # a seed is below it

AUGMENTATION, DROPOUT, WORKER, RANDOM_MASKS = 1, 2, 3, 4
OLD_RANDOM_SCORES, SHUFFLED_WEIGHTS, SHUFFLED_MASKS, HELD_OUT = 5, 6, 7, 8
RANDOM_SCORES, VALIDATION, GROWTH, GROWTH_EXAMPLES, NUDGED = 9, 10, 11, 12, 13


def stream(number: int, seed: int, *key: int) -> "np.random.Generator":
    """Return the generator of a stream that no other number, seed or key has.

    Args:
        number: that of the stream, 9 or more.
        seed: below SEEDS.
        key: whatever else tells draws of the stream apart, as round and epoch.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, *key)))


def initialization_seed(init_seed: int, round: int) -> int:
    """Return the seed, below 2**32, of the fresh initialization of a round; of round 0, of W_0."""
    return int(np.random.SeedSequence([init_seed, round]).generate_state(1)[0])


def random_masks(init_seed: int, round: int, replicate: int) -> "np.random.Generator":
    """Return the generator of the random masks that a round's are compared with."""
    return np.random.default_rng([init_seed, round, replicate, RANDOM_MASKS])


def uniform(init_seed: int, round: int, masks: Masks) -> Weights:
    """Return {kernel path: random numbers in [0, 1), float64, of the mask's shape}."""
    return _uniform(stream(RANDOM_SCORES, init_seed, round), masks)


def growth(init_seed: int, round: int, step: int, masks: Masks) -> Weights:
    """Return {kernel path: random numbers in [0, 1)} by which weights grow at a step of a round."""
    return _uniform(stream(GROWTH, init_seed, round, step), masks)


def growth_examples(seed: int, round: int, step: int) -> np.random.Generator:
    """Return the generator of the examples whose gradient says which weights grow at a step."""
    return stream(GROWTH_EXAMPLES, seed, round, step)


def old_uniform(init_seed: int, round: int, masks: Masks) -> Weights:
    """Return `uniform` of a run begun when these were the draws of the order of epoch 5."""
    return _uniform(np.random.default_rng([init_seed, round, OLD_RANDOM_SCORES]), masks)


def _uniform(generator: "np.random.Generator", masks: Masks) -> Weights:
    return {path: np.asarray(generator.random(mask.shape)) for path, mask in masks.items()}


def shuffled_weights(init_seed: int, round: int) -> "np.random.Generator":
    """Return the generator of the order in which a round's start is shuffled."""
    return np.random.default_rng([init_seed, round, SHUFFLED_WEIGHTS])


def shuffled_masks(init_seed: int) -> "np.random.Generator":
    """Return the generator of the places that masks are shuffled to."""
    return np.random.default_rng([init_seed, 0, SHUFFLED_MASKS])


def held_out() -> "np.random.Generator":
    """Return the generator of what is held out of a training split, the same for every seed."""
    return np.random.default_rng([0, 0, 0, HELD_OUT])


def validation() -> "np.random.Generator":
    """Return the generator of the examples that --validation_fraction holds out, for every seed."""
    return stream(VALIDATION, 0)


@dataclasses.dataclass(frozen=True)
class Noise:
    """The SGD noise u of one training: it seeds the order of the data, augmentation and dropout.

    Two trainings with equal noise see the same examples in the same order, augmented alike. If they
    start at the same step, dropout drops the same units.
    """

    data_seed: int
    round: int
    worker: int = 0  # where each worker has an order of its own

    def order(self, epoch: int) -> "np.random.Generator":
        """Return the generator of the order of an epoch, which counts from 0."""
        return self._generator(epoch)

    def augmentation(self, epoch: int) -> "np.random.Generator":
        """Return the generator of the augmentation of an epoch."""
        return self._generator(epoch, AUGMENTATION)

    def dropout(self, first: int, layer: int) -> "np.random.Generator":
        """Return the generator of a dropout layer's state in a training from step `first`."""
        return self._generator(first, DROPOUT, layer)

    def of_worker(self, worker: int) -> "Noise":
        """Return the noise of a worker that reads files of its own."""
        return dataclasses.replace(self, worker=worker)

    def _generator(self, *key: int) -> "np.random.Generator":
        worker = [WORKER, self.worker] if self.worker else []
        return np.random.default_rng([self.data_seed, self.round, *key, *worker])
