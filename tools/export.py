"""Export a ticket as a SavedModel, .keras, LiteRT, ONNX, OpenVINO, npz or C file, and check it.

python -m tools.export --run_dir=runs/lenet --round=10 --out=exports/lenet
"""

import pathlib

from absl import flags

from lottery_tf.analysis.runs import open_runs
from lottery_tf.config import command
from lottery_tf.config.paths import define_path
from lottery_tf.errors import InputError
from lottery_tf.export import report
from lottery_tf.export.formats import FORMATS, Choices, check
from lottery_tf.export.formats import QUANTIZE as TYPES
from lottery_tf.terminal import console, quiet

from . import shared

OUT = define_path("out", None, "Directory to write into.")
ROUND = flags.DEFINE_string(
    "round",
    "best",
    "Number of a finished round. best: the sparsest round that matches the dense network's "
    "accuracy, up to --tolerance, on the test split, or on the part of the training split that "
    "--test_fraction held out.",
)
flags.DEFINE_float(
    "tolerance",
    None,
    "Part of the test examples that --round=best may lose. Default: one standard deviation of an "
    "accuracy on them, by which tools.report decides what matches.",
)
MODEL = define_path("model", None, "A masked .keras file of your own, instead of --run_dir.")
INPUTS = define_path(
    "inputs",
    None,
    "An .npz with an array for each input of --model, to compare its export on. Default: random.",
)
flags.DEFINE_enum("format", "saved_model", [*FORMATS], "Format to write.")
flags.DEFINE_bool(
    "compact", False, "Remove units and channels that nothing depends on, and fold BatchNorm."
)
flags.DEFINE_enum(
    "sparse_matmul",
    "off",
    ["off", "auto"],
    "auto: compute Dense layers as sparse products where those are faster on this machine.",
)
flags.DEFINE_enum(
    "quantize",
    "none",
    TYPES,
    "Type of the stored weights: float16 or int8 for LiteRT, int8 for C. int8 also quantizes the "
    "inputs of products, calibrated on training images.",
)
flags.DEFINE_bool(
    "dense", False, "Store pruned weights too, as runtimes without the operation DENSIFY need."
)
flags.DEFINE_integer(
    "batch_size", 128, "Number of examples that --sparse_matmul measures with.", lower_bound=1
)
flags.DEFINE_bool(
    "card",
    False,
    "Write a model card, README.md. With --format=keras, write a repository for Hugging Face's "
    "hub, with the ticket for lottery_tf.load_ticket.",
)
flags.DEFINE_string(
    "date",
    "",
    "Date of the export, as 2026-11-30. Default: that of SOURCE_DATE_EPOCH, or today.",
)
flags.DEFINE_string("license", "", "Licence that the card states, as mit or cc-by-4.0.")
flags.DEFINE_string("intended_use", "", "Intended use that the card states: a sentence.")
flags.DEFINE_bool("time", True, "Time calls of the export and write timing.json.")
flags.DEFINE_integer(
    "examples", 10_000, "Largest number of test examples to compare on.", lower_bound=1
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing export.")
INFO = define_path("info", None, "Print the report of an existing export and write nothing.")
shared.define("run_dir", "data_dir", about={"run_dir": "Run directory."})


def main(_: object) -> None:
    if INFO.value:
        return report.show(report.read(pathlib.Path(INFO.value)))
    runs = flags.FLAGS.run_dir
    if not OUT.value or len(runs) + bool(MODEL.value) != 1:
        raise InputError(
            "Expected --out and one of --run_dir and --model, or --info. Received: "
            f"--out={OUT.value or ''} --run_dir={','.join(runs)} --model={MODEL.value or ''}"
        )
    out = pathlib.Path(OUT.value)
    choices = Choices(**shared.values(*Choices.__dataclass_fields__))
    check(out, choices, overwrite=OVERWRITE.value)
    if not MODEL.value:
        open_runs(runs)
    elif not pathlib.Path(MODEL.value).exists():
        raise InputError(f"--model={MODEL.value}: expected a .keras file. Found none.")
    from lottery_tf.export import fresh

    # It imports its runtime beside this process.
    with fresh.started(choices.format), console.Stages() as stages:
        stages.begin("Loading TensorFlow and the ticket")
        with quiet.without("jax"):  # TensorFlow imports it unasked, in a seventh of its time
            quiet.import_tensorflow()
        from lottery_tf.export import exporting, ticket

        if MODEL.value:
            found = ticket.of_file(MODEL.value, inputs=INPUTS.value)
        else:
            options = shared.values("tolerance", "examples", "data_dir")
            found = ticket.of_run(runs[0], ROUND.value, **options)
        stages.end()
        written = exporting.export(found, out, choices)
    report.show(written)
    print(f"Wrote {out}")


if __name__ == "__main__":
    command.run(main)
