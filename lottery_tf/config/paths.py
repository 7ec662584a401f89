"""Flags of paths: `~` is the home directory, and a list accepts directories with commas."""

import os
from typing import Any

from absl import flags

flags.disclaim_key_flags()  # --help lists them under the command that asked for them


class PathParser(flags.ArgumentParser):
    """Parses a path."""

    syntactic_help = "a path"

    def parse(self, argument: Any) -> str:
        """Return the path, its ~ expanded."""
        return os.path.expanduser(super().parse(argument))

    def flag_type(self) -> str:
        """Return what --help calls it."""
        return "path"


class PathListParser(flags.ListParser):
    """Parses paths with commas between them."""

    def __init__(self) -> None:
        super().__init__()
        self.syntactic_help = "a path, or several with commas"

    def parse(self, argument: Any) -> list[str]:
        """Return the paths, as `split_paths` splits them."""
        return split_paths(argument) if isinstance(argument, str) else super().parse(argument)


def split_paths(text: str) -> list[str]:
    """Return the paths of a list with commas, ~ expanded; an existing directory keeps its commas.

    Raises:
        ValueError: an empty path.
    """
    pieces, paths = text.split(",") if text else [], []
    while pieces:
        beginnings = {n: _join(pieces[:n]) for n in range(len(pieces), 1, -1)}
        existing = [n for n, path in beginnings.items() if os.path.isdir(path)]
        count = existing[0] if existing else 1
        paths.append(_join(pieces[:count]))
        if not paths[-1]:
            raise ValueError(f"expected paths with commas between them; one is empty in {text!r}")
        pieces = pieces[count:]
    return paths


def _join(pieces: list[str]) -> str:
    return os.path.expanduser(",".join(pieces).strip())


def define_path(name: str, default: str | None, text: str, **options: Any) -> flags.FlagHolder:
    """Define a flag of a path; options as of absl's DEFINE."""
    return flags.DEFINE(PathParser(), name, default, text, **options)


def define_paths(name: str, default: list[str], text: str, **options: Any) -> flags.FlagHolder:
    """Define a flag of paths with commas between them; options as of absl's DEFINE."""
    serializer = flags.ListSerializer(",")
    return flags.DEFINE(PathListParser(), name, default, text, serializer=serializer, **options)
