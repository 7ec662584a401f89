"""Every layer of Keras that has weights, in its configurations: what masks promise in each.

KERAS_BACKEND=jax python -m tests.configurations     # all of them, in one process; 1 if one fails
python -m tests.configurations LSTM Conv2D           # of these layers

In each configuration `mask` changes no output, half of each kernel is pruned and acts no more
whatever is stored for it, the model is saved and loaded with its masks, a step of training
of both keeps it at zero and moves the rest, and `unmask` gives the same outputs. The last column
names the masked weights, and the trainable ones that stay dense.
"""

import itertools
import os
import pathlib
import sys
import tempfile
import time
import traceback
import warnings

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.masking import keras_generators, keras_private
from lottery_tf.testing import STORED, Case, check_zero, prune_half
from tests.layers import TOKENS, normal

L = keras.layers


def product(**options):
    """Return a configuration for each combination of the values of all options."""
    return [
        dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())
    ]


def each(**options):
    """Return a configuration for each value of each option, the others as Keras sets them."""
    return [{name: value} for name, values in options.items() for value in values]


class Configuration(Case):
    """A layer, or a function of tensors that calls some, with its arguments and its inputs."""

    def model_of(self, layer):
        if not self.options.get("stateful"):
            return super().model_of(layer)
        inputs = keras.Input(batch_shape=self.data.shape)
        return keras.Model(inputs, layer(inputs))

    def outputs(self, model):
        for layer in keras_private.flatten_layers(model):
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states()
        return super().outputs(model)


def layer(name, options, data, more=({},)):
    """Return the configurations of a layer: its base options with each of some more."""
    return [Configuration(getattr(L, name), options | one, data) for one in more]


def function(data, *functions):
    """Return a configuration for each function of tensors, which makes the layers it calls."""
    return [Configuration(lambda one=one: one, {}, data) for one in functions]


def convolutions():
    """Yield {layer: configurations} of all layers that convolve, of every rank."""
    for rank, size in ((1, 8), (2, 6), (3, 4)):
        kernel = 3 if rank < 3 else 2
        last, first = normal(*[size] * rank, 4), normal(4, *[size] * rank)
        common = product(padding=["valid", "same"], strides=[1, 2])
        common += [{"padding": "same", "dilation_rate": 2}]
        common += each(use_bias=[False], activation=["relu"], kernel_size=[(2, 3, 1)[:rank]])
        on_kernel = each(kernel_regularizer=["l2"], kernel_constraint=["max_norm"])
        on_depthwise = each(depthwise_regularizer=["l2"], depthwise_constraint=["max_norm"])
        causal = product(padding=["causal"], strides=[1, 2]) if rank == 1 else []
        causal += product(padding=["causal"], dilation_rate=[2]) if rank == 1 else []
        channels_first = [{"padding": "valid"}, {"padding": "same", "strides": 2}]
        channels_first = [one | {"data_format": "channels_first"} for one in channels_first]
        grouped = [
            *product(groups=[2, 4], padding=["valid", "same"]),
            {"groups": 2, "strides": 2, "use_bias": False},
            {"groups": 2, "dilation_rate": 2},
        ]
        output_padding = product(padding=["valid", "same"], strides=[2], output_padding=[1])
        separable = [
            {"depth_multiplier": 2},
            {"depth_multiplier": 2, "padding": "same", "strides": 2},
        ]
        filters = {"filters": 4, "kernel_size": kernel}
        names = {f"Conv{rank}D": (filters, [*common, *on_kernel, *causal, *grouped])}
        names[f"Conv{rank}DTranspose"] = filters, [*common, *on_kernel, *output_padding]
        if rank < 3:
            depthwise = [*common, *on_depthwise, *separable]
            names[f"DepthwiseConv{rank}D"] = {"kernel_size": kernel}, depthwise
            of_points = each(pointwise_regularizer=["l2"], pointwise_constraint=["max_norm"])
            names[f"SeparableConv{rank}D"] = filters, [*depthwise, *of_points]
        for name, (options, more) in names.items():
            rows = layer(name, options, last, more)
            yield name, rows + layer(name, options, first, channels_first)


