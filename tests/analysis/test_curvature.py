"""The Hessian of a network that fits on a page, against float64; its largest eigenvalue in runs."""

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import imp, masking
from lottery_tf.analysis import curvature
from lottery_tf.analysis.cache import Cache
from lottery_tf.analysis.measure import Output
from lottery_tf.errors import InputError
from lottery_tf.masking.gradients import Hessian, in_float64
from lottery_tf.runs.rundir import RunDir

pytestmark = pytest.mark.versions

LABELS = np.array([0, 1, 2, 1])
# Numbers that float32 holds, too: Keras casts inputs to it.
INPUTS = np.random.default_rng(1).integers(-20, 20, (4, 3)) / 16


@pytest.fixture
def model():
    """Three inputs, four hidden units of tanh, three classes, in float64."""
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", name="first")(inputs)
    outputs = keras.layers.Dense(3, name="second")(hidden)
    return in_float64(lottery_tf.masked(keras.Model(inputs, outputs, name="net")))


def gradient(point):
    """Of the mean cross-entropy by [kernel, bias, kernel, bias] as one vector, by hand."""
    first, first_bias, second, second_bias = (
        part.reshape(shape)
        for part, shape in zip(
            np.split(point, [12, 16, 28]), [(3, 4), 4, (4, 3), 3], strict=True
        )
    )  # fmt: skip
    hidden = np.tanh(INPUTS @ first + first_bias)
    powers = np.exp(hidden @ second + second_bias)
    error = (powers / powers.sum(1, keepdims=True) - np.eye(3)[LABELS]) / len(LABELS)
    inner = (error @ second.T) * (1 - hidden**2)
    parts = (INPUTS.T @ inner, inner.sum(0), hidden.T @ error, error.sum(0))
    return np.concatenate([part.ravel() for part in parts])


@pytest.mark.parametrize("batch_size", [500, 3])
def test_the_hessian_is_that_of_finite_differences(model, batch_size):
    generator = np.random.default_rng(2)
    masks = {path: generator.random(m.shape) < 0.6 for path, m in masking.get_masks(model).items()}
    weights = {p: generator.normal(size=a.shape) for p, a in masking.get_weights(model).items()}
    weights |= {path: np.where(mask, weights[path], 0) for path, mask in masks.items()}
    point = np.concatenate([array.ravel() for array in weights.values()])
    alive = np.concatenate(
        [masks.get(path, np.ones(array.shape, bool)).ravel() for path, array in weights.items()]
    )
    steps = 1e-5 * np.eye(31)[alive]
    exact = np.array([gradient(point + d) - gradient(point - d) for d in steps])[:, alive] / 2e-5
    hessian = Hessian(model, INPUTS, LABELS, batch_size=batch_size).at(weights, masks)
    assert hessian.shape == (alive.sum(),) * 2 < (31, 31)
    np.testing.assert_allclose(hessian @ np.eye(len(exact)), exact, atol=1e-9)
    largest = np.linalg.eigvalsh(exact).max()
    assert curvature.largest_eigenvalue(hessian) == pytest.approx(largest, rel=1e-6)


def test_the_largest_eigenvalue_is_the_largest_by_sign():
    from scipy.sparse.linalg import aslinearoperator

    operator = aslinearoperator(np.diag([-5.0, 1.0, 2.0, 0.5]))
    assert curvature.largest_eigenvalue(operator) == pytest.approx(2)


@pytest.mark.ci
def test_the_curvature_of_rounds_is_computed_once(config, monkeypatch):
    imp.main(config(rounds=2))
    run = RunDir(config().run_dir)
    with pytest.raises(InputError, match=r"--examples.* 0"):
        curvature.of_rounds(run, examples=0)
    ((found, _),) = curvature.MEASURE({"digits": [run]}, examples=100).report(Output())
    assert [row["round"] for row in found] == [0, 1]
    assert min(row["eigenvalue"] for row in found) > 0
    monkeypatch.setattr(curvature, "engine_of", None)
    again = curvature.of_rounds(run, cache=Cache(run.path / "analysis/curvature.cache.json"),
                                examples=100)  # fmt: skip
    assert [row["eigenvalue"] for row in again] == [row["eigenvalue"] for row in found]
