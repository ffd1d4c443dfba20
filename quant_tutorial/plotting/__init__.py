"""Draw the lessons' figures (`plot_…`, on given Axes) and describe them in words (`describe_…`)."""

from quant_tutorial.plotting.answers import describe_changes, describe_flips, describe_points
from quant_tutorial.plotting.course import describe_course, plot_course
from quant_tutorial.plotting.digits import describe_digits, plot_digits
from quant_tutorial.plotting.dot_product import describe_dot_product, plot_dot_product
from quant_tutorial.plotting.errors import describe_sqnr, plot_sqnr
from quant_tutorial.plotting.granularity import (
    describe_folding,
    describe_granularities,
    plot_folding,
    plot_granularities,
)
from quant_tutorial.plotting.kinds import (
    describe_kinds,
    describe_moments,
    plot_kinds,
    plot_moments,
)
from quant_tutorial.plotting.levels import (
    describe_clipping,
    describe_layouts,
    describe_mapping,
    plot_clipping,
    plot_layouts,
    plot_mapping,
)
from quant_tutorial.plotting.quantities import (
    describe_bits,
    describe_db,
    describe_number,
    describe_percent,
)
from quant_tutorial.plotting.savings import (
    describe_energy,
    describe_register,
    plot_energy,
    plot_register,
)
from quant_tutorial.plotting.tensors import describe_integers, plot_integer_histogram
from quant_tutorial.plotting.training import (
    describe_rescue,
    describe_straight_through,
    plot_rescue,
    plot_straight_through,
)
from quant_tutorial.plotting.variants import Variant, describe_variants, plot_variants
from quant_tutorial.plotting.widths import (
    describe_accuracy_by_bits,
    describe_sizes,
    plot_accuracy_by_bits,
    plot_sizes,
)

__all__ = [
    "Variant",
    "describe_accuracy_by_bits",
    "describe_bits",
    "describe_changes",
    "describe_clipping",
    "describe_course",
    "describe_db",
    "describe_digits",
    "describe_dot_product",
    "describe_energy",
    "describe_flips",
    "describe_folding",
    "describe_granularities",
    "describe_integers",
    "describe_kinds",
    "describe_layouts",
    "describe_mapping",
    "describe_moments",
    "describe_number",
    "describe_percent",
    "describe_points",
    "describe_register",
    "describe_rescue",
    "describe_sizes",
    "describe_sqnr",
    "describe_straight_through",
    "describe_variants",
    "plot_accuracy_by_bits",
    "plot_clipping",
    "plot_course",
    "plot_digits",
    "plot_dot_product",
    "plot_energy",
    "plot_folding",
    "plot_granularities",
    "plot_integer_histogram",
    "plot_kinds",
    "plot_layouts",
    "plot_mapping",
    "plot_moments",
    "plot_register",
    "plot_rescue",
    "plot_sizes",
    "plot_sqnr",
    "plot_straight_through",
    "plot_variants",
]
