import math

import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress.fold import fold_biases
from rapid_inr.inr.coords import pixel_coords
from rapid_inr.inr.layout import split_rows
from rapid_inr.inr.siren import initial_weights, layer_views, siren


def rows_of(spec, *, spread):
    """Random rows whose biases reach over several turns."""
    rows = initial_weights(spec, range(3), seed=0).double()
    for _, bias in layer_views(rows, spec)[:-1]:
        bias.mul_(spread)
    return rows


@pytest.mark.parametrize("spec", [SirenSpec(1, 3, 30.0), SirenSpec(2, 5, 15.0), SirenSpec(4, 6, 30.0)], ids=str)
def test_folding_changes_no_pixel(spec):
    rows, coords = rows_of(spec, spread=3.0), pixel_coords(5, 4).double()
    folded = fold_biases(rows, spec)
    assert not torch.equal(folded, rows)
    assert torch.allclose(siren(folded, coords, spec), siren(rows, coords, spec), atol=1e-12)


def test_folded_biases_lie_within_a_quarter_turn():
    spec = SirenSpec(3, 8, 15.0)
    rows = rows_of(spec, spread=3.0)
    biases = [bias for _, bias in layer_views(fold_biases(rows, spec), spec)[:-1]]
    assert max(bias.abs().max() for bias in biases) <= math.pi / (2 * spec.omega) + 1e-12
    last = layer_views(rows, spec)[-1][1]
    assert torch.equal(layer_views(fold_biases(rows, spec), spec)[-1][1], last)  # no sine follows it


def test_folding_twice_is_folding_once_and_the_input_stays():
    spec = SirenSpec(3, 8, 15.0)
    rows = rows_of(spec, spread=3.0)
    before = rows.clone()
    folded = fold_biases(rows, spec)
    assert torch.equal(rows, before)
    assert torch.equal(fold_biases(folded, spec), folded)


def test_pruned_weights_stay_pruned():
    spec = SirenSpec(3, 8, 15.0)
    rows = rows_of(spec, spread=3.0)
    layer_views(rows, spec)[1][0][:, ::2] = 0
    hidden, _ = split_rows(fold_biases(rows, spec), spec)
    assert torch.equal(hidden == 0, split_rows(rows, spec)[0] == 0)
