"""Golden bytes: tiny runs of every method, and SHA-256 of what they and the tools write.

    python -m tests.golden --out=before.json              # of the code as it is
    python -m tests.golden --against=before.json          # lists what differs; exit status 1
    python -m tests.golden --against=before.json --only=reset/ --keep=/tmp/after

It uses only what a redesign keeps: `python -m lottery_tf.imp`, `python -m tools.<name>`, the public
functions of `lottery_tf`, and files on disk; so that this one file can be copied beside other code.
Compare on one machine with one set of versions, as the bits of a result depend on both.

Each run is a process of its own, forked from one that has imported TensorFlow; --fork=no starts
each anew. Left out, as they depend on the time or the place or are no result:

  - columns of CSV files, keys of JSON files and tags of TensorBoard that match UNSTEADY;
    in SHA256SUMS the digests of CSV files, which hold seconds;
  - paths, which become <work> and <root>; the values of environment.json;
  - log.txt, .lock, caches (*.cache.json), HTML, *.md, the pixels of pictures (their names count),
    and in export.json versions and sentences;
  - of TensorBoard the names of files, the times, descriptions and pixels; what HParams holds.

Keys of JSON files and lines of flags.cfg are sorted: their order has no meaning.
"""

import argparse
import contextlib
import csv
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
# With one thread in each of two processes at once; the environment is that of every run.
ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "MPLBACKEND": "agg",
}
AT_ONCE = 2
LONGEST = 1200  # seconds of one combination, on a machine that others use, too
UNSTEADY = re.compile(r"seconds|_ms\b|per_second|^(lines|trained_with|exported_with)$")
PROSE = {"removed", "left"}  # keys of export.json whose values are sentences about layers
PICTURES = {".png", ".pdf", ".svg"}
STATUSES = "statuses.txt"
EVENTS = "tensorboard.backend.event_processing.event_file_loader"
IGNORED = (
    "log.txt",
    "output.txt",
    ".lock",
    "*.cache.json",
    "*.html",
    "*.md",
    "*.log",
    ".*.aside",
    ".*.tmp",
)


# What runs ----------------------------------------------------------------------------------


def convolutional(input_shape, classes):
    """A network with what a run can hold: BatchNorm's statistics, and random numbers of dropout."""
    import keras

    image = keras.Input(input_shape)
    features = keras.layers.Conv2D(8, 3, name="conv")(image)
    features = keras.layers.BatchNormalization(momentum=0.5, name="bn")(features)
    features = keras.layers.Flatten()(keras.layers.ReLU()(features))
    features = keras.layers.Dropout(0.2)(features)
    features = keras.layers.Dense(20, activation="relu", name="hidden")(features)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(features))


SMALL = "--model=tests.golden:convolutional --train_examples=640"
TO_DENSITY = "--dataset=digits --data_dir=data --batch_size=32 --epochs=1"
LENET = f"{TO_DENSITY} --rounds=3 --prune_fraction=0.5"
CONV = f"{LENET} {SMALL}"
TWO_EPOCHS = "--epochs=2 --schedule=step --lr_drops=1"

WITHOUT_GRADIENTS = ("magnitude", "large_init", "magnitude_increase", "movement", "random")
WITH_GRADIENTS = ("taylor", "snip", "grasp", "synflow")

# Runs that others refer to as <work>/sources/…; {name: flags}.
SOURCES = {
    "lenet": f"{LENET} --rounds=4",
    "reinit": f"{LENET} --rounds=4 --reset=reinit",
    "other": f"{LENET} --rounds=4 --seed=1",
    "conv": CONV,
}
LENET_RUN, CONV_RUN, OTHER_RUN = (f"<work>/sources/{name}" for name in ("lenet", "conv", "other"))

