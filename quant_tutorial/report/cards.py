"""Write the model card of a report, which says only what was told or measured (lesson 12)."""

from __future__ import annotations

from collections.abc import Sequence

from quant_tutorial import deployment, tflite
from quant_tutorial.report.measuring import Row, decibels
from quant_tutorial.report.subject import Subject

_UNTOLD = "Not told. Whoever ships the model has to say it here."
FACTS = deployment.CardFacts(
    intended_use=_UNTOLD,
    factors=_UNTOLD,
    evaluation_data="from the data file that the report was given. What they show, and how they "
    "were made, was not told.",
    training_data=_UNTOLD,
    ethical_considerations=_UNTOLD,
    recommendations="Measure accuracy and latency again on the device, with its own inputs.",
    licence="unknown",
)
_CARD = """\
# Model card: {name}

{made}

| what | value |
| --- | --- |
| file | {file:,} bytes |
| integer only | {integer}: {reason} |
| measured on | {images:,} inputs without labels |
| {measure} | {value} |
| latency on the computer of the report | {times} |

Accuracy, intended use, training data and licence: not told, and not measured.
"""


def card(
    subject: Subject,
    row: Row,
    content: bytes,
    *,
    times: Sequence[deployment.Latency] = (),
    facts: deployment.CardFacts = FACTS,
) -> str:
    """Return the model card of one file of a report, as Markdown (lesson 12).

    A classifier with labels gets that of `deployment.model_card`; any other model a short one.

    Args:
        subject: The model with its data.
        row: What was measured on the file.
        content: The file.
        times: What `latencies` has measured on it, if anything.
        facts: What only its makers know; by default, the card says that it was not told.
    """
    made = f"{row.how} Made from {subject.name}, {subject.model.count_params():,} parameters."
    name = f"{subject.name}, {row.name}"
    if subject.labels is not None and subject.outputs.ndim == 2 and subject.outputs.shape[1] > 1:
        found = tflite.evaluate(content, subject.images, subject.labels)
        return deployment.model_card(content, found, times, name=name, made=made, facts=facts)
    return _CARD.format(
        name=name,
        made=made,
        file=row.file,
        integer="yes" if row.integer_only else "no",
        reason=row.reason,
        images=row.images,
        measure="SQNR of the outputs" if row.same is None else "same class as the float model",
        times="; ".join(map(str, times)) or "not measured",
        value=f"{decibels(row.sqnr_db)} dB" if row.same is None else f"{row.same:,} inputs",
    )
