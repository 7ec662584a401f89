"""Which weights of a Keras model belong together: how channels flow through its graph."""
