"""What is added to the method is one function and one line of a table: a toy of each."""

import numpy as np
import pytest

from lottery_tf import imp, pruning
from lottery_tf.pruning import criteria, resets
from lottery_tf.rundir import RunDir


@pytest.mark.ci
def test_a_toy_reset_and_a_toy_criterion_run_with_no_other_change(config, monkeypatch):
    def on_trained_weights(sources, masks, round):
        return pruning.apply_masks(sources.trained(), masks), 10

    def squared_movement(trained, initial):
        return (trained - initial) ** 2

    monkeypatch.setitem(resets.RESETS, "on_trained_weights", on_trained_weights)
    monkeypatch.setitem(criteria.CRITERIA, "squared_movement", squared_movement)
    # The choices of a flag are those of its table when the flags are defined.
    config = config(rounds=3, epochs=1)
    object.__setattr__(config, "reset", "on_trained_weights")
    object.__setattr__(config, "criterion", "squared_movement")
    imp.main(config)
    run = RunDir(config.run_dir)
    for round in (1, 2):
        before = run.final(round - 1)
        for path, mask in run.masks(round).items():
            assert np.array_equal(run.initial(round)[path], np.where(mask, before[path], 0))
        moved = {p: np.abs(before[p] - run.initial(round - 1)[p]) for p in run.masks(round)}
        removed = np.concatenate(
            [moved[p][run.masks(round - 1)[p] & ~mask] for p, mask in run.masks(round).items()]
        )
        kept = np.concatenate([moved[p][mask] for p, mask in run.masks(round).items()])
        assert removed.max() <= kept.min()


@pytest.mark.ci
def test_a_round_continues_the_schedule_at_the_step_that_the_reset_names(config, monkeypatch):
    steps = []

    class Recorded(imp.streams.Noise):
        def dropout(self, first, layer):
            steps.append((self.round, first))
            return super().dropout(first, layer)

    monkeypatch.setattr(imp.streams, "Noise", Recorded)
    monkeypatch.setitem(resets.RESETS, "init", lambda s, m, r: (resets.init(s, m, r)[0], 7 * r))
    imp.main(config(model="tests.networks:dropout", rounds=3, epochs=1))
    assert steps == [(0, 0), (1, 7), (2, 14)]
