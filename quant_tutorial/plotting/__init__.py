"""Draw the lessons' figures (`plot_…`, on given Axes) and describe them in words (`describe_…`)."""

from quant_tutorial.plotting.answers import describe_changes, describe_flips, describe_points
from quant_tutorial.plotting.choices import (
    describe_all_roundings,
    describe_channel_ranges,
    describe_methods,
    describe_pushed_error,
    describe_soft_rounding,
    describe_two_weights,
    plot_all_roundings,
    plot_channel_ranges,
    plot_methods,
    plot_pushed_error,
    plot_soft_rounding,
    plot_two_weights,
)
from quant_tutorial.plotting.digits import describe_digits, plot_digits
from quant_tutorial.plotting.errors import describe_sqnr, plot_sqnr
from quant_tutorial.plotting.quantities import describe_bits, describe_db, describe_percent
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
    "describe_all_roundings",
    "describe_bits",
    "describe_changes",
    "describe_channel_ranges",
    "describe_db",
    "describe_digits",
    "describe_flips",
    "describe_integers",
    "describe_methods",
    "describe_percent",
    "describe_points",
    "describe_pushed_error",
    "describe_rescue",
    "describe_sizes",
    "describe_soft_rounding",
    "describe_sqnr",
    "describe_straight_through",
    "describe_two_weights",
    "describe_variants",
    "plot_accuracy_by_bits",
    "plot_all_roundings",
    "plot_channel_ranges",
    "plot_digits",
    "plot_integer_histogram",
    "plot_methods",
    "plot_pushed_error",
    "plot_rescue",
    "plot_sizes",
    "plot_soft_rounding",
    "plot_sqnr",
    "plot_straight_through",
    "plot_two_weights",
    "plot_variants",
]
