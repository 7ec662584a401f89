"""Runs commands as the workers of a cluster on loopback."""

import json
import os
import socket
import subprocess

from tests import forked
from tests.conftest import ROOT


def free_ports(count):
    """Ports on which nothing listens."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def start(arguments, *, workers=2, module="lottery_tf.imp"):
    """One process per worker, of `python -m module arguments`; their standard error is a pipe."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(workers)]}
    processes = []
    for index in range(workers):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [forked.python(), "-m", module, *arguments],
                cwd=ROOT,
                env=os.environ | {"TF_CONFIG": json.dumps(task)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def finish(processes, timeout=120):
    """(exit status, standard output, standard error) of each; kills them after the timeout."""
    try:
        outputs = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]
