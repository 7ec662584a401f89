"""The commands, thin entry points that nothing imports.

    lottery COMMAND --flag=value              where the wheel is installed
    python -m tools COMMAND --flag=value      in a checkout; python -m tools.COMMAND is the same

A measure of lottery_tf.analysis is a command by itself.
"""

import os
import runpy
import sys
import textwrap

from lottery_tf import analysis

# Pictures are written without one: what a user, or a notebook, set may not be installed here.
os.environ["MPLBACKEND"] = "agg"

COMMANDS = {
    "imp": "run or resume an experiment: iterative magnitude pruning",
    "sweep": "make all runs of a study, a grid of experiments",
    "report": "write an HTML page about a run, about replicates, or about a study",
    "figures": "draw a figure of the papers, or accuracy against density",
    "export": "write a ticket as a SavedModel, .keras, LiteRT, ONNX, OpenVINO, npz or C file",
    "prepare_data": "download or read a dataset, check it, and write TFRecords",
    "successive": "write accuracy and distances of several runs into one CSV file",
    "benchmark": "measure the time of a step beside plain Keras, and more",
    "scaling": "estimate the step time and efficiency of data-parallel training",
    "make_digits": "make data/digits, the embedded dataset",
    "make_reference": "write docs/reference: every flag, file, CSV column and TensorBoard tag",
}


def main() -> None:
    """Run the command that the first argument names; list the commands without one."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return
    name = name.replace("-", "_")
    if name not in COMMANDS and name not in analysis.MEASURES:
        known = ", ".join([*COMMANDS, *analysis.MEASURES])
        print(f"Error: expected a command, one of {known}. Received: {name}", file=sys.stderr)
        sys.exit(1)
    sys.path.insert(0, "")  # for --model=my_networks:small
    sys.argv = [f"lottery {name}", *arguments]
    if name in COMMANDS:
        module = "lottery_tf.imp" if name == "imp" else f"{__name__}.{name}"
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    from absl import flags

    from . import shared

    flags.disclaim_key_flags()  # --help lists them under the command
    shared.run_measure(name)


def usage() -> str:
    """Return the list of commands."""
    about = COMMANDS | {name: about for name, (about, _) in analysis.MEASURES.items()}
    width = max(map(len, about)) + 4
    lines = [
        textwrap.fill(
            text.replace("`", ""),
            width=88,
            initial_indent=f"  {name.replace('_', '-')}".ljust(width),
            subsequent_indent=" " * width,
        )
        for name, text in about.items()
    ]
    return "\n".join(
        ["lottery COMMAND --flag=value; lottery COMMAND --help lists its flags.", "", *lines]
    )
