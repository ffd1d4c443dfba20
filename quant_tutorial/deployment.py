"""Measure a `.tflite` file, pack it for a device, and document it (lesson 09).

LiteRT for Microcontrollers is today's name of TensorFlow Lite Micro (TFLM): an interpreter of the
same file format for chips without an operating system. It gets the file as an array in C.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from quant_tutorial import metrics, mnist, quiet, saving, tflite
from quant_tutorial.affine import quantize
from quant_tutorial.inspection import FLOWING, Op, Tensor, inspect, read

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

RECORDED = Path(__file__).parent / "data" / "latency.json"

# --- Latency --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """How long LiteRT takes for one image on this machine, over many runs (lesson 09)."""

    median: float  # seconds, like the quartiles
    lower_quartile: float
    upper_quartile: float
    runs: int
    threads: int

    @property
    def spread(self) -> float:
        """The distance of the quartiles in seconds: the middle half of the runs lies in it."""
        return self.upper_quartile - self.lower_quartile

    def __str__(self) -> str:
        """Give the median with its unit, and the quartiles."""
        unit, factor = next(
            (pair for pair in (("s", 1.0), ("ms", 1e3)) if self.median * pair[1] >= 1), ("µs", 1e6)
        )
        median, low, high = (
            f"{float(f'{seconds * factor:.3g}'):,g}"  # three digits, and never an exponent
            for seconds in (self.median, self.lower_quartile, self.upper_quartile)
        )
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return f"{median} {unit} (quartiles {low} to {high} {unit}, {self.runs} runs, {threads})"


def latency(
    model_bytes: bytes,
    image: NDArray[np.float32],
    *,
    threads: int = 1,
    runs: int = 500,
    warm_up: int = 10,
) -> Latency:
    """Measure how long LiteRT takes for one image with one file (lesson 09).

    Arguments, errors and what is measured are those of `latencies`, which compares several files.
    """
    return latencies({"": model_bytes}, image, threads=threads, runs=runs, warm_up=warm_up)[""]


def latencies(
    files: Mapping[str, bytes],
    image: NDArray[np.float32],
    *,
    threads: int = 1,
    runs: int = 500,
    warm_up: int = 10,
    rounds: int = 20,
) -> dict[str, Latency]:
    """Measure how long LiteRT takes for one image, with several files in turn (lesson 09).

    Only `invoke` is timed. Setting the input and getting the output copy the arrays from and to
    Python, which took another microsecond here and which a program on a device does not do.

    In each round every file is loaded, warmed up and run a share of the runs. So other work on the
    machine, or a change of its clock, meets all files alike. One file is loaded at a time: several
    that stay loaded with two threads each wait for one another, up to milliseconds.

    Args:
        files: The content of `.tflite` files by name.
        image: One image as the float model gets it, shape (1, …). It is quantized beforehand.
        threads: How many threads LiteRT may use.
        runs: How many times each file is timed.
        warm_up: How many runs go before the timed ones in each round, untimed.
        rounds: How many times each file is loaded, unless there are fewer runs.

    Raises:
        ValueError: for no files, for a count that is not a whole number of at least 1 (`warm_up`:
            0), and for a file or an image that `tflite.predict` refuses.
    """
    if not files:
        raise ValueError("files must hold at least one file, got none.")
    counts = {"threads": threads, "runs": runs, "warm_up": warm_up, "rounds": rounds}
    for name, count in counts.items():
        least = 0 if name == "warm_up" else 1
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {count!r}.")
    inputs = {name: _input_of(name, content, image) for name, content in files.items()}
    seconds: dict[str, list[float]] = {name: [] for name in files}
    rounds = min(rounds, runs)
    for number in range(rounds):
        share = runs // rounds + (number < runs % rounds)
        for name, content in files.items():
            seconds[name] += _timed(content, inputs[name], threads, share, warm_up)
    return {
        name: Latency(
            median=float(np.median(times)),
            lower_quartile=float(np.percentile(times, 25)),
            upper_quartile=float(np.percentile(times, 75)),
            runs=int(runs),
            threads=int(threads),
        )
        for name, times in seconds.items()
    }


class Machine(NamedTuple):
    """A machine on which the files of lesson 09 were timed with one thread (lesson 09)."""

    name: str
    processor: str
    microseconds: dict[str, float]  # the median for one image, by variant


def recorded_latencies(path: str | Path = RECORDED) -> tuple[Machine, ...]:
    """Read the latencies that ship with the course, from machines other than the reader's.

    They are figures of lesson 09's cell `latency-all`, which `latencies` measures. Lesson 09.

    Raises:
        FileNotFoundError: when the file is missing.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"The recorded latencies are missing: {path}. Install again.")
    return tuple(Machine(**machine) for machine in json.loads(Path(path).read_text())["machines"])


