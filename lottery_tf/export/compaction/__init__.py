"""Makes a smaller network that computes the same: units without effect are removed for real.

A unit is without effect if no weight leads from it to the outputs, or if no weight leads from the
inputs to it: then it is a constant, which is added to the biases behind it.

`steps.py` says which layer does what, `layers.py` what each kind of layer does to its channels, and
`compacting.py` finds the channels that stay and builds the network of them.
"""

from lottery_tf.export.compaction.compacting import LayerChange, Report, compact

__all__ = ["LayerChange", "Report", "compact"]
