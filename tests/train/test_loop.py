"""Killed and resumed equals never killed; what is rewound equals a run that was stopped there; the pruned stay zero."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sslprune import jsonl, pretext
from sslprune.config import Training
from sslprune.data.device_loader import Batch, DeviceLoader
from sslprune.data.draws import Draws
from sslprune.errors import CheckpointError, DivergedError, StepError
from sslprune.masks import Mask
from sslprune.prune.lottery import Rung, descend
from sslprune.prune.magnitude import prune
from sslprune.prune.rewind import State, snapshot
from sslprune.prune.schedule import Round, rounds
from sslprune.step import Step
from sslprune.train.log import Log
from sslprune.train.loop import Learner, Loop, Span, check

TOTAL, K = 7, 3
SGD = Training(Step(TOTAL, "it"), lr=0.1, nesterov=True, weight_decay=0.01, warmup=Step(2, "it"))
ADAM = replace(SGD, optimizer="adam", nesterov=False, lr=0.01)
CONSTANT = replace(SGD, schedule="constant", warmup=Step(0, "it"))
HALF = replace(SGD, precision="bf16")


class Data(DeviceLoader):
    """Twelve images in batches of four; asking for the batch of update `stop` is Ctrl-C."""

    def __init__(self, stop: int | None = None) -> None:
        images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), np.uint8)
        super().__init__(images, None, batch=4, mean=(0.5,) * 3, std=(0.25,) * 3, seed=0, padding=1, flip=True)
        self.stop = stop

    def __call__(self, round_number: int, update: int) -> tuple[Batch, Draws]:
        if update == self.stop:
            raise KeyboardInterrupt
        return super().__call__(round_number, update)


def learner(seed: int = 0, task: str = "rotnet") -> Learner:
    """A network with all that makes resuming hard: batch norm's buffers, 1x1 and depthwise layouts, dropout."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=4),
            nn.Conv2d(4, 5, 1),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 6),
        )
        return Learner(backbone, pretext.build(task, 6, num_images=12, num_classes=0, seed=seed))


def weights_of(net: Learner) -> dict[str, nn.Parameter]:
    parameters = dict(net.backbone.named_parameters())
    return {name: parameters[name] for name in ("0.weight", "3.weight", "4.weight", "10.weight")}


def loop(folder: Path, training: Training = SGD, stop: int | None = None, **options) -> Loop:
    options = {"checkpoint_every": 0.0, "recipe_sha256": "a" * 64, **options}
    return Loop(training, Data(stop), folder / "rounds", log=Log(folder / "log.jsonl", progress=False), **options)


def bits(state: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in state.items()}


def train(
    folder: Path,
    span: Span,
    training: Training = SGD,
    stops: tuple[int, ...] = (),
    keep: float = 1.0,
    task: str = "rotnet",
    **options,
):
    """One round, interrupted at `stops` and resumed each time in a new process's stead; (learned, snapshot) as bits."""
    for stop in (*stops, None):
        net = learner(task=task)
        mask = prune(weights_of(net), keep)
        mask.hold_(weights_of(net))
        this = loop(folder, training, stop, **options)
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                this.train(net, weights_of(net), mask, span)
        else:
            kept = this.train(net, weights_of(net), mask, span)
    return bits(net.state_dict()), bits(kept)


@pytest.mark.parametrize("training", [SGD, ADAM, HALF], ids=["sgd", "adam", "bf16"])
@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_interrupted_anywhere_and_resumed_equals_never_interrupted(
    tmp_path: Path, training: Training, keep: float
) -> None:
    span = Span(0, 0, TOTAL, snapshot=K)
    whole = train(tmp_path / "whole", span, training, keep=keep)
    for stop in range(1, TOTAL):
        assert train(tmp_path / str(stop), span, training, (stop,), keep) == whole
    assert train(tmp_path / "each", span, training, tuple(range(1, TOTAL)), keep) == whole
    content = [(tmp_path / name / "rounds" / "00.pt").read_bytes() for name in ("whole", "3", "each")]
    assert content[0] == content[1] == content[2]
    rows = jsonl.read(tmp_path / "each" / "log.jsonl")
    assert [row["update"] for row in rows if row["event"] == "resumed"] == [*range(1, TOTAL)]
    assert [path.name for path in (tmp_path / "each" / "rounds").iterdir()] == ["00.pt"]


def test_half_precision_is_of_the_products_alone(tmp_path: Path) -> None:
    """Weights and running statistics stay fp32, and learn nearly what they learn in fp32."""
    half, full = learner(), learner()
    for net, training, name in ((half, HALF, "half"), (full, SGD, "full")):
        this = loop(tmp_path / name, training)
        this.train(net, weights_of(net), prune(weights_of(net), 1.0), Span(0, 0, TOTAL))
    for (name, found), wanted in zip(half.state_dict().items(), full.state_dict().values(), strict=True):
        assert found.dtype == wanted.dtype, name
        assert torch.allclose(found.double(), wanted.double(), atol=0.05), name
    assert not torch.equal(half.backbone[0].weight, full.backbone[0].weight)


