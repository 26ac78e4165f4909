"""Learn the code of cosine series: components of coefficients, which of them share a byte, and the words of its 256 values.

The components are the principal ones of the training images (the Karhunen-Loeve transform), weighted as in
`rapid_inr.cosine.components`. Reverse water-filling (Cover and Thomas, "Elements of information theory", theorem 10.3.3) gives a
component of variance v max(0, log2(v / D) / 2) bits, with the distortion D that spends all bits. A group of components with about
eight bits shares a byte, and k-means finds its 256 words. Profiles serve images with different large components. They are found
by alternating two steps: each image chooses the profile that codes it best, and each profile's bits are computed from its images.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor

from kernels.cosine import CosineSpec
from kernels.cosine.spec import WORDS
from rapid_inr.cosine.components import BASIS_UNIT, largest_coefficients, mirror_signs, principal_components, project
from rapid_inr.cosine.series import along_axes, colour_axes

BASES = ("learned", "cosines")
COMPONENTS = 4  # for each byte
COEFFICIENTS = 7  # of learned components, for each byte
PROFILE_IMAGES = 8000  # most images to find profiles from
PROFILE_ROUNDS = 12
K_MEANS_ROUNDS = (4, 2)  # with a quarter of the points, then with all
LEAST_VARIANCE = 1e-10  # of a component: 0.003 levels of 255
LEAST_BITS = 0.35  # components with fewer bits are not coded, except the first of a group
LARGEST_CODE = 127  # of a word's component, stored as int8


def learn(z: Tensor, spec: CosineSpec, *, basis: str = "learned", seed: int) -> dict[str, Tensor]:
    """Learn the codebooks of images.

    Args:
        z: float32 [N, 3, F^2], the series of the images, from `analyse`.
        basis: one of `BASES`: principal components, or single coefficients, which need no bytes.

    Returns:
        ``books``, ``book_scales``, ``table``, ``places``, ``colour``, ``colour_mean`` and, if learned, ``basis``; see
        docs/format.md.
    """
    generator = torch.Generator().manual_seed(seed)
    colour, mean = colour_axes(z)
    z = along_axes(z, colour, mean)
    n, rows, stored = COMPONENTS * spec.groups, None, {}
    if basis == "learned":
        stored["basis"], places = principal_components(z, COEFFICIENTS * spec.groups, n)
        rows = stored["basis"] * BASIS_UNIT
    else:
        places = largest_coefficients(z, n)
    amplitudes, lengths = project(z, rows, places, spec.frequencies)
    mirror = mirror_signs(rows, places, spec.frequencies)
    average = amplitudes.mean(0)
    sample = torch.randperm(len(z), generator=generator)[:PROFILE_IMAGES]
    rates = profile_rates(amplitudes[sample] - average, spec)
    profiles = torch.cat([nearest_profile((chunk - average).square_(), rates) for chunk in amplitudes.split(1024)])
    table, books = torch.full((spec.profiles, len(lengths)), -1, dtype=torch.int16), []
    for profile in range(spec.profiles):
        own = (amplitudes[profiles == profile] if (profiles == profile).sum() >= WORDS else amplitudes).T.contiguous()
        for number, members in enumerate(groups_of(rates[profile], spec)):
            table[profile, members] = (number * spec.dimensions + torch.arange(len(members))).to(torch.int16)
            # mirrored images are equally good examples
            points = torch.stack([own[members].T, own[members].T * mirror[members]], 1).flatten(0, 1)
            books.append((k_means(points, generator) / lengths[members]).T)
    words = torch.cat(books)  # [K, 256]
    scales = (words.abs().amax(1) / LARGEST_CODE).clamp(min=2**-14).half()
    return {
        "books": (words / scales.float()[:, None]).round().clamp(-LARGEST_CODE, LARGEST_CODE).to(torch.int8),
        "book_scales": scales,
        "table": table,
        "places": places.to(torch.int16),
        "colour": colour,
        "colour_mean": mean,
        **stored,
    }


def profile_rates(amplitudes: Tensor, spec: CosineSpec) -> Tensor:
    """Return the bits of each component in each profile, float32 [M, K], from amplitudes with mean 0."""
    energy = amplitudes.square()
    # the initial profiles are by energy, without the largest component, the brightness
    profiles = energy[:, 1:].sum(1).argsort().argsort() * spec.profiles // len(energy)
    for _ in range(PROFILE_ROUNDS):
        owned = [energy[profiles == profile] for profile in range(spec.profiles)]
        rates = torch.stack([rates_of((own if len(own) else energy).mean(0), 8 * spec.groups) for own in owned])
        before, profiles = profiles, nearest_profile(energy, rates)
        if (profiles != before).float().mean() < 0.01:
            break
    return rates


def rates_of(variances: Tensor, bits: int) -> Tensor:
    """Return the bits of components by reverse water-filling; their sum is `bits`."""
    variances = variances.double() + LEAST_VARIANCE
    low, high = variances.min() * 2.0 ** (-2 * bits / len(variances)) / 2, variances.max()
    for _ in range(60):  # bisection of the distortion
        middle = (low * high).sqrt()
        spent = (variances / middle).log2().clamp(min=0).sum() / 2
        low, high = (middle, high) if spent > bits else (low, middle)
    return ((variances / high).log2().clamp(min=0) / 2).float()


def nearest_profile(energy: Tensor, rates: Tensor) -> Tensor:
    """Return the profile with the least distortion for each image, int64 [N].

    With r bits, the distortion of a component is 2^(-2r) of its energy, as for Gaussian ones.

    Args:
        energy: [N, K], squared amplitudes.
    """
    return (energy @ (2 ** (-2 * rates)).T).argmin(1)


def groups_of(rates: Tensor, spec: CosineSpec) -> list[list[int]]:
    """Divide components among the bytes so that each byte has about the same bits, starting with the largest components.

    Components of a group are far apart, since groups of neighbours, which are large in the same images, code worse.
    """
    groups: list[list[int]] = [[] for _ in range(spec.groups)]
    open_groups = [(0.0, 0, number) for number in range(spec.groups)]  # bits, components
    for i, component in enumerate(rates.argsort(descending=True, stable=True).tolist()):
        rate = float(rates[component])
        if not open_groups or (i >= spec.groups and rate < LEAST_BITS):
            break
        spent, _, number = heapq.heappop(open_groups)
        groups[number].append(component)
        if len(groups[number]) < spec.dimensions:
            heapq.heappush(open_groups, (spent + rate, len(groups[number]), number))
    return groups


def k_means(points: Tensor, generator: torch.Generator) -> Tensor:
    """Return 256 words for points [n, d] by k-means, float32 [256, d] (Lloyd 1982, "Least squares quantization in PCM")."""
    points = points[torch.randperm(len(points), generator=generator)]
    words = points.repeat(-(-WORDS // len(points)), 1)[:WORDS]
    quarter = points[: max(WORDS, len(points) // 4)]
    for sample in [quarter] * K_MEANS_ROUNDS[0] + [points] * K_MEANS_ROUNDS[1]:
        codes = nearest_words(sample, words)[0]
        counts = torch.bincount(codes, minlength=WORDS)[:, None]
        sums = torch.zeros_like(words).index_add_(0, codes, sample)
        words = torch.where(counts > 0, sums / counts.clamp(min=1), words)
    return words


def nearest_words(points: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest of 256 words to each point [n, d], int64 [n], and half the reduction of its squared error, float32 [n].

    The reduction is over the word 0, so half of it is point @ word - |word|^2 / 2.
    """
    chosen, gains = [], []
    for chunk in points.split(1024):  # small enough for scores to stay in the cache
        scores = torch.addmm(words.square().sum(1) / -2, chunk, words.T).numpy()
        best = scores.argmax(1)  # takes a fifth of torch's time
        chosen.append(best)
        gains.append(np.take_along_axis(scores, best[:, None], 1)[:, 0])
    return torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(np.concatenate(gains))