RUNS = {
    **{
        f"reset/{name} {net}": f"{flags} --reset={name} {more}"
        for net, flags in (("lenet", LENET), ("conv", CONV))
        for name, more in {
            "init": "",
            "rewind": "--rewind_to=10",
            "reinit": "",
            "lr_rewind": f"{TWO_EPOCHS} --rewind_to=1ep",
            "finetune": f"{TWO_EPOCHS} --finetune_epochs=1",
            "signs": "",
            "trained_signs": "",
            "shuffle": "",
        }.items()
    },
    "reset/rewind 1ep adam warm-up": f"{LENET} --reset=rewind --rewind_to=1ep --epochs=2 "
    "--warmup_epochs=0.5",
    "reset/lr_rewind default": f"{CONV} --reset=lr_rewind",
    "reset/finetune default": f"{LENET} --reset=finetune --epochs=2 --schedule=step --lr_drops=1",
    **{
        f"criterion/{name} lenet": f"{LENET} --criterion={name}"
        for name in (*WITHOUT_GRADIENTS, *WITH_GRADIENTS)
    },
    **{f"criterion/{name} conv": f"{CONV} --criterion={name}" for name in WITH_GRADIENTS},
    "criterion/taylor in 3 iterations": f"{LENET} --criterion=taylor --prune_iterations=3",
    "criterion/synflow layer": f"{CONV} --criterion=synflow --scope=layer --prune_iterations=5",
    "repel/all": f"{LENET} --repel=2",
    "repel/previous": f"{LENET} --rounds=4 --repel=2 --repel_from=previous",
    "repel/last two": f"{LENET} --rounds=4 --repel=2 --repel_from=2",
    "repel/layer": f"{CONV} --repel=2 --repel_scope=layer",
    "repel/saliency": f"{LENET} --repel=2 --repel_weighting=saliency",
    "repel/saliency layer": f"{CONV} --repel=2 --repel_weighting=saliency --repel_scope=layer",
    "repel/attracted": f"{LENET} --repel=-1",
    "repel/attracted conv momentum": f"{CONV} --repel=-1 --optimizer=momentum --learning_rate=0.05",
    "repel/other runs": f"{LENET} --repel=2 --repel_runs={LENET_RUN},{OTHER_RUN}",
    "repel/rewound": f"{CONV} --repel=1 --reset=rewind --rewind_to=5",
    "repel/mirrored": f"{CONV} --repel=1 --strategy=mirrored --cpu_devices=2",
    "repel/accumulated": f"{LENET} --repel=1 --accumulate_steps=4",
    "feed/accumulated": f"{LENET} --accumulate_steps=4",
    "feed/accumulated conv": f"{CONV} --accumulate_steps=2 --weight_decay=1e-3",
    "feed/streamed": f"{LENET} --resident=off",
    "feed/streamed conv, small window": f"{CONV} --resident=off --shuffle_window=100",
    "feed/augmented": f"{LENET} --augment=flip_crop",
    "feed/augmented streamed": f"{CONV} --augment=flip_crop --resident=off",
    "feed/validation_fraction": f"{LENET} --early_stop=connected --validation_fraction=0.2 "
    "--epochs=3 --short_epochs=1 --rounds=4 --connected_error=0.5",
    "feed/early stop conv": f"{CONV} --early_stop=connected --validation_fraction=0.1 --epochs=3 "
    "--short_epochs=1 --rounds=4 --connected_error=0.9 --learning_rate=3e-4",
    "feed/test_fraction": f"{LENET} --test_fraction=0.2",
    "feed/train on test": f"{LENET} --train_split=test --test_split=train",
    "devices/mirrored": f"{LENET} --strategy=mirrored --cpu_devices=2",
    "devices/mirrored conv": f"{CONV} --strategy=mirrored --cpu_devices=2",
    "devices/mirrored streamed accumulated": f"{LENET} --strategy=mirrored --cpu_devices=2 "
    "--resident=off --accumulate_steps=2",
    "devices/mirrored taylor": f"{LENET} --strategy=mirrored --cpu_devices=2 --criterion=taylor",
    "devices/no XLA": f"{LENET} --jit_compile=off",
    "devices/XLA conv": f"{CONV} --jit_compile=on",
    "devices/deterministic": f"{CONV} --deterministic",
    "prune_at/train": f"{TO_DENSITY} --epochs=2 --densities=0.5,0.2 --prune_at=train",
    "prune_at/train constant": f"{TO_DENSITY} {SMALL} --epochs=2 --density=0.3 --prune_at=train "
    "--prune_begin=5 --prune_end=1ep --prune_frequency=3 --prune_schedule=constant",
    "prune_at/init magnitude": f"{TO_DENSITY} --densities=0.5,0.2 --prune_at=init",
    "prune_at/init snip": f"{TO_DENSITY} --density=0.2 --prune_at=init --criterion=snip",
    "prune_at/init synflow conv": f"{TO_DENSITY} {SMALL} --density=0.2 --prune_at=init "
    "--criterion=synflow",
    "prune_at/init rewind": f"{TO_DENSITY} --density=0.2 --prune_at=init --reset=rewind "
    "--rewind_to=10",
    "where/layer": f"{LENET} --scope=layer",
    "where/layer_fractions": f"{LENET} --scope=layer --layer_fractions=logits:0.1",
    "where/erk": f"{TO_DENSITY} {SMALL} --scope=erk --densities=0.5,0.1",
    "where/keep_dense": f"{CONV} --keep_dense=conv,log*",
    "where/min_layer_weights": f"{CONV} --prune_fraction=0.8 --min_layer_weights=15",
    "where/densities": f"{TO_DENSITY} --densities=0.3,0.05",
    "where/density": f"{TO_DENSITY} {SMALL} --density=0.1",
    "where/density layer": f"{TO_DENSITY} {SMALL} --density=0.1 --scope=layer",
    "where/nothing left": f"{CONV} --prune_fraction=0.9999 --rounds=4",
    "from/masks_from": f"{TO_DENSITY} --rounds=3 --masks_from={OTHER_RUN}",
    "from/masks_from, shuffled": f"{TO_DENSITY} --rounds=3 --masks_from={OTHER_RUN} "
    "--shuffle_masks=layer",
    "from/masks_from, over all": f"{TO_DENSITY} --rounds=3 --masks_from={OTHER_RUN} "
    "--shuffle_masks=global",
    "from/round_0_from": f"{LENET} --round_0_from={LENET_RUN} --criterion=random --reset=reinit",
    "from/round_0_from rewind": f"{LENET} --round_0_from={LENET_RUN} --reset=rewind --rewind_to=9",
    "optimizer/cosine momentum l2": f"{LENET} --optimizer=momentum --learning_rate=0.1 "
    "--schedule=cosine --weight_decay=1e-3 --epochs=2",
    "optimizer/cosine momentum decoupled": f"{CONV} --optimizer=momentum --learning_rate=0.05 "
    "--momentum=0.8 --schedule=cosine --weight_decay=1e-3 --weight_decay_mode=decoupled "
    "--weight_decay_on=kernels --warmup_epochs=0.5",
    "optimizer/step adam": f"{LENET} --epochs=3 --schedule=step --lr_drops=1,2 --lr_drop_factor=5",
    "optimizer/bfloat16": f"{LENET} --mixed_precision=bfloat16",
    "optimizer/float16 conv": f"{CONV} --mixed_precision=float16",
    "seed/both": f"{LENET} --seed=3",
    "seed/init": f"{LENET} --init_seed=3 --reset=reinit",
    "seed/data": f"{CONV} --data_seed=4294967295",
    **{
        f"network/{name}": f"{LENET} --model={name} --rounds=2 --train_examples=64 {more}"
        for name, more in {
            "lenet": "--initializer=glorot_normal",
            "conv4": "--initializer=kaiming_uniform",
            "resnet20": "--bn_affine --shortcut=projection",
        }.items()
    },
}

