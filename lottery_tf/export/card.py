"""The model card of an export: Markdown, below the YAML that Hugging Face's hub reads."""

import json
from collections.abc import Iterator
from typing import Any

from lottery_tf.config import Config
from lottery_tf.config.record import differences
from lottery_tf.export.published import FILE
from lottery_tf.plots import Row

FILE_NAME = "README.md"
# {our name of a dataset: that of Hugging Face's hub}
HUB = {name: name for name in ("mnist", "cifar10", "cifar100")} | {"imagenet2012": "imagenet-1k"}
NOT_STATED = "Not stated."
LOADS = {
    "keras": """\
import keras

model = keras.saving.load_model(".")  # this directory; of the hub, "hf://<user>/<name>"
```

The plain network, with raw images in front and zeros where it is pruned: Keras alone loads it, on
any backend, and trains it further; pruned weights then come back. To train the same ticket, pruned
weights out, from its first weights (`pip install lottery_tf`):

```python
import lottery_tf

ticket = lottery_tf.load_ticket(".")
weights, history = ticket.train(data_dir="data")  # or ticket.model.fit(...)""",
    "saved_model": """\
import tensorflow as tf

serve = tf.saved_model.load(".").signatures["serving_default"]""",
    "litert": """\
from ai_edge_litert.interpreter import Interpreter

serve = Interpreter("model.tflite").get_signature_runner("serving_default")""",
    "onnx": """\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")""",
}


def card(report: Row) -> str:
    """Return the text of an export's model card, from its report (export.json)."""
    name = f"{report['run']}, round {report['round']}" if "run" in report else report["model"]
    lines = ["---", *_front_matter(report, name), "---", "", f"# {name}", ""]
    lines += [*_about(report), ""]
    lines += ["## Intended use", "", report["intended_use"] or NOT_STATED, ""]
    lines += ["## Licence", "", report["license"] or NOT_STATED, ""]
    if code := LOADS.get(report["format"]):
        lines += ["## Load it", "", "```python", code, "```", ""]
    lines += [*_data(report), "## Layers", ""]
    lines += ["| kernel | weights | alive | density |", "|---|---|---|---|"]
    lines += [
        f"| {row['path']} | {row['weights']:,} | {row['alive']:,} | {row['density']:.2%} |"
        for row in report["layers"]
    ]
    return "\n".join([*lines, "", *_origin(report)]) + "\n"


def _front_matter(report: Row, name: str) -> Iterator[str]:
    """Yield lines of YAML; JSON's strings and numbers are YAML's."""
    if report["license"]:
        yield f"license: {json.dumps(report['license'])}"
    if report["format"] == "keras":
        yield "library_name: keras"
    yield f"tags: {json.dumps(['lottery-ticket', 'pruning', 'sparsity', report['format']])}"
    data, accuracy = report.get("data"), report.get("test_accuracy")
    if not data:
        return
    yield "pipeline_tag: image-classification"
    if data["name"] in HUB:
        yield f"datasets: {json.dumps([HUB[data['name']]])}"
    yield 'metrics: ["accuracy"]'
    found = {
        "name": name,
        "results": [
            {
                "task": {"type": "image-classification"},
                "dataset": {"name": data["name"], "type": data["name"], "split": "test"},
                "metrics": [{"type": "accuracy", "value": accuracy, "verified": False}],
            }
        ],
    }
    yield f"model-index: {json.dumps([found])}"


def _about(report: Row) -> Iterator[str]:
    """Yield sentences about the ticket and its accuracy."""
    alive, weights = (sum(row[of] for row in report["layers"]) for of in ("alive", "weights"))
    yield (
        f"A lottery ticket: a network of which iterative magnitude pruning left {alive:,} of "
        f"{weights:,} prunable weights ({alive / weights:.2%}), as {report['format']}."
    )
    if "test_accuracy" in report:
        error, count = report["test_accuracy_error"], report["test_examples"]
        spread = f" ± {error:.2%} (binomial, {count:,} examples)" if count else ""
        yield f"Test accuracy {report['test_accuracy']:.2%}{spread}."
    if "accuracy_after" in report:
        yield (
            f"This file was run on {report['compared_examples']:,} test examples: "
            f"{report['accuracy_after']:.2%}; {report['other_predictions']} answers differ from "
            "those of the masked network."
        )
    if chosen := report.get("chosen"):
        yield f"The round is {chosen}."


def _data(report: Row) -> Iterator[str]:
    """Yield the section of inputs, classes and data."""
    data = report.get("data")
    if not data:
        return
    print_of = data["fingerprint"] or {}
    yield from ("## Inputs and data", "")
    yield f"- images: {data['shape']} {data['dtype']}, {report['normalisation']['words']}"
    yield f"- classes: {', '.join(report['class_names'])}"
    yield f"- dataset: {data['name']} {data['version']}; {data['preparation']}"
    for split in ("train", "test"):
        if of := print_of.get(split):
            yield f"- {split}: {of['examples']:,} examples, SHA-256 {of['sha256']}"
    yield ""


def _origin(report: Row) -> Iterator[str]:
    """Yield the section of where it comes from."""
    yield from ("## Where it comes from", "")
    yield f"- exported on {report['date']} with {_words(report['exported_with'])}"
    if report.get("trained_with"):
        yield f"- trained with {_words(report['trained_with'])}"
    yield f"- SHA-256 of the masked network's weights: {report['weights_sha256']}"
    if report["format"] == "keras" and "run" in report:
        yield f"- masks, first weights and trained weights: {FILE}"
    if flags := report.get("flags"):
        yield from ("", "Flags of the run that are not the default:", "", "```")
        yield from _flags(flags)
        yield "```"


def _flags(flags: dict[str, Any]) -> Iterator[str]:
    for name, (value, _) in differences(flags, Config(), how=False).items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        yield f"--{name}={str(text).lower() if isinstance(text, bool) else text}"


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
