"""Latency, sizes, the C array against real compilers, TFLM against itself, the model card."""

import dataclasses
import hashlib
import importlib.util
import itertools
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from quant_tutorial import deployment, flatbuffer, metrics, mnist, simulate, tflite
from quant_tutorial.affine import quantize
from quant_tutorial.deployment import Latency
from quant_tutorial.scheme import LayerScheme, QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator

import flatbuffers
import keras
import numpy as np
import pytest
import yaml
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

pytestmark = pytest.mark.slow

# Bytes that one weight takes; dynamic range leaves conv1, of 72 weights, in float.
WEIGHT_BYTES = {"float32": 4, "float16": 2, "int8_fallback": 1, "int8": 1, "int16x8": 1}
WEIGHT_COUNT = 8 * 9 + 16 * 8 * 9 + 32 * 16 * 9 + 800 * 10


def needed(found: object, name: str) -> Any:
    """Give what a test needs, skip without it, and fail in CI, which must have it."""
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"this machine has no {name}")
    return found


@pytest.fixture(scope="module")
def low_bits(exported: bytes) -> dict[str, bytes]:
    """The baseline with weights of fewer bits, float activations."""
    names = (
        "dynamic_wi4_afp32",
        "dynamic_wi2_afp32",
        *("weight_only_wi8_afp32", "weight_only_wi4_afp32", "weight_only_wi2_afp32"),
    )
    return {name: tflite.apply_recipe(exported, name) for name in names}


