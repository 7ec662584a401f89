"""Measures on the rounds of a run. NumPy only where the file does not say otherwise."""
