"""Small random networks of everything that the sparse engine knows, in any order that fits; the same for a seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from nets import prune_at_random
from torch import Tensor, nn
from torch.nn import functional as F

KEEPS = (0.0, 0.02, 0.1, 0.4, 1.0)
_ACTIVATIONS = (F.relu, F.relu6, F.silu, lambda x: x, lambda x: 0 + (-x - 0.5) / 3)
# From the network's layers and the maps that are read. It holds no layer itself: a copied network runs its own.
Make = Callable[..., Tensor]


class RandomNet(nn.Module):
    """Maps that are made of earlier maps, then features, logits or a map.

    Attributes:
        image: Height and width of the images that it is made for.
        words: What it does, for the message of a failing test.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = Random(seed)
        self.image = (self._draw.randint(5, 26), self._draw.randint(5, 26))
        self.words: list[str] = []
        self.layers = nn.ModuleList()
        self._steps: list[tuple[tuple[int, ...], Make]] = []
        self._shapes = [(3, *self.image)]
        for _ in range(self._draw.randint(2, 8)):
            self._draw.choice([self._conv, self._conv, self._conv, self._add, self._concat, self._pool])()
        self._end = self._draw.choice([self._features, self._features, self._logits, self._hidden, self._map])()
        self._needed = {len(self._steps)}
        for number in range(len(self._steps), 0, -1):
            if number in self._needed:
                self._needed.update(self._steps[number - 1][0])

    def forward(self, x: Tensor) -> Tensor:
        maps = {0: x}
        for number, (read, make) in enumerate(self._steps, 1):
            if number in self._needed:
                maps[number] = make(self.layers, *(maps[source] for source in read))
        return self._end(self.layers, maps[len(self._steps)])

    def _new(self, what: str, read: tuple[int, ...], make: Make) -> None:
        self.eval()
        with torch.no_grad():
            _, *shape = make(self.layers, *(torch.zeros(1, *self._shapes[source]) for source in read)).shape
        self._steps.append((read, make))
        self._shapes.append((shape[0], shape[1], shape[2]))
        self.words.append(f"{len(self._steps)} = {what} of {list(read)}: {shape}")

    def _kept(self, layer: nn.Module) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def _some_map(self) -> int:
        """Mostly the last one."""
        return len(self._shapes) - 1 if self._draw.random() < 0.7 else self._draw.randrange(len(self._shapes))

    def _conv(self) -> None:
        draw, source = self._draw, self._some_map()
        channels, *size = self._shapes[source]
        groups = draw.choice([1, 1, 1, channels, *[count for count in (2, 3) if channels % count == 0]])
        kernel, stride, padding, dilation = [], [], [], []
        for length in size:
            kernel.append(draw.choice([1, 1, 2, 3, 3, 4, 5, 6, 7]))
            stride.append(draw.choice([1, 1, 1, 2, 3]))
            padding.append(draw.choice([0, kernel[-1] // 2, draw.randint(0, 3)]))
            dilation.append(draw.choice([1, 1, 2, 3]))
            if length + 2 * padding[-1] < dilation[-1] * (kernel[-1] - 1) + 1:
                kernel[-1] = 1
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        outputs = groups * draw.randint(1, max(1, 12 // groups))
        conv = self._kept(nn.Conv2d(channels, outputs, kernel, bias=draw.random() < 0.5, **how))
        norm = self._kept(nn.BatchNorm2d(outputs) if draw.random() < 0.6 else nn.Identity())
        act = draw.choice(_ACTIVATIONS)
        # Batch norm behind an activation cannot be folded.
        behind = draw.random() < 0.2
        make = (lambda at, x: at[norm](act(at[conv](x)))) if behind else (lambda at, x: act(at[norm](at[conv](x))))
        self._new(f"conv kernel {kernel} {how}", (source,), make)

    def _add(self) -> None:
        first = self._some_map()
        second = self._draw.choice([at for at, shape in enumerate(self._shapes) if shape == self._shapes[first]])
        act = self._draw.choice(_ACTIVATIONS)
        if first != second:
            self._new("add", (first, second), lambda _, x, y: act(x + y))
            return
        # Nothing else fits: a block with a skip.
        channels = self._shapes[first][0]
        conv = self._kept(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        norm = self._kept(nn.BatchNorm2d(channels))
        if self._draw.random() < 0.5:
            self._new("block", (first,), lambda at, x: act(at[norm](at[conv](x)) + x))
        else:
            self._new("block", (first,), lambda at, x: act(x + at[norm](at[conv](x))))

    def _concat(self) -> None:
        first = self._some_map()
        beside = [at for at, shape in enumerate(self._shapes) if shape[1:] == self._shapes[first][1:]]
        parts = (first, *self._draw.choices(beside, k=self._draw.randint(1, 2)))
        self._new("concat", parts, lambda _, *maps: torch.cat(maps, 1))

    def _pool(self) -> None:
        draw, source = self._draw, self._some_map()
        height, width = self._shapes[source][1:]
        if draw.random() < 0.2:
            size = (draw.randint(1, height), draw.randint(1, width))
            self._new(f"adaptive to {size}", (source,), lambda _, x: F.adaptive_avg_pool2d(x, size))
            return
        kernel = [min(draw.randint(1, 4), length) for length in (height, width)]
        stride = [draw.randint(1, 3) for _ in kernel]
        padding = [draw.randint(0, length // 2) for length in kernel]
        how = f"kernel {kernel} stride {stride} padding {padding}"
        if draw.random() < 0.6:
            ceil = draw.random() < 0.4
            what = f"max {how} ceil {ceil}"
            self._new(what, (source,), lambda _, x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil))
        else:
            self._new(f"average {how}", (source,), lambda _, x: F.avg_pool2d(x, kernel, stride, padding))

    def _features(self) -> Make:
        ends = (lambda x: x.mean((2, 3)), lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), lambda x: x.flatten(1))
        end = self._draw.choice(ends)
        return lambda _, x: end(x)

    def _logits(self) -> Make:
        last = self._kept(nn.Linear(self._shapes[-1][0], self._draw.randint(1, 9)))
        return lambda at, x: at[last](x.mean((2, 3)))

    def _hidden(self) -> Make:
        channels, height, width = self._shapes[-1]
        hidden = self._kept(nn.Linear(channels * height * width, 12))
        last = self._kept(nn.Linear(12, 5, bias=False))
        return lambda at, x: at[last](F.relu(at[hidden](x.flatten(1))))

    def _map(self) -> Make:
        return lambda _, x: x


def random_net(seed: int) -> RandomNet:
    """A pruned network in eval mode, float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RandomNet(seed)
    prune_at_random(net, KEEPS[seed % len(KEEPS)], seed)
    return net
