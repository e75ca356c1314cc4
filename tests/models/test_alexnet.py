import pytest
import torch

from sslprune.compat import patch_torchvision
from sslprune.errors import ArchitectureError
from sslprune.models import build, prunable, stages

patch_torchvision()


def test_torchvisions_checkpoints_load_and_give_the_same_logits():
    from torchvision.models import alexnet

    theirs = alexnet(weights=None).eval()
    ours = build("alexnet", num_classes=1000).eval()
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_hidden_layers_are_prunable_and_the_last_is_not():
    with torch.device("meta"):
        names = list(prunable(build("alexnet", num_classes=10)))
    assert names[-2:] == ["classifier.1.weight", "classifier.4.weight"]
    assert len(names) == 7


def test_stages_are_named_after_their_convolutions():
    with torch.device("meta"):
        assert stages(build("alexnet")) == ("conv1", "conv2", "conv3", "conv4", "conv5")


def test_its_pool_is_fixed():
    with torch.device("meta"):
        net = build("alexnet")
        with pytest.raises(ArchitectureError, match="max"):
            net.reset_classifier(10, global_pool="max")
        with pytest.raises(ArchitectureError, match="catavgmax"):
            build("alexnet", global_pool="catavgmax")