def test_what_a_pretext_remembers_is_resumed_and_rewound_bit_for_bit(tmp_path: Path) -> None:
    span = Span(0, 0, TOTAL, snapshot=K)
    learned, kept = train(tmp_path / "whole", span, CONSTANT, task="npid")
    for stop in range(1, TOTAL):
        assert train(tmp_path / str(stop), span, CONSTANT, (stop,), task="npid") == (learned, kept)
    stopped, _ = train(tmp_path / "short", Span(0, 0, K), CONSTANT, task="npid")
    first = bits(learner(task="npid").state_dict())
    assert kept == stopped
    assert len({state["pretext.bank"] for state in (first, kept, learned)}) == 3


def test_without_a_checkpoint_a_round_starts_anew(tmp_path: Path) -> None:
    span = Span(0, 0, TOTAL, snapshot=K)
    whole = train(tmp_path / "whole", span)
    assert train(tmp_path / "rare", span, stops=(5,), checkpoint_every=math.inf) == whole
    assert [row["event"] for row in jsonl.read(tmp_path / "rare" / "log.jsonl")] == ["update"]


@pytest.mark.parametrize("k", [0, 1, K, TOTAL])
def test_the_state_to_rewind_to_equals_an_independent_run_stopped_there(tmp_path: Path, k: int) -> None:
    _, kept = train(tmp_path / "long", Span(0, 0, TOTAL, snapshot=k), CONSTANT)
    stopped = train(tmp_path / "short", Span(0, 0, k), CONSTANT)[0] if k else bits(learner().state_dict())
    assert kept == stopped


def test_the_state_to_rewind_to_is_on_the_schedule_of_the_whole_training(tmp_path: Path) -> None:
    _, kept = train(tmp_path / "long", Span(0, 0, TOTAL, snapshot=K))
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path / "short", stop=K).train(
            net := learner(), weights_of(net), Mask.full(weights_of(net)), Span(0, 0, TOTAL)
        )
    assert bits(net.state_dict()) == kept


def run(folder: Path, mode: str = "rewind", stop: tuple[int, int] | None = None) -> tuple[list[Rung], list[State]]:
    """A whole descent with the real loop; the rungs, and the state that each round trained from."""
    net = learner()
    started: list[State] = []

    def train_round(network: nn.Module, mask: Mask, this: Round) -> State:
        assert isinstance(network, Learner)
        started.append(snapshot(network))
        start = K if this.number and mode == "rewind" else 0
        span = Span(this.number, start, TOTAL, snapshot=None if this.number else K)
        stopping = stop[1] if stop and stop[0] == this.number else None
        return loop(folder, stop=stopping).train(network, weights_of(network), mask, span)

    rungs = []
    for rung in descend(net, weights_of(net), rounds([0.5, 0.2], 0.4), train_round, mode=mode):  # type: ignore[arg-type]
        rungs.append(rung)
        started.append(snapshot(net))
    return rungs, started


def test_every_round_starts_from_the_rewound_state_bit_for_bit(tmp_path: Path) -> None:
    rungs, started = run(tmp_path)
    origin = rungs[0].origin
    assert origin["backbone.1.running_mean"].any()
    assert int(origin["backbone.1.num_batches_tracked"]) == K
    masks = {0: rungs[0].mask}
    died = rungs[-1].died
    starts = [started[0], *started[2:4], *started[5:7]]  # a rung's last weights come after its rounds
    for number, state in enumerate(starts[1:], start=1):
        masks[number] = Mask({name: (died[name] == 0) | (died[name] > number) for name in died})
        for name, tensor in state.items():
            kept = masks[number].get(name.removeprefix("backbone."))
            expected = origin[name] if kept is None else torch.where(kept, origin[name], 0.0)
            assert bits({name: tensor}) == bits({name: expected})
    for rung, end in zip(rungs, (started[1], started[4], started[7]), strict=True):
        for name, kept in rung.mask.items():
            pruned = end[f"backbone.{name}"][~kept]
            assert not pruned.any()
            assert not pruned.signbit().any()