def _input_of(name: str, model_bytes: bytes, image: NDArray[np.float32]) -> NDArray[np.generic]:
    """Give the image as the file's input wants it; refuse what `predict` refuses."""
    images = np.asarray(image)
    if images.ndim == 0 or len(images) != 1:
        raise ValueError(f"image must have the shape (1, …), got {images.shape}.")
    try:
        # A file that LiteRT computes wrongly would give a time that means nothing.
        tflite.predict(model_bytes, images)
    except ValueError as error:
        if name:
            error.add_note(f"This is about the file {name!r}.")
        raise
    params = tflite.input_output(model_bytes)[0].params
    return images.astype(np.float32) if params is None else quantize(images, params)


def _timed(
    model_bytes: bytes, image: NDArray[np.generic], threads: int, runs: int, warm_up: int
) -> list[float]:
    with quiet.native_output():
        interpreter = Interpreter(model_content=bytes(model_bytes), num_threads=int(threads))
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    seconds = []
    for _ in range(warm_up + runs):
        interpreter.set_tensor(source, image)  # a run may use the input's memory for something else
        start = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - start)
    return seconds[warm_up:]


# --- Size -----------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """What the bytes of a `.tflite` file are for (lesson 09)."""

    file: int
    weights: int  # of convolutions and dense layers, at the bit width that they have in the file
    biases: int
    scales: int  # a float32 for each scale and an int64 for each zero point, of all tensors
    rest: int  # the graph: ops, names, shapes, padding


def sizes(model_bytes: bytes) -> Sizes:
    """Tell the bytes of a `.tflite` file apart (lesson 09).

    Weights that two ops share count once. 4- and 2-bit weights are packed, two and four a byte.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    model, tensors = read(model_bytes), inspect(model_bytes).tensors
    in_file = model.subgraphs[0].tensors
    buffers = {in_file[tensor.index].buffer: tensor for tensor in tensors}
    weights, biases = (
        sum(tensor.bytes for tensor in buffers.values() if tensor.kind == kind)
        for kind in ("weights", "bias")
    )
    scales = sum(
        4 * len(values.scale) + 8 * (0 if values.zeroPoint is None else len(values.zeroPoint))
        for values in (tensor.quantization for tensor in in_file)
        if values is not None and values.scale is not None
    )
    rest = len(model_bytes) - weights - biases - scales
    return Sizes(len(model_bytes), weights, biases, scales, rest)


def weight_bytes(model_bytes: bytes) -> int:
    """Count the bytes of the weights at their bit width in the file (lesson 09).

    Weights of convolutions and dense layers, without biases, scales and zero points: see `sizes`.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    return sizes(model_bytes).weights


# --- C array --------------------------------------------------------------------------------------

# What TFLM's own generator of arrays uses. The format's schema aligns the buffers of the weights to
# 16 bytes from the beginning of the file, which is worth nothing if that lies elsewhere.
ALIGNMENT = 16

