"""Cut a network in two, where one tensor is all that the second part needs of the first."""

from __future__ import annotations

from dataclasses import replace

from sslprune.runtime.ops import Conv, Lowered, Op, Split, reads


def cuts(lowered: Lowered) -> dict[int, str]:
    """Where it can be cut: by how many operations come before, the tensor that crosses.

    >>> import torch
    >>> from sslprune.graph.trace import trace
    >>> from sslprune.runtime.lower import lower
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 1)).eval()
    >>> sorted(cuts(lower(net, trace(net, 8))))
    [1, 2]
    """
    first = {op.target: number for number, op in reversed(list(enumerate(lowered.ops)))}
    written = {op.target: number for number, op in enumerate(lowered.ops)}
    last = {name: number for number, op in enumerate(lowered.ops) for name in reads(op)}
    last[lowered.output] = len(lowered.ops)
    found = {}
    for before in range(1, len(lowered.ops)):
        crossing = [
            name
            for name, end in last.items()
            if first.get(name, -1) < before and (end >= before or written.get(name, -1) >= before)
        ]
        if len(crossing) == 1 and crossing[0] != lowered.source and written[crossing[0]] < before:
            found[before] = crossing[0]
    return found


def cut(lowered: Lowered, before: int) -> tuple[Lowered, Lowered]:
    """The first operations as a network of their own, and the others as one whose image is the first one's result.

    Args:
        lowered: Not changed.
        before: One of `cuts(lowered)`; or 0, then the first is empty and the second the whole.
    """
    if not before:
        return replace(lowered, ops=[], output=lowered.source), lowered
    crossing = cuts(lowered)[before]
    channels, height, width = lowered.shapes[crossing]
    head = replace(lowered, ops=lowered.ops[:before], output=crossing, result=(channels, height, width))
    inside = f"{crossing}/in"
    copy = Split(lowered.ops[before].layer, crossing, inside)
    ops = [_read_instead(op, crossing, inside) for op in lowered.ops[before:]]
    output = inside if lowered.output == crossing else lowered.output
    shapes = {**lowered.shapes, inside: lowered.shapes[crossing]}
    return head, replace(lowered, shapes=shapes, ops=[copy, *ops], source=crossing, output=output)


def _read_instead(op: Op, old: str, new: str) -> Op:
    changed = replace(op, source=new) if op.source == old else op
    if isinstance(changed, Conv) and changed.residual == old:
        changed = replace(changed, residual=new)
    return changed
