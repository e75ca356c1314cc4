"""The files that engines read: the same network in each, and one that runtimes of 2022 can read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sslprune.bench.subjects import own_size, synthetic_subject, write_files
from sslprune.errors import ArchitectureError
from sslprune.export import sparse_file
from sslprune.export.parity import in_onnxruntime, relative_error


@pytest.fixture(scope="module")
def subject():
    return synthetic_subject("resnet20_cifar", 0.1, "uniform")


def test_an_architecture_has_its_own_size(subject):
    assert (own_size("resnet20_cifar"), own_size("resnet50"), subject.size) == (32, 224, 32)
    with pytest.raises(ArchitectureError):
        own_size("resnet21_cifar")


def test_uniform_masks_leave_their_share_of_the_multiplications(subject):
    dense, left = subject.macs
    assert left == pytest.approx(0.1 * dense, rel=0.01)


def test_our_file_holds_the_network_to_the_last_bit(subject, tmp_path):
    (name,) = write_files(subject, tmp_path, ["sslprune", "torch"])
    assert name == "weights"
    found = sparse_file.read(tmp_path / "weights.safetensors").tensors
    for key, tensor in subject.model.state_dict().items():
        assert torch.equal(torch.from_numpy(np.array(found[key])), tensor)


@pytest.mark.slow
def test_the_others_files_compute_the_same_and_int8_nearly(subject, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    files = write_files(subject, tmp_path, ["ort", "deepsparse", "int8"])
    images = subject.batch(4)
    exact = subject.exact(images)
    errors = {
        name: relative_error(in_onnxruntime(files[name], images)["features"], exact)
        for name in ("onnx", "deepsparse", "int8")
    }
    assert errors["onnx"] < 1e-5
    assert errors["deepsparse"] < 1e-5
    assert 1e-4 < errors["int8"] < 1
    older = onnx.load(files["deepsparse"])
    assert (older.ir_version, older.opset_import[0].version) == (8, 17)
    onnx.checker.check_model(older, full_check=True)
