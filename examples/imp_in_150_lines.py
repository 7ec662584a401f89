"""Find a lottery ticket with NumPy and Keras alone: the whole method on one page, to teach it.

    python examples/imp_in_150_lines.py             # MNIST, which Keras downloads
    python examples/imp_in_150_lines.py digits.npz  # own arrays, named as in Keras's mnist.npz

Iterative magnitude pruning (Frankle & Carbin 2019) repeats three steps: train the network; remove
the smallest of its weights; set the others back to their values before training. After r rounds of
which each removes a fifth, 0.8^r of the weights are left. They are a *winning ticket* if they train
to the accuracy of the dense network. The control is the *reinit*: the same rounds, each of which
begins with fresh random weights. The last two columns of the table show both.

The file imports nothing of lottery_tf, and draws what it draws from the same streams of random
numbers. So it is a second opinion: its masks and accuracies are those of `python -m lottery_tf.imp
--flagfile=flags/digits.cfg`, bit for bit where the compiler adds in the same order.
"""

import argparse

import keras
import numpy as np

SEED = 0
BATCH, LEARNING_RATE = 32, 1.2e-3
FRACTION = 0.2  # of the weights that are left, removed after each round


def load(source):
    """Return ((train images, labels), (test images, labels)), images of mean 0 and variance 1."""
    if source == "mnist":
        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    else:
        with np.load(source) as file:
            x, y, x_test, y_test = (file[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    pixels = x / 255
    mean, std = np.float32(pixels.mean().round(4)), np.float32(pixels.std().round(4))

    def normalised(images):
        return ((images.astype(np.float32) / np.float32(255) - mean) / std)[..., np.newaxis]

    return (normalised(x), y.astype(np.int32)), (normalised(x_test), y_test.astype(np.int32))


class Masked(keras.constraints.Constraint):
    """Sets the pruned weights of a kernel to zero after every update."""

    def __init__(self, shape):
        self.mask = keras.Variable(np.ones(shape, np.float32), trainable=False)

    def __call__(self, kernel):
        return kernel * self.mask


def lenet(shape, seed):
    """Return LeNet-300-100; its initial weights are a function of the seed."""
    keras.utils.set_random_seed(seed)
    uniform = {"scale": 2.0, "mode": "fan_in", "distribution": "uniform"}  # He et al. 2015

    def dense(units, activation=None):
        initializer = keras.initializers.VarianceScaling(**uniform)
        return keras.layers.Dense(units, activation, kernel_initializer=initializer)

    layers = [keras.layers.Flatten(), dense(300, "relu"), dense(100, "relu"), dense(10)]
    network = keras.Sequential([keras.Input(shape), *layers])
    for layer in network.layers[1:]:
        layer.kernel.constraint = Masked(layer.kernel.shape)
    network.compile(
        keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-8),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    return network


def initial_weights(shape, round):
    """Return the weights of a fresh network: [kernel, bias, kernel, bias, kernel, bias]."""
    seed = np.random.SeedSequence([SEED, round]).generate_state(1)[0]
    return lenet(shape, int(seed)).get_weights()


def train(network, start, masks, data, epochs, round):
    """Train the weights `start` under the masks; return the trained weights."""
    network.set_weights(start)
    for layer, mask in zip(network.layers[1:], masks, strict=True):
        layer.kernel.constraint.mask.assign(mask.astype(np.float32))
        layer.kernel.assign(layer.kernel * mask)
    for variable in network.optimizer.variables:  # Adam begins anew
        variable.assign(np.zeros(variable.shape, variable.dtype))
    network.optimizer.learning_rate = LEARNING_RATE
    images, labels = data
    for epoch in range(epochs):
        order = np.random.default_rng([SEED, round, epoch]).permutation(len(images))
        order = order[: len(images) // BATCH * BATCH]  # full batches
        network.fit(images[order], labels[order], BATCH, 1, verbose=0, shuffle=False)
    return network.get_weights()


def prune(weights, masks):
    """Return masks without the FRACTION of the weights left that have the smallest magnitudes.

    The weights of all layers compete. Biases stay.
    """
    kernels = zip(weights[::2], masks, strict=True)
    magnitudes = np.concatenate([np.abs(kernel[mask]) for kernel, mask in kernels])
    stays = np.ones(magnitudes.size, bool)
    stays[np.argsort(magnitudes, kind="stable")[: round(FRACTION * stays.size)]] = False
    ends, pruned = np.cumsum([mask.sum() for mask in masks]), [mask.copy() for mask in masks]
    for mask, part in zip(pruned, np.split(stays, ends[:-1]), strict=True):
        mask[mask] = part
    return pruned


def accuracy(network, weights, data):
    """Return the part of the examples that a network with these weights classifies correctly."""
    network.set_weights(weights)
    logits = network.predict(data[0], batch_size=len(data[0]), verbose=0)
    return np.mean(logits.argmax(1) == data[1])


def imp(data, test, rounds, epochs, reinit=False):
    """Yield (round, masks, test accuracy) of each round, of the ticket or of the reinit."""
    shape = data[0].shape[1:]
    start, network = initial_weights(shape, 0), lenet(shape, 0)
    masks = [np.ones(kernel.shape, bool) for kernel in start[::2]]
    for round in range(rounds):
        if reinit:
            start = initial_weights(shape, round)
        trained = train(network, start, masks, data, epochs, round)
        yield round, masks, accuracy(network, trained, test)
        masks = prune(trained, masks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", default="mnist", help="mnist, or a file as digits.npz")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=20)
    flags = parser.parse_args()
    both = [imp(*load(flags.data), flags.rounds, flags.epochs, reinit) for reinit in (False, True)]
    print("round  density   ticket   reinit")
    for (number, masks, ticket), (_, _, reinit) in zip(*both, strict=True):
        density = sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
        print(f"{number:5}  {density:7.2%}  {ticket:7.2%}  {reinit:7.2%}", flush=True)
