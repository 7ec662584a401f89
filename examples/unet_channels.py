"""Prune the channels of a U-Net, and get a smaller and faster network.

    python examples/unet_channels.py

Channels that belong together, on both sides of the skip connections, are pruned together. Then
`compact` removes them, so that every runtime gains.
"""

import keras
import numpy as np

import lottery_tf
from lottery_tf.export.compaction import compact

L = keras.layers
keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)


def draw(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images (examples, 32, 32, 1) of a disc, and its mask."""
    row, column = np.mgrid[:32, :32]
    places, radii = generator.uniform(8, 24, (examples, 2)), generator.uniform(3, 8, examples)
    distance = np.hypot(row - places[:, :1, None], column - places[:, 1:, None])
    masks = (distance < radii[:, None, None]).astype("float32")
    images = masks + generator.normal(0, 0.5, masks.shape).astype("float32")
    return images[..., np.newaxis], masks[..., np.newaxis]


def convolutions(tensor: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Return the output of two convolutions with BatchNorm."""
    for _ in range(2):
        tensor = L.Conv2D(channels, 3, padding="same", use_bias=False)(tensor)
        tensor = L.ReLU()(L.BatchNormalization()(tensor))
    return tensor


image = keras.Input((32, 32, 1))
first = convolutions(image, 16)
second = convolutions(L.MaxPooling2D()(first), 32)
bottom = convolutions(L.MaxPooling2D()(second), 64)
up = L.Conv2DTranspose(32, 2, strides=2)(bottom)
up = convolutions(L.Concatenate()([up, second]), 32)
up = L.Conv2DTranspose(16, 2, strides=2)(up)
up = convolutions(L.Concatenate()([up, first]), 16)
unet = keras.Model(image, L.Conv2D(1, 1, activation="sigmoid")(up))

images, masks = draw(500)
test_images, test_masks = draw(100)
model = lottery_tf.masked(unet)
accuracy = [keras.metrics.BinaryIoU([1], name="iou")]
model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", metrics=accuracy)
model.fit(images, masks, batch_size=25, epochs=2, verbose=2)
print(f"dense: IoU {model.evaluate(test_images, test_masks, verbose=0)[1]:.3f}")

lottery_tf.prune(model, density=0.5, structure="channel", scope="layer", pool="l2")
model.fit(images, masks, batch_size=25, epochs=2, verbose=2)
print(f"half of the channels: IoU {model.evaluate(test_images, test_masks, verbose=0)[1]:.3f}")

plain = lottery_tf.unmasked(model)
smaller, report = compact(plain)
before, after = report.total("products")
print(f"{plain.count_params():,} parameters became {smaller.count_params():,}")
print(f"{before:,} multiply-adds became {after:,}")
np.testing.assert_allclose(plain(test_images), smaller(test_images), atol=1e-4)
smaller.save("small_unet.keras")
