"""streams.json of a run: which random streams it draws from, where versions differ. Stdlib only.

A run that has no such file was begun by a version that had other streams, or draws from none of
them. It goes on with the streams that it began with.
"""

import json
import pathlib

from lottery_tf.pruning import criteria, streams
from lottery_tf.runs import files

NAME = "streams.json"


def record(run: pathlib.Path, criterion: str) -> None:
    """Write streams.json of a run that begins, if its criterion may draw random scores."""
    if criterion in criteria.CRITERIA and "uniform" not in criteria.needs(criterion):
        return
    content = {"random_scores": streams.RANDOM_SCORES}
    files.write_text(run / NAME, json.dumps(content, indent=0) + "\n")


def are_old(run: pathlib.Path) -> bool:
    """Return whether a run draws random scores from the stream of older versions."""
    return not (run / NAME).exists()
