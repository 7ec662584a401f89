"""Commands beside `python -m lottery_tf.imp`: thin entry points, nothing imports them.

Here a wheel's commands begin, too: `lottery-imp`, and `lottery-<name>` for each module.
"""

import os
import pathlib
import runpy
import sys

# Pictures are written without one: what a user, or a notebook, set may not be installed here.
os.environ["MPLBACKEND"] = "agg"


def main() -> None:
    """Runs the module that the command is named after, as `python -m` does."""
    name = pathlib.Path(sys.argv[0]).stem.removeprefix("lottery-").replace("-", "_")
    sys.path.insert(0, "")  # for --model=my_networks:small
    module = "lottery_tf.imp" if name == "imp" else f"{__name__}.{name}"
    runpy.run_module(module, run_name="__main__", alter_sys=True)
