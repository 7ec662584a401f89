import keras
import numpy as np
import pytest

from lottery_tf import masking, models
from lottery_tf.config import Config

CIFAR, IMAGENET = ((32, 32, 3), 10), ((224, 224, 3), 1000)


def counts(name, shape, classes, **flags):
    """(prunable, trainable, all variables but masks) of a network."""
    network = models.build(Config(model=name, **flags), shape, classes, seed=0)
    weights = masking.variables(network)
    prunable = sum(int(np.prod(k.mask.shape)) for k in masking.kernels(network).values())
    trainable = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    return prunable, trainable, sum(int(np.prod(v.shape)) for v in weights.values())


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("conv4", {}, (2_425_024, 2_425_930, 2_425_930)),
        ("resnet20", {"bn_affine": True}, (268_336, 269_722, 271_098)),
        ("resnet20", {"bn_affine": True, "shortcut": "projection"}, (270_896, 272_474, 274_042)),
        ("resnet20", {}, (268_336, 268_346, 269_722)),
        ("vgg16", {"bn_affine": True}, (14_715_584, 14_724_042, 14_732_490)),
        ("vgg19", {"bn_affine": True}, (20_024_000, 20_035_018, 20_046_026)),
    ],
)
def test_parameter_counts_on_cifar(name, flags, expected):
    assert counts(name, *CIFAR, **flags) == expected


@pytest.mark.ci
def test_parameter_counts_of_resnet50():
    prunable, trainable, _ = counts("resnet50", *IMAGENET, shortcut="projection", bn_affine=True)
    assert (prunable, trainable) == (25_502_912, 25_557_032)


DEEP = ("resnet34", "resnet44", "resnet50", "resnet56", "resnet101", "resnet110")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in DEEP else n for n in models.MODELS]
)
def test_every_network_gives_logits_and_names_its_variables_alike_each_time(name):
    config = Config(model=name)
    paths = []
    for seed in (0, 1):
        network = models.build(config, (32, 32, 3), 7, seed=seed)
        paths.append(list(masking.variables(network)))
    assert paths[0] == paths[1]
    assert network(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 7)


def test_the_identity_shortcut_takes_every_other_pixel_and_adds_empty_channels():
    from lottery_tf.models.layers import Builder
    from lottery_tf.models.resnet import shortcut_of

    image = keras.Input((4, 4, 2))
    around = shortcut_of(Builder("kaiming_normal"), image, 3, 2, "block", "identity")
    pixels = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2)
    found = keras.Model(image, around)(pixels).numpy()
    assert np.array_equal(found[..., :2], pixels[:, ::2, ::2])
    assert not found[..., 2].any()


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("kaiming_normal", np.sqrt(2 / 576)),
        ("kaiming_uniform", np.sqrt(2 / 576)),
        ("glorot_normal", np.sqrt(2 / (576 + 576))),
    ],
)
def test_initializers_are_untruncated(name, deviation):
    network = models.build(Config(model="conv4", initializer=name), *CIFAR, seed=0)
    kernel = masking.get_weights(network)["conv1_2/kernel"]  # fan in 3 * 3 * 64
    assert kernel.std() == pytest.approx(deviation, rel=0.02)
    largest = np.abs(kernel).max() / deviation
    assert largest > 3 if "normal" in name else largest < 1.733  # sqrt(3)


def test_the_seed_makes_the_initialization():
    config = Config(model="resnet20")
    some, same, other = (
        masking.get_weights(models.build(config, *CIFAR, seed=seed)) for seed in (1, 1, 2)
    )
    kernels = [path for path in some if path.endswith("kernel")]
    assert all(np.array_equal(some[path], same[path]) for path in some)
    assert not any(np.array_equal(some[path], other[path]) for path in kernels)
    assert not np.array_equal(
        some["stage1_block1_conv1/kernel"], some["stage1_block1_conv2/kernel"]
    )
