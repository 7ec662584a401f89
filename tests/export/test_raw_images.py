import numpy as np
import pytest

from lottery_tf.export.raw_images import RawImages

NONE, ONE = np.zeros(3, np.float32), np.ones(3, np.float32)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (50, 33), (16, 40)])
def test_raw_images_of_any_size_become_those_of_the_network(height, width):
    raw = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    images = RawImages((16, 16, 3), "uint8", NONE, ONE, True)
    cropped = images.cropped(raw)
    assert cropped.shape == (2, 16, 16, 3)
    assert cropped.dtype == np.uint8
    assert np.array_equal(images.normalised(raw), cropped / np.float32(255))


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_a_network_behind_raw_images_gets_what_training_gave_it(dtype, white):
    import keras

    mean, std = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.3, 0.4], np.float32)
    images = RawImages((4, 4, 3), dtype, mean, std, False)
    raw = (np.random.default_rng(0).random((2, 4, 4, 3)) * white).astype(dtype)
    inputs = keras.Input((4, 4, 3))
    network = keras.Model(inputs, keras.layers.Flatten()(inputs))
    found = np.asarray(images.before(network)(raw))
    expected = (raw.astype(np.float32) / white - mean) / std
    assert np.allclose(found, expected.reshape(2, -1), atol=1e-5)
    assert np.allclose(images.normalised(raw), expected, atol=1e-6)
