"""The laws that all of our networks keep, and timm's own: one API, whichever the network."""

import pytest
import timm
import torch

from sslprune.models import build, prunable
from sslprune.models.backbones import OURS

QUICK = ["resnet20_cifar", "resnet20_cifar_proj", "resnet18_cifar", "vgg19_onefc", "alexnet"]


def pixels(name: str) -> int:
    return 64 if name == "alexnet" else 32


def images(name: str, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, pixels(name), pixels(name), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=OURS)
def shapes_only(request):
    """Every network on the meta device: shapes and names without arithmetic."""
    with torch.device("meta"):
        yield request.param, build(request.param, num_classes=7), torch.empty(2, 3, *[pixels(request.param)] * 2)


@pytest.fixture(params=QUICK)
def net(request):
    return request.param, build(request.param, num_classes=7, seed=0).eval()


def test_timm_makes_them_by_name():
    assert set(OURS) <= set(timm.list_models())
    assert timm.create_model("resnet20_cifar", num_classes=3)(images("resnet20_cifar")).shape == (2, 3)


def test_the_api_agrees_with_itself(shapes_only):
    _, net, x = shapes_only
    features = net.forward_features(x)
    assert features.shape[:2] == (2, net.num_features)
    assert net.forward_head(features, pre_logits=True).shape == (2, net.head_hidden_size)
    assert net.forward_head(features).shape == net(x).shape == (2, 7)


def test_a_classifier_comes_and_goes(shapes_only):
    name, net, x = shapes_only
    dotted = net.get_classifier(name_only=True)
    assert net.pretrained_cfg["classifier"] == dotted
    assert net.get_submodule(dotted) is net.get_classifier()
    keys = list(net.state_dict())

    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), torch.nn.Identity)
    assert net(x).shape == (2, net.head_hidden_size)
    assert list(net.state_dict()) == list(build(name).state_dict())

    net.eval()
    net.reset_classifier(5)
    assert net(x).shape == (2, 5)
    assert net.num_classes == 5
    assert list(net.state_dict()) == keys
    assert not any(module.training for module in net.modules())


def test_feature_info_tells_the_truth(shapes_only):
    name, net, x = shapes_only
    last, maps = net.forward_intermediates(x)
    assert last.shape == net.forward_features(x).shape == maps[-1].shape
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in net.feature_info]
    if name != "alexnet":  # its unpadded pools round down
        assert [m.shape[2] * info["reduction"] for m, info in zip(maps, net.feature_info, strict=True)] == [32] * len(
            maps
        )
    assert all(net.get_submodule(info["module"]) is not None for info in net.feature_info)


def test_timms_feature_wrapper_sees_the_same_maps(net):
    name, net = net
    wrapper = timm.create_model(name, features_only=True).eval()
    wrapper.load_state_dict(
        {key.replace("features.", "features_"): v for key, v in net.state_dict().items()}, strict=False
    )
    x = images(name)
    wanted = net.forward_intermediates(x, intermediates_only=True)
    for ours, theirs in zip(wanted, wrapper(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_intermediates_can_be_chosen_and_cut_short(net):
    name, net = net
    x = images(name)
    last, maps = net.forward_intermediates(x)
    assert torch.equal(last, net.forward_features(x))
    for indices, wanted in [([0, 2], [0, 2]), ([-1], [len(maps) - 1]), (2, [len(maps) - 2, len(maps) - 1])]:
        for stop_early in (False, True):
            some = net.forward_intermediates(x, indices=indices, stop_early=stop_early, intermediates_only=True)
            assert [torch.equal(a, maps[i]) for a, i in zip(some, wanted, strict=True)] == [True] * len(wanted)
    early, _ = net.forward_intermediates(x, indices=[1], stop_early=True)
    assert torch.equal(early, maps[1])


def test_channels_last_changes_nothing(net):
    name, net = net
    x = images(name)
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet20_cifar", "vgg19_onefc", "alexnet"])
def test_compiles_as_one_graph(name):
    net, x = build(name, num_classes=7, seed=0).eval(), images(name)
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


def test_double_precision_reaches_a_new_classifier(net):
    name, net = net
    net.double().reset_classifier(3)
    assert net(images(name).double()).dtype == torch.float64


def test_every_weight_learns(net):
    name, net = net
    net.train()
    net(images(name, 4)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet56_cifar_proj", "resnet18_cifar", "vgg19_onefc", "alexnet"])
def test_initial_weights_follow_he(name):
    net = build(name, seed=1)
    for key, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan = module.weight[0].numel() if name == "alexnet" else module.weight[:, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.15), key
            assert abs(module.weight.mean().item()) < 5 * (2 / fan / module.weight.numel()) ** 0.5, key
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all(), key
            assert (module.bias == 0).all(), key


def test_cifar_configurations_say_32_pixels():
    for name in OURS:
        cfg = timm.models.get_pretrained_cfg(name).to_dict()
        assert cfg["input_size"] == ((3, 224, 224) if name == "alexnet" else (3, 32, 32))
        assert not timm.models.is_model_pretrained(name)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg19_onefc", 20_018_880),
        ("vgg11_quarter_onefc", 576_432),
        ("resnet18_cifar", 11_159_232),
        ("resnet50", 23_454_912),
        ("resnet50_cifar", 23_454_912 - 64 * 3 * (49 - 9)),
        ("resnet20_cifar", 267_696),
        ("resnet20_cifar_proj", 267_696 + 16 * 32 + 32 * 64),
        ("resnet56_cifar", 848_304),
        ("alexnet", 2_468_544 + 9216 * 4096 + 4096 * 4096),
    ],
)
def test_prunable_weights_are_counted_as_in_the_papers(name, count):
    with torch.device("meta"):
        assert sum(weight.numel() for weight in prunable(build(name, num_classes=10)).values()) == count
