"""Damaged files: the reader names what is wrong, and what it accepts does not crash LiteRT."""

import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from quant_tutorial import flatbuffer, integer, models, quiet, tflite

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

pytestmark = pytest.mark.slow

SHIPPED = models.INT8
COUNT = 2_000

_DAMAGED = r"model_bytes is not a \.tflite model"
# Each takes the content of a file and gives a result or a ValueError, whose text begins so.
READERS: list[Any] = [
    pytest.param(flatbuffer.graph, _DAMAGED, id="flatbuffer.graph"),
    pytest.param(tflite.inspect, _DAMAGED, id="tflite.inspect"),
    pytest.param(
        integer.load,
        rf"{_DAMAGED}|The (input|tensor) |Integer-only inference does not|op \d+ \([A-Z_0-9]+",
        id="integer.load",
    ),
]

# Numbers that a field can be changed to: small ones, ends of types, a tiny float, infinity, NaN.
WORDS = (0, 1, 2, 3, 7, 28, 64, 255, 256, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS = (0x00000001, 0x7F800000, 0x7FC00000)  # as the bits of a float32

# Runs each file with each set of kernels, and says before each one which it is.
RUN = """
import pickle, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType as R
for number, content in enumerate(pickle.load(open(sys.argv[1], "rb"))):
    for kernels in (R.AUTO, R.BUILTIN_REF, R.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        print(number, kernels.name, flush=True)
        try:
            model = Interpreter(
                model_content=content, experimental_op_resolver_type=kernels, num_threads=1
            )
            model.allocate_tensors()
            for entry in model.get_input_details():
                values = np.random.default_rng(0).integers(0, 2, entry["shape"])
                model.set_tensor(entry["index"], values.astype(entry["dtype"]))
            model.invoke()
            for end in model.get_output_details():
                model.get_tensor(end["index"])
        except (ValueError, RuntimeError, TypeError):  # an answer, and no crash
            pass
print("all done", flush=True)
"""


# The same with the course's own functions, which may raise ValueErrors and nothing else.
PREDICT = """
import pickle, sys
from quant_tutorial import tflite
import numpy as np
images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
for number, content in enumerate(pickle.load(open(sys.argv[1], "rb"))):
    for predict in (tflite.predict, tflite.run_all):
        print(number, predict.__name__, flush=True)
        try:
            predict(content, images)
        except ValueError as error:
            assert not isinstance(error, UnicodeError)
print("all done", flush=True)
"""


class Damaged(NamedTuple):
    name: str  # of the file that it was
    damage: str
    content: bytes


def structure(content: bytes) -> list[int]:
    """The places of all bytes but those inside large constants, where a change does no harm."""
    inside = np.zeros(len(content), bool)
    for buffer in flatbuffer.read(content).buffers:
        if buffer.data is not None and len(buffer.data) > 64:
            start = content.find(buffer.data.tobytes())
            inside[start + 8 : start + len(buffer.data) - 8] = True
    return np.flatnonzero(~inside).tolist()


def damaged_by(content: bytes, places: list[int], rng: random.Random) -> tuple[str, bytes]:
    """A way to damage a file, and the file damaged by it."""
    damaged = bytearray(content)
    damage = rng.choice(("cut", "byte", "byte", "bytes", "step", "bit", "word", "word", "swap"))
    damage = rng.choice((damage, damage, damage, damage, "zeros", "removed", "inserted"))
    at, other = rng.choice(places), rng.choice(places)
    if damage == "cut":
        del damaged[rng.randrange(len(damaged)) :]
    elif damage == "byte":
        damaged[at] = rng.randrange(256)
    elif damage == "bytes":
        for place in rng.sample(places, 5):
            damaged[place] = rng.randrange(256)
    elif damage == "step":
        damaged[at] = (damaged[at] + rng.choice((-4, -1, 1, 4))) % 256
    elif damage == "bit":
        damaged[at] ^= 1 << rng.randrange(8)
    elif damage == "word":
        at -= at % 4
        damaged[at : at + 4] = rng.choice(WORDS + FLOATS).to_bytes(4, "little")
    elif damage == "swap":
        at, other = at - at % 4, other - other % 4
        damaged[at : at + 4], damaged[other : other + 4] = (
            content[other : other + 4],
            content[at : at + 4],
        )
    elif damage == "zeros":
        damaged[at : at + 16] = bytes(len(damaged[at : at + 16]))
    elif damage == "removed":
        del damaged[at : at + rng.choice((1, 4, 8))]
    else:
        damaged[at:at] = rng.randbytes(rng.choice((1, 4, 8)))
    return damage, bytes(damaged)


@pytest.fixture(scope="module")
def sound(ladder: dict[str, bytes], exported: bytes) -> dict[str, bytes]:
    """Files of several kinds, undamaged."""
    return {
        "shipped": SHIPPED.read_bytes(),
        **ladder,
        "4-bit weights": tflite.apply_recipe(exported, "weight_only_wi4_afp32"),
        "4-bit dynamic": tflite.apply_recipe(exported, "dynamic_wi4_afp32"),
    }


@pytest.fixture(scope="module")
def damaged(sound: dict[str, bytes]) -> list[Damaged]:
    """So many files, the same ones at each run."""
    rng = random.Random(6)
    places = {name: structure(content) for name, content in sound.items()}
    names = list(sound) * COUNT
    return [Damaged(n, *damaged_by(sound[n], places[n], rng)) for n in names[:COUNT]]


def answer(reader: Callable[[bytes], Any], content: bytes) -> ValueError | None:
    """The error that a reader answers with; None when it accepts the file."""
    try:
        reader(content)
    except ValueError as error:
        return error
    return None


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    """A file whose objects were changed, written again."""
    model = flatbuffer.read(content)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_sound_files_are_accepted(sound: dict[str, bytes]) -> None:
    for content in sound.values():
        assert flatbuffer.graph(content).size == len(content)
        assert flatbuffer.graph(changed(content, lambda model: None)).ops


@pytest.mark.parametrize(("reader", "beginning"), READERS)
def test_a_damaged_file_gets_an_answer(
    reader: Callable[[bytes], Any], beginning: str, damaged: list[Damaged]
) -> None:
    refused = 0
    for name, damage, content in damaged:
        error = answer(reader, content)
        if error is not None:
            assert re.match(beginning, str(error)), (name, damage, error)
            assert not isinstance(error, UnicodeError), (name, damage)
            refused += 1
    assert COUNT / 4 < refused < COUNT


def run_each(accepted: list[Damaged], folder: Path, program: str) -> None:
    """Run a program on files, in a process of its own, which must come to its end."""
    (folder / "accepted").write_bytes(pickle.dumps([entry.content for entry in accepted]))
    command = [sys.executable, "-c", program, str(folder / "accepted")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    last = (done.stdout.splitlines() or ["0 start"])[-1]
    if last != "all done":
        name, damage, content = accepted[int(last.split()[0])]
        (folder / "crash.tflite").write_bytes(content)
        pytest.fail(f"{last}: {name}, {damage}, {folder}/crash.tflite: {done.stderr[-500:]}")


@pytest.fixture(scope="module")
def accepted(damaged: list[Damaged]) -> list[Damaged]:
    return [entry for entry in damaged if answer(flatbuffer.graph, entry.content) is None]


def test_what_the_reader_accepts_does_not_crash_litert(
    accepted: list[Damaged], tmp_path: Path
) -> None:
    run_each(accepted, tmp_path, RUN)


def test_predict_gives_a_result_or_a_value_error(accepted: list[Damaged], tmp_path: Path) -> None:
    """`predict` reads each file as `flatbuffer.graph` does, and then runs it; here every second."""
    run_each(accepted[::2], tmp_path, PREDICT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model_bytes is not a .tflite model: it is empty."),
        (
            b"\x89PNG\r\n\x1a\n" + bytes(99),
            "model_bytes is not a .tflite model: it is a PNG picture.",
        ),
        (
            b"PK\x03\x04" + bytes(99),
            "model_bytes is not a .tflite model: it is a zip archive, as .keras files are.",
        ),
        (
            b"no model at all",
            "model_bytes is not a .tflite model: bytes 4 to 7 are not TFL3, the mark of such "
            "files.",
        ),
        (
            None,
            "model_bytes must be the content of a .tflite file, got NoneType: read it with "
            "Path(…).read_bytes().",
        ),
        (
            "model.tflite",
            "model_bytes must be the content of a .tflite file, got str: read it with "
            "Path(…).read_bytes().",
        ),
    ],
)
def test_other_things_than_models(content: Any, message: str) -> None:
    for reader in (flatbuffer.read, flatbuffer.graph):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            reader(content)


def test_a_file_without_a_graph() -> None:
    builder = flatbuffers.Builder(64)
    builder.Finish(schema.ModelT().Pack(builder), b"TFL3")
    with pytest.raises(ValueError, match=r"model_bytes is not a \.tflite model: it holds no graph"):
        flatbuffer.graph(bytes(builder.Output()))


def test_a_length_of_four_billion_is_not_believed() -> None:
    content = SHIPPED.read_bytes()
    for at in range(0, 400, 4):
        wrong = content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :]
        error = answer(flatbuffer.graph, wrong)
        assert error is None or str(error).startswith("model_bytes is not a .tflite model")


