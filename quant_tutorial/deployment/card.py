"""Write the model card of a `.tflite` file: what to know before using it (lesson 09)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from quant_tutorial import metrics, tflite
from quant_tutorial.deployment.microcontroller import arena_bytes, micro_refusal
from quant_tutorial.deployment.size import sizes
from quant_tutorial.deployment.timing import Latency
from quant_tutorial.flatbuffer import Tensor

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says that neither the file nor a measurement can tell (lesson 09).

    Whole sentences, except where another form is named.

    Attributes:
        intended_use: What the model is for, and what it is not for.
        factors: What its accuracy may depend on, measured or not.
        evaluation_data: The end of a sentence that begins "500 images with their labels, …": which
            images, and how they were prepared.
        training_data: The data that the model was trained on, with their source and licence.
        ethical_considerations: Whom errors may hit, and what was not examined.
        recommendations: What to keep in mind when using the model.
        licence: The licence of the weights, as an SPDX identifier such as "Apache-2.0".
        class_name: What one class is, in one word, such as "digit".
        hub_dataset: The id of the evaluation data on the Hugging Face Hub, such as "ylecun/mnist",
            or None if they are not there.

    Raises:
        ValueError: when a text is empty; the message names it.
    """

    intended_use: str
    factors: str
    evaluation_data: str
    training_data: str
    ethical_considerations: str
    recommendations: str
    licence: str
    class_name: str = "class"
    hub_dataset: str | None = None

    def __post_init__(self) -> None:
        """Check that nothing is empty."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "hub_dataset" and value is None:
                continue
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{field.name} must be a text that is not empty, got {value!r}.")


# The facts about the course's own model.
DIGIT_FACTS = CardFacts(
    intended_use="Teaching, and comparing methods of quantization. The model classifies one "
    "handwritten digit, white on black, in a picture of 28×28 pixels like those of MNIST. It is "
    "not for cheques, forms, addresses or anything else that matters to somebody. Nor is it for "
    "pictures of other sizes, with several digits, or with none: it returns a digit for any "
    "picture.",
    factors="The digit (below). Not measured, and likely to matter: who wrote it and in which "
    "country, the pen, the scanner or camera, and how the digit was cut out, scaled and centred.",
    evaluation_data="of the 10,000 of MNIST's test set; nobody wrote both training and test "
    "digits. Pixels were divided by 255.",
    training_data="MNIST's training set, 60,000 images by Yann LeCun and Corinna Cortes "
    "(CC BY-SA 3.0), made from NIST's Special Databases 1 and 3.",
    ethical_considerations="The digits were written by American high-school students and "
    "employees of the Census Bureau. People who learned to write elsewhere, and put a serif on "
    "their 1 or a bar through their 7, may meet more errors than the figures above suggest; "
    "nothing here measures that.",
    recommendations="The outputs are logits, not probabilities, and no measure of certainty. "
    "Measure accuracy and latency again on the device, with pictures from its own camera.",
    licence="Apache-2.0",
    class_name="digit",
    hub_dataset="ylecun/mnist",
)


def model_card(
    model_bytes: bytes,
    evaluation: tflite.Evaluation,
    latencies: Sequence[Latency],
    *,
    name: str,
    made: str,
    facts: CardFacts,
    output: str | int | None = None,
) -> str:
    """Return the model card of a classifier's `.tflite` file, as Markdown (lesson 09).

    It has the sections of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), and at
    its head the metadata that the Hugging Face Hub reads. Every figure comes from the file or from
    the measurements that are passed, and everything else from `name`, `made` and `facts`.

    Args:
        model_bytes: The content of the `.tflite` file.
        evaluation: The result of `tflite.evaluate` for this file on images that were not used for
            training.
        latencies: The results of `latency` for this file, one for each number of threads; may be
            empty.
        name: The name of the model, in one line.
        made: How the file was made, in whole sentences: model, method, bit widths, calibration or
            training.
        facts: What the card says about the model's use and data.
        output: The name or the number of the output that was evaluated, for a file with several.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, the name is empty or longer than one
            line, `made` is empty, the evaluation has another number of classes, or the output of a
            file with several is not chosen.
    """
    if not name.strip() or not name.isprintable():
        raise ValueError(f"name must be one line and not empty, got {name!r}.")
    if not made.strip():
        raise ValueError("made must say how the file was made, got nothing.")
    sources, targets = tflite.inputs_outputs(model_bytes)
    evaluated = tflite.chosen_output(model_bytes, output)
    target, confusion = targets[evaluated], evaluation.confusion
    if confusion.shape != (target.shape[-1], target.shape[-1]):
        raise ValueError(
            f"evaluation has {len(confusion)} classes, the file's output {target.shape[-1]}: it is "
            "the evaluation of another file."
        )
    right, images = int(np.trace(confusion)), int(confusion.sum())
    accuracy, interval = _card_accuracy(right, images)
    timed = [_LATENCY.format(machine=platform.machine(), cores=os.cpu_count()), ""]
    timed += [f"- {figures}" for figures in map(str, latencies)]
    return _CARD.format(
        metadata=_card_metadata(name, right / images, facts),
        name=name,
        made=made.strip(),
        file_facts=_card_table(("what", "value"), _card_facts(model_bytes)),
        versions=_card_versions(),
        facts=facts,
        images=images,
        largest="output" if len(targets) == 1 else f"value of output `{evaluated}`",
        quantized=_QUANTIZED_INPUT if any(t.params for t in sources.values()) else "",
        dequantized=_QUANTIZED_OUTPUT if any(t.params for t in targets.values()) else "",
        accuracy=accuracy,
        interval=interval,
        right=right,
        per_class=_card_table(
            (facts.class_name, "images", "accuracy", "95% interval"), _card_classes(confusion)
        ),
        timed="\n".join(timed) if latencies else "Latency: not measured.",
    )


_LATENCY = (
    "Latency of one image, LiteRT's `invoke` alone, on the computer that made this card "
    "({machine}, {cores} cores). If it is not the device, measure there."
)
_QUANTIZED_INPUT = " Then they were quantized with the scale and the zero point of the input."
_QUANTIZED_OUTPUT = " Dequantize the outputs with theirs."
# A line for each paragraph: Markdown wraps them.
_CARD = """\
{metadata}

