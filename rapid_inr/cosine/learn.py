"""Learn how to code cosine series in bytes: which coefficients share a byte, and what its 256 values stand for.

Coefficients get bits by reverse water-filling (Cover and Thomas, "Elements of information theory", theorem 10.3.3): of
variance v, log2(v / D) / 2 where that is above 0, with the distortion D that spends all bits. Groups of them that take about
eight bits share a byte, and k-means finds its 256 words. Images that differ in which coefficients are large have profiles of
their own: images choose the profile that codes them best, profiles the bits that suit their images, in turns.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kernels.cosine import CosineSpec
from kernels.cosine.spec import WORDS
from rapid_inr.cosine.series import analyse, colour_transform

PROFILE_IMAGES = 8000  # by which profiles are told apart
PROFILE_ROUNDS = 12
K_MEANS_ROUNDS = (4, 2)  # with a quarter of the points, and with all
LEAST_VARIANCE = 1e-10  # of a coefficient: 0.003 levels of 255
LEAST_BITS = 0.35  # of a coefficient that is worth a place in a group
LARGEST_CODE = 127  # of a word's component, stored as int8


def learn(images: Sequence[Tensor], spec: CosineSpec, *, seed: int) -> dict[str, Tensor]:
    """Learn the codebooks of images.

    Args:
        images: uint8 [n, H, W, 3] of each size.

    Returns:
        ``books``, ``book_scales``, ``table``, ``colour`` and ``colour_mean``, as docs/format.md has them.
    """
    generator = torch.Generator().manual_seed(seed)
    colour, mean = colour_transform(images)
    z = torch.cat([analyse(some, colour, mean, spec.frequencies) for of_size in images for some in of_size.split(1024)])
    average = z.mean(0)
    rates = profile_rates(z[torch.randperm(len(z), generator=generator)[:PROFILE_IMAGES]] - average, spec)
    profiles = torch.cat([nearest_profile((some - average).square_(), rates) for some in z.split(1024)])
    table, books = torch.full((spec.profiles, z.shape[1]), -1, dtype=torch.int16), []
    mirror = mirror_signs(spec)
    for profile in range(spec.profiles):
        own = (z[profiles == profile] if (profiles == profile).sum() >= WORDS else z).T.contiguous()
        for number, members in enumerate(groups_of(rates[profile], spec)):
            table[profile, members] = (number * spec.dimensions + torch.arange(len(members))).to(torch.int16)
            points = torch.stack([own[members].T, own[members].T * mirror[members]], 1).flatten(0, 1)
            books.append(k_means(points, generator).T)
    words = torch.cat(books)  # [K, 256]
    scales = (words.abs().amax(1) / LARGEST_CODE).clamp(min=2**-14)
    scales = torch.where(scales.half() < scales, scales * (1 + 2**-10), scales).half()
    return {
        "books": (words / scales.float()[:, None]).round().to(torch.int8),
        "book_scales": scales,
        "table": table.view(spec.profiles, 3, spec.frequencies, spec.frequencies),
        "colour": colour,
        "colour_mean": mean,
    }


def mirror_signs(spec: CosineSpec) -> Tensor:
    """Return the signs that coefficients get when an image is mirrored left to right, [3 F^2]: images mean as much so."""
    signs = torch.tensor([1.0, -1.0]).repeat(spec.frequencies)[: spec.frequencies]
    return signs.expand(3, spec.frequencies, -1).flatten()


def profile_rates(z: Tensor, spec: CosineSpec) -> Tensor:
    """Return the bits of every coefficient in each profile, float32 [M, 3 F^2], by coefficients whose mean is 0."""
    energy = z.square()
    # the first split is by how much there is to code, apart from the mean of the image
    profiles = energy[:, 1:].sum(1).argsort().argsort() * spec.profiles // len(z)
    for _ in range(PROFILE_ROUNDS):
        owned = [energy[profiles == profile] for profile in range(spec.profiles)]
        rates = torch.stack([rates_of((own if len(own) else energy).mean(0), 8 * spec.groups) for own in owned])
        before, profiles = profiles, nearest_profile(energy, rates)
        if (profiles != before).float().mean() < 0.01:
            break
    return rates


def rates_of(variances: Tensor, bits: int) -> Tensor:
    """Return the bits of coefficients by reverse water-filling, which sum to `bits`."""
    variances = variances.double() + LEAST_VARIANCE
    low, high = variances.min() * 2.0 ** (-2 * bits / len(variances)) / 2, variances.max()
    for _ in range(60):  # bisection of the distortion
        middle = (low * high).sqrt()
        spent = (variances / middle).log2().clamp(min=0).sum() / 2
        low, high = (middle, high) if spent > bits else (low, middle)
    return ((variances / high).log2().clamp(min=0) / 2).float()


def nearest_profile(energy: Tensor, rates: Tensor) -> Tensor:
    """Return the profile that codes each image with the least distortion, int64 [N], by the squares of its coefficients.

    A coefficient of r bits keeps 2^(-2r) of its energy as distortion, as Gaussian ones do.
    """
    return (energy @ (2 ** (-2 * rates)).T).argmin(1)


def groups_of(rates: Tensor, spec: CosineSpec) -> list[list[int]]:
    """Divide coefficients among the bytes so that each has about the same bits; those of many bits come first.

    Coefficients that are far apart share a byte: groups of neighbours, which are large in the same images, code worse.
    """
    groups: list[list[int]] = [[] for _ in range(spec.groups)]
    open_groups = [(0.0, number) for number in range(spec.groups)]
    for i, coefficient in enumerate(rates.argsort(descending=True, stable=True).tolist()):
        rate = float(rates[coefficient])
        if not open_groups or (i >= spec.groups and rate < LEAST_BITS):
            break
        spent, number = heapq.heappop(open_groups)
        groups[number].append(coefficient)
        if len(groups[number]) < spec.dimensions:
            heapq.heappush(open_groups, (spent + rate, number))
    return groups


def k_means(points: Tensor, generator: torch.Generator) -> Tensor:
    """Return 256 words near which points [n, d] lie (Lloyd 1982, "Least squares quantization in PCM"), float32 [256, d]."""

    points = points[torch.randperm(len(points), generator=generator)]
    words = points.repeat(-(-WORDS // len(points)), 1)[:WORDS]
    quarter = points[: max(WORDS, len(points) // 4)]
    for some in [quarter] * K_MEANS_ROUNDS[0] + [points] * K_MEANS_ROUNDS[1]:
        codes = nearest_words(some, words)[0]
        counts = torch.bincount(codes, minlength=WORDS)[:, None]
        sums = torch.zeros_like(words).index_add_(0, codes, some)
        words = torch.where(counts > 0, sums / counts.clamp(min=1), words)
    return words


def nearest_words(points: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest of 256 words to each point [n, d]: its number, int64 [n], and by how much it lowers the squared error.

    The gain is that over the word 0, halved: points @ word - |word|^2 / 2.
    """
    chosen, gains = [], []
    for some in points.split(1024):  # whose scores stay in the cache
        scores = torch.addmm(words.square().sum(1) / -2, some, words.T).numpy()
        best = scores.argmax(1)  # NumPy's takes a fifth of torch's time
        chosen.append(best)
        gains.append(np.take_along_axis(scores, best[:, None], 1)[:, 0])
    return torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(np.concatenate(gains))
