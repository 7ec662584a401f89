"""Commands that are forked from one process, which has imported TensorFlow: that takes seconds.

python -m tests.forked SOCKET     # the server; it ends with its standard input
"""

import contextlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys

from lottery_tf.terminal import quiet

ROOT = pathlib.Path(__file__).parent.parent
CLIENT = """#!{python} -I
import json, os, socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect({path!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(channel, [request + b"\\n"], [0, 1, 2])
sys.exit(int(channel.recv(16) or 1))
"""


@contextlib.contextmanager
def python(directory):
    """Write a `python` into a directory: its `python -m …` are forked from a server."""
    path = str(directory / "socket")
    client = directory / "python"
    client.write_text(CLIENT.format(python=sys.executable, path=path))
    client.chmod(0o755)
    command = [sys.executable, "-m", "tests.forked", path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as server:
        assert server.stdout.readline() == b"ready\n"
        yield
        server.stdin.close()


def serve(path):
    """Fork a process for each request until standard input ends; return the request in it."""
    quiet.import_tensorflow()
    import lottery_tf.sweeps.preloaded  # noqa: F401

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                return None
            channel, _ = server.accept()
            if os.fork():
                channel.close()
                continue
            request, descriptors = b"", []
            while not request.endswith(b"\n"):
                part, received, *_ = socket.recv_fds(channel, 1 << 16, 3)
                request += part
                descriptors += received
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if process := os.fork():  # this one waits, and tells the client
                status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                channel.send(str(status % 256).encode())
                os._exit(0)
            channel.close()
            return json.loads(request), descriptors


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
    if arguments[0] != "-m":
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.path[:0] = [directory, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv[1:] = arguments[2:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the processes that wait end by themselves
    if found := serve(sys.argv[1]):
        become(*found[0], found[1])
