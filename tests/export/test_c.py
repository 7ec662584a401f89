"""Networks in C give what Keras gives: compiled, run under sanitizers, and by their README."""

import math
import os
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest

from lottery_tf.errors import InputError
from lottery_tf.export import c_file, c_source, formats, signatures
from lottery_tf.export.formats import Choices, Options

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
    for layer in model.layers:
        # Where channels come first and the last axis is as long, Keras 3.15 adds the bias along
        # that one: its `add` takes it for tf.nn.bias_add.
        first = getattr(layer, "data_format", "") == "channels_first"
        if first and getattr(layer, "use_bias", False):
            layer.use_bias = layer.output.shape[1] != layer.output.shape[-1]
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


def run_all(directory, networks, *options, quantize="none"):
    """Return the outputs of networks in C, compiled into one program that a file is given to.

    int8 is calibrated on the inputs.
    """
    calls, declarations = [], []
    with open(directory / "inputs", "wb") as stream:
        for number, (model, inputs, _) in enumerate(networks):
            how = Options(quantize, calibration=inputs)
            texts, facts = c_file.write_source(model, how)
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


class Int8:
    """What a network of int8 computes, in NumPy: a layer after the other, on (examples, …)."""

    def __init__(self, low, high):
        """Of a product whose inputs have a range."""
        low, high = min(low, 0.0), max(high, 0.0)
        self.step = float(np.float32((high - low) / 255)) or 1.0
        self.zero = round(-low / self.step)
        self.low = -self.step * self.zero

    def codes(self, x):
        codes = (x - np.float32(self.low)) * np.float32(1 / self.step)
        return (np.clip(codes, np.float32(0), np.float32(255)) + np.float32(0.5)).astype(np.uint8)

    def product(self, codes, weights, bias):
        """Of codes (…, inputs) and float64 weights (inputs, outputs)."""
        scale = np.abs(weights).max(0) / 127
        whole = np.rint(weights / scale)
        sums = (codes.astype(np.int64) @ whole.astype(np.int64)).astype(np.float32)
        bias = np.float32(bias + self.low * scale * whole.sum(0))
        return sums * np.float32(self.step * scale) + bias

    @classmethod
    def of(cls, model, layer, inputs):
        """Calibrated as Keras computes the input of a layer."""
        seen = np.array(keras.Model(model.inputs[0], layer.input)(inputs))
        return cls(float(seen.min()), float(seen.max()))


def constants(layer):
    return [np.array(weight, np.float64) for weight in layer.get_weights()]


def test_an_int8_file_gives_the_bits_of_numpy(tmp_path):
    """A convolution with padding of 20 channels, so of 180 weights, and two dense layers."""
    keras.utils.set_random_seed(0)
    given = keras.Input((9, 8, 20), name="given")
    x = layers.Conv2D(7, 3, padding="same", activation="relu")(given)
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Dense(40, activation="relu")(x)
    model = keras.Model(given, layers.Dense(5)(x))
    for weight in model.weights:
        array = np.random.default_rng(1).standard_normal(weight.shape)
        weight.assign(array * (np.abs(array) > 1))
    inputs = {"given": np.random.default_rng(2).standard_normal((3, 9, 8, 20)).astype(np.float32)}
    conv, first, last = (one for one in model.layers if one.weights)
    kernel, bias = constants(conv)
    of_conv = Int8.of(model, conv, inputs["given"])
    codes = np.pad(
        of_conv.codes(inputs["given"]), [(0, 0), (1, 1), (1, 1), (0, 0)],
        constant_values=of_conv.zero,
    )  # fmt: skip
    seen = np.lib.stride_tricks.sliding_window_view(codes, (3, 3), (1, 2))  # (…, channels, 3, 3)
    weights = kernel.transpose(2, 0, 1, 3).reshape(-1, 7)
    x = np.maximum(of_conv.product(seen.reshape(3, 9, 8, -1), weights, bias), 0)
    x = x[:, :8].reshape(3, 4, 2, 4, 2, 7).max((2, 4)).reshape(3, -1)
    for layer, least in ((first, 0), (last, -np.inf)):
        of_layer = Int8.of(model, layer, inputs["given"])
        x = np.maximum(of_layer.product(of_layer.codes(x), *constants(layer)), np.float32(least))
    network = [(model, inputs, [x])]
    ((found,),) = run_all(tmp_path, network, *SANITIZED, "-ffp-contract=off", quantize="int8")
    np.testing.assert_array_equal(found, x)


