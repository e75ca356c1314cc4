import pytest
import timm
import torch

from sslprune.models import build


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_only_the_stem_differs_from_timms_network(name):
    with torch.device("meta"):
        ours, theirs = build(f"{name}_cifar", num_classes=10), timm.create_model(name, num_classes=10)
    mine, yours = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(yours)
    assert [key for key in mine if mine[key].shape != yours[key].shape] == ["conv1.weight"]
    assert mine["conv1.weight"].shape == (64, 3, 3, 3)


def test_timms_options_still_work():
    net = build("resnet18_cifar", seed=0, in_chans=1, zero_init_last=True)
    assert not net.layer1[0].bn2.weight.any()
    assert net(torch.zeros(1, 1, 32, 32)).shape == (1, 512)
