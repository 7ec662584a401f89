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
    images = generator.normal(0, 0.3, (examples, 32, 32, 3)).astype("float32")
    labels = generator.integers(0, 3, examples)
    for image, label in zip(images, labels, strict=True):
        place = generator.integers(4, 28)
        if label == 0:
            image[place - 2 : place + 2] += 1
        elif label == 1:
            image[:, place - 2 : place + 2] += 1
        else:
            image[np.arange(32), (np.arange(32) + place) % 32] += 2
    return images, labels


images, labels = draw(2000)
test_images, test_labels = draw(500)

network = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=3)
# The last layer is small, and every weight of it counts: leave it dense.
model = lottery_tf.masked(network, exclude="predictions")
model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", ["accuracy"])

# 63 steps an epoch: the density falls from 1 to 0.2 in epochs 2 to 4, and two epochs recover.
pruning = lottery_tf.GradualPruning(density=0.2, begin_step=63, end_step=4 * 63, frequency=21)
history = model.fit(images, labels, batch_size=32, epochs=6, verbose=2, callbacks=[pruning])
assert abs(history.history["density"][-1] - 0.2) < 0.001

_, accuracy = model.evaluate(test_images, test_labels, verbose=0)
print(f"test accuracy at 20% of the weights: {accuracy:.1%}")

plain = lottery_tf.unmasked(model)  # plain Keras layers, with zeros
plain.save("pruned_mobilenet.keras")
