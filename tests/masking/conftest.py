"""Each test begins with fresh names of layers, and draws from one seed."""

import pytest


@pytest.fixture(autouse=True)
def fresh_names():
    import keras

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
