"""Code cosine series in bytes by the codebooks of a dataset."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cosine import CosineRows, CosineSpec
from rapid_inr.cosine.learn import nearest_words


def code(z: Tensor, rows: CosineRows, spec: CosineSpec) -> Tensor:
    """Return the codes of series with the least squared error.

    Args:
        z: float32 [n, 3 F^2]; see `analyse`.
        rows: with the codebooks.

    Returns:
        uint8 [n, bytes].
    """
    coded = [
        code_by_profile(z, words.float(), table.flatten(), spec) for words, table in zip(rows.books, rows.table, strict=True)
    ]
    if spec.profiles == 1:
        return coded[0][0]
    profiles = torch.stack([gain for _, gain in coded]).argmax(0)
    codes = torch.stack([codes for codes, _ in coded])[profiles, torch.arange(len(z))]
    return torch.cat([profiles[:, None].to(torch.uint8), codes], 1)


def code_by_profile(z: Tensor, books: Tensor, table: Tensor, spec: CosineSpec) -> tuple[Tensor, Tensor]:
    """Return the codes of series in one profile, and half the reduction of each image's squared error.

    Args:
        books: float32 [G, 256, D].
        table: int16 [3 F^2].

    Returns:
        uint8 [n, G] and float32 [n].
    """
    slots, coefficients = table.long().sort()
    coefficients = coefficients[slots >= 0]
    group, component = (slots[slots >= 0] // spec.dimensions, slots[slots >= 0] % spec.dimensions)
    counts = torch.bincount(group, minlength=spec.groups).tolist()
    points = z[:, coefficients].split(counts, 1)
    codes, gain = torch.zeros((len(z), spec.groups), dtype=torch.uint8), torch.zeros(len(z))
    for number, components in enumerate(component.split(counts)):
        chosen, gained = nearest_words(points[number], books[number][:, components])
        codes[:, number] = chosen.to(torch.uint8)
        gain += gained
    return codes, gain