class Clock:
    """A clock and an interpreter that are driven by hand; it notes what is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[bytes, list[float]]) -> None:
        self.now, self.log = 0.0, []
        remaining = {content: iter(several) for content, several in seconds.items()}
        clock = self

        class FakeInterpreter:
            def __init__(self, model_bytes: bytes, *, threads: int) -> None:
                self.content = model_bytes
                clock.log.append((model_bytes, threads, 0))
                clock.now += 1000  # which loading takes

            def set_tensor(self, index: int, image: np.ndarray) -> None:
                (entry,) = flatbuffer.graph(self.content).inputs
                assert index == entry.index
                assert image.shape == (1, 28, 28, 1)
                clock.now += 100

            def invoke(self) -> None:
                clock.now += next(remaining[self.content])
                content, threads, runs = clock.log[-1]
                assert content == self.content
                clock.log[-1] = (content, threads, runs + 1)

        monkeypatch.setattr(tflite, "make_interpreter", FakeInterpreter)
        monkeypatch.setattr(deployment.timing.time, "perf_counter", lambda: self.now)


class TestLatency:
    def test_what_is_timed_and_in_which_order(
        self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], x_test: np.ndarray
    ) -> None:
        first, second = files["float32"], files["int8, int8 input"]
        # Three rounds of two warm-up runs, which must not count, and 3, 2 and 2 timed ones.
        timed = {first: [3.0, 1, 2, 4, 5, 6, 7], second: [30.0, 10, 20, 40, 50, 60, 90]}
        with_warm_up = {
            content: [9999.0] * 2 + t[:3] + [9999.0] * 2 + t[3:5] + [9999.0] * 2 + t[5:]
            for content, t in timed.items()
        }
        clock = Clock(monkeypatch, with_warm_up)
        found = deployment.latencies(
            {"a": first, "b": second}, x_test[:1], threads=2, runs=7, warm_up=2, rounds=3
        )
        assert clock.log == [(c, 2, 2 + share) for share in (3, 2, 2) for c in (first, second)]
        for name, content in (("a", first), ("b", second)):
            low, median, high = np.percentile(timed[content], [25, 50, 75])
            assert found[name] == Latency(median, low, high, runs=7, threads=2)
            assert found[name].spread == pytest.approx(high - low)

    def test_fewer_runs_than_rounds(
        self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], x_test: np.ndarray
    ) -> None:
        content = files["float32"]
        clock = Clock(monkeypatch, {content: [0.25] * 2})
        found = deployment.latency(content, x_test[:1], runs=2, warm_up=0)
        assert clock.log == [(content, 1, 1)] * 2
        assert (found.median, found.runs) == (0.25, 2)

    def test_of_the_real_interpreter(self, ladder: dict[str, bytes], x_test: np.ndarray) -> None:
        some = {mode: ladder[mode] for mode in ("int8", "int16x8")}
        found = deployment.latencies(some, x_test[:1], runs=40, warm_up=3, rounds=4)
        for one in found.values():
            assert 0 < one.lower_quartile <= one.median <= one.upper_quartile

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            ((9.9e-6, 9.8e-6, 10.04e-6), "9.9 µs (quartiles 9.8 to 10 µs, 500 runs, 1 thread)"),
            ((999.96e-6, 9e-6, 4.123e-3), "1,000 µs (quartiles 9 to 4,120 µs, 500 runs, 1 thread)"),
            ((1e-3, 0.5e-3, 12.345e-3), "1 ms (quartiles 0.5 to 12.3 ms, 500 runs, 1 thread)"),
            ((2.0, 1.5, 3.0), "2 s (quartiles 1.5 to 3 s, 500 runs, 1 thread)"),
        ],
    )
    def test_text(self, seconds: tuple[float, float, float], text: str) -> None:
        assert str(Latency(*seconds, runs=500, threads=1)) == text
        assert str(Latency(*seconds, runs=500, threads=2)).endswith(", 2 threads)")

    @pytest.mark.parametrize(
        ("name", "value"),
        [*itertools.product(("threads", "runs", "rounds"), (0, 2.5, True)), ("warm_up", -1)],
    )
    def test_counts(
        self, files: dict[str, bytes], x_test: np.ndarray, name: str, value: Any
    ) -> None:
        with pytest.raises(ValueError, match=f"{name} must be (an integer|at least [01]), got"):
            deployment.latencies({"a": files["float32"]}, x_test[:1], **{name: value})

    def test_refused(
        self, files: dict[str, bytes], low_bits: dict[str, bytes], x_test: np.ndarray
    ) -> None:
        with pytest.raises(ValueError, match="at least one file"):
            deployment.latencies({}, x_test[:1])
        for image in (x_test[:2], x_test[:0], np.float32(1)):
            with pytest.raises(ValueError, match=r"image must have the shape \(1, …\)"):
                deployment.latency(files["float32"], image)
        with pytest.raises(ValueError, match="must hold floats"):
            deployment.latency(files["float32"], np.zeros((1, 28, 28, 1), np.uint8))
        # A file that LiteRT computes wrongly, and which of the two it is.
        some = {"fine": files["float32"], "two bits": low_bits["dynamic_wi2_afp32"]}
        with pytest.raises(ValueError, match="wrongly") as caught:
            deployment.latencies(some, x_test[:1])
        assert caught.value.__notes__ == ["This is about the file 'two bits'."]


class TestSizes:
    @pytest.mark.parametrize("mode", [*WEIGHT_BYTES, "dynamic"])
    def test_against_the_interpreter(self, ladder: dict[str, bytes], mode: str) -> None:
        content = ladder[mode]
        without = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=without)
        interpreter.allocate_tensors()
        details = interpreter.get_tensor_details()
        found = deployment.sizes(content)
        weights = WEIGHT_BYTES.get(mode, 1) * WEIGHT_COUNT + (3 * 72 if mode == "dynamic" else 0)
        assert found.weights == deployment.weight_bytes(content) == weights
        scales = sum(len(d["quantization_parameters"]["scales"]) for d in details)
        assert found.scales == 12 * scales
        biases = sum(
            interpreter.get_tensor(d["index"]).nbytes
            for d in details[: len(tflite.inspect(content).tensors)]
            if tuple(d["shape"]) in ((8,), (16,), (32,), (10,))
            and not (mode == "float16" and d["dtype"] == np.float32)  # those are unpacked ones
        )
        assert found.biases == biases
        assert found.file == len(content) == sum(found[1:])
        assert found.rest > 0

    @pytest.mark.parametrize("bits", [4, 2])
    def test_packed(self, low_bits: dict[str, bytes], bits: int) -> None:
        for name in (f"dynamic_wi{bits}_afp32", f"weight_only_wi{bits}_afp32"):
            wanted = metrics.packed_bytes(WEIGHT_COUNT, bits)
            assert deployment.weight_bytes(low_bits[name]) == wanted
            assert wanted < 0.65 * len(low_bits[name])  # the rest of the file stays as large

    def test_shared_weights_count_once(self) -> None:
        image = keras.Input((64,))
        inner = keras.layers.Dense(64, use_bias=False, name="inner")(image)
        model = keras.Model(image, keras.layers.Dense(64, use_bias=False, name="outer")(inner))
        content = tflite.convert(model, "float32")
        assert deployment.weight_bytes(content) == 2 * 64 * 64 * 4
        parts = flatbuffer.read(content)
        tensors = parts.subgraphs[0].tensors
        one, two = (t for t in tensors if tuple(t.shape) == (64, 64))
        two.buffer = one.buffer
        builder = flatbuffers.Builder()
        builder.Finish(parts.Pack(builder), b"TFL3")
        assert deployment.weight_bytes(bytes(builder.Output())) == 64 * 64 * 4

    def test_no_model(self) -> None:
        with pytest.raises(ValueError, match=r"not a \.tflite model"):
            deployment.sizes(b"something else")


# Not the program in the package: this one writes to its output, and names the alignment.
PROGRAM = """
#include "model.h"
#include "model.h"
#include <stdio.h>
int main(void) {
    unsigned int index;
    for (index = 0; index < NAME_len; index++) printf("%02x", NAME[index]);
    printf(" %u %u", (unsigned int)sizeof NAME, (unsigned int)((unsigned long)(void *)NAME % 16));
    return 0;
}
"""


class TestCArray:
    @pytest.mark.parametrize(
        ("compiler", "standard"), [("cc", "c11"), ("cc", "c2x"), ("c++", "c++11"), ("c++", "c++20")]
    )
    @pytest.mark.parametrize("name", ["model", "g_digits_model_data"])
    def test_compiles_to_the_same_bytes(
        self, files: dict[str, bytes], tmp_path: Path, compiler: str, standard: str, name: str
    ) -> None:
        found = needed(shutil.which(compiler), f"compiler {compiler}")
        content = files["int8, int8 input"]
        deployment.write_c_array(content, tmp_path / "model.h", name)
        source = tmp_path / ("main.cc" if compiler == "c++" else "main.c")
        source.write_text(PROGRAM.replace("NAME", name))
        flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic-errors"]
        subprocess.run([found, *flags, source, "-o", tmp_path / "program"], check=True)
        done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True)
        data, size, misaligned = done.stdout.split()
        assert bytes.fromhex(data) == content
        assert (int(size), int(misaligned)) == (len(content), 0)

    @pytest.mark.parametrize("language", ["c", "c++"])
    def test_read_back(self, files: dict[str, bytes], tmp_path: Path, language: Any) -> None:
        needed(shutil.which("cc" if language == "c" else "c++"), f"compiler of {language}")
        content = files["int8, uint8 input"]
        path = deployment.write_c_array(content, tmp_path / "new folder" / "digits.h", "digits")
        assert deployment.compile_and_read_back(path, language=language) == content
        # What `read_c_array` does not look at, a compiler does.
        path.write_text(path.read_text().replace("};", "}"))
        assert deployment.read_c_array(path.read_text()) == content
        with pytest.raises(RuntimeError, match="the compiler refuses the header"):
            deployment.compile_and_read_back(path, language=language)

    def test_without_a_compiler(
        self, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = files["int8, int8 input"]
        path = deployment.write_c_array(content, tmp_path / "model.h")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert deployment.compile_and_read_back(path) is None
        # As where C's own headers are missing, or macOS' tools.
        stub = tmp_path / "cc"
        stub.write_text("#!/bin/sh\necho install the tools first >&2\nexit 1\n")
        stub.chmod(0o755)
        assert deployment.compile_and_read_back(path) is None
        assert deployment.read_c_array(path.read_text()) == content
        with pytest.raises(ValueError, match="language must be"):
            deployment.compile_and_read_back(path, language="rust")

    def test_the_comment_and_the_form(self, files: dict[str, bytes], tmp_path: Path) -> None:
        content = files["int8, uint8 input"]
        text = deployment.c_array(content)
        source, target = tflite.input_output(content)
        comment = text[: text.index("*/")]
        for fact in (
            f"bytes:  {len(content)}",
            f"sha256: {hashlib.sha256(content).hexdigest()}",
            f"input:  uint8, shape 1x28x28x1, scale {source.scales[0]:.9g}, zero point 0",
            f"output: uint8, shape 1x10, scale {target.scales[0]:.9g}, zero point "
            f"{target.zero_points[0]}",
        ):
            assert f" * {fact}\n" in comment
        assert "input:  float32, shape 1x28x28x1\n" in deployment.c_array(files["float32"])
        assert text == deployment.c_array(content)
        assert text.isascii()
        assert max(map(len, text.splitlines())) <= 80
        path = deployment.write_c_array(content, tmp_path / "model.h")
        assert path.read_bytes() == text.encode()
        with pytest.raises(ValueError, match="name must be an identifier"):
            deployment.write_c_array(files["float32"], path, "my model")
        assert path.read_bytes() == text.encode()

    @pytest.mark.parametrize(
        "name",
        ["", "1model", "my-model", "my model", "modèle", "_model", "a__b", "model;", "model\n"],
    )
    def test_no_identifier(self, files: dict[str, bytes], name: str) -> None:
        with pytest.raises(ValueError, match="name must be an identifier in C and C"):
            deployment.c_array(files["float32"], name)

    def test_keywords(self, files: dict[str, bytes], tmp_path: Path) -> None:
        # Each is refused, and rightly: C or C++ refuses it as the name of an array.
        reserved = deployment.header._KEYWORDS.split()
        assert {"class", "restrict", "alignas", "main", "xor_eq", "char8_t"} <= set(reserved)
        for name in reserved:
            with pytest.raises(ValueError, match=f"keyword of C or C.*g_{name}"):
                deployment.c_array(files["float32"], name)
        source = tmp_path / "all.cc"
        named = [n for n in reserved if n not in ("restrict", "typeof", "typeof_unqual", "main")]
        source.write_text("".join(f"const char {name}[] = {{1}};\n" for name in named))
        command = [needed(shutil.which("c++"), "compiler c++"), "-std=c++20", "-fsyntax-only"]
        done = subprocess.run(
            [*command, "-fno-diagnostics-show-caret", "-fmax-errors=0", str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        wrong = {int(line) for line in re.findall(r"all\.cc:(\d+):\d+: error", done.stderr)}
        assert wrong == set(range(1, len(named) + 1))

    @pytest.mark.parametrize(
        "text",
        [
            "unsigned char lenet_tflite[] = {\n  0x1c, 0xff, 0x00\n};\n"
            "unsigned int lenet_tflite_len = 3;\n",
            "#include <cstdint>\n\nalignas(16) const unsigned char g_x_model_data[] = "
            "{0x1c,0xff,0x00,};\nconst unsigned int g_x_model_data_size = 3;",
            "const unsigned char g_model[3] __attribute__((aligned(4))) = {\n"
            "  28, /* 27, */ 255, // 1,\n 0};\n",
        ],
        ids=["xxd", "TFLM", "attribute"],
    )
    def test_other_peoples_arrays(self, text: str) -> None:
        assert deployment.read_c_array(text) == b"\x1c\xff\x00"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("int model[] = {1};", "it holds 0"),
            ("unsigned char a[] = {1}; unsigned char b[] = {2};", "it holds 2"),
            ("unsigned char a[] = {1, 256};", "'256', which is not a byte"),
            ("unsigned char a[] = {0x1, 0x1ff};", "'0x1ff', which is not a byte"),
            ("unsigned char a[] = {1, -1};", "'-1', which is not a byte"),
            ("unsigned char a[] = {1,, 2};", "'', which is not a byte"),
            ("unsigned char a[] = {017};", "'017', which is not a byte"),
            ("unsigned char a[] = {1, 2}; unsigned int a_len = 3;", "has 2 bytes, but .* says 3"),
            ("// unsigned char a[] = {1};", "it holds 0"),
        ],
    )
    def test_unreadable(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            deployment.read_c_array(text)


@pytest.fixture(scope="module")
def tflm() -> Any:
    """LiteRT for Microcontrollers' own interpreter; there are wheels for Linux on x86-64 alone."""
    name = "tflite-micro (see the extra `test` in pyproject.toml)"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip(f"there is no {name} for this machine")
    needed(importlib.util.find_spec("tflite_micro"), name)
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter


