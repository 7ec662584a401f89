"""Replaces what libraries write by chance or by the clock, so two exports have the same bytes.

Keras writes the time, and numbers objects by their addresses. TensorFlow draws a random name for
each SavedModel.
"""

import json
import pathlib
import re
import uuid
import zipfile

METADATA, CONFIG = "metadata.json", "config.json"


def keras_archive(path: pathlib.Path, date: str) -> None:
    """Rewrite a .keras file as saved on a date, "2026-11-30"."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():  # a ZipInfo is of 1980
            archive.writestr(zipfile.ZipInfo(name), _fixed(name, content, date))


def keras_directory(directory: pathlib.Path, date: str) -> None:
    """Rewrite two files of a Keras repository as saved on a date."""
    for name in (METADATA, CONFIG):
        path = directory / name
        path.write_bytes(_fixed(name, path.read_bytes(), date))


def _fixed(name: str, content: bytes, date: str) -> bytes:
    """Return the content of a Keras file with this date, and with its objects numbered in order."""
    if name == METADATA:
        return json.dumps(json.loads(content) | {"date_saved": f"{date}@00:00:00"}).encode()
    if name != CONFIG:
        return content
    numbers: dict[str, int] = {}

    def numbered(found: re.Match) -> str:
        return f'"shared_object_id": {numbers.setdefault(found[1], len(numbers))}'

    return re.sub(r'"shared_object_id": (\d+)', numbered, content.decode()).encode()


def saved_model(directory: pathlib.Path) -> None:
    """Derive the name of a SavedModel, which TensorFlow draws, from its content."""
    from tensorflow.core.protobuf import fingerprint_pb2

    path = directory / "fingerprint.pb"
    if not path.exists():  # an older TensorFlow
        return
    found = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    if not hasattr(found, "uuid"):
        return
    found.uuid = ""
    content = found.SerializeToString(deterministic=True)
    found.uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, content.hex()))
    path.write_bytes(found.SerializeToString(deterministic=True))
