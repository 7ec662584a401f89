"""Networks in C give what Keras gives: compiled, run under sanitizers, and by their README."""

import math
import re
import shutil
import subprocess
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from lottery_tf.export import c_file, c_source, signatures
from lottery_tf.export.formats import Options

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

layers = keras.layers
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ACTIVATIONS = ["linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid"]
ACTIVATIONS += ["tanh", "exponential", "softplus", "softsign", "gelu", "silu", "hard_silu", "mish"]


class Random:
    """Draws networks."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)

    def one_of(self, *choices):
        return choices[self.draw.integers(len(choices))]

    def odds(self, probability):
        return self.draw.random() < probability

    def network(self):
        """A network of one or two inputs, some layers of each kind, and one or two outputs."""
        rank = self.one_of(1, 2, 3, 3, 3)
        self.format = self.one_of("channels_last", "channels_first")
        channels = int(self.draw.integers(1, 5))
        lengths = [int(length) for length in self.draw.integers(5, 12, rank - 1)]
        first = self.format == "channels_first" and rank > 1
        shape = [channels, *lengths] if first else [*lengths, channels]
        dtype = self.one_of("float32", "uint8", "uint16", "int32")
        given = keras.Input(shape, dtype=dtype, name="given")
        x = layers.Rescaling(self.one_of(1 / 80, 0.5), -1.5)(given)
        inputs = [given]
        if self.odds(0.2):
            other = keras.Input(shape, name="other-one")
            inputs.append(other)
            x = self.joined(x, other)
        for _ in range(self.draw.integers(1, 6)):
            x = self.layer(x)
        outputs = [x]
        if len(x.shape) > 2:
            x = self.one_of(self.flattened, self.pooled)(x)
        x = layers.Dense(int(self.draw.integers(2, 9)), activation=self.one_of(*ACTIVATIONS))(x)
        outputs = [x] if self.odds(0.7) else [x, *outputs]
        if self.odds(0.3):
            outputs[0] = layers.Softmax()(x)
        return keras.Model(inputs, outputs)

    def flattened(self, x):
        return layers.Flatten(data_format=self.format)(x)

    def pooled(self, x):
        kind = self.one_of("Average", "Max")
        pool = getattr(layers, f"Global{kind}Pooling{len(x.shape) - 2}D")
        keepdims = bool(self.odds(0.3))
        x = pool(data_format=self.format, keepdims=keepdims)(x)
        return layers.Flatten()(x) if keepdims else x

    def joined(self, x, other):
        kinds = [layers.Add, layers.Subtract, layers.Multiply, layers.Maximum, layers.Minimum]
        join = self.one_of(*kinds, layers.Concatenate)
        axis = 1 if self.format == "channels_first" and len(x.shape) > 2 else -1
        return join(axis=axis)([x, other]) if join is layers.Concatenate else join()([x, other])

    def layer(self, x):
        rank = len(x.shape) - 1
        kinds = [self.dense, self.batch_normalization, self.activation, self.branches]
        if rank > 1:
            kinds += [self.convolution] * 4 + [self.depthwise, self.pooling, self.padding]
            kinds += [self.permuted]
        return self.one_of(*kinds)(x, rank)

    def dense(self, x, rank):
        units = int(self.one_of(self.draw.integers(1, 20), 300))
        activation = self.one_of(*ACTIVATIONS)
        return layers.Dense(units, activation=activation, use_bias=bool(self.odds(0.8)))(x)

    def batch_normalization(self, x, rank):
        axis = 1 if self.format == "channels_first" else -1
        flags = {"scale": bool(self.odds(0.7)), "center": bool(self.odds(0.7))}
        return layers.BatchNormalization(axis=axis, **flags)(x)

    def activation(self, x, rank):
        return self.one_of(
            layers.ReLU(), layers.ReLU(4.0), layers.ReLU(3.0, 0.1), layers.LeakyReLU(0.2),
            layers.ELU(0.7), layers.Activation(self.one_of(*ACTIVATIONS)), layers.Softmax(),
            layers.Dropout(0.5),
        )(x)  # fmt: skip

    def branches(self, x, rank):
        """Two ways from a tensor, joined again."""
        left, right = (self.activation(x, rank) for _ in range(2))
        if rank > 1 and self.odds(0.5):
            right = self.convolution(x, rank, same=True)
        return self.joined(left, right)

    def settings(self, x, rank, largest=3):
        """A kernel's size, strides and padding that fit a tensor."""
        lengths = x.shape[2:] if self.format == "channels_first" else x.shape[1:-1]
        sizes = [int(self.draw.integers(1, min(largest, length) + 1)) for length in lengths]
        strides = [int(self.one_of(1, 1, 2, 3)) for _ in lengths]
        return {
            "strides": strides, "padding": self.one_of("same", "valid"),
            "data_format": self.format,
        }, sizes  # fmt: skip

    def convolution(self, x, rank, same=False):
        how, sizes = self.settings(x, rank)
        filters = int(self.draw.integers(1, 7))
        channels = x.shape[1 if self.format == "channels_first" else -1]
        if same:
            how |= {"strides": 1, "padding": "same"}
            filters = channels
        elif self.odds(0.2):
            how |= {"strides": 1, "dilation_rate": 2, "padding": "same"}
        if rank == 2 and self.odds(0.2) and self.format == "channels_last":
            how |= {"padding": "causal"}
        if channels % 2 == 0 and self.odds(0.3) and self.format == "channels_last":
            how, filters = how | {"groups": 2}, 2 * -(-filters // 2) if not same else filters
        how |= {"activation": self.one_of(*ACTIVATIONS), "use_bias": bool(self.odds(0.7))}
        conv = {2: layers.Conv1D, 3: layers.Conv2D}[rank]
        if self.odds(0.15) and "groups" not in how and how["padding"] != "causal":
            conv = {2: layers.SeparableConv1D, 3: layers.SeparableConv2D}[rank]
            how["strides"] = 1
            how.pop("dilation_rate", None)
        return conv(filters, sizes, **how)(x)

    def depthwise(self, x, rank):
        how, sizes = self.settings(x, rank)
        how["strides"] = how["strides"][0]
        conv = {2: layers.DepthwiseConv1D, 3: layers.DepthwiseConv2D}[rank]
        sizes = sizes if rank == 3 else sizes[0]
        return conv(sizes, depth_multiplier=int(self.draw.integers(1, 3)), **how)(x)

    def pooling(self, x, rank):
        how, sizes = self.settings(x, rank)
        pool = getattr(layers, f"{self.one_of('Max', 'Average')}Pooling{rank - 1}D")
        if rank == 2:
            how["strides"], sizes = how["strides"][0], sizes[0]
        return pool(sizes, **how)(x)

    def padding(self, x, rank):
        pairs = self.draw.integers(0, 3, (rank - 1, 2)).tolist()
        if rank == 2:
            return layers.ZeroPadding1D(pairs[0], data_format=self.format)(x)
        return layers.ZeroPadding2D(pairs, data_format=self.format)(x)

    def permuted(self, x, rank):
        if self.odds(0.5):
            return layers.Permute(list(self.draw.permutation(rank) + 1))(x)
        return layers.Reshape((x.shape[-1], *x.shape[1:-1]))(x)


def drawn(seed):
    """(network of drawn weights, at a drawn density; its inputs; its outputs)."""
    random = Random(seed)
    keras.utils.set_random_seed(seed)
    model = random.network()
    density = random.one_of(0.03, 0.2, 0.5, 1.0)
    for variable in model.weights:
        array = variable.numpy()
        if array.ndim >= 2:
            array = 1.5 * array * (random.draw.random(array.shape) < density)
        else:
            array = array + random.draw.uniform(0, 0.3, array.shape)
        variable.assign(array)
    inputs = signatures.random_inputs(model, 3)
    # Where channels come first, Keras lets XLA compute convolutions, on a CPU some of them wrongly:
    # one of strides (2, 1) differed from tf.nn.conv2d and from NumPy by 0.2 of 3.
    with mock.patch.object(tf, "function", lambda function=None, **_: function or (lambda f: f)):
        outputs = keras.tree.flatten(model(signatures.packed(model, inputs), training=False))
    outputs = [np.array(output) for output in outputs]
    if not all(np.isfinite(output).all() for output in outputs):  # as exp of exp
        return drawn(seed + 1000)
    return model, inputs, outputs


def compile_all(directory, *options):
    """Compile directory/*.c at once, each main of which becomes main_<its name>."""
    sources = sorted(directory.glob("*.c"))
    command = ["cc", *STRICT, *options, "-c", *sources]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]