def test_int8_reads_pixels_as_they_are(tmp_path):
    """A dense layer on raw images has no step of its own for their codes, and no rounding."""
    keras.utils.set_random_seed(0)
    given = keras.Input((6, 5, 2), dtype="uint8", name="given")
    x = layers.Flatten()(layers.Rescaling([1 / 80, 1 / 70], [-1.5, -1.0])(given))
    model = keras.Model(given, layers.Dense(8)(x))
    kernel, bias = constants(model.layers[-1])
    inputs = signatures.random_inputs(model, 3)
    scale, offset = np.tile([1 / 80, 1 / 70], 30), np.tile([-1.5, -1.0], 30)
    pixels = Int8(0.0, 255.0)
    expected = pixels.product(
        inputs["given"].reshape(3, -1), scale[:, None] * kernel, bias + offset @ kernel
    )
    network = [(model, inputs, [expected])]
    ((found,),) = run_all(tmp_path, network, *SANITIZED, "-ffp-contract=off", quantize="int8")
    np.testing.assert_array_equal(found, expected)
    source = c_file.write_source(model, Options("int8", calibration=inputs))[0]["model.c"]
    assert "quantize" not in source


def drawn_product(seed):
    """A network of one linear layer of drawn settings and density; its inputs."""
    random = Random(seed)
    keras.utils.set_random_seed(seed)
    rank = random.one_of(1, 2, 3)
    random.format = random.one_of("channels_last", "channels_first")
    lengths = [int(length) for length in random.draw.integers(5, 12, rank - 1)]
    channels = int(random.draw.integers(1, 40 if rank == 1 else 5))
    first = random.format == "channels_first" and rank > 1
    given = keras.Input([channels, *lengths] if first else [*lengths, channels], name="given")
    kinds = [random.dense] if rank == 1 else [random.dense, random.convolution, random.depthwise]
    made = random.one_of(*kinds)(given, rank)
    model = keras.Model(given, made)
    layer = model.layers[-1]
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):  # of two products
        return drawn_product(seed + 1000)
    layer.activation = keras.activations.linear
    if getattr(layer, "data_format", "") == "channels_first":  # as in `drawn`
        layer.use_bias = False
    density = random.one_of(0.1, 0.5, 1.0)
    for weight in layer.weights:
        array = random.draw.standard_normal(weight.shape)
        weight.assign(array * (random.draw.random(array.shape) < density))
    return model, signatures.random_inputs(model, 3)


def error_of_int8(model, inputs):
    """The most by which int8 may move each output.

    An input x moves by half a step s at most, a weight w by half of its output's step t:
    |w| s / 2 + (|x| + s / 2) t / 2, over all weights that are not zero.
    """
    layer = model.layers[-1]
    before = layer.get_weights()
    kernel, *bias = before
    last = 2 if isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D) else 1
    largest = np.abs(kernel).max(tuple(range(kernel.ndim - last)), keepdims=True)
    half_t = largest / 127 / 2 * (kernel != 0)
    half_s = np.float32(Int8(inputs.min(), inputs.max()).step / 2)
    nothing = [np.zeros_like(array) for array in bias]
    layer.set_weights([np.abs(kernel), *nothing])
    error = np.array(model(np.full_like(inputs, half_s)))
    layer.set_weights([half_t, *nothing])
    error += np.array(model(np.abs(inputs) + half_s))
    layer.set_weights(before)
    return error


