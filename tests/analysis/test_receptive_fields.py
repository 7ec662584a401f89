"""Which pixels a ticket looks at, on images of nine pixels."""

from math import sqrt

import numpy as np
import pytest

from lottery_tf.analysis import pixels
from lottery_tf.analysis.measure import Output
from lottery_tf.errors import InputError
from lottery_tf.plots import images
from lottery_tf.runs import files
from lottery_tf.runs.files import parse_csv
from lottery_tf.runs.rounds import FinishedRound
from tests.made_runs import make_run

SHAPES = {"hidden/kernel": (12, 30), "logits/kernel": (30, 10)}


def mask_of(inputs, *units):
    """A mask of units that look at some inputs each."""
    mask = np.zeros((inputs, len(units)), bool)
    for unit, places in enumerate(units):
        mask[list(places), unit] = True
    return mask


def test_distances_inside_a_unit_and_of_any_units():
    # 0 1 2
    # 3 4 5
    # 6 7 8
    row = pixels.of_mask(mask_of(9, {0, 1}, {0, 8}), (3, 3, 1))
    assert (row["layer_density"], row["pixels"]) == (pytest.approx(4 / 18), 3)
    assert row["distance"] == pytest.approx((1 + sqrt(8)) / 2)
    pairs = 2 * [1] + 2 * [sqrt(8)] + [sqrt(5)]  # 0-1 and 0-8 twice, of two weights at 0; 1-8
    assert row["chance_distance"] == pytest.approx(sum(pairs) / 5)


def test_neighbours_against_chance():
    edges = pixels.of_mask(mask_of(9, {0, 1}, {7, 8}), (3, 3, 1))
    assert edges["neighbours"] == 3  # both pairs of a unit; of the six of any units, 0-1 and 7-8
    below = pixels.of_mask(mask_of(9, {0, 3}, {5, 8}), (3, 3, 1))
    assert below["neighbours"] == 3
    mixed = pixels.of_mask(mask_of(9, {0, 7}, {1, 8}), (3, 3, 1))
    assert mixed["neighbours"] == 0
    wrapped = pixels.of_mask(mask_of(9, {2, 3}, {2, 3}), (3, 3, 1))  # not beside
    assert np.isnan(wrapped["neighbours"])
    dense = pixels.of_mask(np.ones((9, 4), bool), (3, 3, 1))
    assert dense["neighbours"] == 1
    assert dense["distance"] == pytest.approx(dense["chance_distance"])


def test_random_masks_have_as_many_neighbours_as_by_chance():
    mask = np.random.default_rng(0).random((400, 2000)) < 0.1
    row = pixels.of_mask(mask, (20, 20, 1))
    assert row["neighbours"] == pytest.approx(1, abs=0.02)
    assert row["distance"] == pytest.approx(row["chance_distance"], rel=0.01)


def test_channels_of_a_pixel_are_one_place():
    row = pixels.of_mask(mask_of(6, {0, 1, 2}, {0, 3}), (1, 2, 3))  # two pixels of three channels
    assert row["pixels"] == 2
    assert row["distance"] == pytest.approx(1 / 4)  # of four pairs, 0-3 alone is apart


def test_nothing_has_no_distance():
    row = pixels.of_mask(np.zeros((9, 2), bool), (3, 3, 1))
    assert (row["layer_density"], row["pixels"]) == (0, 0)
    assert np.isnan([row["distance"], row["chance_distance"], row["neighbours"]]).all()


def test_the_shape_of_images(config):
    run = make_run(config(), rounds=1, shapes=SHAPES)
    assert pixels.first_layer(run) == ("hidden/kernel", (2, 2, 3))
    assert pixels.first_layer(run, ["3", "4", "1"]) == ("hidden/kernel", (3, 4, 1))
    for wrong in (["3", "4"], ["3", "4", "2"], ["a", "b", "c"]):
        with pytest.raises(InputError, match=r"--image_shape.* 12 .*Received"):
            pixels.first_layer(run, wrong)


def test_the_first_layer_of_a_nested_network_is_that_of_its_weights_not_of_its_masks(config):
    run = make_run(config(), rounds=1, shapes=SHAPES)
    backwards = dict(reversed(run.masks(0).items()))  # as Keras walks the layers of a nested model
    (run.path / "round_00" / "masks.npz").write_bytes(files.format_npz(backwards))
    assert next(iter(FinishedRound(run.path, 0).shapes())) == "logits/kernel"
    assert pixels.first_layer(run) == ("hidden/kernel", (2, 2, 3))


def test_first_layers_that_are_not_on_images(config):
    path = config().run_dir
    convolution = {"conv/kernel": (3, 3, 1, 20), "logits/kernel": (20, 10)}
    run = make_run(config(run_dir=f"{path}_conv"), rounds=1, shapes=convolution)
    with pytest.raises(InputError, match="dense"):
        pixels.first_layer(run)
    odd = {"hidden/kernel": (10, 20), "logits/kernel": (20, 10)}
    run = make_run(config(run_dir=f"{path}_odd"), rounds=1, shapes=odd)
    with pytest.raises(InputError, match=r"--image_shape.*data\.json"):
        pixels.first_layer(run)


@pytest.mark.ci
def test_pixels_are_written_and_drawn(config):
    path = config().run_dir
    runs = [
        make_run(config(run_dir=f"{path}_{seed}"), rounds=4, shapes=SHAPES, seed=seed)
        for seed in (1, 2, 3)
    ]
    groups = {"ticket": runs[:2], "reinit": runs[2:]}
    ((rows, _),) = pixels.MEASURE(groups, at_rounds=["0", "3"]).report(output := Output())
    assert parse_csv((runs[0].path / "analysis/pixels.csv").read_bytes())[0]["run"] == "ticket"
    masks = [run.masks(3)["hidden/kernel"] for run in runs]
    means = [pixels.of_mask(mask, (2, 2, 3))["distance"] for mask in masks]
    assert rows[3]["distance"] == pytest.approx((means[0] + means[1]) / 2)
    assert rows[7]["distance"] == pytest.approx(means[2])
    assert {path.name for path in output.written} == {
        "pixels.csv", "pixels.png", "pixels_neighbours.png", "pixels_units.png",
        "pixels_units_reinit.png", "tensorboard"
    }  # fmt: skip


def test_a_grid_shows_every_image_on_its_scale():
    panels = {"a": [("one", np.array([[0, 5]])), ("two", np.array([[0, 0]]))]}
    (one, two) = images.grid(panels, title="t").axes
    assert [axes.get_title() for axes in (one, two)] == ["one", "two"]
    assert [axes.images[0].get_clim() for axes in (one, two)] == [(0, 5), (0, 1)]
    (signed, _) = images.grid(panels, title="t", signed=True).axes
    assert signed.images[0].get_clim() == (-5, 5)
