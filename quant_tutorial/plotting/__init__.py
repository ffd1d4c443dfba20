"""Draw the lessons' figures (`plot_…`, on given Axes) and describe them in words (`describe_…`).

Imported in a notebook, this package also makes all figures of pyplot as sharp as the explorers'.
"""

from quant_tutorial.plotting.answers import describe_changes, describe_flips, describe_points
from quant_tutorial.plotting.calibration import (
    describe_clipped_histogram,
    describe_draws,
    describe_range_error,
    describe_shapes,
    describe_workflow,
    plot_clipped_histogram,
    plot_draws,
    plot_range_error,
    plot_shapes,
    plot_workflow,
)
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
from quant_tutorial.plotting.course import describe_course, plot_course
from quant_tutorial.plotting.devices import (
    describe_choice,
    describe_memory,
    plot_choice,
    plot_memory,
)
from quant_tutorial.plotting.digits import describe_digits, plot_digits
from quant_tutorial.plotting.dot_product import describe_dot_product, plot_dot_product
from quant_tutorial.plotting.errors import describe_sqnr, plot_sqnr
from quant_tutorial.plotting.granularity import describe_granularities, plot_granularities
from quant_tutorial.plotting.integer_layer import (
    describe_integer_layer,
    describe_zero_points,
    plot_integer_layer,
    plot_zero_points,
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
from quant_tutorial.plotting.nodes import (
    describe_nodes,
    describe_ptq_steps,
    plot_nodes,
    plot_ptq_steps,
)
from quant_tutorial.plotting.quantities import (
    describe_bits,
    describe_db,
    describe_number,
    describe_percent,
)
from quant_tutorial.plotting.repairs import (
    FileMark,
    describe_error_path,
    describe_files,
    describe_repair,
    plot_error_path,
    plot_files,
    plot_repair,
)
from quant_tutorial.plotting.roads import describe_roads, plot_roads
from quant_tutorial.plotting.savings import (
    describe_energy,
    describe_register,
    plot_energy,
    plot_register,
)
from quant_tutorial.plotting.sharpness import sharpen
from quant_tutorial.plotting.tensors import describe_integers, plot_integer_histogram
from quant_tutorial.plotting.training import (
    describe_aware_layer,
    describe_fake_quant_node,
    describe_oscillation,
    describe_rescue,
    describe_straight_through,
    plot_aware_layer,
    plot_fake_quant_node,
    plot_oscillation,
    plot_rescue,
    plot_straight_through,
)
from quant_tutorial.plotting.variants import Variant, describe_variants, plot_variants
from quant_tutorial.plotting.widths import (
    describe_errors_by_bits,
    describe_sizes,
    plot_errors_by_bits,
    plot_sizes,
)

__all__ = [
    "FileMark",
    "Variant",
    "describe_all_roundings",
    "describe_aware_layer",
    "describe_bits",
    "describe_changes",
    "describe_channel_ranges",
    "describe_choice",
    "describe_clipped_histogram",
    "describe_clipping",
    "describe_course",
    "describe_db",
    "describe_digits",
    "describe_dot_product",
    "describe_draws",
    "describe_energy",
    "describe_error_path",
    "describe_errors_by_bits",
    "describe_fake_quant_node",
    "describe_files",
    "describe_flips",
    "describe_granularities",
    "describe_integer_layer",
    "describe_integers",
    "describe_kinds",
    "describe_layouts",
    "describe_mapping",
    "describe_memory",
    "describe_methods",
    "describe_moments",
    "describe_nodes",
    "describe_number",
    "describe_oscillation",
    "describe_percent",
    "describe_points",
    "describe_ptq_steps",
    "describe_pushed_error",
    "describe_range_error",
    "describe_register",
    "describe_repair",
    "describe_rescue",
    "describe_roads",
    "describe_shapes",
    "describe_sizes",
    "describe_soft_rounding",
    "describe_sqnr",
    "describe_straight_through",
    "describe_two_weights",
    "describe_variants",
    "describe_workflow",
    "describe_zero_points",
    "plot_all_roundings",
    "plot_aware_layer",
    "plot_channel_ranges",
    "plot_choice",
    "plot_clipped_histogram",
    "plot_clipping",
    "plot_course",
    "plot_digits",
    "plot_dot_product",
    "plot_draws",
    "plot_energy",
    "plot_error_path",
    "plot_errors_by_bits",
    "plot_fake_quant_node",
    "plot_files",
    "plot_granularities",
    "plot_integer_histogram",
    "plot_integer_layer",
    "plot_kinds",
    "plot_layouts",
    "plot_mapping",
    "plot_memory",
    "plot_methods",
    "plot_moments",
    "plot_nodes",
    "plot_oscillation",
    "plot_ptq_steps",
    "plot_pushed_error",
    "plot_range_error",
    "plot_register",
    "plot_repair",
    "plot_rescue",
    "plot_roads",
    "plot_shapes",
    "plot_sizes",
    "plot_soft_rounding",
    "plot_sqnr",
    "plot_straight_through",
    "plot_two_weights",
    "plot_variants",
    "plot_workflow",
    "plot_zero_points",
]

sharpen()