@pytest.mark.ci
def test_int8_differs_from_keras_by_half_steps_at_most(tmp_path):
    drawn = [drawn_product(seed) for seed in range(60)]
    networks = [(model, inputs, [np.array(model(inputs["given"]))]) for model, inputs in drawn]
    used = []
    for (model, inputs, (expected,)), (found,) in zip(
        networks, run_all(tmp_path, networks, *SANITIZED, quantize="int8"), strict=True
    ):
        error, allowed = np.abs(found - expected), error_of_int8(model, inputs["given"])
        assert (error <= 1.001 * allowed + 1e-5 * np.abs(expected).max()).all()
        used.append(error.max() / max(allowed.max(), 1e-9))
    assert 0.1 < np.median(used) < 1  # the bound is not far from what happens


@pytest.mark.slow
@pytest.mark.ci
def test_a_hundred_drawn_networks_run_in_int8(tmp_path):
    networks = [drawn(seed) for seed in range(100)]
    worst = []
    for (_, _, outputs), arrays in zip(
        networks, run_all(tmp_path, networks, *SANITIZED, quantize="int8"), strict=True
    ):
        assert all(np.isfinite(array).all() for array in arrays)
        pairs = zip(outputs, arrays, strict=True)
        worst.append(max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-3) for a, b in pairs))
    assert np.median(worst) < 0.02  # one that ends in exp of exp may be far off


def test_sums_that_32_bits_do_not_hold_are_refused():
    given = keras.Input((70_000,), name="given")
    model = keras.Model(given, layers.Dense(1, kernel_initializer="ones", name="wide")(given))
    how = Options("int8", calibration=signatures.random_inputs(model, 1))
    with pytest.raises(InputError, match=r"^--format=c does not write wide \(Dense\): .*32 bits"):
        c_file.write_source(model, how)


def test_weights_that_are_not_finite_are_named():
    given = keras.Input((3,), name="given")
    model = keras.Model(given, layers.Dense(2, kernel_initializer="ones", name="broken")(given))
    model.layers[-1].kernel.assign(np.full((3, 2), np.nan))
    with pytest.raises(InputError, match=r"^--format=c does not write broken \(Dense\): .*finite"):
        c_file.write_source(model, Options())


