import os
import subprocess
import sys

from tests.conftest import ROOT


def test_what_is_kept_back_is_shown_if_the_import_fails(tmp_path):
    (tmp_path / "keras.py").write_text(
        "import os\nos.write(2, b'the reason\\n')\nraise ImportError('no keras')\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    script = "from lottery_tf.terminal import quiet; quiet.import_tensorflow()"
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("the reason\n")
    assert "no keras" in result.stderr


def test_another_backend_is_refused(tmp_path):
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-m", "lottery_tf.imp", f"--run_dir={tmp_path / 'run'}"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "KERAS_BACKEND=tensorflow" in result.stderr
    assert not (tmp_path / "run").exists()
