import math

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError


def test_a_summary_counts_what_masks_leave(capsys):
    keras.utils.clear_session()
    tokens = keras.Input((6,), dtype="int32")
    features = keras.layers.Embedding(11, 8, name="embedding")(tokens)
    features = keras.layers.MultiHeadAttention(2, 4, name="attention")(features, features)
    features = keras.layers.Conv1DTranspose(5, 3, name="up")(features)
    features = keras.layers.DepthwiseConv1D(2, depth_multiplier=2, name="depthwise")(features)
    last = keras.layers.Dense(3, name="last")(features)
    model = lottery_tf.masked(keras.Model(tokens, last, name="net"), exclude="embedding")
    model.get_layer("last").trainable = False
    masks = masking.get_masks(model)
    by_layer = {path: next(p for p in masks if path in p)
                for path in ("query", "attention_output", "up", "depthwise", "last")}  # fmt: skip
    masks[by_layer["query"]][:, 1, 2:] = False  # two of eight units of (8 inputs, 2 heads, 4)
    masks[by_layer["attention_output"]][..., :3] = False  # three of eight of (2 heads, 4, 8)
    masks[by_layer["up"]][:, 4] = False  # one of five of (3, 5 outputs, 8 inputs)
    masks[by_layer["depthwise"]][:, 2, 1] = False  # one of ten of (2, 5 channels, 2)
    masks[by_layer["last"]][:] = True
    weights = {path: np.where(masks[path], array, 0) if path in masks else array
               for path, array in masking.get_weights(model).items()}  # fmt: skip
    masking.set_weights(model, weights, masks)

    rows = {row["layer"]: row for row in lottery_tf.summary(model)}
    names = ("weights", "alive", "units", "dead_units", "state")
    found = {name: tuple(rows[path][n] for n in names) for name, path in by_layer.items()}
    assert found == {
        "query": (64, 48, 8, 2, ""),
        "attention_output": (64, 40, 8, 3, ""),
        "up": (120, 96, 5, 1, ""),
        "depthwise": (20, 18, 10, 1, ""),
        "last": (30, 30, 3, 0, "frozen"),
    }
    dense = rows["embedding/embeddings" if "embedding/embeddings" in rows else "net/embedding"]
    assert (dense["alive"], dense["state"], math.isnan(dense["units"])) == (88, "no mask", True)
    total = rows["all kernels"]
    sizes = 64 * 4 + 120 + 20 + 30 + 88  # query, key, value, output; up; depthwise; last; embedding
    assert (total["weights"], total["alive"]) == (sizes, sizes - 16 - 24 - 24 - 2)
    assert total["density"] == total["alive"] / total["weights"]

    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["layer", "weights", "alive", "density", "units", "dead", "units"]
    assert len(printed) == 1 + len(rows)
    assert len(lottery_tf.summary(model, show=False)) == len(rows)
    assert not capsys.readouterr().out


def test_a_layer_without_weights_is_called_collapsed():
    keras.utils.clear_session()
    model = lottery_tf.masked(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    weights, masks = masking.get_weights(model), masking.get_masks(model)
    (path,) = masks
    masking.set_weights(model, weights | {path: 0 * weights[path]}, {path: ~masks[path]})
    row, _ = lottery_tf.summary(model, show=False)
    assert (row["alive"], row["dead_units"], row["state"]) == (0, 3, "collapsed")


def test_what_has_no_masks_has_no_summary():
    for wrong, words in (
        (3, "expected a Keras 3 model"),
        (keras.Sequential([masking.MaskedDense(3)]), "has no weights yet"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), "nothing to prune"),
    ):
        with pytest.raises(InputError, match=words):
            lottery_tf.summary(wrong)