# Tools on a copy of a source run; {name: (source, arguments)}.
TOOLS = {
    "barriers": ("lenet", "--points=5 --pairs=0-1,1-3 --at_rounds=0,1"),
    "barriers aligned": ("lenet", f"--points=5 --align=permutation --other_run={OTHER_RUN}"),
    "barriers conv": ("conv", "--points=5"),
    "barriers conv interpolate train": ("conv", "--points=5 --bn_stats=interpolate --split=train"),
    "classes": ("lenet", ""),
    "curvature": (
        "lenet",
        "--examples=200 --at_rounds=0,3 --other_run=<work>/sources/reinit --labels=ticket,reinit",
    ),
    "cyclic": ("lenet", "--at_rounds=2 --cycles=2"),
    "distances": ("lenet", "--metric=all"),
    "distances aligned": ("lenet", f"--align=permutation --other_run={OTHER_RUN}"),
    "distances between runs": ("lenet", "--metric=all --other_run=<work>/sources/reinit"),
    "distances of replicates": ("lenet,<work>/sources/other", "--metric=angular"),
    "figures": ("lenet,<work>/sources/reinit", "--labels=ticket,reinit"),
    "histograms": ("lenet", "--at_rounds=0,3 --bins=11 --other_run=<work>/sources/reinit"),
    "instability": ("lenet", "--at_rounds=0,2 --copies=2 --points=5"),
    "instability conv": ("conv", "--at_rounds=1 --copies=3 --points=3 --start=rewind:5"),
    "learning": ("lenet", "--other_run=<work>/sources/reinit"),
    "masks": ("lenet", "--other_run=<work>/sources/reinit"),
    "masks conv": ("conv", ""),
    "noise_scale": ("lenet", "--at_rounds=0,2 --at_steps=start,5,end --examples=300"),
    "pixels": ("lenet", "--other_run=<work>/sources/reinit --at_rounds=0,3"),
    "predictions": ("lenet", ""),
    "predictions between runs": ("lenet", "--other_run=<work>/sources/reinit"),
    "stability": ("lenet", "--at_rounds=2 --replicates=1"),
    "successive": ("lenet,<work>/sources/reinit", ""),
    "thresholds": ("lenet", "--other_run=<work>/sources/reinit"),
    "transplant": ("lenet", "--other_run=<work>/sources/other --at_rounds=2"),
    "untrained": ("lenet", "--other_run=<work>/sources/reinit"),
    "report": ("lenet", ""),
}
# Exports of a source run; {name: (source, arguments)}.
EXPORTS = {
    "npz compact conv": ("conv", "--format=npz --round=2 --compact"),
}
STUDY = """\
--flagfile={root}/flags/digits.cfg
--data_dir={root}/data
--epochs=1
--rounds=2
--grid=batch_size=60
--grid=warmup_epochs=0
--grid=reset=init,reinit
--runs={work}/runs
"""