def digits():
    """A pruned network of images, in a directory as an export; its inputs and logits."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 2), dtype="uint8", name="images")
    x = layers.Rescaling(1 / 80, -1.5)(image)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    model = keras.Model(image, layers.Dense(10)(layers.Dense(40, activation="relu")(x)))
    for variable in model.weights:
        array = variable.numpy()
        variable.assign(array * (np.abs(array) > np.quantile(np.abs(array), 0.8)))
    inputs = signatures.random_inputs(model, 4)
    return model, inputs["images"], np.array(model(inputs["images"]))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("c")
    model, images, logits = digits()
    made = formats.write("c", model, directory, Options(images=True))["compiled"]
    return directory, images, logits, made


def test_its_main_reads_a_file_and_prints_answers(written, tmp_path):
    directory, images, logits, _ = written
    images.tofile(tmp_path / "examples.bin")
    (line,) = re.findall(r"(cc .* -o model)$", (directory / "README.md").read_text(), re.M)
    command = line.replace("model.c", str(directory / "model.c")).split()
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["./model", "examples.bin"], cwd=tmp_path, capture_output=True, text=True)
    rows = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    assert rows[:, 0].tolist() == logits.argmax(-1).tolist()
    np.testing.assert_allclose(rows[:, 1:11], logits, atol=1e-5)
    np.testing.assert_allclose(rows[:, 11:].sum(1), 1, atol=1e-5)
    wrong = subprocess.run(["./model"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "uint8 images[288]" in wrong.stderr
    (tmp_path / "short.bin").write_bytes(images.tobytes()[:-1])
    short = subprocess.run(["./model", "short.bin"], cwd=tmp_path, capture_output=True, text=True)
    assert short.returncode == 1
    assert short.stdout.count("\n") == len(images) - 1
    assert "short.bin: expected uint8 images[288]" in short.stderr


def test_python_calls_it_as_the_readme_says(written, tmp_path, monkeypatch):
    directory, images, logits, _ = written
    text = (directory / "README.md").read_text()
    line = re.search(r"`(cc .* -o model\.so)`", text)[1]
    command = line.replace("model.c", str(directory / "model.c")).split()
    subprocess.run(command, cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1], names)
    found, probabilities = names["run"](images)
    np.testing.assert_allclose(found, logits, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(-1), logits.argmax(-1))
    expected = r"^images: expected uint8 \(None, 12, 12, 2\)\. Received: "
    for wrong, came in (
        (images[:, :9], r"uint8 \(4, 9, 12, 2\)$"),
        (images.astype(np.float32), r"float32 \(4, 12, 12, 2\)$"),
    ):
        with pytest.raises(ValueError, match=expected + came):
            names["run"](wrong)


def test_the_report_has_the_compiler_and_the_bytes(written):
    directory, _, _, made = written
    assert made["compiler"] == os.environ.get("CC", "cc")
    assert "-std=c99" in made["flags"]
    assert f"#define MODEL_SCRATCH {made['scratch']} " in (directory / "model.h").read_text()
    model, *_ = digits()
    alive = sum(np.count_nonzero(array) for array in model.get_weights())
    if made["text"] is not None:  # no binutils
        assert 4 * alive < made["text"] + made["data"] < 6 * alive + 10_000


@pytest.mark.parametrize(
    "command",
    [
        "gcc -O2", "clang -O2",
        "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -O2",
    ],
)  # fmt: skip
def test_other_compilers_have_nothing_to_warn_of(command, written, tmp_path):
    words = command.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(
        [*words, *STRICT, "-c", written[0] / "model.c", "-o", tmp_path / "model.o"],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_missing_compiler_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    with pytest.raises(InputError, match=r"--format=c: .*no-such-compiler\. .*apt install gcc"):
        formats.check_choices(Choices("c"))


def transposed(x):
    return layers.Conv2DTranspose(3, 2, name="wider")(x)


def squared(x):
    return x * x


def of_the_user(x):
    return layers.Dense(3, activation=squared, name="mine")(x)


def threshold(x):
    return layers.ReLU(threshold=0.5, name="from_half")(x)


@pytest.mark.parametrize("layer", [transposed, of_the_user, threshold])
def test_what_is_not_written_in_c_is_named_before_anything_is_written(layer, tmp_path):
    image = keras.Input((6, 6, 2))
    model = keras.Model(image, layer(image))
    with pytest.raises(InputError, match=rf"^--format=c.* {model.layers[-1].name} \("):
        formats.write("c", model, tmp_path, Options())
    assert not list(tmp_path.iterdir())


def test_a_gap_that_is_too_long_is_bridged_by_zeros():
    rows, places = np.array([0, 0, 2]), np.array([3, 515, 255])
    filled = c_source._gaps(rows, places, np.array([1.0, 2.0, 3.0], np.float32), 255)
    assert [array.tolist() for array in filled] == [
        [0, 0, 0, 0, 2],
        [3, 255, 255, 2, 255],
        [1, 0, 0, 2, 3],
    ]


def test_buffers_that_are_in_use_at_once_lie_apart():
    buffers = [c_source.Buffer(size) for size in (10, 100, 30, 5)]
    steps = [
        c_source.Step("", out, reads, lambda step: [])
        for out, reads in zip(buffers, ([], buffers[:1], buffers[:2], buffers[2:3]), strict=True)
    ]
    assert c_file.place(steps) == 144 + 10  # behind 100 and 30, on multiples of 16
    assert buffers[1].offset == 0
    assert buffers[3].offset == 0  # after the second one was read for the last time
