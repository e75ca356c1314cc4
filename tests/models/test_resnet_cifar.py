"""The CIFAR ResNets, down to an outside checkpoint of the same network."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslprune.models import Preprocessing, build
from sslprune.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sslprune.models.resnet_cifar import ZeroPadShortcut

DATA = Path(os.environ.get("SSLPRUNE_DATA") or "absent")
CHECKPOINT = DATA / "weights" / "resnet20-12fca82f.safetensors"
TEST_BATCH = DATA / "cifar10" / "test_batch.parquet"


@given(channels=st.integers(1, 4).map(lambda n: 2 * n), height=st.integers(1, 9), width=st.integers(1, 9))
def test_option_a_takes_every_second_pixel_and_pads_with_zero_channels(channels, height, width):
    x = torch.rand(2, channels, height, width)
    y = ZeroPadShortcut(channels, 2 * channels)(x)
    side = channels // 2
    assert y.shape == (2, 2 * channels, -(-height // 2), -(-width // 2))
    assert torch.equal(y[:, side : side + channels], x[:, :, ::2, ::2])
    assert not y[:, :side].any()
    assert not y[:, side + channels :].any()


def test_option_a_has_nothing_to_learn_or_to_save():
    assert not ZeroPadShortcut(16, 32).state_dict()


@pytest.mark.parametrize(("name", "blocks"), [("resnet20_cifar", 3), ("resnet56_cifar", 9)])
def test_keys_are_the_usual_ones(name, blocks):
    def normalised(conv: str, norm: str) -> list[str]:
        return [
            f"{conv}.weight",
            *(f"{norm}.{k}" for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        ]

    expected = normalised("conv1", "bn1")
    for stage in (1, 2, 3):
        for block in range(blocks):
            at = f"layer{stage}.{block}."
            expected += normalised(at + "conv1", at + "bn1") + normalised(at + "conv2", at + "bn2")
    with torch.device("meta"):
        assert list(build(name, num_classes=10).state_dict()) == [*expected, "fc.weight", "fc.bias"]
        projections = set(build(f"{name}_proj").state_dict()) - set(expected)
    assert {key.rsplit(".", 1)[0] for key in projections} == {
        f"layer{s}.0.downsample.{i}" for s in (2, 3) for i in (0, 1)
    }


@pytest.fixture
def outside_network():
    if not CHECKPOINT.is_file():
        pytest.skip("no weights/resnet20-12fca82f.safetensors in SSLPRUNE_DATA")
    from safetensors.torch import load_file

    net = build("resnet20_cifar", num_classes=10).eval()
    net.load_state_dict({key.replace("linear.", "fc."): value for key, value in load_file(CHECKPOINT).items()})
    return net


def test_an_outside_checkpoint_loads_strictly_and_classifies(outside_network):
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading the test images needs pyarrow")
    image = pytest.importorskip("PIL.Image", reason="decoding the test images needs pillow")
    if not TEST_BATCH.is_file():
        pytest.skip("no cifar10/test_batch.parquet in SSLPRUNE_DATA")
    rows = parquet.ParquetFile(TEST_BATCH).read_row_group(0).slice(0, 200)
    pixels = np.stack([np.asarray(image.open(io.BytesIO(row["bytes"]))) for row in rows["img"].to_pylist()])
    with torch.no_grad():
        logits = outside_network(Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 32)(pixels))
    right = int((logits.argmax(1).numpy() == rows["label"].to_numpy()).sum())
    assert right == pytest.approx(182, abs=1), "182 of the first 200; a rounding may tip one"
