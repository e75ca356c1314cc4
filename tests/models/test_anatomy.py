"""What may be pruned, and where a network is probed."""

import pytest
import torch
from torch import nn

from sslprune.errors import ArchitectureError
from sslprune.models import build, forward_stages, prunable, stages
from sslprune.models.backbones import OURS

TIMM = {
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "mobilenetv2_100": ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "efficientnet_lite0": ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "mobilenetv3_small_100": ("blocks.0", "blocks.1", "blocks.3", "blocks.5"),
    "densenet121": ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"),
    "vgg11_bn": ("features.2", "features.6", "features.13", "features.20", "features.27", "features.28"),
    "convnext_tiny": ("stages.0", "stages.1", "stages.2", "stages.3"),
    "regnetx_002": ("s1", "s2", "s3", "s4"),
}


@pytest.fixture(params=[*TIMM, *OURS], scope="module")
def nets(request):
    """Name, network without and with a classifier, on the meta device: names and shapes only."""
    with torch.device("meta"):
        return request.param, build(request.param), build(request.param, num_classes=10)


def test_prunable_is_the_same_with_and_without_a_classifier(nets):
    _, bare, classifying = nets
    assert list(prunable(bare)) == list(prunable(classifying))


@pytest.mark.parametrize("name", ["resnet20_cifar", "alexnet", "efficientnet_lite0"])
def test_prunable_is_the_same_after_the_classifier_was_taken_away(name):
    with torch.device("meta"):
        net = build(name, num_classes=10)
    before = list(prunable(net))
    net.reset_classifier(0)
    assert list(prunable(net)) == before


def test_prunable_holds_the_networks_own_parameters_by_their_state_dict_keys_in_order(nets):
    _, _, net = nets
    weights, state = prunable(net), list(net.state_dict())
    assert [key for key in state if key in weights] == list(weights)
    assert all(net.get_parameter(name) is weight for name, weight in weights.items())


def test_prunable_is_every_matrix_and_kernel_but_the_classifiers(nets):
    _, _, net = nets
    last = set(map(id, net.get_classifier().parameters()))
    expected = [name for name, weight in net.named_parameters() if weight.ndim >= 2 and id(weight) not in last]
    assert list(prunable(net)) == expected


def test_one_map_a_stage_and_no_coarser_one_before_a_finer(nets):
    name, net, _ = nets
    names, maps = stages(net), forward_stages(net.eval(), torch.empty(2, 3, 64, 64, device="meta"))
    assert names == TIMM.get(name, names)
    assert len(names) == len(set(names)) == len(maps)
    assert [m.ndim for m in maps] == [4] * len(maps)
    assert [m.shape[2] for m in maps] == sorted((m.shape[2] for m in maps), reverse=True)
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in net.feature_info][-len(maps) :]


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet18", "mobilenetv2_100", "vgg11_bn"])
def test_stages_are_what_the_named_modules_give(name):
    if name == "vgg11_bn":
        with torch.device("meta"):
            net = build(name)
        net.pre_logits = net.head = nn.Identity()
        net = net.to_empty(device="cpu").apply(
            lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None
        )
    else:
        net = build(name, seed=0)
    net.eval()
    seen = {}
    for stage in stages(net):
        net.get_submodule(stage).register_forward_hook(
            lambda _m, _i, out, stage=stage: seen.update({stage: out.clone()})
        )
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.forward_features(x)
        from_modules = dict(seen)
        maps = forward_stages(net, x)
    for stage, features in zip(stages(net), maps, strict=True):
        assert torch.equal(features, from_modules[stage]), stage


class Plain(nn.Module):
    """A network as an old timm or a user might have it: taps, and no forward_intermediates."""

    def __init__(self, *, tuples: bool = False):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 2)
        self.feature_info = [{"module": "stem"}, {"module": "body.0"}, {"module": "body"}]
        self.tuples = tuples
        if tuples:
            self.body.append(Twice())

    def get_classifier(self):
        return self.head

    def forward_features(self, x):
        return self.body(self.stem(x))


class Twice(nn.Module):
    def forward(self, x):
        return x, x


def test_without_forward_intermediates_hooks_serve_and_leave():
    net, x = Plain(), torch.rand(2, 3, 8, 8)
    assert stages(net) == ("body.0", "body")
    raw, activated = forward_stages(net, x)
    torch.testing.assert_close(raw, net.body[0](net.stem(x)))
    assert (raw < 0).any(), "the in-place activation behind it must not show"
    assert torch.equal(activated, raw.relu())
    assert not any(module._forward_hooks for module in net.modules())


def test_hooks_leave_even_when_the_network_fails():
    net = Plain()
    with pytest.raises(RuntimeError):
        forward_stages(net, torch.rand(2, 5, 8, 8))
    assert not any(module._forward_hooks for module in net.modules())


def test_maps_that_are_no_maps_are_refused():
    with pytest.raises(ArchitectureError, match=r"no \[N,C,H,W\] map"):
        forward_stages(Plain(tuples=True), torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("function", [stages, lambda net: forward_stages(net, torch.zeros(1, 3, 8, 8))])
def test_a_network_without_feature_info_has_no_stages(function):
    with pytest.raises(ArchitectureError, match="feature_info"):
        function(nn.Sequential(nn.Conv2d(3, 4, 3)))


class Zoo(nn.Module):
    """One layer of every kind, and a classifier."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv1d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv3d(4, 4, 1)
        self.t1, self.t2, self.t3 = (
            nn.ConvTranspose1d(4, 4, 1),
            nn.ConvTranspose2d(4, 4, 1),
            nn.ConvTranspose3d(4, 4, 1),
        )
        self.hidden = nn.Linear(4, 4)
        self.again = self.hidden
        self.twin = nn.Conv2d(4, 4, 3, groups=4)
        self.twin.weight = self.c2.weight
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm([4, 4]), nn.PReLU(4)])
        self.table = nn.Embedding(4, 4)
        self.scale = nn.Parameter(torch.ones(4, 4))
        self.heads = (nn.Linear(4, 2), nn.Linear(4, 3))
        self.first_head, self.second_head = self.heads

    def get_classifier(self):
        return self.heads


def test_every_kind_of_layer():
    names = ["c1", "c2", "c3", "t1", "t2", "t3", "hidden"]
    assert list(prunable(Zoo())) == [f"{name}.weight" for name in names]


def test_a_convolution_as_classifier_is_left_out():
    net = Plain()
    net.head = nn.Conv2d(8, 2, 1)
    assert list(prunable(net)) == ["stem.weight", "body.0.weight"]


def test_nothing_to_prune():
    net = Plain()
    net.stem, net.body = nn.Identity(), nn.BatchNorm2d(3)
    with pytest.raises(ArchitectureError, match="no hidden linear layer"):
        prunable(net)


def test_a_network_must_tell_its_classifier():
    with pytest.raises(ArchitectureError, match="get_classifier"):
        prunable(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)))