# Processes ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Place:
    """Where a combination runs: its own directory in the work directory, and how it starts one."""

    work: pathlib.Path
    path: pathlib.Path
    fork: bool

    def start(self, module: str, arguments: str | list[str], **environment: str) -> int:
        """The id of a new process of `python -m module arguments`."""
        words = arguments.split() if isinstance(arguments, str) else arguments
        words = [word.replace("<work>", str(self.work)) for word in words]
        if not self.fork:
            command = [sys.executable, "-m", module, *words]
            with open(self.path / "output.txt", "a") as log:
                return subprocess.Popen(
                    command, cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log
                ).pid

        def run():
            sys.argv = [module, *words]
            runpy.run_module(module, run_name="__main__", alter_sys=True)

        return self.start_function(run, **environment)

    def start_function(self, run: Callable, **environment: str) -> int:
        """The id of a new process that calls a function."""
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return pid
        status = 70
        try:
            os.environ |= environment
            log = os.open(self.path / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            run()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def run(
        self, module: str, arguments: str | list[str], expected: int = 0, **environment: str
    ) -> None:
        """Runs `python -m module arguments`; RuntimeError if its status is not the expected one."""
        self.finish(self.start(module, arguments, **environment), expected)

    def finish(self, pid: int, expected: int = 0) -> None:
        """Waits for a process; RuntimeError if its status is not the expected one."""
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != expected:
            raise RuntimeError(f"exit status {status}, expected {expected}")


def imp(place: Place, flags: str, directory: str = "run", expected: int = 0, **environment) -> None:
    """Runs an experiment in a directory of a place."""
    run_dir = f"--run_dir={place.path / directory}"
    place.run("lottery_tf.imp", f"{flags} {run_dir}", expected, **environment)


def tool(place: Place, name: str, source: str, arguments: str) -> None:
    """Runs a tool on copies of source runs."""
    names = [pathlib.Path(part).name for part in source.split(",")]
    copies = [place.path / name for name in names]
    for copy in copies:
        shutil.copytree(place.work / "sources" / copy.name, copy)
    runs = ",".join(map(str, copies))
    place.run(f"tools.{name.split()[0]}", [f"--run_dir={runs}", *arguments.split()])
    for copy in copies:  # what the source was is told once
        for path in sorted(copy.glob("round_*")):
            shutil.rmtree(path)


def export(place: Place, source: str, arguments: str) -> None:
    run_dir = f"--run_dir={place.work / 'sources' / source}"
    out = f"--out={place.path / 'export'}"
    place.run("tools.export", [run_dir, out, "--examples=100", *arguments.split()])


def wait_for_checkpoint(run_dir: pathlib.Path, seconds: float = 600) -> None:
    """Waits until a run has a checkpoint of round 0."""
    until = time.monotonic() + seconds
    while not list(run_dir.glob("checkpoints/round_00_*")) and time.monotonic() < until:
        time.sleep(0.005)


def stopped(place: Place, flags: str) -> None:
    """An experiment that SIGTERM stops inside its first round, and that goes on."""
    run_dir = place.path / "run"
    flags = f"{flags} --run_dir={run_dir} --checkpoint_minutes=1e-9 --rounds=2"
    pid = place.start("lottery_tf.imp", flags)
    wait_for_checkpoint(run_dir)
    os.kill(pid, signal.SIGTERM)
    place.finish(pid, 75)
    if list(run_dir.glob("round_*")):
        raise RuntimeError("it was stopped too late, and goes on with nothing")
    place.run("lottery_tf.imp", flags)


def grown(place: Place) -> None:
    """An experiment that grows by a round."""
    imp(place, f"{CONV} --rounds=2")
    imp(place, f"{CONV} --rounds=3")


def two_workers(place: Place, flags: str) -> None:
    """An experiment of two workers on loopback."""
    servers = [socket.create_server(("localhost", 0)) for _ in range(2)]
    addresses = [f"localhost:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    pids = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        arguments = f"{flags} --strategy=multi_worker --run_dir={place.path / 'run'}"
        pids.append(place.start("lottery_tf.imp", arguments, TF_CONFIG=json.dumps(task)))
    for pid in pids:
        place.finish(pid)


def study(place: Place) -> None:
    """A study: its runs, the figure that is drawn of them, and the report."""
    path = place.path / "fig01_small.cfg"
    path.write_text(STUDY.format(root=ROOT, work=place.path))
    place.run("tools.sweep", [f"--flagfile={path}", "--cluster=none"])
    runs = f"--runs={place.path / 'runs'}"
    place.run("tools.figures", ["--figure=1", runs, f"--study={path}"])
    place.run("tools.report", [runs])


def prepared(place: Place) -> None:
    """Datasets that tools.prepare_data writes of arrays, and of a folder of images."""
    from PIL import Image

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, 60)
    np.savez(
        place.path / "mine.npz",
        x_train=images[:40],
        y_train=labels[:40],
        x_test=images[40:],
        y_test=labels[40:],
    )
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        part = "train" if number < 40 else "test"
        folder = place.path / "folder" / part / f"class_{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    data = f"--data_dir={place.path / 'data'}"
    for name, source, raw in (
        ("arrays", "--source=arrays", "mine.npz"),
        ("images", "--source=raw --dataset=image_folder", "folder"),
        ("shrunk", "--source=arrays --shrink=2", "mine.npz"),
    ):
        words = [*source.split(), f"--name={name}", f"--raw_dir={place.path / raw}", data]
        place.run("tools.prepare_data", words)
    (place.path / "mine.npz").unlink()
    shutil.rmtree(place.path / "folder")


# Around the user's own fit --------------------------------------------------------------------

IMAGES = np.random.default_rng(0).random((48, 6, 6, 1)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 48)


def own_model(seed=0):
    """A masked model, its weights a function of the seed."""
    import keras

    import lottery_tf

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    image = keras.Input((6, 6, 1))
    features = keras.layers.Conv2D(4, 3, name="conv", activation="relu")(image)
    features = keras.layers.BatchNormalization(name="bn")(features)
    features = keras.layers.Dropout(0.2)(keras.layers.Flatten(name="flat")(features))
    features = keras.layers.Dense(16, activation="relu", name="hidden")(features)
    plain = keras.Model(image, keras.layers.Dense(3, name="logits")(features), name="own")
    model = lottery_tf.masked(plain)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=False)
    return model


