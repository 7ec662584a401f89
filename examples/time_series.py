"""Find a lottery ticket in a recurrent network that forecasts a time series.

    python examples/time_series.py

Each round trains the network, prunes half of the weights that are left, and resets the others to
their initial values. The forecast at an eighth of the weights is compared with the dense network's.
"""

import keras
import numpy as np

import lottery_tf

keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)

# Two waves and noise. The network sees 32 values, and forecasts the next one.
steps = np.arange(5000)
series = np.sin(steps / 5) + 0.5 * np.sin(steps / 17) + generator.normal(0, 0.1, steps.shape)
windows = np.lib.stride_tricks.sliding_window_view(series.astype("float32"), 33)
inputs, targets = windows[:, :-1, np.newaxis], windows[:, -1]
train, test = slice(0, 4000), slice(4033, None)  # no window is in both

model = keras.Sequential(
    [keras.Input((32, 1)), keras.layers.GRU(32, name="gru"), keras.layers.Dense(1, name="next")]
)
model = lottery_tf.masked(model, exclude="next")
model.compile(keras.optimizers.Adam(3e-3), "mse")

errors = []
# scope="layer" prunes the input kernel and the recurrent kernel by the same part.
for round in lottery_tf.rounds(model, rounds=4, fraction=0.5, scope="layer"):
    model.fit(inputs[train], targets[train], batch_size=64, epochs=4, verbose=0)
    errors.append(model.evaluate(inputs[test], targets[test], verbose=0))
    print(f"round {round.index}, density {round.density:.1%}: error {errors[-1]:.4f}")

lottery_tf.summary(model)  # what is left of each kernel
noise = 0.1**2
print(f"the noise alone has an error of {noise:.4f}, the ticket {errors[-1]:.4f}")