def test_a_file_that_was_cut_short() -> None:
    with pytest.raises(ValueError, match=r"it is damaged or cut short\. The .* at byte"):
        flatbuffer.graph(SHIPPED.read_bytes()[:5_000])


def op(model: Any, number: int) -> Any:
    return model.subgraphs[0].operators[number]


def set_of(thing: Callable[[Any], Any], **values: Any) -> Callable[[Any], None]:
    """A change of fields of one object of the model."""

    def change(model: Any) -> None:
        for name, value in values.items():
            assert hasattr(thing(model), name)
            setattr(thing(model), name, value)

    return change


def inputs_of(number: int, other: int) -> Callable[[Any], None]:
    """A change by which one op reads what another one reads."""
    return lambda model: setattr(op(model, number), "inputs", op(model, other).inputs)


def outputs_of(number: int, other: int) -> Callable[[Any], None]:
    """A change by which one op writes what another one writes."""
    return lambda model: setattr(op(model, number), "outputs", op(model, other).outputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_of(lambda m: op(m, 0).builtinOptions, strideH=0),
            r"op 0 \(CONV_2D\) has the stride 0",
        ),
        (
            set_of(lambda m: op(m, 1).builtinOptions, filterWidth=0),
            r"op 1 \(MAX_POOL_2D\) has the filter size 0",
        ),
        (
            set_of(lambda m: op(m, 0).builtinOptions, dilationWFactor=-1),
            r"op 0 \(CONV_2D\) has the dilation -1",
        ),
        (
            set_of(lambda m: op(m, 1).builtinOptions, padding=4),
            r"has padding 4, which stands for no",
        ),
        (
            set_of(lambda m: op(m, 0), builtinOptions=None, builtinOptionsType=0),
            r"op 0 \(CONV_2D\) lacks its options",
        ),
        (
            set_of(lambda m: op(m, 0), inputs=np.array([0, 99, 1], np.int32)),
            r"an input of op 0 \(CONV_2D\) is tensor 99, and there are",
        ),
        (
            set_of(lambda m: op(m, 0), inputs=np.array([-1, 1, 2], np.int32)),
            r"an input of op 0 \(CONV_2D\) is tensor -1",
        ),
        (set_of(lambda m: op(m, 0), inputs=np.array([0], np.int32)), r"CONV_2D\) has 1 inputs"),
        (set_of(lambda m: op(m, 0), opcodeIndex=50), "op 0 has operator code 50, and there are 4"),
        (
            set_of(lambda m: m.operatorCodes[0], builtinCode=9_999),
            "code 0 is 9999, which stands for",
        ),
        (
            set_of(lambda m: m.subgraphs[0].tensors[0], shape=np.array([1, 28, -3, 1], np.int32)),
            r"tensor 0\) has the shape \(1, 28, -3, 1\)",
        ),
        (
            set_of(lambda m: m.subgraphs[0].tensors[0], shape=np.full(4, 20_000, np.int32)),
            r"tensor 0\) holds 20000×20000×20000×20000 values, more than 1,073,741,824 bytes",
        ),
        (
            set_of(lambda m: m.subgraphs[0].tensors[0], type=77),
            r"has type 77, which stands for none",
        ),
        (set_of(lambda m: m.subgraphs[0].tensors[0], name=b"\xff"), "name of tensor 0 is no text"),
        (
            set_of(lambda m: m.subgraphs[0].tensors[0].quantization, scale=np.zeros(1, np.float32)),
            r"tensor 0\) has a scale that is not positive and finite",
        ),
        (
            set_of(lambda m: m.subgraphs[0].tensors[0].quantization, zeroPoint=np.array([300])),
            r"tensor 0\) has a zero point outside -128 to 127",
        ),
        (
            set_of(lambda m: m.subgraphs[0].tensors[0].quantization, scale=None),
            r"op 0 \(CONV_2D\) needs one scale of .* got 0",
        ),
        (inputs_of(1, 3), r"op 1 \(MAX_POOL_2D\) makes 1×7×7×16 values, and its output"),
        (inputs_of(5, 6), r"op 5 \(RESHAPE\) "),
        (outputs_of(1, 0), r"op 1 \(MAX_POOL_2D\) makes 1×14×14×8 values, and its output"),
        (
            set_of(lambda m: m.subgraphs[0], outputs=np.array([60], np.int32)),
            "an output of graph 0 is",
        ),
        (
            set_of(lambda m: m.signatureDefs[0], subgraphIndex=3),
            "signature 0 is of graph 3, and there are 1",
        ),
    ],
)
def test_the_message_names_what_is_wrong(change: Callable[[Any], None], message: str) -> None:
    beginning = r"^model_bytes is not a \.tflite model that LiteRT can run: .*"
    with pytest.raises(ValueError, match=beginning + message):
        flatbuffer.graph(changed(SHIPPED.read_bytes(), change))


