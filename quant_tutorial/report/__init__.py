"""Take any Keras model through all of it: check, convert, diagnose, mend, report (lesson 12)."""

from quant_tutorial.report.cards import FACTS, card
from quant_tutorial.report.diagnosing import (
    Diagnosis,
    Suspect,
    channel_ranges,
    diagnose,
    layers_around,
    spread,
)
from quant_tutorial.report.findings import Finding, Findings, check, preprocessings, scaling_layers
from quant_tutorial.report.measuring import Row, measure, refusals, table
from quant_tutorial.report.mending import make, repairs
from quant_tutorial.report.pages import marks, path
from quant_tutorial.report.recommending import Recommendation, is_good, recommend
from quant_tutorial.report.running import (
    Made,
    contents,
    diagnose_int8,
    latencies,
    measure_all,
    mend,
)
from quant_tutorial.report.subject import Subject, load
from quant_tutorial.report.variants import VARIANTS, Variant

__all__ = [
    "FACTS",
    "VARIANTS",
    "Diagnosis",
    "Finding",
    "Findings",
    "Made",
    "Recommendation",
    "Row",
    "Subject",
    "Suspect",
    "Variant",
    "card",
    "channel_ranges",
    "check",
    "contents",
    "diagnose",
    "diagnose_int8",
    "is_good",
    "latencies",
    "layers_around",
    "load",
    "make",
    "marks",
    "measure",
    "measure_all",
    "mend",
    "path",
    "preprocessings",
    "recommend",
    "refusals",
    "repairs",
    "scaling_layers",
    "spread",
    "table",
]
