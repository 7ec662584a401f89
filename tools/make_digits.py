"""Makes data/digits, the embedded dataset, from the digits that scikit-learn ships.

python -m tools.make_digits
"""

import os
import pathlib
import shutil

import numpy as np

from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.terminal import quiet

DATA_DIR = define_path("data_dir", "data", "Directory that holds the prepared datasets.")

TEST_EXAMPLES = 450
ABOUT = {
    "description": "Optical recognition of handwritten digits: 1,797 images of 8 x 8 pixels.",
    "homepage": "https://archive.ics.uci.edu/dataset/80",
}
LEVELS = 16  # a pixel counts the dark ones of 4 x 4 finer pixels


def main(_: object) -> None:
    data_dir = pathlib.Path(DATA_DIR.value)
    target = data_dir / "digits"
    if os.path.lexists(target) and not any(target.glob("*/dataset_info.json")):
        raise InputError(
            f"{target} is there and is no prepared dataset, so it will not be replaced. Name "
            "another --data_dir, or remove it."
        )
    quiet.import_tensorflow()
    from sklearn.datasets import load_digits

    from lottery_tf.datasets.prepare import write
    from lottery_tf.datasets.raw import of_arrays

    digits = load_digits()
    images = np.round(digits.images * 255 / LEVELS).astype(np.uint8)[..., np.newaxis]
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
    classes = tuple(map(str, digits.target_names))
    sources = {
        name: of_arrays(images[rows], digits.target[rows], classes)
        for name, rows in (("train", train), ("test", test))
    }
    shutil.rmtree(target, ignore_errors=True)
    write("digits", sources, data_dir, version="1.0.0", **ABOUT)
    pixels = images[train] / 255
    print(f"train mean {pixels.mean():.4f}, standard deviation {pixels.std():.4f}")


if __name__ == "__main__":
    command.run(main)