def recurrent():
    """Yield {layer: configurations} of recurrent layers, of cells alone and in stacks."""
    sequence, image = normal(4, 5), {1: normal(3, 4, 2), 2: normal(3, 4, 4, 2)}
    image[3] = normal(2, 3, 3, 3, 2)
    common = each(
        return_sequences=[True],
        return_state=[True],
        go_backwards=[True],
        stateful=[True],
        use_bias=[False],
        activation=["relu"],
        dropout=[0.5],
        recurrent_dropout=[0.5],
        kernel_regularizer=["l2"],
        recurrent_constraint=["max_norm"],
    )
    common += product(return_sequences=[True], go_backwards=[True], use_bias=[True, False])
    common += [{"return_sequences": True, "stateful": True}]
    gated = each(recurrent_activation=["hard_sigmoid"])
    own = {
        "SimpleRNN": [],
        "GRU": product(reset_after=[False], use_bias=[True, False]) + gated,
        "LSTM": each(unit_forget_bias=[False], use_cudnn=[False]) + gated,
    }
    unrolled = product(unroll=[True], return_sequences=[True, False])
    for name, more in own.items():
        kind = getattr(L, name)
        yield (
            name,
            layer(name, {"units": 3}, sequence, [{}, *common, *unrolled, *more])
            + function(
                sequence,
                lambda x, kind=kind: kind(3)(L.Masking()(x)),
                lambda x, kind=kind: kind(3)(kind(3, return_sequences=True)(x)),
                lambda x, kind=kind: kind(3)(x, initial_state=kind(3, return_state=True)(x)[1:]),
            ),
        )
    for name in ("SimpleRNNCell", "GRUCell", "LSTMCell"):
        cell = getattr(L, name)
        calls = [
            lambda x, cell=cell, options=options: L.RNN(cell(3, use_bias=True), **options)(x)
            for options in [{}, *each(return_sequences=[True], go_backwards=[True], unroll=[True])]
        ]
        masks = lambda x, cell=cell: L.RNN(cell(3), zero_output_for_mask=True)(L.Masking()(x))  # noqa: E731
        yield name, function(sequence, *calls, masks)
    yield (
        "StackedRNNCells",
        function(
            sequence,
            lambda x: L.RNN([L.LSTMCell(3), L.GRUCell(2)])(x),
            lambda x: L.RNN(L.StackedRNNCells([L.SimpleRNNCell(3), L.LSTMCell(2)]))(x),
            lambda x: L.RNN([L.LSTMCell(3), L.LSTMCell(3)], return_sequences=True)(x),
        ),
    )
    options = {"filters": 2, "kernel_size": 2}
    common = [one for one in common if len(one) == 1 and not set(one) & {"activation", "dropout"}]
    sizes = [{"padding": "same"}, {"strides": 2}, {"dilation_rate": 2}]
    sizes += [{"padding": "same", "return_sequences": True}]
    common += [*gated, {"unit_forget_bias": False}]
    for rank, data in image.items():
        first = np.moveaxis(data, -1, 2)
        channels_first = product(data_format=["channels_first"], padding=["valid", "same"])
        name = f"ConvLSTM{rank}D"
        # The cell of all ranks is the same: the options that are not of space at rank 1 alone.
        more = [*sizes, *common] if rank == 1 else sizes
        yield (
            name,
            layer(name, options, data, [{}, *more]) + layer(name, options, first, channels_first),
        )