@pytest.fixture(scope="module")
def for_micro(
    ladder: dict[str, bytes],
    files: dict[str, bytes],
    low_bits: dict[str, bytes],
    packed: dict[str, bytes],
    calibration: np.ndarray,
) -> dict[str, bytes]:
    """Files of all kinds, of the baseline and of a network with other ops, branches and shapes."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(16, 5, strides=2, activation="relu6", name="conv")(image)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(x)
    y = layers.Conv2D(16, 1, name="point")(y)
    x = layers.AveragePooling2D(2, name="average")(layers.Add(name="add")([x, y]))
    x = layers.Dense(32, activation="tanh", name="hidden")(layers.Flatten(name="flatten")(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="answer")(x))
    others = {mode: tflite.convert(model, mode) for mode in ("float32", "dynamic")}
    others["int8"] = tflite.convert(model, "int8", calibration=calibration[:50])
    renamed = {f"branched, {mode}": content for mode, content in others.items()}
    return {**ladder, **files, **low_bits, **renamed, **packed}


@pytest.fixture(scope="module")
def packed(simulator: Simulator) -> dict[str, bytes]:
    """Full-integer files with int4 weights; the dense layer has one scale, or one per output."""
    four, activations = TensorScheme(4, True, "channel-wise", "mse"), TensorScheme(8)
    shared = LayerScheme(TensorScheme(4, True, "layer-wise", "mse"), activations)
    schemes = {"W4A8": QuantScheme(four, activations, overrides={"logits": shared})}
    schemes["W4A8, a scale per output"] = QuantScheme(four, activations)
    return {
        name: simulate.int8_file(simulator.model, simulator.params(scheme), packed=True)
        for name, scheme in schemes.items()
    }


TAKEN = ("float32", "int8_fallback", "int8", "int16x8", "W4A8")


class TestMicro:
    def test_refusals(self, for_micro: dict[str, bytes]) -> None:
        reasons = {name: deployment.micro_refusal(content) for name, content in for_micro.items()}
        taken = {name for name, reason in reasons.items() if reason is None}
        assert {*TAKEN, "branched, int8", "branched, float32"} <= taken
        for name, message in {
            "dynamic": "(CONV_2D, conv2, bn2, relu2) multiplies float32 by int8 weights",
            "float16": "unpacks float16 values",
            "dynamic_wi4_afp32": "multiplies float32 by int4 weights",
            "dynamic_wi2_afp32": "has 2-bit values",
            "weight_only_wi8_afp32": "has a scale for each channel",
            "W4A8, a scale per output": "has int4 weights with a scale for each channel",
            "branched, dynamic": "(FULLY_CONNECTED, hidden) multiplies float32 by int8 weights",
        }.items():
            assert message in reasons[name]
            with pytest.raises(ValueError, match=re.escape(message)):
                deployment.micro_ops(for_micro[name])
        # An op that it does not have.
        image = keras.Input((8, 8, 4))
        flipped = keras.ops.flip(image, axis=1)
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(flipped)))
        reason = deployment.micro_refusal(tflite.convert(model, "float32"))
        assert re.search(r"\(REVERSE_V2.*is not among the ops that it has", reason)

    def test_resolver_calls(self, for_micro: dict[str, bytes]) -> None:
        calls = ("AddConv2D();", "AddMaxPool2D();", "AddReshape();", "AddFullyConnected();")
        assert deployment.micro_ops(for_micro["int8"]) == calls
        with_doors = ("AddQuantize();", *calls, "AddDequantize();")
        assert deployment.micro_ops(for_micro["int8_fallback"]) == with_doors
        # Every name belongs to an op of the file format.
        known = {name.replace("_", "").lower() for name in vars(schema.BuiltinOperator)}
        assert set(deployment.microcontroller._MICRO_NAMES) <= known

    def test_the_arena_by_hand(self, for_micro: dict[str, bytes]) -> None:
        # The first pooling reads 28×28×8 values and writes 14×14×8.
        values = 28 * 28 * 8 + 14 * 14 * 8
        assert deployment.arena_bytes(for_micro["int8"]) == values
        assert deployment.arena_bytes(for_micro["int16x8"]) == 2 * values
        assert deployment.arena_bytes(for_micro["float32"]) == 4 * values
        # The dense layer takes 800 values and unpacks 8,000 weights, to int8 or to floats.
        assert deployment.arena_bytes(for_micro["W4A8"]) == 800 + 8000 + 16
        narrow = for_micro["weight_only_wi4_afp32"]
        assert deployment.arena_bytes(narrow) == 4 * (800 + 8000) + 48

    def test_the_memory_by_hand(self, for_micro: dict[str, bytes]) -> None:
        values = 28 * 28 * 8 + 14 * 14 * 8
        expected = {
            "float32": (4 * values, 0),
            "int8": (values, 0),
            "W4A8": (values, 0),
            "weight_only_wi8_afp32": (4 * values, 4 * WEIGHT_COUNT),
            "weight_only_wi2_afp32": (4 * values, 4 * WEIGHT_COUNT),
            "float16": (4 * values, 4 * (WEIGHT_COUNT + 8 + 16 + 32 + 10)),
        }
        for name, (activations, unpacked) in expected.items():
            content = for_micro[name]
            assert deployment.memory(content) == (len(content), activations, unpacked), name

    def test_the_real_interpreter_agrees(
        self,
        tflm: Any,
        for_micro: dict[str, bytes],
        x_test: np.ndarray,
        capfd: pytest.CaptureFixture,
    ) -> None:
        for name, content in for_micro.items():
            refusal = deployment.micro_refusal(content)
            try:
                micro = tflm.from_bytes(content, arena_size=1_000_000)
            except RuntimeError:
                assert refusal is not None, name
                continue
            without = OpResolverType.BUILTIN_REF
            litert = Interpreter(model_content=content, experimental_op_resolver_type=without)
            litert.allocate_tensors()
            source, target = litert.get_input_details()[0], litert.get_output_details()[0]
            params = tflite.input_output(content)[0].params
            images = x_test[:20]
            if params is not None:
                images = quantize(images, params)
            furthest = 0.0
            for image in images:
                micro.set_input(image[np.newaxis], 0)
                micro.invoke()
                litert.set_tensor(source["index"], image[np.newaxis])
                litert.invoke()
                mine, theirs = micro.get_output(0), litert.get_tensor(target["index"])
                furthest = max(furthest, np.abs(mine.astype(float) - theirs).max())
            # It rounds some rescalings once where LiteRT rounds twice: one level at most.
            output = tflite.inspect(content).ops[-1]
            level = 1.0 if target["dtype"] != np.float32 else 1e-4
            if target["dtype"] == np.float32 and output.type == "DEQUANTIZE":
                level = 1.01 * float(output.inputs[0].scales[0])
            assert (furthest <= level) == (refusal is None), name
            capfd.readouterr()
            micro.print_allocations()
            told = capfd.readouterr().err
            head, tail = (
                int(re.search(rf"allocation {part} (\d+) bytes", told)[1])
                for part in ("head", "tail")
            )
            assert deployment.arena_bytes(content) == head, name
            assert tail < 3000 or name != "int8"  # as lesson 09 says
            assert "wrong results" in (refusal or "wrong results"), name


MADE = "The course's float model, quantized after training."
ABOUT: dict[str, Any] = {"name": "x", "made": "y", "facts": deployment.DIGIT_FACTS}


@pytest.fixture(scope="module")
def evaluation(files: dict[str, bytes], data: mnist.Mnist, x_test: np.ndarray) -> tflite.Evaluation:
    return tflite.evaluate(files["int8, int8 input"], x_test[:500], data.y_test[:500])


@pytest.fixture(scope="module")
def card(files: dict[str, bytes], evaluation: tflite.Evaluation) -> str:
    timed = [Latency(9.9e-6, 9.8e-6, 10e-6, runs=500, threads=n) for n in (1, 2)]
    return deployment.model_card(
        files["int8, int8 input"],
        evaluation,
        timed,
        name='Digits: "int8"',
        made=MADE,
        facts=deployment.DIGIT_FACTS,
    )


class TestModelCard:
    def test_sections_of_the_paper(self, card: str) -> None:
        # Mitchell et al., figure 1.
        assert re.findall(r"^## (.*)$", card, re.MULTILINE) == [
            "Model details",
            "Intended use",
            "Factors",
            "Metrics",
            "Evaluation data",
            "Training data",
            "Quantitative analyses",
            "Ethical considerations",
            "Caveats and recommendations",
        ]
        assert re.findall(r"^# (.*)$", card, re.MULTILINE) == ['Model card: Digits: "int8"']
        assert MADE in card

    def test_figures_are_those_of_the_file(
        self, card: str, files: dict[str, bytes], evaluation: tflite.Evaluation
    ) -> None:
        content = files["int8, int8 input"]
        source = Interpreter(model_content=content).get_input_details()[0]
        right = round(500 * evaluation.accuracy)
        low, high = (100 * end for end in metrics.accuracy_interval(right, 500))
        for figure in (
            f"{len(content):,} bytes, SHA-256 `{hashlib.sha256(content).hexdigest()}`",
            f"| weights | {WEIGHT_COUNT:,} bytes, int8 |",
            f"scale {source['quantization'][0]:.9g}, zero point {source['quantization'][1]}: "
            "from 0 to 1 |",
            f"**{100 * right / 500:.2f}%** ({low:.2f}% to {high:.2f}%), {right} of 500 images",
            "500 images with their labels, of the 10,000 of MNIST's test set",
            "- 9.9 µs (quartiles 9.8 to 10 µs, 500 runs, 1 thread)",
            "- 9.9 µs (quartiles 9.8 to 10 µs, 500 runs, 2 threads)",
            "| LiteRT for Microcontrollers | takes it |",
            "Then they were quantized with the scale and the zero point of the input.",
            "Dequantize the outputs with theirs.",
        ):
            assert figure in card
        rows = [line.split(" | ") for line in card.splitlines() if re.match(r"\| \d \| ", line)]
        assert [int(row[0].strip("| ")) for row in rows] == list(range(10))
        assert [int(row[1].replace(",", "")) for row in rows] == evaluation.confusion.sum(
            axis=1
        ).tolist()
        shares = 100 * np.diag(evaluation.confusion) / evaluation.confusion.sum(axis=1)
        assert [row[2] for row in rows] == [f"{share:.2f}%" for share in shares]

    def test_of_another_file(
        self, files: dict[str, bytes], low_bits: dict[str, bytes], evaluation: tflite.Evaluation
    ) -> None:
        def card_of(content: bytes) -> str:
            return deployment.model_card(content, evaluation, [], **ABOUT)

        in_float = card_of(files["float32"])
        assert "| input | float32, shape (1, 28, 28, 1) |" in in_float
        assert "Pixels were divided by 255.\n" in in_float
        assert "\nLatency: not measured.\n" in in_float
        low = card_of(low_bits["weight_only_wi2_afp32"])
        assert f"{metrics.packed_bytes(WEIGHT_COUNT, 2):,} bytes, int2 |" in low
        assert "| LiteRT for Microcontrollers | no: op 0 (DEQUANTIZE, conv1) has 2-bit" in low

    def test_metadata_and_tables(self, card: str, evaluation: tflite.Evaluation) -> None:
        head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()
        metadata = yaml.safe_load(head)
        assert metadata["license"] == "apache-2.0"
        (entry,) = metadata["model-index"]
        assert entry["name"] == 'Digits: "int8"'
        (result,) = entry["results"]
        assert {"task", "dataset", "metrics"} == set(result)
        assert {"type", "name"} <= set(result["dataset"])
        assert result["metrics"] == [{"type": "accuracy", "value": evaluation.accuracy}]
        for table in re.findall(r"(?:^\|.*\|\n)+", body, re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(columns) == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"name": "a\nb"}, "name must be one line"),
            ({"name": " "}, "name must be one line"),
            ({"made": ""}, "made must say"),
        ],
    )
    def test_refused(
        self,
        files: dict[str, bytes],
        evaluation: tflite.Evaluation,
        options: dict[str, str],
        message: str,
    ) -> None:
        with pytest.raises(ValueError, match=message):
            deployment.model_card(files["float32"], evaluation, [], **{**ABOUT, **options})

    def test_evaluation_of_another_model(
        self, files: dict[str, bytes], evaluation: tflite.Evaluation
    ) -> None:
        other = evaluation._replace(confusion=np.eye(3, dtype=int))
        with pytest.raises(ValueError, match="has 3 classes, the file's output 10"):
            deployment.model_card(files["float32"], other, [], **ABOUT)

    def test_of_another_model(self) -> None:
        """Nothing of the course's own model is said about one that takes something else."""
        keras.utils.set_random_seed(3)
        inputs = keras.Input((16,))
        model = keras.Model(inputs, keras.layers.Dense(3, name="answer")(inputs))
        random = np.random.default_rng(3)
        values = random.normal(size=(60, 16)).astype(np.float32)
        content = tflite.convert(model, "float32")
        found = tflite.evaluate(content, values, random.integers(0, 3, 60))
        facts = deployment.CardFacts(
            intended_use="Sorting parcels.",
            factors="The light in the hall.",
            evaluation_data="from the last week of May.",
            training_data="Our own pictures.",
            ethical_considerations="None of the pictures shows a person.",
            recommendations="Clean the camera.",
            licence="MIT",
            class_name="size",
        )
        text = deployment.model_card(content, found, [], name="Parcels", made="By us.", facts=facts)
        for word in ("digit", "MNIST", "mnist", "28×28", "255", "Census", "logits", "Apache"):
            assert word not in text, word
        for words in (
            "60 images with their labels, from the last week of May.\n",
            "largest output is at the right size, with",
            "| size | images |",
            "Licence of the weights: MIT.",
            "if it names any. Clean the camera.",
        ):
            assert words in text
        metadata = yaml.safe_load(text.split("---\n")[1])
        assert metadata == {
            "license": "mit",
            "tags": ["tflite", "litert", "quantization"],
            "metrics": ["accuracy"],
        }

    @pytest.mark.parametrize("field", dataclasses.fields(deployment.CardFacts))
    def test_no_fact_may_be_missing(self, field: dataclasses.Field) -> None:
        for value in (" ", 3):
            with pytest.raises(ValueError, match=f"{field.name} must be a text"):
                dataclasses.replace(deployment.DIGIT_FACTS, **{field.name: value})

    def test_facts_have_no_default(
        self, files: dict[str, bytes], evaluation: tflite.Evaluation
    ) -> None:
        with pytest.raises(TypeError, match="facts"):
            deployment.model_card(files["float32"], evaluation, [], name="x", made="y")
