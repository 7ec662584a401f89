"""What a network is and what it is trained on."""

import dataclasses

from lottery_tf.config.fields import flag
from lottery_tf.datasets import AUGMENTATIONS, DATASETS
from lottery_tf.models import INITIALIZERS, MODELS


@dataclasses.dataclass(frozen=True)
class DataFlags:
    """Flags of the network and of its data."""

    model: str = flag(
        "lenet",
        f"Network: {', '.join(MODELS)}; or package.module:function, called with the input shape "
        "and the number of classes.",
    )
    initializer: str = flag(
        "kaiming_normal",
        "Distribution of the initial kernels (untruncated); biases start at zero.",
        choices=tuple(INITIALIZERS),
    )
    shortcut: str = flag(
        "identity",
        "Where shapes change in a ResNet: identity = every other pixel and channels of zeros, "
        "without weights (option A); projection = 1 x 1 convolution and BatchNorm (option B).",
        choices=("identity", "projection"),
    )
    bn_affine: bool = flag(False, "Whether BatchNorm learns a scale and an offset.")
    dataset: str = flag(
        "digits",
        f"Dataset: {', '.join(DATASETS)}; or a directory of images and labels in TensorFlow "
        "Datasets' layout.",
        path=True,
    )
    train_examples: int | None = flag(
        None, "Train on this many examples, the first of the split. Default: all.", at_least=1
    )
    image_size: int = flag(
        224,
        "Height and width to which images of varying size are cropped.",
        at_least=1,
        below=2**15,
    )
    augment: str = flag(
        "auto",
        "Augmentation in training. auto: flip_crop for CIFAR (flip, pad 4 and crop), a random "
        "resized crop and flip for images of varying size, else none.",
        choices=("auto", *AUGMENTATIONS),
    )
    data_dir: str = flag("data", "Directory that holds the prepared datasets.", how=True, path=True)
    shuffle_window: int = flag(
        65536,
        "Records that are shuffled together; shards are permuted as a whole.",
        at_least=1,
        below=2**63,
    )
    train_split: str = flag(
        "train", "Split to train on; several are joined by plus signs, as train+extra."
    )
    test_split: str = flag(
        "",
        "Split to evaluate on; several as in --train_split. Default: test, else validation; of "
        "imagenet2012 validation.",
    )
    test_fraction: float | None = flag(
        None,
        "Evaluate on this part of --train_split, drawn once, the same for every seed, and train "
        "on the rest. Default: --test_split.",
        above=0,
        below=1,
    )
    validation_fraction: float | None = flag(
        None,
        "Hold out this part of the training examples, drawn once, the same for every seed. "
        "--early_stop=connected measures its barrier on them. Default: none.",
        above=0,
        below=1,
    )
    image_key: str = flag("image", "Name of the field that holds the image of an example.")
    label_key: str = flag("label", "Name of the field that holds its label.")