def attention():
    """Yield {layer: configurations} of the layers of attention that have kernels."""
    rows, grid = normal(4, 5), normal(3, 4, 5)
    pair = {"query": rows, "value": normal(3, 5)}
    triple = pair | {"key": normal(3, 5)}
    kept = np.tril(np.ones((4, 4, 3), bool))
    more = [{}, *each(use_bias=[False], dropout=[0.5], use_gate=[True], flash_attention=[False])]
    more += each(kernel_regularizer=["l2"], kernel_constraint=["max_norm"])
    own = each(value_dim=[2, 4], output_shape=[6, (2, 3)], attention_axes=[(1,)], num_heads=[1])
    own += [{"value_dim": 4, "use_bias": False, "output_shape": 2}]
    heads = {"num_heads": 2, "key_dim": 3}
    axes = product(attention_axes=[(1,), (2,), (1, 2)], use_bias=[True, False])
    ratios = product(num_query_heads=[4, 6], num_key_value_heads=[1, 2], use_bias=[True, False])
    ratios += [{"num_query_heads": 4, "num_key_value_heads": 4}]
    for name, options, rest in (
        ("MultiHeadAttention", heads, own),
        (
            "GroupQueryAttention",
            {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
            ratios,
        ),
    ):
        make = lambda name=name, options=options: getattr(L, name)(**options)  # noqa: E731
        found = layer(name, options, pair, [*more, *rest])
        found += layer(name, options, triple) + layer(
            name, options, pair | {"attention_mask": kept}
        )
        found += function(
            rows,
            lambda x, make=make: make()(x, x),
            lambda x, make=make: make()(x, x, use_causal_mask=True),
            lambda x, make=make: make()(x, x, return_attention_scores=True),
        )
        found += function(
            rows,
            lambda x, name=name, options=options: getattr(L, name)(**options, sliding_window=2)(
                x, x
            ),
        )
        if name == "MultiHeadAttention":
            found += layer(name, options, {"query": grid, "value": grid}, axes)
            found += layer(name, options, {"query": grid, "value": normal(3, 4, 5)}, [{}])
        yield name, found


def dense():
    """Yield {layer: configurations} of the layers that multiply by a matrix or look up in one."""
    more = [{}, *product(use_bias=[True, False], activation=["relu", "softmax"])]
    more += each(
        units=[1],
        kernel_regularizer=["l1"],
        kernel_constraint=["max_norm", "unit_norm", "non_neg"],
        activity_regularizer=["l2"],
        kernel_initializer=["orthogonal"],
    )
    found = layer("Dense", {"units": 4}, normal(8), more)
    for shape in ((3, 5), (2, 3, 5), (2, 2, 3, 4)):
        found += layer("Dense", {"units": 4}, normal(*shape), each(use_bias=[True, False]))
    yield "Dense", found
    # The shape of the inputs; the equation, the shape of outputs, and axes of biases.
    equations = [
        ((5,), "ab,bc->ac", 3, [None, "c"]),
        ((6, 5), "abc,cd->abd", (None, 4), [None, "d"]),
        ((6, 5), "abc,cd->abd", (6, 4), ["bd", "b"]),
        ((6, 5), "abc,cde->abde", (6, 2, 3), [None, "de", "e", "d", "bde"]),
        ((6, 5), "abc,bd->adc", (4, 5), [None, "d", "dc"]),
        ((6, 5), "abc,bcd->abd", (6, 4), [None, "d", "bd"]),
        ((6, 2, 3), "abcd,cde->abe", (6, 4), [None, "e"]),
        ((6, 2, 3), "abcd,ced->abce", (6, 2, 4), [None, "ce"]),
        ((6, 5), "abc,bcde->ade", (3, 4), [None, "de"]),
        ((5,), "...x,xy->...y", 4, [None, "y"]),
        ((3, 5), "...x,xy->...y", (3, 4), [None, "y"]),
        ((2, 3, 5), "a...x,xy->a...y", (2, 3, 4), [None, "y"]),
        ((5, 3), "ab...,bc->ac...", (4, 3), [None, "c"]),
        ((2, 5, 3), "abc...,cd->abd...", (2, 4, 3), [None, "bd"]),
    ]
    found = []
    for shape, equation, output_shape, bias_axes in equations:
        options = {"equation": equation, "output_shape": output_shape}
        found += layer("EinsumDense", options, normal(*shape), each(bias_axes=bias_axes))
    options = {"equation": "abc,cd->abd", "output_shape": (None, 4), "bias_axes": "d"}
    more = each(activation=["relu"], kernel_regularizer=["l2"], kernel_constraint=["max_norm"])
    yield "EinsumDense", found + layer("EinsumDense", options, normal(6, 5), more)
    table = {"input_dim": 7, "output_dim": 3}
    more = each(embeddings_regularizer=["l2"], embeddings_constraint=["max_norm"])
    found = layer("Embedding", table, TOKENS, [{}, *more, *each(mask_zero=[True])])
    found += layer("Embedding", table, TOKENS[:, 0]) + layer("Embedding", table, TOKENS[:, None])
    found += layer("Embedding", table, np.float32(TOKENS))
    weights = [np.float32(np.random.default_rng(1).normal(size=(7, 3)))]
    found += layer("Embedding", table, TOKENS, each(weights=[weights]))
    found += function(
        TOKENS,
        lambda x: L.LSTM(3)(L.Embedding(7, 3, mask_zero=True)(x)),
        lambda x: L.Bidirectional(L.GRU(3))(L.Embedding(7, 3, mask_zero=True)(x)),
        lambda x: L.MultiHeadAttention(2, 3)(*[L.Embedding(7, 3, mask_zero=True)(x)] * 2),
    )
    yield "Embedding", found

    def reversed_too(**options):
        def call(tokens):
            one = L.ReversibleEmbedding(7, 3, **options)
            return one(one(tokens), reverse=True)

        return call

    found = layer("ReversibleEmbedding", table, TOKENS, [{}, *more, {"mask_zero": True}])
    options = product(
        tie_weights=[True, False], logit_soft_cap=[None, 2.0], mask_zero=[True, False]
    )
    found += function(TOKENS, *(reversed_too(**one) for one in options))
    yield "ReversibleEmbedding", found


def wrappers():
    """Yield {layer: configurations} of the layers that hold others."""
    sequence = normal(4, 5)
    yield (
        "TimeDistributed",
        function(
            sequence,
            lambda x: L.TimeDistributed(L.Dense(3))(x),
            lambda x: L.TimeDistributed(L.Dense(3))(L.Masking()(x)),
            lambda x: L.TimeDistributed(L.EinsumDense("ab,bc->ac", 3))(x),
        )
        + function(
            normal(3, 4, 4, 2),
            lambda x: L.TimeDistributed(L.Conv2D(3, 2))(x),
            lambda x: L.TimeDistributed(L.SeparableConv2D(3, 2))(x),
            lambda x: L.TimeDistributed(L.TimeDistributed(L.LSTM(3)))(x),
            lambda x: L.TimeDistributed(
                keras.Sequential([L.Conv2D(3, 2), L.Flatten(), L.Dense(2)])
            )(x),
        )
        + function(TOKENS, lambda x: L.TimeDistributed(L.Embedding(7, 3))(x)),
    )
    more = product(merge_mode=["concat", "sum", "mul", "ave", None], sequences=[True, False])
    kinds = [L.SimpleRNN, L.GRU, L.LSTM]
    calls = [
        lambda x, one=one, kind=kind: L.Bidirectional(
            kind(3, return_sequences=one["sequences"]), merge_mode=one["merge_mode"]
        )(x)
        for one, kind in zip(more, itertools.cycle(kinds))
    ]
    yield (
        "Bidirectional",
        function(
            sequence,
            *calls,
            lambda x: L.Bidirectional(L.LSTM(3, return_state=True))(x),
            lambda x: L.Bidirectional(L.RNN(L.GRUCell(3)))(x),
            lambda x: L.Bidirectional(L.LSTM(3), backward_layer=L.GRU(3, go_backwards=True))(x),
            lambda x: L.Bidirectional(L.LSTM(3))(L.Masking()(x)),
        )
        + function(normal(3, 4, 2), lambda x: L.Bidirectional(L.ConvLSTM1D(2, 2))(x)),
    )
    yield (
        "SpectralNormalization",
        function(
            normal(5),
            lambda x: L.SpectralNormalization(L.Dense(3))(x),
            lambda x: L.SpectralNormalization(L.Dense(3, use_bias=False), power_iterations=3)(x),
        )
        + function(
            normal(4, 4, 2),
            lambda x: L.SpectralNormalization(L.Conv2D(3, 2))(x),
            lambda x: L.SpectralNormalization(L.Conv2DTranspose(3, 2))(x),
        )
        # Keras casts the outputs to the type of the inputs: integers would have no gradient.
        + function(np.float32(TOKENS), lambda x: L.SpectralNormalization(L.Embedding(7, 3))(x)),
    )


def without_masks():
    """Yield {layer: configurations} of layers whose weights stay dense, each before a Dense."""

    def before_dense(name, options, data):
        def call(x, **others):
            return L.Dense(2)(getattr(L, name)(**options)([x, *others.values()] if others else x))

        return Configuration(lambda: call, {}, data)

    image = normal(3, 4, 4)
    for name, configurations in {
        "PReLU": [{}, {"shared_axes": [1, 2]}],
        "BatchNormalization": [{}, {"axis": 1}, {"scale": False}],
        "LayerNormalization": [{}, {"axis": [1, 2]}, {"center": False}],
        "GroupNormalization": [{"groups": 2}, {"groups": -1}],
        "RMSNormalization": [{}, {"axis": [2, 3]}],
    }.items():
        yield name, [before_dense(name, options, image) for options in configurations]
    spectra = [{"frame_length": 8, "frame_step": 4, "mode": mode} for mode in ("log", "real")]
    sound = normal(16, 2)
    yield "STFTSpectrogram", [before_dense("STFTSpectrogram", one, sound) for one in spectra]
    pair = {"x": normal(4, 5), "value": normal(3, 5)}
    for name, configurations in {
        "Attention": [{"use_scale": True}, {"score_mode": "concat", "use_scale": True}],
        "AdditiveAttention": [{}, {"dropout": 0.5}],
    }.items():
        yield name, [before_dense(name, options, pair) for options in configurations]


def table():
    """Return {layer: its configurations}."""
    parts = convolutions(), recurrent(), attention(), dense(), wrappers(), without_masks()
    return dict(itertools.chain(*parts))


# Of rank 2 or more, but biases: `mask` names them in its warning.
STAY_DENSE = {
    "PReLU": {"alpha"},
    "LayerNormalization": {"gamma", "beta"},
    "RMSNormalization": {"scale"},
    "STFTSpectrogram": {"real_kernel", "imag_kernel"},  # the bases of Fourier's transform
}


def check(one, folder, stay_dense=frozenset()):
    """Check a configuration; return the names of its masked and of its other trainable weights."""
    model = one.plain()
    for weights in model.trainable_variables:
        if len(weights.shape) > 1 and not np.asarray(weights).any():
            weights.assign(weights + 0.1)
    outputs = one.outputs(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Left dense")
        masking.mask(model)
    one.check_close(model, outputs, "`mask` changes the outputs.")
    left = {path.rpartition("/")[2] for path in masking.left_dense(model)}
    assert left <= stay_dense, f"left dense: {left}"
    names = {kernel.variable.name for kernel in masking.kernels(model).values()}
    assert not names & stay_dense, f"masked: {names & stay_dense}"

    prune_half(model)
    outputs, kernels = one.outputs(model), masking.kernels(model)
    for kernel in kernels.values():
        kept, weights = kernel.mask.numpy(), np.asarray(kernel.variable)
        assert not kept.all()
        kernel.variable.assign(np.where(kept, weights, STORED))
    one.check_close(model, outputs, "what is stored for pruned weights acts.")
    masking.apply_masks(model)

    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    one.check_alike(loaded, model)
    for trained in (model, loaded):
        before = masking.get_weights(trained)
        trained.compile(keras.optimizers.SGD(0.1, 0.9), "mse", run_eagerly=True)
        one.train(trained, steps=1)
        check_zero(trained)
        after = masking.get_weights(trained)
        for path in masking.kernels(trained):
            assert (after[path] != before[path]).any(), f"{path} is not trained"

    outputs = one.outputs(model)
    masked = {id(kernel.variable) for kernel in kernels.values()}
    others = {weight.name for weight in model.trainable_variables if id(weight) not in masked}
    one.check_close(masking.unmask(model), outputs, "`unmask` changes the outputs.")
    return names, others


def refused_by_keras(one):
    """Return why Keras cannot run or train a configuration without masks here; "" if it can."""
    try:
        model = one.plain()
        model.compile("sgd", "mse", run_eagerly=True)
        one.train(model, steps=1)
    except Exception as error:  # whatever Keras and the backend raise
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def run(rows):
    """Check these {layer: configurations}, print a row for each layer; return the failures."""
    failures, refused, total, began = [], {}, 0, time.process_time()
    print(f"{'layer':<22}{'configurations':>15}{'passed':>8}  masked; dense", flush=True)
    for name, configurations in rows.items():
        names, others, passed = set(), set(), 0
        for one in configurations:
            keras.utils.clear_session(free_memory=False)
            try:
                with keras_generators.kept(), tempfile.TemporaryDirectory() as made:
                    found = check(one, pathlib.Path(made), STAY_DENSE.get(name, frozenset()))
            except Exception:
                if reason := refused_by_keras(one):
                    refused.setdefault(name, []).append((one.options, reason))
                    continue
                failures.append((name, one.options))
                print(f"FAILED {name} {one.options}\n{traceback.format_exc()}", flush=True)
                continue
            passed += 1
            names |= found[0]
            others |= found[1]
        total += passed
        dense = f"{', '.join(sorted(names))}; {', '.join(sorted(others)) or 'nothing'}"
        print(f"{name:<22}{len(configurations):>15}{passed:>8}  {dense}", flush=True)
    for name, cases in refused.items():
        for options, reason in cases:
            print(f"Keras itself refuses {name} {options}: {reason:.90}")
    count = sum(map(len, rows.values()))
    seconds = time.process_time() - began
    print(
        f"{keras.backend.backend()}: {total} of {count} configurations of {len(rows)} layers "
        f"hold, {sum(map(len, refused.values()))} are refused by Keras itself, {len(failures)} "
        f"fail; {seconds:.0f} s of CPU."
    )
    return failures


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    every = table()
    chosen = {name: every[name] for name in sys.argv[1:] or every}
    sys.exit(bool(run(chosen)))