def fit(model, round, **options):
    model.fit(
        IMAGES[:32],
        LABELS[:32],
        epochs=2,
        batch_size=8,
        verbose=0,
        validation_data=(IMAGES[32:], LABELS[32:]),
        callbacks=round.callbacks,
        **options,
    )


def around_fit(path, count=3, *, model=None, last=None, seed=0, **options):
    """Rounds around a fit; {round: the weights after it} goes into weights.npz of a path.

    Args:
        last: the round before which it stops.
    """
    import lottery_tf

    model, found = model or own_model(seed), {}
    options = (
        options
        if {"densities", "target_density"} & options.keys()
        else {"fraction": 0.5, **options}
    )
    for round in lottery_tf.rounds(model, count, verbose=0, **options):
        if round.index == last:
            break
        found[f"{round.index}: {round.density!r} {round.first_step}"] = [
            v.numpy() for v in model.weights
        ]
        fit(model, round)
        found[f"{round.index}, trained"] = [v.numpy() for v in model.weights]
    found["at the end"] = [v.numpy() for v in model.weights]
    names = [f"{number} {v.path}" for number, v in enumerate(model.weights)]
    arrays = {
        f"{when} {name}": array
        for when, values in found.items()
        for name, array in zip(names, values, strict=True)
    }
    np.savez(path / "weights.npz", **arrays)


def rounds_job(*, kept=True, **options) -> Callable[[Place], None]:
    """A job of `rounds`, with a run directory or without."""

    def job(place):
        more = {"directory": place.path / "run"} if kept else {}
        place.finish(place.start_function(lambda: around_fit(place.path, **options, **more)))

    return job


def rounds_resumed(place):
    """`rounds` that stops after a round, in a second process goes on, and in a third grows."""
    directory = place.path / "run"
    for name, more in (("first", {"last": 2}), ("second", {"seed": 5})):
        (place.path / name).mkdir()
        work = functools.partial(
            around_fit, place.path / name, directory=directory, reset="rewind", rewind_to=3, **more
        )
        place.finish(place.start_function(work))


def rounds_stopped_inside(place):
    """`rounds` whose fit is stopped inside round 1, and goes on at its last epoch."""
    import keras

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                os._exit(3)

    def first():
        import lottery_tf

        model = own_model()
        for round in lottery_tf.rounds(model, 3, 0.5, directory=place.path / "run", verbose=0):
            if round.index == 1:
                round.callbacks.append(Stop())
            fit(model, round)

    place.finish(place.start_function(first), 3)
    place.finish(place.start_function(lambda: around_fit(place.path, directory=place.path / "run")))


