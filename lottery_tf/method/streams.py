"""Every stream of random numbers of a run. NumPy only."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Noise:
    """The SGD noise u of one training: what (data seed, round) stand for.

    Two trainings with equal noise see the same examples in the same order.
    """

    data_seed: int
    round: int
    worker: int = 0  # where each worker has an order of its own

    def generator(self, *key):
        """A random generator for one use, named by integers such as the epoch."""
        worker = [3, self.worker] if self.worker else []  # 1, 2: other uses of the noise
        return np.random.default_rng([self.data_seed, self.round, *key, *worker])

    def of_worker(self, worker):
        """The noise of a worker that reads files of its own."""
        return dataclasses.replace(self, worker=worker)
