"""The promises of masks on JAX, in a process that cannot import TensorFlow."""

import os
import subprocess
import sys

import pytest

from tests.backends import contract
from tests.conftest import ROOT

pytestmark = pytest.mark.ci


@pytest.mark.filterwarnings("ignore:Left dense")
def test_masks_hold_on_jax_without_tensorflow_and_are_those_of_tensorflow(tmp_path):
    contract.exchange(tmp_path)
    command = [sys.executable, "-m", "tests.backends", "--backend=jax", f"--directory={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "jax: 15 of 15 checks hold." in done.stdout


USE = """
import sys

class Importers:
    names = set()

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            frame = sys._getframe(1)
            while "importlib" in frame.f_globals["__name__"]:
                frame = frame.f_back
            self.names.add(frame.f_globals["__name__"].split(".")[0])
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Importers())
import keras, lottery_tf, numpy as np
inputs = keras.Input((8,))
model = lottery_tf.masked(keras.Model(inputs, keras.layers.Dense(3)(inputs)))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
data = np.ones((8, 8), "float32"), np.arange(8) % 3
for round in lottery_tf.rounds(model, 2, 0.5, directory="run", criterion="taylor", data=data):
    model.fit(*data, verbose=0, callbacks=round.callbacks)
lottery_tf.prune(model, 0.5, criterion="synflow")
lottery_tf.summary(model)
lottery_tf.unmasked(model).save("plain.keras")
model.save("masked.keras")
keras.models.load_model("masked.keras")
print(sorted(Importers.names))
"""


def test_no_function_of_ours_imports_tensorflow(tmp_path):
    """Keras tries, when it writes a configuration: to know TensorShapes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['keras']"
