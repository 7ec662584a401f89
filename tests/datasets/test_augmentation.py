import numpy as np
import pytest
import tensorflow as tf

from lottery_tf.datasets import augmentation
from lottery_tf.pruning.streams import Noise


def test_draws_are_a_function_of_noise_epoch_and_example():
    draws = augmentation.draw(Noise(0, 0), 0, 100)
    assert np.array_equal(draws, augmentation.draw(Noise(0, 0), 0, 100))
    for noise, epoch in ((Noise(1, 0), 0), (Noise(0, 1), 0), (Noise(0, 0), 1)):
        assert not np.array_equal(draws, augmentation.draw(noise, epoch, 100))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_flip_crop_takes_every_place_with_and_without_a_flip(jit_compile):
    """Against NumPy, for all 2 x 9 x 9 outcomes."""
    image = np.random.default_rng(0).integers(1, 256, (6, 5, 3), np.uint8)
    draws = np.array([(flip, place) for flip in (0, 1) for place in range(81)], np.int32)
    augment = tf.function(augmentation.flip_crop, jit_compile=jit_compile)
    found = augment(np.repeat(image[np.newaxis], len(draws), 0), draws).numpy()
    padded = np.pad(image, [(4, 4), (4, 4), (0, 0)])
    for (flip, place), result in zip(draws, found, strict=True):
        top, left = place % 9, place // 9
        expected = padded[top : top + 6, left : left + 5]
        assert np.array_equal(result, expected[:, ::-1] if flip else expected)


def test_half_is_flipped_and_places_are_even():
    draws = augmentation.draw(Noise(0, 0), 0, 20_000)
    assert (draws[:, 0] % 2).mean() == pytest.approx(0.5, abs=0.015)
    places = np.bincount(draws[:, 1] % 81, minlength=81)
    assert places.min() > 180
    assert places.max() < 320


def gradient_jpeg(height, width):
    """A JPEG whose red rises downwards and whose green rises to the right."""
    red = np.linspace(0, 255, height)[:, np.newaxis] * np.ones((1, width))
    green = np.ones((height, 1)) * np.linspace(0, 255, width)
    image = np.stack([red, green, 0 * red], -1).astype(np.uint8)
    return tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False)


def test_centre_crop_takes_the_middle():
    image = augmentation.centre_crop(gradient_jpeg(200, 300), 64).numpy().astype(int)
    assert image.shape == (64, 64, 3)
    side = 200 * 224 / 256  # of the shorter side
    for channel, length, axis in ((0, 200, 0), (1, 300, 1)):
        line = image[..., channel].mean(1 - axis)
        # The centres of the first and last pixels, half a pixel of the result inside.
        inside = side * (1 - 1 / 64)
        low, high = (255 * (length + sign * inside) / 2 / length for sign in (-1, 1))
        assert line[0] == pytest.approx(low, abs=3)
        assert line[-1] == pytest.approx(high, abs=3)


@pytest.mark.slow
def test_resized_crops_differ_and_cover_areas_and_flips():
    jpeg = gradient_jpeg(200, 300)
    draws = augmentation.draw(Noise(0, 0), 0, 400)
    unflipped = np.stack([augmentation.resized_crop(jpeg, own, 32).numpy() for own in draws])
    again = augmentation.resized_crop(jpeg, draws[0], 32).numpy()
    assert np.array_equal(unflipped[0], again)
    crops = augmentation.flip(unflipped, draws).numpy()
    crops = crops.astype(int)
    across = crops[:, :, -1, 1].mean(1) - crops[:, :, 0, 1].mean(1)
    assert (across > 0).mean() == pytest.approx(0.5, abs=0.12)
    assert ((across > 0) == (draws[:, 0] % 2 == 0)).all()
    down = crops[:, -1, :, 0].mean(1) - crops[:, 0, :, 0].mean(1)
    area = np.abs(across) * down / 255**2 * (32 / 31) ** 2
    assert area.min() > 0.07
    assert area.max() <= 1.01
    assert area.mean() == pytest.approx(torch_like_area(200, 300), abs=0.04)


def torch_like_area(height, width):
    """The mean area of PyTorch's random resized crops, by its own description of them."""
    generator, areas = np.random.default_rng(0), []
    for _ in range(5000):
        for _ in range(10):
            area = height * width * generator.uniform(0.08, 1)
            ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
            high, wide = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
            if 0 < high <= height and 0 < wide <= width:
                areas.append(high * wide / (height * width))
                break
    return np.mean(areas)