def statuses(place):
    """The exit statuses of commands, as statuses.txt."""
    absent = {
        "cluster": {"worker": ["localhost:9", "localhost:10"]},
        "task": {"type": "worker", "index": 0},
    }
    flags = f"{LENET} --epochs=200 --checkpoint_minutes=1e-9"
    lost = f"{LENET} --strategy=multi_worker --worker_timeout=3 --run_dir={place.path / 'lost'}"
    cases = {
        "help": ("lottery_tf.imp", "--help", None, {}),
        "help of a tool": ("tools.masks", "--help", None, {}),
        "a run": ("lottery_tf.imp", f"{LENET} --rounds=1 --run_dir={place.path / 'run'}", None, {}),
        "the same, finished": (
            "lottery_tf.imp",
            f"{LENET} --rounds=1 --run_dir={place.path / 'run'}",
            None,
            {},
        ),
        "other flags": ("lottery_tf.imp", f"{CONV} --run_dir={place.path / 'run'}", None, {}),
        "an unknown flag": ("lottery_tf.imp", "--nonsense", None, {}),
        "a wrong value": ("lottery_tf.imp", "--prune_fraction=2", None, {}),
        "no run": ("tools.masks", "--run_dir=/nowhere", None, {}),
        "SIGTERM": ("lottery_tf.imp", flags, signal.SIGTERM, {}),
        "SIGHUP": ("lottery_tf.imp", flags, signal.SIGHUP, {}),
        "SIGINT": ("lottery_tf.imp", flags, signal.SIGINT, {}),
        "a worker that does not come": (
            "lottery_tf.imp",
            lost,
            None,
            {"TF_CONFIG": json.dumps(absent)},
        ),
    }
    lines = []
    for name, (module, arguments, number, environment) in cases.items():
        run_dir = place.path / name.replace(" ", "_")
        given = f"{arguments} --run_dir={run_dir}" if number else arguments
        pid = place.start(module, given, **environment)
        if number:
            wait_for_checkpoint(run_dir)
            os.kill(pid, number)
        lines.append(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])} {name}")
        shutil.rmtree(run_dir, ignore_errors=True)
    for path in (place.path / "run", place.path / "lost"):
        shutil.rmtree(path, ignore_errors=True)
    (place.path / STATUSES).write_text("\n".join(lines))


def pruned(place):
    """`prune` of a model by every criterion and scope; the arrays of each."""

    def work():
        import lottery_tf

        arrays = {}
        data = IMAGES[:32], LABELS[:32]
        cases = {
            criterion: {"criterion": criterion, "data": data, "fraction": 0.4}
            for criterion in ("magnitude", "large_init", "random", *WITH_GRADIENTS)
        } | {
            "synflow": {"criterion": "synflow", "fraction": 0.4, "iterations": 4},
            "layer": {"fraction": 0.5, "scope": "layer", "layer_fractions": {"logits": 0.1}},
            "erk": {"density": 0.2, "scope": "erk", "keep_dense": ["conv"]},
            "least": {"density": 0.2, "min_layer_weights": 20},
        }
        for name, options in cases.items():
            model = own_model()
            arrays[f"{name}: density"] = np.array(lottery_tf.prune(model, **options))
            for number, variable in enumerate(model.weights):
                arrays[f"{name}: {number} {variable.path}"] = variable.numpy()
            plain = lottery_tf.unmasked(model)
            for number, variable in enumerate(plain.weights):
                arrays[f"{name}: unmasked {number} {variable.path}"] = variable.numpy()
            rows = lottery_tf.summary(model, show=False)
            arrays[f"{name}: summary"] = np.array(json.dumps(rows))
        np.savez(place.path / "pruned.npz", **arrays)

    place.finish(place.start_function(work))


def loaded(place):
    """`load` of a round of a run: its weights, and what it predicts."""

    def work():
        import lottery_tf

        arrays = {}
        for source, round in (("lenet", 3), ("conv", 2)):
            model = lottery_tf.load(place.work / "sources" / source, round)
            for number, variable in enumerate(model.weights):
                arrays[f"{source} {number} {variable.path}"] = variable.numpy()
            images = np.random.default_rng(0).random((4, 8, 8, 1)).astype(np.float32)
            arrays[f"{source} predictions"] = model.predict(images, verbose=0)
        np.savez(place.path / "loaded.npz", **arrays)

    place.finish(place.start_function(work))


def combinations() -> dict[str, Callable[[Place], None]]:
    """{name: what makes its files}."""
    jobs: dict[str, Callable[[Place], None]] = {}
    jobs["study/figure 1"] = study  # the longest first
    for name, (source, arguments) in TOOLS.items():
        jobs[f"tool/{name}"] = lambda p, n=name, s=source, a=arguments: tool(p, n, s, a)
    for name, (source, arguments) in EXPORTS.items():
        jobs[f"export/{name}"] = lambda p, s=source, a=arguments: export(p, s, a)
    jobs["devices/two workers"] = lambda p: two_workers(p, LENET)
    jobs["devices/two workers conv streamed"] = lambda p: two_workers(
        p, f"{CONV} --resident=off --repel=1"
    )
    jobs["resumed/stopped lenet"] = lambda p: stopped(p, f"{LENET} --schedule=cosine --epochs=40")
    jobs["resumed/stopped conv momentum streamed"] = lambda p: stopped(
        p,
        f"{CONV} --optimizer=momentum --learning_rate=0.01 --resident=off --reset=rewind "
        "--rewind_to=25 --epochs=15",
    )
    jobs["resumed/grown"] = grown
    for reset in ("init", "reinit", "lr_rewind", "finetune", "signs", "trained_signs", "shuffle"):
        jobs[f"rounds/{reset}"] = rounds_job(reset=reset)
    jobs["rounds/rewind"] = rounds_job(reset="rewind", rewind_to=3)
    jobs["rounds/rewind, no directory"] = rounds_job(kept=False, reset="rewind", rewind_to=4)
    jobs["rounds/lr_rewind, no directory"] = rounds_job(kept=False, reset="lr_rewind", rewind_to=4)
    for criterion in ("movement", "random", "taylor", "snip", "synflow"):
        needs_data, several = criterion in ("taylor", "snip"), criterion == "synflow"
        jobs[f"rounds/criterion {criterion}"] = rounds_job(
            criterion=criterion,
            data=(IMAGES[:32], LABELS[:32]) if needs_data else None,
            iterations=4 if several else None,
        )
    jobs["rounds/densities"] = rounds_job(densities=[0.5, 0.1], scope="erk", keep_dense=["conv"])
    jobs["rounds/target_density"] = rounds_job(target_density=0.1, scope="layer", seed=3)
    jobs["rounds/resumed"] = rounds_resumed
    jobs["rounds/stopped inside"] = rounds_stopped_inside
    jobs["statuses"] = statuses
    jobs["public/prune"] = pruned
    jobs["public/load"] = loaded
    jobs["data/prepared"] = prepared
    for name, flags in RUNS.items():
        jobs[name] = lambda p, f=flags: imp(p, f)
    return jobs


