"""What our own backbones share: timm's API over a chain of stages, and the usual initialisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sslprune.errors import ArchitectureError
from sslprune.models.preprocess import CIFAR_MEAN, CIFAR_STD
from sslprune.models.timm_api import create_classifier, feature_take_indices


class StagedNet(nn.Module, ABC):
    """A chain of stages and, behind it, a head.

    A subclass fills `feature_info` (timm's list: one entry a tap, shallow to deep; `name` where the module's own says
    little), says in `advance` how to get from one tap to the next, and brings the head's four methods.

    Args:
        num_classes: Outputs; 0 for none.
        in_chans: Channels of the image.
        drop_rate: Dropout in the head.
    """

    feature_info: list[dict[str, Any]]
    num_features: int
    head_hidden_size: int

    def __init__(self, *, num_classes: int, in_chans: int, drop_rate: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.feature_info = []

    @abstractmethod
    def advance(self, tap: int, x: Tensor) -> Tensor:
        """From the output of tap `tap - 1` (the image for 0) to that of `tap`, both float [N,C,H,W]."""

    @abstractmethod
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features [N,head_hidden_size] if `pre_logits`, else logits [N,num_classes]."""

    @abstractmethod
    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer (Identity where `num_classes` is 0), or its name."""

    @abstractmethod
    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on the network; 0 classes leave the features before it.

        Args:
            num_classes: Outputs of the new classifier.
            global_pool: timm's pool type; None keeps the present one.
        """

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map: float [N,in_chans,H,W] to float [N,num_features,h,w]."""
        for tap in range(len(self.feature_info)):
            x = self.advance(tap, x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Float [N,in_chans,H,W] to logits [N,num_classes], or to features where `num_classes` is 0."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps at the taps of `feature_info`, as timm's networks give them.

        Args:
            x: Float [N,in_chans,H,W].
            indices: The last n taps if an int, all if None, else these taps.
            norm: Accepted for timm's signature; these networks have no norm layer behind the last tap.
            stop_early: Do not run beyond the last tap asked for.
            output_fmt: Only "NCHW".
            intermediates_only: Give the maps alone, without the last feature map.

        Returns:
            The maps, shallow to deep, each float [N,C,H,W]; before them the last feature map, unless left out.

        Raises:
            ArchitectureError: Another `output_fmt`.
        """
        if output_fmt != "NCHW":
            raise ArchitectureError(f"feature maps cannot be given as {output_fmt!r}.", 'Ask for output_fmt="NCHW".')
        taps = len(self.feature_info)
        wanted, deepest = feature_take_indices(taps, indices)  # type: ignore[arg-type]
        maps = []
        for tap in range(deepest + 1 if stop_early else taps):
            x = self.advance(tap, x)
            if tap in wanted:
                maps.append(x)
        return maps if intermediates_only else (x, maps)


class PooledNet(StagedNet):
    """A chain of stages, a global pool, and one fully connected classifier named `fc`."""

    global_pool: nn.Module
    fc: nn.Module

    def attach_head(self, global_pool: str) -> None:
        """Put pool and classifier behind the last tap."""
        self.num_features = int(self.feature_info[-1]["num_chs"])
        self.global_pool, self.fc = create_classifier(self.num_features, self.num_classes, pool_type=global_pool)
        self.head_hidden_size = self.num_features * int(self.global_pool.feat_mult())  # type: ignore[operator]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features [N,head_hidden_size] if `pre_logits`, else logits [N,num_classes]."""
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.fc(x)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer (Identity where `num_classes` is 0), or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on the network; 0 classes leave the pooled features.

        Args:
            num_classes: Outputs of the new classifier.
            global_pool: timm's pool type ("avg", "max", "avgmax", "catavgmax", "" for none); None keeps it.
        """
        weight = next(self.parameters())
        self.num_classes = num_classes
        self.attach_head(str(self.global_pool.pool_type) if global_pool is None else global_pool)
        self.fc.to(device=weight.device, dtype=weight.dtype)
        self.global_pool.train(self.training)
        self.fc.train(self.training)


def initialise(model: nn.Module, *, fan: str = "fan_out") -> None:
    """Draw every convolution's weight by He et al. 2015 (arXiv 1502.01852; normal, gain of ReLU); biases start at 0.

    Batch norm is left as torch makes it: scale 1, shift 0.

    Args:
        model: Changed in place.
        fan: "fan_out", or "fan_in" for a network without batch norm, whose activations it holds at one scale.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")  # type: ignore[arg-type]
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def cifar_cfg(first_conv: str, **changes: Any) -> dict[str, Any]:
    """timm's default configuration of a network for CIFAR-10; no weights stand behind it."""
    return {
        "url": "",
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": (4, 4),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": CIFAR_MEAN,
        "std": CIFAR_STD,
        "first_conv": first_conv,
        "classifier": "fc",
        **changes,
    }
