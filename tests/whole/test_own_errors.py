"""An error of our own is not blamed on what a user gave: it goes through, or is the cause."""

import ast
import io
import pathlib
import pickle

import keras
import numpy as np
import pytest
from PIL import Image

import lottery_tf
from lottery_tf import datasets, masking, models
from lottery_tf.datasets import arrays, image_files, raw
from lottery_tf.errors import InputError
from lottery_tf.export import lite, onnx_file, openvino_file, ticket
from lottery_tf.export.formats import Options
from lottery_tf.runs import contents, files
from tests.conftest import ROOT

BROAD = {"Exception", "BaseException"}


def broad_handlers():
    """(place, handler) of every except of Exception in the package and its tools."""
    for path in sorted([*ROOT.glob("lottery_tf/**/*.py"), *ROOT.glob("tools/*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
                if any(kind is None or getattr(kind, "id", "") in BROAD for kind in kinds):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_what_is_raised_for_any_error_has_it_as_its_cause():
    hidden, seen = [], 0
    for place, handler in broad_handlers():
        for node in ast.walk(handler):
            if isinstance(node, ast.Raise) and node.exc is not None:
                seen += 1
                if getattr(node.cause, "id", None) != handler.name:
                    hidden.append(place)
    assert seen > 5
    assert not hidden


class Ours(Exception):
    """As a fault of this package would raise it."""


def fail(*_, **__):
    raise Ours


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.zeros((1, 2, 2, 1)), y_train=np.zeros(1, int))
    return buffer.getvalue()


def png():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def cifar(tmp_path):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    return raw._read_pickle("data_batch_1", pickle.dumps(batch), raw._CIFAR["cifar10"])


def arrays_file(tmp_path):
    (tmp_path / "file.npz").write_bytes(npz())
    return arrays._load(tmp_path / "file.npz")


def dataset_fields(_):
    path = datasets.packaged("data") / datasets.EMBEDDED / "1.0.0"
    return datasets.layout.read_fields(path, "image", "label")


def layout(tmp_path):
    (tmp_path / "file.npz").write_bytes(npz())
    return contents.read_layout(tmp_path / "file.npz")


def own_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    lottery_tf.masked(model).save(tmp_path / "model.keras")
    return ticket.of_file(tmp_path / "model.keras")


def network(tmp_path):
    from lottery_tf.config import Config

    return models.build(Config(), (8, 8, 1), 10, seed=0)


# place: (what of ours fails, what calls it).
PLACES = {
    "npz of a run": (np.lib.format, "read_array", lambda _: files.parse_npz(npz())),
    "layout of a run": (contents, "read_header", layout),
    "npz of images": (arrays, "_member", arrays_file),
    "fields of a dataset": (datasets.layout, "_of_today", dataset_fields),
    "image": (image_files, "_read", lambda _: image_files.read("a.png", png())),
    "batch of CIFAR": (raw, "_to_nhwc", cifar),
    "model to export": (masking, "kernels", own_model),
    "network of a run": (models, "_checked", network),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_fault_of_ours_is_seen(place, tmp_path, monkeypatch):
    module, name, call = PLACES[place]
    call(tmp_path)
    monkeypatch.setattr(module, name, fail)
    with pytest.raises((InputError, Ours)) as raised:
        call(tmp_path)
    assert isinstance(raised.value, Ours) or isinstance(raised.value.__cause__, Ours)


@pytest.mark.parametrize("format", [lite, onnx_file, openvino_file])
def test_what_a_converter_raises_is_the_cause(format, tmp_path, monkeypatch, capfd):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    monkeypatch.setattr(keras.Model, "export", fail)
    with pytest.raises(InputError, match="cannot hold") as raised:
        format.write(model, pathlib.Path(tmp_path), Options())
    assert isinstance(raised.value.__cause__, Ours)
    assert capfd.readouterr().err == ""


def test_a_file_that_is_no_model_is_named_in_a_line(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"--model=.*model\.keras"):
        ticket.of_file(path)
