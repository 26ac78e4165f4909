"""Bits are shared by reverse water-filling, groups take about eight of them, and the words chosen are the best there are."""

from dataclasses import replace

import pytest
import torch

from kernels.cosine import CosineSpec
from rapid_inr.cosine.code import code
from rapid_inr.cosine.components import project
from rapid_inr.cosine.learn import BASES, groups_of, k_means, learn, nearest_words, rates_of
from rapid_inr.cosine.series import along_axes, analyse
from rapid_inr.store.cosine import CosineCode
from tests.images import smooth_images

SPEC = CosineSpec(frequencies=6, groups=9, dimensions=3, profiles=2)
IMAGES = torch.cat([smooth_images(300, 6, 6), torch.randint(256, (300, 6, 6, 3), generator=torch.Generator().manual_seed(0))])
IMAGES = IMAGES.to(torch.uint8)


def test_bits_go_where_the_variance_is_until_all_are_spent():
    variances = torch.tensor([16.0, 4.0, 1.0, 1e-4])
    # D = 1/4: log2(64) / 2 = 3, 2, 1 and none
    torch.testing.assert_close(rates_of(variances, 6), torch.tensor([3.0, 2.0, 1.0, 0.0]), rtol=0, atol=1e-5)
    assert rates_of(torch.zeros(5), 40).sum().item() == pytest.approx(40, abs=1e-3)


def test_groups_are_filled_evenly_and_hold_no_more_than_they_may():
    rates = torch.tensor([6.0, 5.0, 3.0, 2.0, 0.5, 0.4, 0.1] + [0.0] * 101)
    groups = groups_of(rates, replace(SPEC, groups=2))
    assert groups == [[0, 3, 4], [1, 2, 5]]
    assert [len(group) for group in groups_of(rates, SPEC)] == [1] * 9  # a byte codes something, however little


def test_the_nearest_word_is_that_of_a_search_of_all():
    generator = torch.Generator().manual_seed(0)
    points, words = torch.randn(2000, 3, generator=generator), torch.randn(256, 3, generator=generator)
    chosen, gains = nearest_words(points, words)
    distances = torch.cdist(points.double(), words.double())
    assert torch.equal(chosen, distances.argmin(1))
    torch.testing.assert_close(points.square().sum(1) - 2 * gains, distances.amin(1).square().float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [3, 256, 5000])
def test_words_lie_where_points_are(n):
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(10, (n, 2), generator=generator).float()
    words = k_means(points, generator)
    error = (words[nearest_words(points, words)[0]] - points).square().sum(1).mean()
    assert error < 0.3  # of 100 places


@pytest.mark.parametrize("basis", BASES)
def test_codes_are_the_best_of_all_profiles(basis):
    shared = learn(analyse(IMAGES, 6), SPEC, basis=basis, seed=0)
    assert ("basis" in shared) == (basis == "learned")
    kind, some = CosineCode(SPEC), IMAGES[::30]
    rows = kind.rows(shared | {"codes": torch.zeros((1, SPEC.row_bytes), dtype=torch.uint8)})
    z = along_axes(analyse(some, 6), rows.colour, rows.mean)
    codes = code(z, rows, SPEC)
    assert codes[:, 0].unique().tolist() == [0, 1]  # smooth images and noise
    amplitudes, lengths = project(z, rows.basis, rows.places, 6)
    for image, own in zip(amplitudes, codes.tolist(), strict=True):
        errors = []
        for profile in range(2):
            rest, words = image.clone(), rows.books[profile].float()
            table = rows.table[profile].long()
            chosen = []
            for group in range(SPEC.groups):
                coded = ((table >= 0) & (table // 3 == group)).nonzero().flatten()
                distances = (image[coded] - words[group][:, table[coded] % 3] * lengths[coded]).square().sum(1)
                chosen.append(int(distances.argmin()))
                rest[coded] = distances.min().sqrt() / len(coded) ** 0.5
            errors.append((float(rest.square().sum()), [profile, *chosen]))
        assert own == min(errors)[1]


def test_codebooks_are_the_same_for_the_same_images_and_seed():
    first, again, other = (learn(analyse(IMAGES, 6), SPEC, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["books"], other["books"])


def test_a_single_flat_image_can_be_learned_from():
    flat = analyse(torch.full((1, 6, 6, 3), 9, dtype=torch.uint8), 6)
    CosineCode(SPEC).rows(learn(flat, SPEC, seed=0) | {"codes": torch.zeros((1, 10), dtype=torch.uint8)})
