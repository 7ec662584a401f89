"""Lottery tickets by iterative magnitude pruning, in Keras 3 on TensorFlow."""

__version__ = "0.1.0"
