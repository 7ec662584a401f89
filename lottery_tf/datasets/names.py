"""Names that come out of files: which may name a file, which split they mean. Stdlib only."""

from lottery_tf.errors import InputError

LONGEST = 255  # bytes that a file system allows for a name
# {usual name of a split: the names that it has, in any case}
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
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
    """Return the usual name of a split: "train" for "Training"; other names unchanged."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), name)


def check_split(where: str, name: str) -> str:
    """Return the name of a split that is to be written; raise InputError if it cannot be one."""
    if not is_file_name(name) or name.lower() == "all":  # TensorFlow Datasets' word for all splits
        raise InputError(
            f"{where}: expected the name of a split that can be part of a file's name, and is not "
            f"all. Received: {name!a}"
        )
    return name


def brief(value: object) -> str:
    """Return a value as it can stand in a message: short, printable, on one line."""
    if isinstance(value, str) and value.isprintable() and len(value) < 40:
        return value
    written = ascii(value)
    return written if len(written) < 40 else f"{written[:40]}..."