def run_all(directory, networks, *options):
    """Return the outputs of networks in C, compiled into one program that a file is given to."""
    calls, declarations = [], []
    with open(directory / "inputs", "wb") as stream:
        for number, (model, inputs, _) in enumerate(networks):
            texts, facts = c_file.write_source(model, Options())
            define = "".join(f"#define model_{name} {name}_{number}\n" for name in ("run", "batch"))
            header = texts["model.h"].replace("model_batch", f"batch_{number}")
            source = define + texts["model.c"].replace('"model.h"', f'"{number}.h"')
            (directory / f"{number}.h").write_text(texts["model.h"])
            (directory / f"network_{number}.c").write_text(source)
            declarations.append(re.search(r"void batch_.*?;", header)[0])
            arguments = []
            for array in inputs.values():
                stream.write(array.tobytes())
            for one in facts["inputs"]:
                size = math.prod(one["shape"]) * 3
                type = c_source.C_TYPES[one["dtype"]]
                arguments.append(f"take({size}, sizeof({type}))")
            sizes = [math.prod(one["shape"]) * 3 for one in facts["outputs"]]
            arguments += [f"give({size})" for size in sizes]
            # Exactly as large as they need to be, so that a sanitizer sees what goes beyond.
            places = ", ".join(f"p[{place}]" for place in range(len(arguments)))
            fills = " ".join(f"p[{i}] = {text};" for i, text in enumerate(arguments))
            writes = " ".join(
                f"fwrite(p[{len(inputs) + i}], 4, {size}, stdout);" for i, size in enumerate(sizes)
            )
            frees = " ".join(f"free(p[{i}]);" for i in range(len(arguments)))
            calls.append(f"{{ {fills} batch_{number}(3, {places}); {writes} {frees} }}")
    main = "#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
    main += "\n".join(declarations)
    main += """
static FILE *file;
static void *take(size_t count, size_t size)
{
    void *p = malloc(count * size);
    if (fread(p, size, count, file) != count)
        exit(1);
    return p;
}
static void *give(size_t count) { return malloc(count * 4); }
int main(void)
{
    void *p[9];
    file = fopen("inputs", "rb");
"""
    main += "\n".join(calls) + "\nfclose(file);\nreturn 0;\n}\n"
    (directory / "main.c").write_text(main)
    compile_all(directory, *options)
    objects = [f"{path.stem}.o" for path in sorted(directory.glob("*.c"))]
    subprocess.run(["cc", *options, *objects, "-lm", "-o", "all"], cwd=directory, check=True)
    done = subprocess.run(["./all"], cwd=directory, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[:3000]
    numbers, found, start = np.frombuffer(done.stdout, np.float32), [], 0
    for _, _, outputs in networks:
        found.append([])
        for output in outputs:
            found[-1].append(numbers[start : start + output.size].reshape(output.shape))
            start += output.size
    assert start == len(numbers)
    return found


def assert_equal(networks, found):
    for number, ((_, _, outputs), arrays) in enumerate(zip(networks, found, strict=True)):
        for expected, array in zip(outputs, arrays, strict=True):
            scale = max(np.abs(expected).max(), 1e-3)
            worst = np.abs(array - expected).max() / scale
            assert worst < 1e-5, f"network {number}: {worst:.2g}"


@pytest.mark.slow
@pytest.mark.ci
def test_a_hundred_drawn_networks_give_what_keras_gives(tmp_path):
    networks = [drawn(seed) for seed in range(100)]
    assert_equal(networks, run_all(tmp_path, networks, *SANITIZED))