def uses_sources(name: str) -> bool:
    """Whether a combination needs the source runs."""
    return name.startswith(("tool/", "export/", "from/", "repel/other", "public/load"))


# What they left -------------------------------------------------------------------------------


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Reader:
    """What the files of a combination hold, without what depends on the time or the place."""

    def __init__(self, work: pathlib.Path):
        self.work = work

    def read(self, path: pathlib.Path) -> dict[str, str]:
        """{relative path: digest} of a directory."""
        found, events = {}, {}
        for file in sorted(path.rglob("*")):
            name = str(file.relative_to(path))
            if not file.is_file() or any(file.match(pattern) for pattern in IGNORED):
                continue
            if "tfevents" in file.name:
                events.setdefault(str(file.parent.relative_to(path)), []).append(file)
            else:
                found[name] = self.of_file(file)
        for directory, files in events.items():
            found |= {f"{directory} {tag}": value for tag, value in of_events(files).items()}
        return found

    def of_file(self, file: pathlib.Path) -> str:
        content = file.read_bytes()
        if file.suffix in PICTURES:
            return "there"
        if file.name == STATUSES:
            return "; ".join(content.decode().splitlines())
        if file.suffix == ".csv":
            return self.of_table(content)
        if "tfrecord" in file.name:
            return digest(b"".join(examples(content)))
        if file.name == "environment.json":
            keys = [key for key in json.loads(content) if "_" not in key]
            return f"keys: {','.join(sorted(keys))}"
        if file.suffix == ".json":
            held = json.loads(self.in_place(content))
            return digest(json.dumps(steady(held), sort_keys=True).encode())
        if file.name == "SHA256SUMS":
            lines = content.decode().splitlines()
            lines = [line.split()[-1] if line.endswith(".csv") else line for line in lines]
            return digest("\n".join(sorted(lines)).encode())
        if file.suffix in (".cfg", ".txt"):
            return digest("\n".join(sorted(self.in_place(content).splitlines())).encode())
        return digest(content)

    def of_table(self, content: bytes) -> str:
        rows = list(csv.reader(io.StringIO(self.in_place(content))))
        kept = [i for i, column in enumerate(rows[0]) if not UNSTEADY.search(column)]
        text = "\n".join(",".join(row[i] for i in kept) for row in rows)
        return f"{digest(text.encode())} {len(rows) - 1} rows of {','.join(rows[0])}"

    def in_place(self, content: bytes) -> str:
        text = content.decode()
        return text.replace(str(self.work), "<work>").replace(str(ROOT), "<root>")


def examples(content: bytes) -> Iterator[bytes]:
    """Yields the features of a file of TFRecords by name: on disk each process orders them anew."""
    from tensorflow.core.example.example_pb2 import Example

    place = 0
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 8], "little")
        features = Example.FromString(content[place + 12 : end]).features.feature
        for name in sorted(features):
            yield name.encode() + features[name].SerializeToString()
        place = end + 4


def steady(held):
    """What a JSON file holds, without durations."""
    if isinstance(held, dict):
        return {
            key: sorted(value) if key in PROSE else steady(value)
            for key, value in held.items()
            if not UNSTEADY.search(key)
        }
    return [steady(value) for value in held] if isinstance(held, list) else held