# Of C (to C23) and C++ (to C++20), and `main`, of which a program has one already.
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
    char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
    constinit continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long main mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires
    restrict return short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned
    using virtual void volatile wchar_t while xor xor_eq
"""
_ARRAY = re.compile(r"\bunsigned\s+char\s+(\w+)\s*\[\s*\d*\s*\][^={};]*=\s*\{([^{}]*)\}")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def c_array(model_bytes: bytes, name: str = "model") -> str:
    """Give a `.tflite` file as a C header for LiteRT for Microcontrollers (lesson 09).

    The header is C11 and C++11. It defines `name`, an array aligned to 16 bytes because the
    interpreter reads numbers of several bytes where they lie, and `name_len`, its length.

    Args:
        model_bytes: The content of the `.tflite` file.
        name: An identifier in C and C++ that is not reserved there.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or the name is not such an identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name:
        raise ValueError(
            f"name must be an identifier in C and C++, ASCII letters, digits and single "
            f"underscores, with a letter first, got {name!r}."
        )
    if name in _KEYWORDS.split():
        raise ValueError(f"name must not be a keyword of C or C++, got {name!r}: try g_{name}.")
    found = inspect(model_bytes)
    facts = [
        f"bytes:  {len(model_bytes)}",
        f"sha256: {hashlib.sha256(model_bytes).hexdigest()}",
        *(f"input:  {_c_comment(tensor)}" for tensor in found.inputs),
        *(f"output: {_c_comment(tensor)}" for tensor in found.outputs),
    ]
    rows = [model_bytes[start : start + 12] for start in range(0, len(model_bytes), 12)]
    lines = [
        "/* A .tflite model for LiteRT for Microcontrollers (TensorFlow Lite Micro).",
        " *",
        *(f" * {fact}" for fact in facts),
        " *",
        " * This header defines the array: include it in one source file only.",
        " */",
        f"#ifndef {name.upper()}_H_",
        f"#define {name.upper()}_H_",
        "",
        "#ifndef __cplusplus",
        "#include <stdalign.h> /* alignas, which C++ has without it */",
        "#endif",
        "",
        f"alignas({ALIGNMENT}) const unsigned char {name}[] = {{",
        *("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows),
        "};",
        f"const unsigned int {name}_len = {len(model_bytes)};",
        "",
        f"#endif /* {name.upper()}_H_ */",
        "",
    ]
    return "\n".join(lines)


def write_c_array(model_bytes: bytes, path: str | Path, name: str = "model") -> Path:
    """Write the header of `c_array`, whole or not at all, and give its path (lesson 09).

    Missing folders are made. An older file of that name stays as it was if anything goes wrong.

    Raises:
        ValueError: as for `c_array`.
        OSError: when the file cannot be written.
    """
    header = c_array(model_bytes, name).encode("ascii")
    return saving.write_whole(Path(path), lambda part: part.write_bytes(header))


def read_c_array(text: str) -> bytes:
    """Read the bytes back from a C source or header that holds one array of them (lesson 09).

    Takes what `c_array` makes, and what `xxd -i` and TFLM's generator of arrays make.

    Raises:
        ValueError: when the text holds no such array or several, something in it that is not a
            byte, or a length (`name_len` or `name_size`) that is not the array's.
    """
    text = _COMMENT.sub(" ", text)
    name, values = _c_array_in(text)
    parts = [part.strip() for part in values.split(",")]
    if parts[-1] == "":  # after a comma at the end
        parts.pop()
    for part in parts:
        if not re.fullmatch(r"0[xX][0-9a-fA-F]+|0|[1-9][0-9]*", part) or int(part, 0) > 255:
            raise ValueError(f"text: the array {name} holds {part!r}, which is not a byte.")
    content = bytes(int(part, 0) for part in parts)
    length = re.search(rf"\b{name}_(?:len|size)\s*=\s*(\d+)", text)
    if length and int(length[1]) != len(content):
        raise ValueError(
            f"text: the array {name} has {len(content)} bytes, but its length says {length[1]}."
        )
    return content


def compile_and_read_back(path: str | Path, *, language: Literal["c", "c++"] = "c") -> bytes | None:
    """Compile a header of `c_array` with this machine's compiler; give what it holds (lesson 09).

    A small program includes the header, checks that the array is aligned, and writes it out.

    Args:
        path: The header.
        language: "c" compiles as C11 with `cc`, "c++" as C++11 with `c++`.

    Returns:
        The bytes of the array; None on a machine without that compiler, or with one that compiles
        nothing, because C's own headers or, on macOS, the command-line tools are missing.

    Raises:
        ValueError: for another language, or a file that holds no array.
        OSError: when the file cannot be read.
        RuntimeError: when the compiler refuses the header, or the array is not aligned.
        subprocess.TimeoutExpired: when it takes more than a minute.
    """
    if language not in ("c", "c++"):
        raise ValueError(f"language must be 'c' or 'c++', got {language!r}.")
    header = Path(path).read_text(encoding="utf-8")
    name, _ = _c_array_in(header)
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        return None
    program = f"""
        #include <stdint.h>
        #include <stdio.h>
        #include "header.h"
        int main(int count, char **arguments) {{
            FILE *file;
            if (count != 2 || (uintptr_t){name} % {ALIGNMENT} != 0) return 2;
            file = fopen(arguments[1], "wb");
            if (file == NULL) return 3;
            if (fwrite({name}, 1, {name}_len, file) != {name}_len) return 4;
            return fclose(file) == 0 ? 0 : 5;
        }}
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / ("main.c" if language == "c" else "main.cc")
        source.write_text(program, encoding="utf-8")
        source.with_name("header.h").write_text(header, encoding="utf-8")
        built, output = source.with_name("program.exe"), source.with_name("output")
        flags = [f"-std={language}11", "-Wall", "-Wextra", "-Werror", "-pedantic-errors"]
        trial = source.with_name(f"trial{source.suffix}")
        trial.write_text("#include <stdint.h>\n#include <stdio.h>\nint main(void) { return 0; }\n")
        try:
            _run([compiler, str(trial), "-o", str(built)], "the compiler compiles nothing")
        except RuntimeError:
            return None
        _run([compiler, *flags, str(source), "-o", str(built)], "the compiler refuses the header")
        _run([str(built), str(output)], "the compiled program finds the array not as it should be")
        return output.read_bytes()


def _c_array_in(text: str) -> tuple[str, str]:
    """Give the name and the values of the one array of bytes in a C source."""
    arrays = _ARRAY.findall(_COMMENT.sub(" ", text))
    if len(arrays) != 1:
        raise ValueError(f"text must hold one array of unsigned char, it holds {len(arrays)}.")
    return arrays[0]


def _c_comment(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape))
    if tensor.params is None:
        return f"{tensor.type}, shape {shape}"
    scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
    return f"{tensor.type}, shape {shape}, scale {scale:.9g}, zero point {zero_point}"


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        first = done.stderr[:2000]  # one mistake in a long array can give thousands of lines
        raise RuntimeError(f"{failure} (status {done.returncode}).\n{first}")


# --- LiteRT for Microcontrollers ------------------------------------------------------------------

# The ops that TFLM has built in, as its MicroMutableOpResolver calls them (the signal library's
# ops and those for one vendor's chips left out). Source: python/tflite_micro/python_ops_resolver.cc
# in github.com/tensorflow/tflite-micro, which registers them all, at commit 85e19dd.
_MICRO_OPS = """
    Abs Add AddN ArgMax ArgMin AssignVariable AveragePool2D BatchMatMul BatchToSpaceNd BroadcastArgs
    BroadcastTo CallOnce Cast Ceil Concatenation Conv2D Cos CumSum DepthToSpace DepthwiseConv2D
    Dequantize Div Elu EmbeddingLookup Equal Exp ExpandDims Fill Floor FloorDiv FloorMod
    FullyConnected Gather GatherNd Greater GreaterEqual HardSwish If L2Normalization L2Pool2D
    LeakyRelu Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr Logistic MaxPool2D
    Maximum Mean Minimum MirrorPad Mul Neg NotEqual Pack Pad PadV2 Prelu Quantize ReadVariable
    ReduceMax Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Round Rsqrt SelectV2 Shape Sin
    Slice Softmax SpaceToBatchNd SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze
    StridedSlice Sub Sum Svdf Tanh Transpose TransposeConv UnidirectionalSequenceLSTM Unpack
    VarHandle While ZerosLike
"""
_MICRO_NAMES = {name.lower(): name for name in _MICRO_OPS.split()}
# Types of activations and weights that its kernels multiply. Source: conv_common.cc and
# fully_connected.cc in tensorflow/lite/micro/kernels, which call all others "hybrid".
_MICRO_PAIRS = (("float32", "float32"), ("int8", "int8"), ("int8", "int4"), ("int16", "int8"))
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def micro_refusal(model_bytes: bytes) -> str | None:
    """Say why LiteRT for Microcontrollers cannot run a file, or give None if it can (lesson 09).

    Checked are the ops that it has, the types of weights that its kernels multiply, and DEQUANTIZE;
    not the ops' options. Hardware vendors' kernels may take less. A test runs the real interpreter.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    for op in inspect(model_bytes).ops:
        reason = _micro_refusal(op)
        if reason is not None:
            return f"{op} {reason}"
    return None


def micro_ops(model_bytes: bytes) -> tuple[str, ...]:
    """Give the calls that tell LiteRT for Microcontrollers a file's ops (lesson 09).

    A program for a chip holds the code of the ops alone that its model needs. It makes a
    `tflite::MicroMutableOpResolver<n> resolver;` for n ops and names each: `resolver.AddConv2D();`.
    Each op once, in order of first use.

    Raises:
        ValueError: when the bytes are not a `.tflite` model, or one that it cannot run.
    """
    reason = micro_refusal(model_bytes)
    if reason is not None:
        raise ValueError(
            f"LiteRT for Microcontrollers cannot run this file: {reason} A full-integer int8 file "
            "is what it is made for."
        )
    return tuple(f"Add{_micro_name(op)}();" for op in inspect(model_bytes).op_types)


def arena_bytes(model_bytes: bytes) -> int:
    """Give the least memory that a file's activations need, in bytes (lesson 09).

    The most that the activations of one op, and those that later ops still need, take together,
    each rounded up to 16 bytes as LiteRT for Microcontrollers does. Its arena must be larger: its
    own structures come on top (2.7 kB for the course's int8 model on a 64-bit computer), and what
    a kernel needs to compute with, such as int4 weights unpacked.

    Raises:
        ValueError: when the bytes are not a `.tflite` model.
    """
    found = inspect(model_bytes)
    first = dict.fromkeys((tensor.index for tensor in found.inputs), 0)
    last: dict[int, int] = {}
    flowing: dict[int, Tensor] = {tensor.index: tensor for tensor in found.inputs}
    for step, op in enumerate(found.ops):
        for tensor in (*op.inputs, *op.outputs):
            if tensor.kind in FLOWING or tensor.kind.startswith("dequantized"):
                flowing[tensor.index] = tensor
                first.setdefault(tensor.index, step)
                last[tensor.index] = step
    last.update(dict.fromkeys((tensor.index for tensor in found.outputs), len(found.ops)))
    sums = [
        sum(
            -(-tensor.bytes // ALIGNMENT) * ALIGNMENT
            for index, tensor in flowing.items()
            if first[index] <= step <= last.get(index, 0)
        )
        for step in range(len(found.ops))
    ]
    return max(sums, default=0)


def _micro_name(op_type: str) -> str | None:
    return _MICRO_NAMES.get(op_type.replace("_", "").lower())


def _micro_refusal(op: Op) -> str | None:
    if _micro_name(op.type) is None:
        return "is not among the ops that it has."
    for tensor in (*op.inputs, *op.outputs):
        if tensor.type == "int2":
            return "has 2-bit values, a type that it does not know."
    if op.type in _WEIGHTED:
        source, weights = op.inputs[2 if op.type == "TRANSPOSE_CONV" else 0], op.inputs[1]
        if (source.type, weights.type) not in _MICRO_PAIRS:
            return f"multiplies {source.type} by {weights.type} weights, which it does not."
        if op.type == "TRANSPOSE_CONV" and weights.type == "int4":
            return "has int4 weights, which it takes in other ops only."
        if op.type == "FULLY_CONNECTED" and weights.type == "int4" and len(weights.scales) > 1:
            return "has int4 weights with a scale for each channel, which it takes in no such op."
    if op.type == "DEQUANTIZE":
        source = op.inputs[0]
        if source.type not in ("int8", "int16", "uint8"):
            return f"unpacks {source.type} values, and it can unpack int8, int16 and uint8 only."
        if len(source.scales) > 1:
            return (
                "has a scale for each channel, of which it uses the first for all: wrong results."
            )
    return None


# --- Model card -----------------------------------------------------------------------------------


def model_card(
    model_bytes: bytes,
    evaluation: tflite.Evaluation,
    latencies: Sequence[Latency],
    *,
    name: str,
    made: str,
) -> str:
    """Write the model card of a file of this course: what to know before using it (lesson 09).

    Markdown in the sections of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), with
    the metadata at its head that the Hugging Face Hub reads. Every figure is read from the file or
    from what was measured.

    Args:
        model_bytes: The content of the `.tflite` file, which takes MNIST images.
        evaluation: What `tflite.evaluate` measured of this file on test images.
        latencies: What `latency` measured of it, for each number of threads; may be empty.
        name: What to call the model; one line.
        made: How the file was made: model, method, bit widths, calibration or training. Sentences.

    Raises:
        ValueError: when the bytes are not a `.tflite` model with one input and output, the name is
            not one line or empty, `made` is empty, or the evaluation is of another number of
            classes.
    """
    if not name.strip() or not name.isprintable():
        raise ValueError(f"name must be one line and not empty, got {name!r}.")
    if not made.strip():
        raise ValueError("made must say how the file was made, got nothing.")
    found = inspect(model_bytes)
    source, target = tflite.input_output(model_bytes)
    confusion = evaluation.confusion
    if confusion.shape != (target.shape[-1], target.shape[-1]):
        raise ValueError(
            f"evaluation has {len(confusion)} classes, the file's output {target.shape[-1]}: it is "
            "the evaluation of another file."
        )
    right, images = int(np.trace(confusion)), int(confusion.sum())
    size, refusal = sizes(model_bytes), micro_refusal(model_bytes)
    weights = {t.type for t in found.tensors if t.kind == "weights"}
    data = mnist.load()
    facts = [
        ("file", f"{size.file:,} bytes, SHA-256 `{hashlib.sha256(model_bytes).hexdigest()}`"),
        ("weights", f"{size.weights:,} bytes, {' and '.join(sorted(weights)) or 'none'}"),
        ("biases; scales and zero points", f"{size.biases:,}; {size.scales:,} bytes"),
        ("activations", f"at least {arena_bytes(model_bytes):,} bytes of memory at a time"),
        ("ops", ", ".join(f"`{op}`" for op in found.op_types)),
        ("integer only", f"{'yes' if found.integer_only else 'no'}: {found.reason}"),
        ("input", _card_tensor(source)),
        ("output", _card_tensor(target)),
        ("LiteRT for Microcontrollers", "takes it" if refusal is None else f"no: {refusal}"),
    ]
    timed = [f"- {figures}" for figures in map(str, latencies)] or ["- not measured"]
    metadata = _card_metadata(name, right / images)
    accuracy, interval = _card_accuracy(right, images)
    per_class = [
        (digit, int(row.sum()), *_card_accuracy(int(row[digit]), int(row.sum())))
        for digit, row in enumerate(confusion)
        if row.sum()
    ]
    parts = [
        f"{metadata}\n\n# Model card: {name}",
        f"## Model details\n\n{made.strip()}\n\n{_card_table(('what', 'value'), facts)}",
        f"Versions: {_card_versions()}. Licence of the weights and of the code: Apache-2.0.",
        "## Intended use\n\n"
        "Teaching, and comparing ways of quantization: it reads one handwritten digit, white on "
        "black, in a picture of 28×28 pixels like those of MNIST. It is not for reading cheques, "
        "forms, addresses or anything else that matters to somebody, nor for pictures of other "
        "sizes, with several digits, or with none: it answers with a digit whatever it sees.",
        "## Factors\n\n"
        "The digit (below). Not measured, and likely to matter: who wrote it and in which country, "
        "the pen, the scanner or camera, and how the digit was cut out, scaled and centred.",
        "## Metrics\n\n"
        "Accuracy: the share of the images whose largest output is at the right digit, with "
        "Wilson's 95 % interval, which says how far another sample of such images could differ.",
        "## Evaluation data\n\n"
        f"{images:,} images with their labels, of the {len(data.x_test):,} of MNIST's test set; "
        "nobody wrote both training and test digits. Pixels were divided by 255"
        + (", then quantized with the input's scale and zero point." if source.params else "."),
        "## Training data\n\n"
        f"MNIST's training set, {len(data.x_train):,} images by Yann LeCun and Corinna Cortes "
        "(CC BY-SA 3.0), made from NIST's Special Databases 1 and 3.",
        f"## Quantitative analyses\n\nAccuracy: **{accuracy}** ({interval}), {right:,} of "
        f"{images:,} images.\n\n"
        + _card_table(("digit", "images", "accuracy", "95 % interval"), per_class),
        "Latency of one image, LiteRT's `invoke` alone, on the computer that made this card "
        f"({platform.machine()}, {os.cpu_count()} cores), which is not the device: measure there."
        "\n\n" + "\n".join(timed),
        "## Ethical considerations\n\n"
        "The digits were written by American high-school students and employees of the Census "
        "Bureau. People who learned to write elsewhere, and put a serif on their 1 or a bar "
        "through their 7, may meet more errors than the figures above say; nothing here measures "
        "that.",
        "## Caveats and recommendations\n\n"
        "Quantize inputs with the scale and zero point above, rounded and clipped, and dequantize "
        "outputs. The outputs are logits, not probabilities, and no measure of certainty. Measure "
        "accuracy and latency again on the device, with pictures from its own camera.",
    ]
    return "\n\n".join(parts) + "\n"


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
    return f"{100 * right / images:.2f} %", f"{100 * low:.2f} to {100 * high:.2f} %"


def _card_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(entry).replace("|", "\\|") for entry in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _card_versions() -> str:
    packages = ("ai-edge-litert", "keras", "litert-quantizer", "tensorflow")
    found = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])


def _card_metadata(name: str, accuracy: float) -> str:
    """Give the head that the Hugging Face Hub reads; JSON's strings and lists are YAML too."""
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"type": "ylecun/mnist", "name": "MNIST", "split": "test"},
        "metrics": [{"type": "accuracy", "value": accuracy}],
    }
    entries = {
        "license": "apache-2.0",
        "tags": ["tflite", "litert", "quantization"],
        "datasets": ["ylecun/mnist"],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result]}],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
    return "\n".join(["---", *lines, "---"])
