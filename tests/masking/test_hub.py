"""Backbones of keras_hub: masked, pruned, trained a step, plain again.

tests.hub has all of them.
"""

import pytest

pytest.importorskip("keras_hub", reason="keras_hub is the extra hub")

from tests import hub

KINDS = (
    "BertBackbone",
    "GPT2Backbone",
    "LlamaBackbone",
    "MixtralBackbone",
    "T5Backbone",
    "VGGBackbone",
    "ViTBackbone",
)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::UserWarning")  # what stays dense, what has no gradient
@pytest.mark.parametrize("name", KINDS)
def test_a_backbone_keeps_its_outputs_and_its_pruned_weights(name):
    way, kernels, share, wrong, _, dense = hub.check(name)
    assert not wrong
    assert way == "masked"
    assert kernels
    assert share > 0.7
    assert not any("expert" in note or "reverse" in note for note in dense)
