"""Entry points for torch.hub: `torch.hub.load("owner/sslprune", "sslprune", "rotnet-resnet20-keep5%")`."""

dependencies = ["torch", "torchvision", "timm", "numpy", "PIL", "safetensors"]


def sslprune(name, **options):
    """A pruned, self-supervised convnet by name: files of 27 kB to 1.1 MB.

    Args:
        name (str): A model's name, full or short: "rotnet-resnet20-cifar10-keep5%", "rotnet-resnet20-keep5%".
        **options: As for `sslprune.load`: keep, arch, data, head, num_classes, device, verify.

    Returns:
        torch.nn.Module: In eval mode, with timm's API; `.sslprune` has name, keep, mask, pre-processing, manifest.
    """
    from sslprune.zoo.load import load as _load

    return _load(name, **options)


def rotnet(keep=0.1, **options):
    """A network that learnt by telling image rotations apart (RotNet), with a fraction `keep` of its weights.

    Args:
        keep (float): Fraction of prunable weights kept; the nearest rung within 20 % is taken.
        **options: As for `sslprune.load`.

    Returns:
        torch.nn.Module: See `sslprune`.
    """
    return sslprune("rotnet", keep=keep, **options)
