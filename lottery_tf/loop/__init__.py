"""Pruning and rounds around the user's own training; `lottery_tf.fit` is its public place."""