# Model card: {name}

## Model details

{made}

{file_facts}

Versions: {versions}. Licence of the weights: {facts.licence}.

## Intended use

{facts.intended_use}

## Factors

{facts.factors}

## Metrics

Accuracy: the share of the images whose largest {largest} is at the right {facts.class_name}, with \
Wilson's 95% interval, which says how far another sample of such images could differ.

## Evaluation data

{images:,} images with their labels, {facts.evaluation_data}{quantized}

## Training data

{facts.training_data}

## Quantitative analyses

Accuracy: **{accuracy}** ({interval}), {right:,} of {images:,} images.

{per_class}

{timed}

## Ethical considerations

{facts.ethical_considerations}

## Caveats and recommendations

Give the file inputs of the type in the table above, with their scale and zero point if it names \
any.{dequantized} {facts.recommendations}
"""


def _card_facts(model_bytes: bytes) -> list[tuple[str, str]]:
    """List what the card says about the file itself."""
    found, size, refusal = (
        tflite.inspect(model_bytes),
        sizes(model_bytes),
        micro_refusal(model_bytes),
    )
    sources, targets = tflite.inputs_outputs(model_bytes)
    weights = {tensor.type for tensor in found.tensors if tensor.kind == "weights"}
    return [
        ("file", f"{size.file:,} bytes, SHA-256 `{hashlib.sha256(model_bytes).hexdigest()}`"),
        ("weights", f"{size.weights:,} bytes, {' and '.join(sorted(weights)) or 'none'}"),
        ("biases; scales and zero points", f"{size.biases:,}; {size.scales:,} bytes"),
        ("arena", f"at least {arena_bytes(model_bytes):,} bytes of memory at a time"),
        ("ops", ", ".join(f"`{op}`" for op in found.op_types)),
        ("integer only", f"{'yes' if found.integer_only else 'no'}: {found.reason}"),
        *_card_ends("input", sources),
        *_card_ends("output", targets),
        ("LiteRT for Microcontrollers", "takes it" if refusal is None else f"no: {refusal}"),
    ]


def _card_classes(confusion: NDArray[np.integer]) -> list[tuple[object, ...]]:
    """List the accuracy of each class that occurs."""
    return [
        (number, f"{int(row.sum()):,}", *_card_accuracy(int(row[number]), int(row.sum())))
        for number, row in enumerate(confusion)
        if row.sum()
    ]


def _card_ends(side: str, tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """List the inputs or the outputs, with their names where there are several."""
    return [
        (side if len(tensors) == 1 else f"{side} `{name}`", _card_tensor(tensor))
        for name, tensor in tensors.items()
    ]


def _card_tensor(tensor: Tensor) -> str:
    shape = f"{tensor.type}, shape {tensor.shape}"
    params = tensor.params
    if params is None:
        return shape
    return (
        f"{shape}, scale {params.scale:.9g}, zero point {params.zero_point}: "
        f"from {params.minimum:.6g} to {params.maximum:.6g}"
    )


def _card_accuracy(right: int, images: int) -> tuple[str, str]:
    low, high = metrics.accuracy_interval(right, images)
    return f"{100 * right / images:.2f}%", f"{100 * low:.2f}% to {100 * high:.2f}%"


def _card_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(entry).replace("|", "\\|") for entry in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _card_versions() -> str:
    packages = ("ai-edge-litert", "keras", "litert-quantizer", "tensorflow")
    found = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])


def _card_metadata(name: str, accuracy: float, facts: CardFacts) -> str:
    """Return the metadata for the Hugging Face Hub; JSON's strings and lists are valid YAML."""
    entries: dict[str, object] = {
        "license": facts.licence.lower(),
        "tags": ["tflite", "litert", "quantization"],
        "metrics": ["accuracy"],
    }
    if facts.hub_dataset is not None:  # the Hub takes a result only with the dataset's id
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"type": facts.hub_dataset, "name": facts.hub_dataset, "split": "test"},
            "metrics": [{"type": "accuracy", "value": accuracy}],
        }
        entries["datasets"] = [facts.hub_dataset]
        entries["model-index"] = [{"name": name, "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
    return "\n".join(["---", *lines, "---"])