def of_events(files: list[pathlib.Path]) -> dict[str, str]:
    """{tag: digest of its steps and values} of event files."""
    loader = importlib.import_module(EVENTS).EventFileLoader
    from tensorboard.util import tensor_util

    found: dict[str, list] = {}
    for file in files:
        for event in loader(str(file)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                held: object = "there"
                if plugin in ("scalars", "histograms", "text"):
                    array = tensor_util.make_ndarray(value.tensor)
                    held = np.asarray(array).tolist()
                found.setdefault(f"{plugin} {value.tag}", []).append((event.step, repr(held)))
    return {
        tag: digest(repr(sorted(values)).encode())
        for tag, values in found.items()
        if not UNSTEADY.search(tag)
    }


# All of them ----------------------------------------------------------------------------------


def import_heavy():
    """Imports what every process needs, as the commands import it."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    importlib.import_module("tensorflow")
    importlib.import_module("keras")
    for name in ("matplotlib.pyplot", "scipy.optimize", EVENTS):
        importlib.import_module(name)
    del os.environ["KERAS_BACKEND"]


def make(
    jobs: dict[str, Callable[[Place], None]], work: pathlib.Path, *, fork: bool
) -> Iterator[tuple[str, str, float]]:
    """Runs jobs, some at once; yields (name, what went wrong, seconds of CPU) of each."""
    waiting, running = list(jobs.items()), {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name, job = waiting.pop(0)
            path = work / name.replace(",", "").replace(" ", "_")
            path.mkdir(parents=True)
            if not (pid := os.fork()):
                run_job(job, Place(work, path, fork))
            running[pid] = (name, path, time.monotonic())
        for pid, (name, path, begun) in list(running.items()):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            if not ended and time.monotonic() - begun > LONGEST:
                os.killpg(pid, signal.SIGKILL)
                ended, status, used = os.wait4(pid, 0)
            if ended:
                del running[pid]
                error = path / "error.txt"
                text = (error.read_text() if error.exists() else "killed") if status else ""
                yield name, text, used.ru_utime + used.ru_stime
        time.sleep(0.02)


def run_job(job: Callable[[Place], None], place: Place) -> None:
    """Does a job in a process that ends with it."""
    os.setsid()
    status = 1
    try:
        job(place)
        status = 0
    except BaseException as error:
        output = place.path / "output.txt"
        lines = output.read_text(errors="replace").splitlines()[-15:] if output.exists() else []
        text = "\n".join([f"{type(error).__name__}: {error}", *lines])
        (place.path / "error.txt").write_text(text)
    finally:
        os._exit(status)


def compare(before: dict, after: dict, *, whole: bool) -> list[str]:
    """A line for each difference."""
    lines = []
    for name in before | after if whole else after:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            lines.append(f"{name}: only {'before' if new is None else 'after'}")
            continue
        for file in old | new:
            if old.get(file) != new.get(file):
                lines.append(
                    f"{name}: {file}\n    before: {old.get(file, 'not there')}\n"
                    f"    after:  {new.get(file, 'not there')}"
                )
    return lines


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="file to write")
    parser.add_argument("--against", help="file to compare with")
    parser.add_argument(
        "--only", default="", help="names of combinations, or parts of names, with commas"
    )
    parser.add_argument("--keep", help="new directory that keeps the runs")
    parser.add_argument("--fork", default="yes", choices=("yes", "no"))
    parser.add_argument("--list", action="store_true", help="list the combinations")
    return parser.parse_args()


def main():
    options = parse()
    jobs = combinations()
    wanted = [
        name
        for part in options.only.split(",")
        for name in ([part] if part in jobs else [n for n in jobs if part in n])
    ]
    jobs = {name: job for name, job in jobs.items() if name in wanted}
    if options.list:
        print("\n".join(jobs))
        return 0
    begun, results, failed = time.monotonic(), {}, []
    os.chdir(ROOT)
    os.environ |= ENVIRONMENT
    os.environ.pop("TF_CONFIG", None)
    import_heavy()
    sources = {f"sources/{n}": lambda p, f=f: imp(p, f, ".") for n, f in SOURCES.items()}
    with contextlib.ExitStack() as stack:
        if options.keep:
            work = pathlib.Path(options.keep).absolute()
            work.mkdir(parents=True)
        else:
            work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stages = [sources, jobs] if any(map(uses_sources, jobs)) else [jobs]
        count = sum(map(len, stages))
        for stage in stages:
            for name, error, cpu in make(stage, work, fork=options.fork == "yes"):
                path = work / name.replace(",", "").replace(" ", "_")
                if error:
                    failed.append(name)
                    results[name] = {"failed": error.splitlines()[0]}
                else:
                    results[name] = Reader(work).read(path)
                seconds = time.monotonic() - begun
                end = f"FAILED\n{error}" if error else f"{len(results[name])} files"
                so_far = f"{len(results):3d}/{count} {seconds:5.0f} s, {cpu:5.1f} of CPU"
                print(f"{so_far}  {name}: {end}", flush=True)
    results = dict(sorted(results.items()))
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        print(f"Wrote {options.out}: {len(results)} combinations")
    if options.against:
        before = json.loads(pathlib.Path(options.against).read_text())
        lines = compare(before, results, whole=not options.only)
        print("\n".join(lines))
        print(f"{len(lines)} differences in {len(results)} combinations")
        return int(bool(lines or failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
