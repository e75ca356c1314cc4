import pytest

from sslprune.models import backbones, registered_name
from sslprune.models.timm_api import is_model


@pytest.mark.parametrize(
    ("arch", "size", "name"),
    [
        ("resnet20", 32, "resnet20_cifar"),
        ("resnet56", 32, "resnet56_cifar"),
        ("resnet18", 32, "resnet18_cifar"),
        ("resnet50", 32, "resnet50_cifar"),
        ("resnet50", 224, "resnet50"),
        ("resnet18", 224, "resnet18"),
        ("vgg19", 32, "vgg19_onefc"),
        ("alexnet", 224, "alexnet"),
        ("mobilenetv2_100", 32, "mobilenetv2_100"),
        ("resnet20_cifar_proj", 32, "resnet20_cifar_proj"),
    ],
)
def test_the_stem_follows_the_images(arch, size, name):
    assert registered_name(arch, size) == name
    assert registered_name(name, size) == name, "a timm name stays what it is"


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("arch", ["resnet20", "resnet56", "resnet18", "resnet50", "vgg19", "alexnet"])
def test_every_short_name_leads_to_a_registered_network(arch, size):
    name = registered_name(arch, size)
    assert is_model(name)
    assert size != 32 or name in backbones.OURS
