import json
import os
import subprocess
import sys
import tempfile

import keras
import pytest

from lottery_tf.errors import InputError
from lottery_tf.terminal import quiet
from tests import forked
from tests.conftest import ROOT


def launch(*arguments, **environment):
    """The finished process of Python with these arguments, and this package on its path."""
    environment = {"PYTHONPATH": str(ROOT)} | environment
    kept = {name: value for name, value in os.environ.items() if name not in environment}
    given = {name: value for name, value in environment.items() if value is not None}
    # Where Keras comes first, it may be there already.
    python = forked.python() if arguments[1].startswith("import keras\n") else sys.executable
    command = [python, *map(str, arguments)]
    return subprocess.run(command, env=kept | given, capture_output=True, text=True, cwd=ROOT)


def test_what_is_kept_back_is_shown_if_the_import_fails(tmp_path):
    (tmp_path / "keras.py").write_text(
        "import os\nos.write(2, b'the reason\\n')\nraise ImportError('no keras')\n"
    )
    script = "from lottery_tf.terminal import quiet; quiet.import_tensorflow()"
    result = launch("-c", script, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert result.returncode == 1
    assert result.stderr.startswith("the reason\n")
    assert "no keras" in result.stderr


def test_another_backend_is_refused(tmp_path):
    run_dir = f"--run_dir={tmp_path / 'run'}"
    result = launch("-m", "lottery_tf.imp", run_dir, KERAS_BACKEND="numpy")
    assert result.returncode == 1
    assert "KERAS_BACKEND=tensorflow" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.ci
def test_the_users_keras_json_changes_nothing(tmp_path):
    settings = {"floatx": "float64", "epsilon": 1e-3, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings | {"backend": "jax"}))
    script = (
        "from lottery_tf.terminal import quiet; quiet.import_tensorflow()\n"
        "from keras import config as c\n"
        "print(c.backend(), c.floatx(), c.epsilon(), c.image_data_format(), c.dtype_policy().name)"
    )
    result = launch("-c", script, KERAS_HOME=str(tmp_path), KERAS_BACKEND=None)
    assert result.stdout.split() == ["tensorflow", "float32", "1e-07", "channels_last", "float32"]


def test_settings_that_keras_refuses_are_one_line(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float8"}')
    run_dir = f"--run_dir={tmp_path / 'run'}"
    result = launch("-m", "lottery_tf.imp", run_dir, KERAS_HOME=str(tmp_path))
    assert result.returncode == 1
    assert "keras.json" in result.stderr
    assert "float8" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "other"),
    [("floatx", "float64"), ("epsilon", 1e-3), ("image_data_format", "channels_first")],
)
def test_settings_of_a_process_that_uses_keras_itself_are_refused_not_changed(name, other):
    setting, set_it = getattr(keras.config, name), getattr(keras.config, f"set_{name}")
    before = setting()
    set_it(other)
    try:
        with pytest.raises(InputError, match=rf"{name}: .*{before}.*set_{name}"):
            quiet.import_tensorflow()
        assert setting() == other
    finally:
        set_it(before)
    quiet.import_tensorflow()


def test_an_import_without_a_temporary_directory_works(monkeypatch):
    def refuse():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    quiet.import_tensorflow()


# {what is deleted: how}
LACKING = {
    "ReversibleEmbedding": "del keras.layers.ReversibleEmbedding",  # of 3.12, the oldest
    "EinsumDense": "del keras.layers.EinsumDense",
    "functional_like_constructor": "from keras.src.models import functional as f\n"
    "del f.functional_like_constructor",
}


@pytest.mark.ci
@pytest.mark.parametrize("name", LACKING)
def test_a_keras_that_lacks_what_is_needed_is_named(name):
    result = launch("-c", f"import keras\n{LACKING[name]}\nimport lottery_tf.masking\n")
    last = result.stderr.strip().splitlines()[-1]
    assert "InputError: keras 3." in last
    assert name in last
    assert "keras.json" not in last


def test_a_package_that_is_left_out_can_be_imported_afterwards():
    script = (
        "import sys\n"
        "from lottery_tf.terminal import quiet\n"
        "with quiet.without('wave'), quiet.without('json'):\n"
        "    import json\n"  # as it was imported before
        "    try:\n"
        "        import wave\n"
        "    except ImportError:\n"
        "        print('left out')\n"
        "import wave\n"
        "print('wave' in sys.modules, 'json' in sys.modules)\n"
    )
    result = launch("-c", f"import json\n{script}")
    assert result.stdout.split() == ["left", "out", "True", "True"], result.stderr
