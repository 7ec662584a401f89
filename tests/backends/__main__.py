"""Check what masks promise on a backend of Keras, without TensorFlow: see `contract`.

python -m tests.backends --backend=torch --all
"""

import argparse
import os
import pathlib
import sys


def main():
    """Run the checks, print a row for each, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"], default="jax")
    parser.add_argument("--all", action="store_true", help="every layer and optimizer")
    parser.add_argument("--directory", type=pathlib.Path, help="with the files of another backend")
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    # For keras.distribution. JAX reads it when it is imported.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    os.environ["XLA_FLAGS"] = flags.strip()
    if arguments.backend != "tensorflow":
        sys.modules["tensorflow"] = None  # to import it raises ModuleNotFoundError
    from tests.backends import contract

    sys.exit(contract.run(arguments.directory, every=arguments.all))


if __name__ == "__main__":
    main()
