"""A `python` whose processes are forked from one that has imported TensorFlow: that takes seconds.

    command = [forked.python(), "-m", "tools.masks", "--run_dir=…"]    # or -c, or a script

The process that forks has imported TensorFlow, Keras and what all commands need of other packages,
but nothing of this one: each process imports it anew. Tests of imports, and of variables that
TensorFlow reads while it is imported, start `sys.executable`.

    python -m tests.forked SOCKET     # the server; it ends with its standard input
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types

ROOT = pathlib.Path(__file__).parent.parent
CLIENT = """#!{python} -I
import json, os, signal, socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect({path!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(channel, [request + b"\\n"], [0, 1, 2])
process = int(channel.recv(16))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(process, number))
status = int(channel.recv(16) or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
# What commands import of other packages.
HEAVY = (
    "jinja2",
    "matplotlib.pyplot",
    "scipy.optimize",
    "tensorboard.backend.event_processing.event_file_loader",
    "tensorflow_datasets",
    "tqdm",
)


@functools.cache
def python():
    """Start the server of this process; return the path of a program to start as `python`.

    A signal to it reaches the process that was forked; after SIGKILL that one ends a moment later,
    and then its output.
    """
    path = pathlib.Path(tempfile.mkdtemp(prefix="forked_"), "socket")
    client = path.with_name("python")
    client.write_text(CLIENT.format(python=sys.executable, path=str(path)))
    client.chmod(0o755)
    command = [sys.executable, "-m", "tests.forked", path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    atexit.register(process.communicate)  # it ends with its standard input
    assert process.stdout.readline() == b"ready\n"
    return str(client)


def serve(path):
    """Fork a process for each request until standard input ends; return the request in it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                shutil.rmtree(os.path.dirname(path))
                return None
            channel, _ = listener.accept()
            if os.fork():
                channel.close()
                continue
            request, descriptors = b"", []
            while not request.endswith(b"\n"):
                part, received, *_ = socket.recv_fds(channel, 1 << 16, 3)
                request += part
                descriptors += received
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if process := os.fork():
                for descriptor in descriptors:
                    os.close(descriptor)
                watch(channel, process)
            channel.close()
            return json.loads(request), descriptors


def watch(channel, process):
    """Tell a client its process and that one's exit status; kill it once the client is gone."""
    channel.send(f"{process:16d}".encode())
    ended = os.pidfd_open(process)
    ready, _, _ = select.select([ended, channel], [], [])
    if ended not in ready:
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(OSError):
        channel.send(f"{status:16d}".encode())
    os._exit(0)


def become(arguments, directory, environment, descriptors):
    """Run `python arguments` in this process, with the client's streams."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.path[:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if arguments[0] == "-m":
        sys.path.insert(0, directory)
        sys.argv[1:] = arguments[2:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.path.insert(0, "")
        sys.argv[:] = ["-c", *arguments[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        sys.argv[:] = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def import_heavy():
    """Import what commands need of other packages, and nothing of this one."""
    from lottery_tf.terminal import quiet

    quiet.import_tensorflow()
    with contextlib.suppress(ImportError):  # some are extras
        for name in HEAVY:
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lottery_tf", "tests")]:
        del sys.modules[name]
    gc.freeze()  # or each process collects what is here when it ends: a second


if __name__ == "__main__":
    import_heavy()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that watch end by themselves
    if found := serve(sys.argv[1]):
        become(*found[0], found[1])