def of_floats(function: Callable[..., Any], count: int = 2, kind: Any = None) -> bytes:
    """A float file that computes a function of so many tensors of shape (1, 8)."""
    from quant_tutorial.frameworks import tf

    specs = [tf.TensorSpec((1, 8), kind or tf.float32)] * count
    concrete = tf.function(function).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    with quiet.all_output():
        return converter.convert()


def test_a_sum_of_integers_and_floats() -> None:
    def quantized(model: Any) -> None:
        part = model.subgraphs[0]
        tensor = part.tensors[part.outputs[0]]
        tensor.type, tensor.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1], [0]

    content = changed(of_floats(lambda x, y: x + y), quantized)
    with pytest.raises(ValueError, match=r"op 0 \(ADD\) makes int8 of float32 and float32"):
        flatbuffer.graph(content)


def test_an_empty_output_needs_no_op() -> None:
    assert flatbuffer.graph(of_floats(lambda x: x[:, 8:], 1)).outputs[0].shape == (1, 0)


def test_plain_integers_are_multiplied() -> None:
    from quant_tutorial.frameworks import tf

    assert flatbuffer.graph(of_floats(lambda x, y: x * y, kind=tf.int16)).op_types == ("MUL",)


def test_weights_with_a_scale_for_each_block() -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(8)])
    weights = {"num_bits": 4, "symmetric": True, "granularity": "BLOCKWISE_32", "dtype": "INT"}
    config = {
        "weight_tensor_config": weights,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    }
    recipe = {
        "regex": ".*",
        "operation": "FULLY_CONNECTED",
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": config,
    }
    with quiet.all_output():
        from litert_quantizer import quantizer

        floats = bytearray(tflite.convert(model, "float32"))
        content = bytes(quantizer.Quantizer(floats, [recipe]).quantize(None).quantized_model)
    images = np.random.default_rng(0).random((4, 64), np.float32)
    off = np.abs(tflite.predict(content, images) - models.predict(model, images))
    assert off.max() < 0.3
    assert any(tensor.is_blockwise for tensor in tflite.tensors(content))
