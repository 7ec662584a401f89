"""Kills runs on the digits at random moments until they finish, and compares what they leave.

    python -m tests.torture --kills=50 --worker_kills=10
    python -m tests.torture --kills=10 --worker_kills=0 --way=repelled

Every finished run must equal an undisturbed one, byte for byte; nothing but launching again is
allowed. Prints what it did; exits with status 1 if a file differs.
"""

import collections
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from lottery_tf.runs.rundir import RunDir
from tests import workers
from tests.conftest import ROOT

KILLS = flags.DEFINE_integer("kills", 50, "SIGKILLs of runs of one process.")
WORKER_KILLS = flags.DEFINE_integer("worker_kills", 10, "SIGKILLs of one of two workers.")
SEED = flags.DEFINE_integer("seed", None, "Seed of the moments; by default another every time.")
SECONDS = flags.DEFINE_float("seconds", 15.0, "Kills come this long after a launch at most.")

WAYS = {
    "plain": {},
    "repelled": {"repel": 2},
    "bfloat16": {"mixed_precision": "bfloat16", "accumulate_steps": 2},
    "streamed": {"resident": "off", "epochs": 60},
    "rewound": {"reset": "rewind", "rewind_to": "20ep", "criterion": "taylor"},
    "gradual": {"prune_at": "train", "densities": "0.5,0.2"},
}
WAY = flags.DEFINE_enum("way", "plain", WAYS, "What kind of run of one process is killed.")
EXPERIMENT = {
    "data_dir": ROOT / "data",
    "batch_size": 32,
    "rounds": 3,
    "checkpoint_minutes": 0.02,
}


def arguments(run_dir, **more):
    flags = EXPERIMENT | more | {"run_dir": run_dir}
    return [f"--{name}={value}" for name, value in flags.items()]


def launch(arguments, count):
    if count > 1:
        return workers.start(arguments, workers=count)
    command = [sys.executable, "-m", "lottery_tf.imp", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [subprocess.Popen(command, cwd=ROOT, text=True, **pipes)]


def contents(run_dir):
    """{file: bytes} of every npz of a run."""
    return {str(p.relative_to(run_dir)): p.read_bytes() for p in run_dir.glob("round_*/*.npz")}


def state(run_dir):
    """Where a run stands: what a kill found it at."""
    steps = sorted(path.name for path in run_dir.glob("checkpoints/round_*"))
    return steps[-1] if steps else f"{RunDir(run_dir).finished_rounds()} rounds"


def torture(directory, kills, count, generator, **more):
    """Kills one of `count` processes `kills` times; the number of finished runs that differ."""
    whole = directory / f"undisturbed_{count}"
    results = workers.finish(launch(arguments(whole, **more), count), timeout=300)
    assert [status for status, _, _ in results] == [0] * count, results
    expected, done, runs, wrong = contents(whole), 0, 0, 0
    found_at = collections.Counter()
    while done < kills:
        runs += 1
        run_dir = directory / f"killed_{count}_{runs}"
        while True:
            processes = launch(arguments(run_dir, **more), count)
            end = time.monotonic() + generator.uniform(0, SECONDS.value)
            while done < kills and time.monotonic() < end and processes[0].poll() is None:
                time.sleep(0.01)
            if done < kills and processes[0].poll() is None:
                generator.choice(processes).send_signal(signal.SIGKILL)
                done += 1
            results = workers.finish(processes, timeout=300)
            if all(status == 0 for status, _, _ in results):
                break
            allowed = {-signal.SIGKILL, 74} if count > 1 else {-signal.SIGKILL}
            assert {status for status, _, _ in results} <= allowed, results
            if (run_dir / "config.json").exists():
                there = bool(list(run_dir.glob("checkpoints/*")))
                where = "with a checkpoint there" if there else "without one"
                found_at[where] += 1
                print(f"kill {done}: at {state(run_dir)}", flush=True)
            else:
                found_at["before the run"] += 1
        equal = contents(run_dir) == expected
        wrong += not equal
        print(f"run {runs} of {count} processes: {'equal' if equal else 'DIFFERS'}", flush=True)
    print(
        f"{done} kills of {'one of two workers' if count > 1 else 'one process'}: "
        f"{runs} runs finished, {wrong} differ; killed "
        + ", ".join(f"{n} times {where}" for where, n in found_at.items())
    )
    return wrong


def main(argv):
    generator = random.Random(SEED.value)
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        if KILLS.value:
            wrong += torture(
                directory, KILLS.value, 1, generator, **{"epochs": 400} | WAYS[WAY.value]
            )
        if WORKER_KILLS.value:
            more = {"epochs": 60, "worker_timeout": 30}
            wrong += torture(directory, WORKER_KILLS.value, 2, generator, **more)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    app.run(main)
