"""The staged run: the same as from nothing, whatever moved before, and no more work than needed."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quant_tutorial import flatbuffer, models
from quant_tutorial.scheme import FLOAT, QuantScheme, TensorScheme
from quant_tutorial.simulate import Simulator, StagedRun, stages
from quant_tutorial.simulate import staged as staging

import keras
import numpy as np
import pytest

layers = keras.layers


def weights(bits: int, granularity: str = "channel-wise") -> TensorScheme:
    return TensorScheme(bits, symmetric=True, granularity=granularity)


NOTHING = QuantScheme(FLOAT, FLOAT, FLOAT)
WALK = [
    QuantScheme(weights(bits, granularity), activations, TensorScheme(entry))
    for bits, granularity, activations, entry in itertools.product(
        (2, 8), ("tensor-wise", "channel-wise"), (FLOAT, TensorScheme(3), TensorScheme(8)), (4, 8)
    )
]
WALK += [scheme.with_layer(name, None) for scheme in WALK[:3] for name in ("conv1", "logits")]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How many batches each stage has run, by the name of its node."""
    counts: Counter = Counter()
    run = staging._Stage.run

    def counted(self: Any, *args: Any) -> None:
        counts.update(self.names)
        run(self, *args)

    monkeypatch.setattr(staging._Stage, "run", counted)
    return counts


def test_float_is_the_float_model(
    simulator: Simulator, staged: StagedRun, x_test: np.ndarray
) -> None:
    outputs = staged.outputs(simulator.params(NOTHING))
    np.testing.assert_allclose(outputs, models.predict(simulator.model, x_test), atol=1e-4)


def test_every_order_of_moves_gives_the_same(simulator: Simulator, x_test: np.ndarray) -> None:
    images = x_test[:230]  # the last batch is not full
    run, fresh = (StagedRun(simulator, images, threads=threads) for threads in (2, 1))
    order = np.random.default_rng(0).permutation(len(WALK) * 2) % len(WALK)
    for index in order.tolist():
        params = simulator.params(WALK[index])
        for versions in fresh._held.values():
            versions[:] = 0  # so that everything is computed anew
        np.testing.assert_array_equal(run.outputs(params), fresh.outputs(params))
    run.close()
    with pytest.raises(RuntimeError):
        run.outputs(simulator.params(NOTHING))


def test_only_what_a_move_touches_runs(
    simulator: Simulator, x_test: np.ndarray, ran: Counter
) -> None:
    run = StagedRun(simulator, x_test[:100], threads=1)

    def nodes_run(scheme: QuantScheme) -> set[str]:
        ran.clear()
        run.outputs(simulator.params(scheme))
        assert set(ran.values()) <= {2}  # two batches, each once
        return set(ran)

    scheme = QuantScheme()
    everything = {"relu1", "relu2", "relu3", "logits"}
    assert nodes_run(scheme) == everything
    assert nodes_run(scheme) == set()
    assert nodes_run(QuantScheme(activations=TensorScheme(4))) == everything - {"relu1"}
    assert nodes_run(QuantScheme(activations=TensorScheme(4), input=FLOAT)) == everything
    scheme = QuantScheme(activations=TensorScheme(4), input=FLOAT)
    assert nodes_run(scheme.with_layer("logits", None)) == {"logits"}
    conv3 = scheme.with_layer("conv3", None)
    assert nodes_run(conv3) == {"relu3", "logits"}
    assert nodes_run(conv3) == set()


def test_a_part_first_and_then_the_rest(
    simulator: Simulator, x_test: np.ndarray, ran: Counter
) -> None:
    run = StagedRun(simulator, x_test[:500], threads=2)
    params = simulator.params(QuantScheme(weights(3)))
    first = run.outputs(params, 120)
    assert first.shape == (120, 10)
    assert ran["relu1"] == 3
    whole = run.outputs(params)
    assert ran["relu1"] == 10  # the three are not run again
    np.testing.assert_array_equal(whole[run.sample(120)], first)


