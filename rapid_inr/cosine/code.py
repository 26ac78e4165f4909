"""Code cosine series in bytes by the codebooks of a dataset."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cosine import CosineRows, CosineSpec
from rapid_inr.cosine.components import project
from rapid_inr.cosine.learn import nearest_words


def code(z: Tensor, rows: CosineRows, spec: CosineSpec) -> Tensor:
    """Return the codes of series with the least weighted squared error.

    Args:
        z: float32 [n, 3 F^2]; see `analyse`.
        rows: with the components and the codebooks.

    Returns:
        uint8 [n, bytes].
    """
    amplitudes, lengths = project(z, rows.basis, rows.places, spec.frequencies)
    coded = [
        code_by_profile(amplitudes, lengths, words.float(), table, spec)
        for words, table in zip(rows.books, rows.table, strict=True)
    ]
    if spec.profiles == 1:
        return coded[0][0]
    profiles = torch.stack([gain for _, gain in coded]).argmax(0)
    codes = torch.stack([codes for codes, _ in coded])[profiles, torch.arange(len(z))]
    return torch.cat([profiles[:, None].to(torch.uint8), codes], 1)


def code_by_profile(amplitudes: Tensor, lengths: Tensor, books: Tensor, table: Tensor, spec: CosineSpec) -> tuple[Tensor, Tensor]:
    """Return the codes of series in one profile, and half the reduction of each image's weighted squared error.

    Args:
        amplitudes: float32 [n, K], times lengths, by `project`.
        lengths: float32 [K].
        books: float32 [G, 256, D].
        table: int16 [K].

    Returns:
        uint8 [n, G] and float32 [n].
    """
    slots, coded = table.long().sort()
    coded = coded[slots >= 0]
    group, component = (slots[slots >= 0] // spec.dimensions, slots[slots >= 0] % spec.dimensions)
    counts = torch.bincount(group, minlength=spec.groups).tolist()
    points, units = amplitudes[:, coded].split(counts, 1), lengths[coded].split(counts)
    codes, gain = torch.zeros((len(amplitudes), spec.groups), dtype=torch.uint8), torch.zeros(len(amplitudes))
    for number, components in enumerate(component.split(counts)):
        chosen, gained = nearest_words(points[number], books[number][:, components] * units[number])
        codes[:, number] = chosen.to(torch.uint8)
        gain += gained
    return codes, gain
