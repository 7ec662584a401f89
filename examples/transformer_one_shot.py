"""Prune a transformer of keras_hub to 2:4 after training, without training it again.

    pip install 'lottery_tf[hub]'
    python examples/transformer_one_shot.py

A small BERT learns to say which of two words is more frequent in a sentence. For a model that
others trained, take keras_hub.models.BertTextClassifier.from_preset("bert_tiny_en_uncased").
"""

import keras
import keras_hub
import numpy as np

import lottery_tf

keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)

backbone = keras_hub.models.BertBackbone(
    vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=32, intermediate_dim=64,
    max_sequence_length=16, dropout=0.0,
)  # fmt: skip
classifier = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=None)


def draw(examples: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return sentences of 15 words, as the backbone takes them, and their labels."""
    tokens = generator.integers(1, 50, (examples, 15))
    tokens[generator.random(tokens.shape) < 0.5] = 1
    tokens[generator.random(tokens.shape) < 0.5] = 2
    labels = ((tokens == 1).sum(1) > (tokens == 2).sum(1)).astype(int)
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    return inputs, labels


inputs, labels = draw(4000)
test_inputs, test_labels = draw(1000)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
classifier.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
classifier.fit(inputs, labels, batch_size=64, epochs=3, verbose=2)
print(f"dense: {classifier.evaluate(test_inputs, test_labels, verbose=0)[1]:.1%}")

sample = {name: array[:256] for name, array in inputs.items()}
for criterion in ("magnitude", "wanda", "sparsegpt"):
    # Embeddings and the head stay dense, as in the papers of Wanda and SparseGPT.
    model = lottery_tf.masked(classifier, exclude=[keras.layers.Embedding, "logits"])
    lottery_tf.prune(model, criterion=criterion, structure="2:4", data=sample)
    model.compile(loss=loss, metrics=["accuracy"])
    _, accuracy = model.evaluate(test_inputs, test_labels, verbose=0)
    print(f"2:4 by {criterion}: {accuracy:.1%}")