def test_what_was_begun_is_finished_or_abandoned(
    simulator: Simulator, x_test: np.ndarray, ran: Counter
) -> None:
    images = x_test[:2000]
    run, fresh = (StagedRun(simulator, images, threads=threads) for threads in (2, 1))
    expected = [fresh.outputs(simulator.params(scheme)) for scheme in WALK[:6]]
    ran.clear()
    for scheme, outputs in zip(WALK[:6], expected, strict=True):
        run.begin(simulator.params(scheme))
        np.testing.assert_array_equal(run.outputs(simulator.params(scheme)), outputs)
    # Nothing ran twice, though each was asked for twice: as many batches as for a run of its own.
    assert ran["logits"] == 6 * 2000 // staging.BATCH
    for begun, wanted in itertools.permutations(range(4), 2):
        run.begin(simulator.params(WALK[begun]))
        if wanted % 2:
            run.begin(simulator.params(WALK[wanted]))
        found = run.outputs(simulator.params(WALK[wanted]), images=300)
        np.testing.assert_array_equal(found, expected[wanted][run.sample(300)])
    run.begin(simulator.params(WALK[0]))
    run.set_images(images[::-1].copy())
    np.testing.assert_array_equal(run.outputs(simulator.params(WALK[0])), expected[0][::-1])


