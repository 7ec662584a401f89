"""Files of Keras's own family: weights whole and in shards, and presets of keras_hub."""

import importlib.util
import json
import pathlib

import keras
import numpy as np
import pytest

import lottery_tf
from lottery_tf import masking
from lottery_tf.errors import InputError
from tests.masking.comparing import equal, same_masks

pytestmark = pytest.mark.versions

SHARD = 1.3e-6  # GB, so that layers are split between files


def attention():
    tokens = keras.Input((4, 8))
    features = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
    features = keras.layers.SeparableConv1D(4, 2)(features)
    features = keras.layers.Bidirectional(keras.layers.LSTM(3))(features)
    head = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(2)])
    return keras.Model(tokens, head(features))


def normalised():
    image = keras.Input((8,))
    features = keras.layers.BatchNormalization()(keras.layers.Dense(36)(image))
    return keras.Model(image, keras.layers.Dense(2)(features))


def embedded():
    words = keras.Input((4,), dtype="int32")
    features = keras.layers.Embedding(40, 8)(words)
    return keras.Model(words, keras.layers.EinsumDense("abc,cd->abd", (4, 5))(features))


NETWORKS = {make.__name__: make for make in (attention, normalised, embedded)}


def made(make, *, of):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = make()
    generator = np.random.default_rng(of)
    model.set_weights([generator.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return model


def pruned(make, *, of):
    model = lottery_tf.masked(made(make, of=of))
    lottery_tf.prune(model, 0.6)
    return model


def save(model, directory, way):
    path = directory / {"h5": "a.weights.h5", "shards": "a.weights.json", "keras": "a.keras"}[way]
    if way == "keras":
        model.save(path)
    else:
        model.save_weights(path, **({"max_shard_size": SHARD} if way == "shards" else {}))
    if way == "shards":
        assert len(list(directory.glob("a_*.weights.h5"))) > 1
    return path


@pytest.mark.ci
@pytest.mark.parametrize("way", ["h5", "shards", "keras"])
@pytest.mark.parametrize("saved", ["plain", "masked"])
@pytest.mark.parametrize("network", NETWORKS)
def test_weights_of_plain_and_masked_models_load_into_masked_ones(network, saved, way, tmp_path):
    make = NETWORKS[network]
    first = made(make, of=1) if saved == "plain" else pruned(make, of=1)
    path = save(first, tmp_path, way)
    model = pruned(make, of=2)
    model.load_weights(path)
    if saved == "masked":
        masks, weights = masking.get_masks(first), list(masking.get_weights(first).values())
    else:
        masks = {path: np.ones_like(mask) for path, mask in masking.get_masks(model).items()}
        weights = first.get_weights()
    found = masking.get_masks(model)
    assert len(found) == len(masks) > 1
    assert equal(masks.values(), found.values())
    assert equal(weights, masking.get_weights(model).values())


@pytest.mark.ci
@pytest.mark.parametrize("way", ["h5", "shards"])
def test_masked_files_with_low_rank_adaptation_load(way, tmp_path):
    first = pruned(normalised, of=1)
    first.layers[1].enable_lora(2)
    path = save(first, tmp_path, "h5") if way == "h5" else tmp_path / "a.weights.json"
    if way == "shards":
        first.save_weights(path, max_shard_size=SHARD)
    model = pruned(normalised, of=2)
    model.layers[1].enable_lora(2)
    model.load_weights(path)
    x = np.ones((2, 8), "float32")
    assert np.allclose(model.predict(x, verbose=0), first.predict(x, verbose=0), atol=1e-6)
    assert same_masks(model, first)


@keras.saving.register_keras_serializable("presets")
class Backbone(keras.Model):
    """Saves and reads presets as keras_hub's Backbone does."""

    def __init__(self, units, **options):
        image = keras.Input((8,))
        outputs = keras.layers.Dense(2)(keras.layers.Dense(units)(image))
        super().__init__(inputs=image, outputs=outputs, **options)
        self.units = units

    def get_config(self):
        return {"name": self.name, "units": self.units}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def save_to_preset(self, preset_dir, max_shard_size=10):
        directory = pathlib.Path(preset_dir)
        directory.mkdir(exist_ok=True)
        config = keras.saving.serialize_keras_object(self)
        for name in ("compile_config", "build_config"):
            config.pop(name, None)
        (directory / "config.json").write_text(json.dumps(config))
        self.save_weights(directory / "model.weights.h5")

    @classmethod
    def from_preset(cls, preset_dir):
        directory = pathlib.Path(preset_dir)
        config = json.loads((directory / "config.json").read_text())
        model = keras.saving.deserialize_keras_object(config)
        model.load_weights(directory / "model.weights.h5")
        return model


def of_keras_hub():
    import keras_hub

    sizes = {"vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "hidden_dim": 8}
    return keras_hub.models.BertBackbone(
        **sizes, intermediate_dim=16, max_sequence_length=6, dropout=0
    )


HAS_HUB = importlib.util.find_spec("keras_hub") is not None
needs_hub = pytest.mark.skipif(not HAS_HUB, reason="keras_hub is not installed")


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:Left dense")
@pytest.mark.parametrize(
    "make", [lambda: Backbone(16), pytest.param(of_keras_hub, marks=needs_hub)], ids=["own", "hub"]
)
def test_presets_of_masked_backbones_are_refused_and_plain_ones_are_read(make, tmp_path):
    backbone = make()
    model = lottery_tf.masked(backbone)
    lottery_tf.prune(model, 0.5)
    with pytest.raises(InputError, match=r"save_to_preset.*unmasked\(model\)\.save_to_preset"):
        model.save_to_preset(str(tmp_path / "masked"))
    assert not (tmp_path / "masked").exists()
    plain = lottery_tf.unmasked(model)
    plain.save_to_preset(str(tmp_path / "plain"))
    loaded = type(backbone).from_preset(str(tmp_path / "plain"))
    assert type(loaded) is type(backbone)
    assert equal(loaded.get_weights(), plain.get_weights())
    again = lottery_tf.masked(loaded)
    assert len(masking.get_masks(again)) == len(masking.get_masks(model))


def test_layers_without_presets_get_no_such_method():
    masked = lottery_tf.masked(made(normalised, of=1))
    assert not hasattr(masked, "save_to_preset")
    assert not hasattr(masking.MaskedInside, "save_to_preset")


@pytest.mark.ci
@pytest.mark.parametrize("way", ["unmasked", "unmask"])
def test_low_rank_adaptation_that_no_configuration_holds_is_merged(way):
    model = lottery_tf.masked(Backbone(16))
    lottery_tf.prune(model, 0.5)
    adapted = model.layers[1]
    adapted.enable_lora(2)
    adapted.lora_kernel_b.assign(np.ones(adapted.lora_kernel_b.shape))
    (kept,) = (kernel.mask.numpy() for kernel in adapted.kernels)
    x = np.ones((2, 8), "float32")
    expected = model.predict(x, verbose=0)
    plain = getattr(lottery_tf, way)(model)
    assert np.allclose(plain.predict(x, verbose=0), expected, atol=1e-6)
    kernel = np.asarray(plain.layers[1].kernel)
    assert kernel[kept].all()
    assert not kernel[~kept].any()
    assert hasattr(plain.layers[1], "lora_kernel_a") == (way == "unmask")
    assert plain.layers[1]._kernel.trainable == (way == "unmasked")
