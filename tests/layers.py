"""Every Keras layer with a masked subclass, and every optimizer: tables for any backend."""

import keras
import numpy as np

from lottery_tf import masking
from lottery_tf.masking import layers
from lottery_tf.testing import Case

# Of every Keras layer with a masked subclass: the shape of its input, and its arguments.
LAYERS = {
    "Conv1D": ((8, 3), {"filters": 4, "kernel_size": 3}),
    "Conv2D": ((8, 8, 3), {"filters": 4, "kernel_size": 3}),
    "Conv3D": ((4, 4, 4, 2), {"filters": 4, "kernel_size": 2}),
    "Conv1DTranspose": ((8, 3), {"filters": 4, "kernel_size": 3}),
    "Conv2DTranspose": ((8, 8, 3), {"filters": 4, "kernel_size": 3}),
    "Conv3DTranspose": ((4, 4, 4, 2), {"filters": 4, "kernel_size": 2}),
    "DepthwiseConv1D": ((8, 3), {"kernel_size": 3}),
    "DepthwiseConv2D": ((8, 8, 3), {"kernel_size": 3, "depth_multiplier": 2}),
    "SeparableConv1D": ((8, 3), {"filters": 4, "kernel_size": 3}),
    "SeparableConv2D": ((8, 8, 3), {"filters": 4, "kernel_size": 3}),
    "Dense": ((8,), {"units": 4}),
    "EinsumDense": ((6, 8), {"equation": "abc,cd->abd", "output_shape": (None, 4)}),
}


# Masked layers that do not take features: cells, and tables of tokens.
CELLS = {"SimpleRNNCell", "GRUCell", "LSTMCell", "ConvLSTMCell"}
TABLES = {"Embedding", "ReversibleEmbedding"}


def normal(*shape):
    return np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)


TOKENS = np.arange(24).reshape(4, 6) % 7

# Of layers that take more than one tensor, or hold the layers that are masked: the arguments,
# and the data.
OTHERS = {
    "MultiHeadAttention": (
        {"num_heads": 2, "key_dim": 3},
        {"query": normal(4, 5), "value": normal(3, 5)},
    ),
    "GroupedQueryAttention": (
        {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
        {"query": normal(4, 5), "value": normal(3, 5)},
    ),
    "Embedding": ({"input_dim": 7, "output_dim": 3}, TOKENS),
    "ReversibleEmbedding": ({"input_dim": 7, "output_dim": 3}, TOKENS),
    "SimpleRNN": ({"units": 3}, normal(4, 5)),
    "GRU": ({"units": 3}, normal(4, 5)),
    "LSTM": ({"units": 3}, normal(4, 5)),
    "ConvLSTM1D": ({"filters": 2, "kernel_size": 2}, normal(3, 4, 2)),
    "ConvLSTM2D": ({"filters": 2, "kernel_size": 2}, normal(3, 4, 4, 2)),
    "ConvLSTM3D": ({"filters": 2, "kernel_size": 2}, normal(3, 4, 4, 4, 2)),
}
KINDS = {
    kind.__name__: kind
    for kind in (*masking.MASKED, *layers.COMPOSITE)
    if kind.__module__.startswith("keras.") and kind.__name__ not in CELLS
}
ROWS = {name: (options, normal(*shape)) for name, (shape, options) in LAYERS.items()} | OTHERS

OPTIMIZERS = {
    "Adadelta": {},
    "Adafactor": {},
    "Adagrad": {},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "AdamW": {},
    "Adamax": {},
    "Ftrl": {"l2_regularization_strength": 0.1},
    "Lamb": {},
    "Lion": {},
    "LossScaleOptimizer": {},
    "Muon": {},
    "Nadam": {},
    "RMSprop": {"momentum": 0.9},
    "ScheduleFreeAdamW": {},
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
}
AVERAGES = {"plain": {}, "averaged": {"use_ema": True, "ema_overwrite_frequency": 3}}


def optimizer(name, averages):
    options = OPTIMIZERS[name] | AVERAGES[averages]
    if name != "LossScaleOptimizer":
        return getattr(keras.optimizers, name)(0.01, **options)
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, 0.9, **options), 1.0)


def case(name):
    options, data = ROWS[name]
    return Case(KINDS[name], options, data)