def test_an_interrupt_leaves_nothing_half_done(
    simulator: Simulator, x_test: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = x_test[:2000]
    run, fresh = (StagedRun(simulator, images, threads=threads) for threads in (2, 1))
    params = simulator.params(WALK[0])
    wait = staging.wait

    def interrupted(tasks: list) -> None:
        monkeypatch.setattr(staging, "wait", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(staging, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.outputs(params, images=300)
    np.testing.assert_array_equal(run.outputs(params), fresh.outputs(params))


def test_results_are_the_callers_own(simulator: Simulator, x_test: np.ndarray) -> None:
    run = StagedRun(simulator, x_test[:50])
    params = simulator.params(NOTHING)
    run.outputs(params)[:] = 0
    assert np.any(run.outputs(params))


def test_threads_that_share_a_run_do_not_disturb_each_other(
    simulator: Simulator, x_test: np.ndarray
) -> None:
    run = StagedRun(simulator, x_test[:300], threads=2)
    choices = [simulator.params(QuantScheme(weights(bits))) for bits in (2, 3, 4, 8)]
    right = [run.outputs(params) for params in choices]

    def moves(first: int) -> None:
        for index in range(first, first + 8):
            outputs = run.outputs(choices[index % len(choices)])
            np.testing.assert_array_equal(outputs, right[index % len(choices)])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(moves, first) for first in range(4)]:
            done.result()
    run.close()


def test_a_failure_leaves_nothing_half_done(
    simulator: Simulator, x_test: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = StagedRun(simulator, x_test[:100], threads=1)
    params = simulator.params(QuantScheme(weights(4)))
    right = run.outputs(params)
    wide = simulator.params(QuantScheme(weights(8)))
    with monkeypatch.context() as patch:
        patch.setattr(staging._Stage, "run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.outputs(wide)
    np.testing.assert_array_equal(run.outputs(params), right)


def test_values(simulator: Simulator, x_test: np.ndarray) -> None:
    run = StagedRun(simulator, x_test[:60])
    run.outputs(simulator.params(NOTHING))
    values = run.values("relu1")
    assert values.shape == (60, 14, 14, 8)  # pooled
    some = run.values("relu1", 20)
    np.testing.assert_array_equal(some, values[run.sample(20)])
    np.testing.assert_array_equal(run.values("image"), x_test[:60])
    with pytest.raises(ValueError, match=r"name must be one of image, relu1.*got 'conv1'"):
        run.values("conv1")


def test_bad_arguments(simulator: Simulator, x_test: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images must have the shape"):
        StagedRun(simulator, x_test[:10, :, :, 0])
    with pytest.raises(ValueError, match="images must have the shape"):
        StagedRun(simulator, x_test[:0])
    for threads in (-1, 0):
        with pytest.raises(ValueError, match=f"threads must be at least 1, got {threads}"):
            StagedRun(simulator, x_test[:10], threads=threads)
    pixels = (255 * x_test[:10]).astype(np.uint8)
    for images in (pixels, pixels.tolist()):
        with pytest.raises(ValueError, match=r"images must hold floats.*mnist\.to_float"):
            StagedRun(simulator, images)
    with pytest.raises(ValueError, match="images must be finite"):
        StagedRun(simulator, x_test[:10] * np.nan)
    params = simulator.params(NOTHING)
    as_list, as_array = (StagedRun(simulator, x) for x in (x_test[:10].tolist(), x_test[:10]))
    np.testing.assert_array_equal(as_list.outputs(params), as_array.outputs(params))
    run = StagedRun(simulator, x_test[:10])
    with pytest.raises(ValueError, match="from 1 to 10, got 11"):
        run.outputs(simulator.params(NOTHING), 11)


SHAPES = {
    "a batch of one": ([layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(4)], 1),
    "pooling first": ([layers.MaxPooling2D(2), layers.Conv2D(3, 3)], None),
    "averages first and last": (
        [layers.AveragePooling2D(2), layers.Conv2D(3, 1), layers.AveragePooling2D(2)],
        None,
    ),
    "one layer": ([layers.Flatten(), layers.Dense(3, activation="softmax")], None),
    "rows": ([layers.Dense(4), layers.Reshape((64, 4)), layers.Dense(2)], None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_small_models(name: str) -> None:
    stack, batch = SHAPES[name]
    model = keras.Sequential([keras.Input((8, 8, 2), batch_size=batch), *stack])
    images = np.random.default_rng(0).random((70, 8, 8, 2), np.float32)
    simulator = Simulator(model, images)
    for scheme in (QuantScheme(), QuantScheme(weights(3), TensorScheme(3)), NOTHING):
        params = simulator.params(scheme)
        simulated = simulator.simulated(params)
        rows = images[:, np.newaxis] if batch else [images]
        expected = np.concatenate([np.asarray(simulated(row)) for row in rows])
        got = StagedRun(simulator, images, threads=4).outputs(params)
        assert np.mean(np.abs(got - expected) > 1e-5) < 0.02


def with_joins() -> keras.Model:
    same = "ones"  # equal weights in several layers must not be taken for each other
    image = keras.Input((8, 8, 2))
    first = layers.Conv2D(2, 1, kernel_initializer=same, activation="relu")(image)
    second = layers.Conv2D(2, 1, kernel_initializer=same)(layers.AveragePooling2D(2)(first))
    both = layers.Add()([second, layers.MaxPooling2D(2)(image)])
    scaled = 0.7 * layers.Concatenate()([both, second])
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(scaled)))


@pytest.mark.slow
def test_stages_are_those_that_are_converted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(2).random((20, 8, 8, 2), np.float32)
    model = with_joins()
    together, alone = (Simulator(model, images) for _ in range(2))
    convert = stages._converted
    monkeypatch.setattr(
        stages, "_converted", lambda each: {k: v for one in each for k, v in convert([one]).items()}
    )
    one_by_one = alone.stages
    monkeypatch.undo()
    assert list(together.stages) == list(one_by_one)
    for pair in zip(together.stages.values(), one_by_one.values(), strict=True):
        found, wanted = map(flatbuffer.graph, pair)
        assert found.op_types == wanted.op_types
        assert list(found.inputs_by_name) == list(wanted.inputs_by_name)
        for op, same in zip(found.ops, wanted.ops, strict=True):
            options, expected = (each.options and vars(each.options) for each in (op, same))
            assert str(options) == str(expected)
            for tensor, other in zip(op.inputs, same.inputs, strict=True):
                assert (tensor.shape, tensor.kind) == (other.shape, other.kind)
                np.testing.assert_array_equal(tensor.data, other.data)
        assert sum(tensor.kind == "input" for tensor in found.tensors) == len(found.inputs)


@pytest.mark.slow
def test_joined_stages_compute_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(2).random((120, 8, 8, 2), np.float32)
    simulator = Simulator(with_joins(), images)
    joined = StagedRun(simulator, images, threads=1)
    monkeypatch.setattr(simulator, "joined_stages", None)
    apart = StagedRun(simulator, images, threads=1)
    names = [node.name for node in simulator.nodes[1:]]
    (whole,), each = (run._workers[0].stages(names) for run in (joined, apart))
    assert (whole.names, len(each)) == (names, len(names))
    schemes = [
        QuantScheme(weights(bits), TensorScheme(bits), TensorScheme(bits)) for bits in (3, 8)
    ]
    schemes.append(schemes[0].with_layer(simulator.layers[1], None))
    for scheme in [*schemes, NOTHING]:
        params = simulator.params(scheme)
        np.testing.assert_array_equal(joined.outputs(params), apart.outputs(params))
        for node in simulator.nodes:
            np.testing.assert_array_equal(joined.values(node.name), apart.values(node.name))


@pytest.mark.parametrize("second", ["itself", "the input", "its pooled averages"])
def test_small_additions(second: str) -> None:
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(2, 1)(image)
    pool = layers.AveragePooling2D(2)
    first = pool(x) if second == "its pooled averages" else x
    other = {"itself": x, "the input": image}.get(second, layers.MaxPooling2D(2)(x))
    model = keras.Model(image, layers.Add()([first, other]))
    images = np.random.default_rng(1).random((60, 8, 8, 2), np.float32)
    simulator = Simulator(model, images)
    params = simulator.params(QuantScheme())
    got = StagedRun(simulator, images).outputs(params)
    expected = models.predict(simulator.simulated(params), images)
    assert np.mean(np.abs(got - expected) > 1e-5) < 0.02