@pytest.fixture(scope="module", params=["rewind", "warm"])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return request.param, *run(tmp_path_factory.mktemp("whole"), request.param)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.tuples(st.integers(0, 4), st.integers(K, TOTAL - 1)), min_size=1, max_size=3))
def test_a_descent_interrupted_in_any_round_gives_the_same_rungs(
    tmp_path_factory: pytest.TempPathFactory, uninterrupted, stops: list[tuple[int, int]]
) -> None:
    mode, whole, states = uninterrupted
    folder = tmp_path_factory.mktemp("stopped")
    for stop in sorted(stops):
        with suppress(KeyboardInterrupt):
            run(folder, mode, stop)
    again, resumed = run(folder, mode)
    assert [rung.mask for rung in again] == [rung.mask for rung in whole]
    assert bits(again[0].origin) == bits(whole[0].origin)
    assert bits(dict(again[-1].died)) == bits(dict(whole[-1].died))
    assert bits(resumed[-1]) == bits(states[-1])


def test_a_finished_round_is_read_back_without_a_single_update(tmp_path: Path) -> None:
    span = Span(0, 0, TOTAL, snapshot=K)
    whole = train(tmp_path, span)
    net = learner(seed=1)
    kept = loop(tmp_path, stop=0).train(net, weights_of(net), Mask.full(weights_of(net)), span)
    assert (bits(net.state_dict()), bits(kept)) == whole


def test_the_unfinished_state_of_another_round_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path, stop=4).train(net := learner(), weights_of(net), Mask.full(weights_of(net)), Span(0, 0, TOTAL))
    assert train(tmp_path, Span(1, 0, TOTAL)) == train(tmp_path / "fresh", Span(1, 0, TOTAL))


def test_training_neither_reads_nor_moves_the_global_random_state(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(1)
        before = torch.random.get_rng_state()
        one = train(tmp_path / "one", Span(0, 0, TOTAL))
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.default_generator.manual_seed(2)
        assert train(tmp_path / "two", Span(0, 0, TOTAL)) == one


def test_rounds_see_different_batches(tmp_path: Path) -> None:
    assert train(tmp_path / "a", Span(1, 0, TOTAL)) != train(tmp_path / "b", Span(2, 0, TOTAL))


@pytest.mark.parametrize("name", ["00.pt", "unfinished.pt"])
def test_broken_checkpoints_and_those_of_other_recipes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path, stop=4).train(net := learner(), weights_of(net), Mask.full(weights_of(net)), Span(0, 0, TOTAL))
    path = tmp_path / "rounds" / name
    (tmp_path / "rounds" / "unfinished.pt").rename(path)
    with pytest.raises(CheckpointError, match="another recipe"):
        train(tmp_path, Span(0, 0, TOTAL), recipe_sha256="b" * 64)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=name):
        train(tmp_path, Span(0, 0, TOTAL))


def test_a_loss_that_is_not_finite_stops_the_round_unfinished(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="the loss is nan at update 7 of round 0"):
        train(tmp_path, Span(0, 0, TOTAL), replace(CONSTANT, lr=1e30))
    assert not (tmp_path / "rounds" / "00.pt").exists()


def test_weights_that_are_not_finite_stop_the_round_unfinished_though_the_last_loss_was(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="what was learned is not finite at update 1"):
        train(tmp_path, Span(0, 0, 1), replace(CONSTANT, lr=3e38, weight_decay=100.0))
    assert not (tmp_path / "rounds" / "00.pt").exists()


@pytest.mark.parametrize(
    "span",
    [Span(0, 0, 0), Span(1, 5, 5), Span(1, 6, 5), Span(0, -1, 5), Span(0, 0, 5, snapshot=6), Span(0, 3, 5, snapshot=2)],
)
def test_impossible_spans_are_refused(tmp_path: Path, span: Span) -> None:
    with pytest.raises(StepError, match=r"ladder\.rewind"):
        check(span)
    with pytest.raises(StepError):
        train(tmp_path, span)
    assert not (tmp_path / "rounds").exists()


def test_the_log_says_what_was_done(tmp_path: Path) -> None:
    train(tmp_path, Span(2, 1, TOTAL, peak=0.05), CONSTANT)
    (row,) = jsonl.read(tmp_path / "log.jsonl")
    assert (row["event"], row["round"], row["update"], row["lr"]) == ("update", 2, TOTAL, 0.05)
    assert row["epoch"] == pytest.approx(TOTAL / 3, abs=1e-4)
    assert 0 <= row["score"] <= 100
    assert 0 < row["loss"] < 10
    assert 0 <= row["wait_s"] < 60


def test_the_pretext_head_and_batch_norm_train_and_are_part_of_what_is_kept(tmp_path: Path) -> None:
    learned, kept = train(tmp_path, Span(0, 0, TOTAL, snapshot=K))
    first = bits(learner().state_dict())
    for name in ("pretext.classifier.weight", "backbone.1.weight", "backbone.1.running_var", "backbone.0.bias"):
        assert len({first[name], kept[name], learned[name]}) == 3
