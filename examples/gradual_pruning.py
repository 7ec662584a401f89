"""Prune a network of keras.applications to 20% of its weights while it trains.

    python examples/gradual_pruning.py

The images are drawn here, so that the script runs anywhere in a minute. For your own images, pass
weights="imagenet" and your data.
"""

import keras
import numpy as np

import lottery_tf

keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)


def draw(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images (examples, 32, 32, 3) with a bright bar in one of three directions."""
    images = generator.normal(0, 0.1, (examples, 32, 32, 3)).astype("float32")
    labels = generator.integers(0, 3, examples)
    for image, label in zip(images, labels, strict=True):
        place = generator.integers(4, 28)
        if label == 0:
            image[place - 2 : place + 2] += 1
        elif label == 1:
            image[:, place - 2 : place + 2] += 1
        else:
            image[np.arange(32), (np.arange(32) + place) % 32] += 1
    return images, labels


images, labels = draw(2000)
test_images, test_labels = draw(500)

network = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=3)
# Depthwise kernels have 9 weights for each channel, and lose whole channels if they are pruned with
# the others. They and the last layer are 6% of the weights: leave them dense.
dense = [keras.layers.DepthwiseConv2D, "conv_preds"]
model = lottery_tf.masked(network, exclude=dense)
loss = "sparse_categorical_crossentropy"
model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])

# 63 steps an epoch: the density falls from 1 to 0.2 in epochs 4 to 7, and five epochs recover.
pruning = lottery_tf.GradualPruning(density=0.2, begin_step=3 * 63, end_step=7 * 63, frequency=21)
history = model.fit(images, labels, batch_size=32, epochs=12, verbose=2, callbacks=[pruning])
assert abs(history.history["density"][-1] - 0.2) < 0.001

_, accuracy = model.evaluate(test_images, test_labels, verbose=0)
print(f"test accuracy at 20% of the weights: {accuracy:.1%}")

plain = lottery_tf.unmasked(model)  # plain Keras layers, with zeros
plain.save("pruned_mobilenet.keras")
