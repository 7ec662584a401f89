import numpy as np
import pytest

from lottery_tf.config import Config
from lottery_tf.pruning.schedules import learning_rates

pytestmark = pytest.mark.versions


def rates(steps_per_epoch=2, **flags):
    return learning_rates(Config(**flags), steps_per_epoch)


def test_constant():
    assert rates(epochs=2, learning_rate=0.5).tolist() == [0.5] * 4


def test_step_divides_at_the_first_step_of_a_drop_epoch():
    found = rates(epochs=4, learning_rate=1.0, schedule="step", lr_drops=(1, 3))
    assert np.allclose(found, [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_drop_factor():
    found = rates(1, epochs=2, learning_rate=1.0, schedule="step", lr_drops=(1,), lr_drop_factor=4)
    assert found.tolist() == [1, 0.25]


def test_cosine_runs_per_step_over_all_steps():
    found = rates(epochs=2, learning_rate=1.0, schedule="cosine")
    assert np.allclose(found, [1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2])


def test_warmup_multiplies_the_schedule_linearly_from_zero():
    found = rates(4, epochs=2, learning_rate=1.0, warmup_epochs=1)
    assert found.tolist() == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    cosine = rates(4, epochs=2, learning_rate=1.0, schedule="cosine")
    both = rates(4, epochs=2, learning_rate=1.0, schedule="cosine", warmup_epochs=0.5)
    assert both == pytest.approx(cosine * [0, 0.5, 1, 1, 1, 1, 1, 1])
