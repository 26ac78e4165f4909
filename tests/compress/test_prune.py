import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from rapid_inr.compress.prune import PruneConfig, keep_largest, prune


def test_pruning_is_that_of_torch_on_a_single_network():
    layer = nn.Linear(8, 8, bias=False)
    weights = layer.weight.detach().reshape(1, -1).clone()
    masks = torch.ones_like(weights, dtype=torch.bool)
    torch_prune.l1_unstructured(layer, "weight", amount=16)
    first = keep_largest(weights, masks, 0.25)
    assert torch.equal(first, layer.weight_mask.reshape(1, -1).bool())
    torch_prune.l1_unstructured(layer, "weight", amount=16)  # of what is left: 32 of 64 in all
    assert torch.equal(keep_largest(weights, first, 0.5), layer.weight_mask.reshape(1, -1).bool())


def test_pruning_by_layer_is_that_of_torch_on_each_layer():
    layers = [nn.Linear(6, 6, bias=False) for _ in range(3)]
    weights = torch.cat([layer.weight.detach().flatten() * 10**i for i, layer in enumerate(layers)])[None]
    for layer in layers:
        torch_prune.l1_unstructured(layer, "weight", amount=0.5)
    expected = torch.cat([layer.weight_mask.flatten() for layer in layers])[None].bool()
    everything = torch.ones_like(weights, dtype=torch.bool)
    assert torch.equal(keep_largest(weights, everything, 0.5, parts=3), expected)
    assert not torch.equal(keep_largest(weights, everything, 0.5), expected)


def test_what_is_pruned_stays_pruned():
    weights = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    masks = torch.tensor([[False, True, True, True]])  # the largest is gone already
    assert keep_largest(weights, masks, 0.5).tolist() == [[False, True, True, False]]


@pytest.fixture
def world():
    """Four images whose PSNR falls by 1, 2, 3, 4 dB for each tenth of their weights that is pruned; training marks the rows."""
    rows = torch.rand(4, 20, generator=torch.Generator().manual_seed(0)) + 0.1
    dense = torch.tensor([40.0, 35.0, 30.0, 25.0], dtype=torch.float64)

    class World:
        def __init__(self):
            self.calls = []

        def refine(self, rows, masks, places):
            self.calls.append(places.tolist())
            return rows * masks

        def measure(self, rows, places):
            return dense[places] - (1 + places) * 10 * (rows == 0).double().mean(1)

        def run(self, **config):
            self.calls = []
            options = {"n_layers": 2, "refine": self.refine, "measure": self.measure}
            return prune(rows, lambda r: r, dense, PruneConfig(**config), **options)

    return World()


def test_max_drop_stops_each_image_at_its_own_ratio(world):
    result = world.run(rule="max_drop", max_drop_db=4.5, max_ratio=0.9)
    assert result.ratio.tolist() == pytest.approx([0.4, 0.2, 0.1, 0.1])
    assert result.psnr_db.tolist() == pytest.approx([36, 31, 27, 21])
    assert world.calls[:3] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]


def test_the_state_before_the_failing_round_is_kept_exactly(world):
    result = world.run(rule="max_drop", max_drop_db=4.5, max_ratio=0.9)
    assert torch.equal(result.rows == 0, ~result.masks)
    assert (result.rows == 0).double().mean(1).tolist() == pytest.approx(result.ratio.tolist())
    assert torch.equal(world.measure(result.rows, torch.arange(4)), result.psnr_db)


def test_floor_prunes_the_good_down_to_it_and_spares_the_poor(world):
    result = world.run(rule="floor", floor_db=29.5, max_ratio=0.9)
    assert result.ratio.tolist() == pytest.approx([0.9, 0.2, 0.0, 0.0])
    assert (result.psnr_db[:2] >= 29.5).all()
    assert world.calls[0] == [0, 1, 2]  # the last image is below from the start


def test_ceiling_first_prunes_the_poorer_image_harder(world):
    result = world.run(rule="ceiling_first", max_ratio=0.6, step=0.2)
    assert result.ratio.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_ceiling_first_spares_an_image_that_is_alone():
    dense, rows = torch.tensor([30.0], dtype=torch.float64), torch.ones(1, 20)
    config = PruneConfig(rule="ceiling_first", max_ratio=0.6, step=0.2)
    result = prune(
        rows,
        lambda r: r,
        dense,
        config,
        n_layers=2,
        refine=lambda r, masks, _: r * masks,
        measure=lambda r, _: r.mean(1).double(),
    )
    assert result.masks.all()


def test_fixed_brings_every_image_to_the_same_ratio(world):
    result = world.run(rule="fixed", max_ratio=0.35, step=0.1)
    assert result.ratio.tolist() == pytest.approx([0.35] * 4)
    assert len(world.calls) == 4


def test_no_rule_prunes_nothing(world):
    result = world.run(rule="none")
    assert result.masks.all()
    assert world.calls == []


@pytest.mark.parametrize(
    "bad",
    [
        {"rule": "all"},
        {"scope": "row"},
        {"step": 0.0},
        {"step": float("nan")},
        {"max_ratio": 1.0},
        {"max_drop_db": -1.0},
        {"floor_db": 120.0},
        {"finetune_steps": -1},
        {"lr_scale": 0.0},
        {"lr_scale": float("inf")},
        {"lr_scale": float("nan")},
    ],
)
def test_a_config_out_of_range_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=rf"prune\.{next(iter(bad))} is"):
        PruneConfig(**bad)
