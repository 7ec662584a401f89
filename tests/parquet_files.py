"""Parquet files that the tests make, as the Hugging Face hub has them."""

import io
import json

import pyarrow
import pyarrow.parquet
from PIL import Image

from lottery_tf.datasets import prepare
from tests.synthetic import shaded

NAMES = ("dark", "gray", "light")
STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def encoded(image, kind="PNG"):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def save(path, images, labels, *, names=NAMES, keys=("image", "label"), **columns):
    """A Parquet file of images (arrays, bytes or None) and labels, as the hub writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"bytes": image if isinstance(image, bytes | None) else encoded(image), "path": "a.png"}
        for image in images
    ]
    table = {keys[0]: pyarrow.array(rows, STRUCT), keys[1]: pyarrow.array(labels), **columns}
    features = {keys[0]: {"_type": "Image"}, keys[1]: {"names": names, "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pyarrow.table(table).replace_schema_metadata(about if names else None)
    pyarrow.parquet.write_table(schema, path, row_group_size=7)
    return path


def write_hub(tmp_path):
    """A directory of two training files and one of the test split."""
    images, labels = shaded(45)
    save(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet", images[:20], labels[:20])
    save(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet", images[20:], labels[20:])
    save(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", *shaded(12))
    (tmp_path / "hub" / "README.md").write_text("about it")
    return tmp_path / "hub"


def make(tmp_path, raw_dir, dataset=None, **options):
    options = {"name": None if dataset else "own"} | options
    return prepare.prepare(
        dataset, "parquet", data_dir=tmp_path / "data", raw_dir=str(raw_dir), **options
    )
