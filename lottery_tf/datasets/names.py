"""Names from files: which may become names of files, and which split they mean. Stdlib only."""

from lottery_tf.errors import InputError

LONGEST = 255  # bytes that a file system allows for a name
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}


def is_file_name(name: str) -> bool:
    """Return whether a name can stand in a path without leading to another directory.

    Every name that comes out of a file (a split, an array, a field, a line of checksums) passes
    through here before it becomes a part of a path.
    """
    return (
        name.isprintable()  # so it has no NUL and no surrogates either
        and 0 < len(name.encode()) <= LONGEST
        and name.strip() not in ("", ".", "..")
        and not set(name) & set("/\\")
    )


def split_of(name: str) -> str:
    """Return the usual name of a split: "train" for "Training"; another name as it is."""
    return _SPLITS.get(name.lower(), name)


def check_split(where: str, name: str) -> str:
    """Return the name of a split that is to be written; raise InputError if it cannot be one."""
    if not is_file_name(name) or name.lower() == "all":  # TensorFlow Datasets' word for all splits
        raise InputError(
            f"{where}: expected a name of a split that can be part of a file's name, and not all. "
            f"Received: {name!a}"
        )
    return name
