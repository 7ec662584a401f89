"""Commands beside `python -m lottery_tf.imp`: thin entry points, nothing imports them."""
