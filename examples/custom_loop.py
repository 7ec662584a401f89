"""Find a lottery ticket with a training loop of your own, without `fit`.

    python examples/custom_loop.py

The masks act inside the layers, so the loop needs no change: `rounds` resets the weights and the
optimizer before each round, and prunes after it.
"""

import keras
import numpy as np
import tensorflow as tf

import lottery_tf

keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)

# Points in the plane: inside a ring, or not?
points = generator.uniform(-1, 1, (4000, 2)).astype("float32")
radius = np.hypot(*points.T)
labels = ((radius > 0.4) & (radius < 0.8)).astype("int32")
data = tf.data.Dataset.from_tensor_slices((points, labels)).shuffle(4000, seed=0).batch(100)

model = keras.Sequential(
    [
        keras.Input((2,)),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(64, "relu"),
        keras.layers.Dense(2),
    ]
)
model = lottery_tf.masked(model)
optimizer = keras.optimizers.Adam(3e-3)
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@tf.function
def step(batch: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Update the weights by one batch, and return its loss."""
    with tf.GradientTape() as tape:
        loss = loss_of(targets, model(batch, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


# The model does not hold this optimizer, so name it: each round begins with it as it is now.
for round in lottery_tf.rounds(model, rounds=5, fraction=0.4, optimizers=[optimizer]):
    for _ in range(10):
        for batch, targets in data:
            loss = step(batch, targets)
    correct = np.mean(np.argmax(model(points), axis=-1) == labels)
    print(f"round {round.index}, density {round.density:.1%}: accuracy {correct:.1%}")

weights, masks = lottery_tf.masking.get_weights(model), lottery_tf.masking.get_masks(model)
assert all((weights[path][~mask] == 0).all() for path, mask in masks.items())
