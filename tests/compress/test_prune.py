import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from rapid_inr.compress.prune import PruneConfig, find_shared_mask, keep_largest, kept_weights, prune


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

        def run(self, *, hidden_bytes=None, **config):
            self.calls = []
            return prune(
                rows, lambda r: r, dense, PruneConfig(**config), n_layers=2, refine=self.refine, measure=self.measure,
                hidden_bytes=hidden_bytes,
            )  # fmt: skip

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


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.7, 1.0])
def test_as_many_weights_are_kept_as_was_foretold(parts, ratio):
    kept = keep_largest(torch.rand(1, 676), torch.ones(1, 676, dtype=torch.bool), ratio, parts=parts)
    assert int(kept.sum()) == kept_weights(676, ratio, parts=parts)


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
        {"max_ratio": 1.0},
        {"max_drop_db": -1.0},
        {"finetune_steps": -1},
        {"lr_scale": 0.0},
    ],
)
def test_a_config_out_of_range_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=rf"prune\.{next(iter(bad))} is"):
        PruneConfig(**bad)


def test_a_budget_prunes_those_that_lose_least_and_is_kept(world):
    result = world.run(rule="budget", budget_bytes=1, max_ratio=0.9, hidden_bytes=4 * (3 + 15))
    kept = result.masks.sum(1)
    assert (kept + 3).sum() <= 4 * (3 + 15)  # 20 weights of a byte each, and a mask of 3 bytes
    assert result.ratio.tolist() == sorted(result.ratio.tolist(), reverse=True)  # the first image loses least a weight
    assert result.ratio[0] > result.ratio[3]
    assert torch.equal(result.rows == 0, ~result.masks)
    assert torch.equal(world.measure(result.rows, torch.arange(4)), result.psnr_db)


def test_a_budget_that_takes_every_weight_prunes_nothing(world):
    result = world.run(rule="budget", budget_bytes=1, max_ratio=0.9, hidden_bytes=4 * 20)
    assert result.masks.all()
    assert result.psnr_db.tolist() == [40, 35, 30, 25]


def test_a_budget_below_what_max_ratio_leaves_is_refused(world):
    with pytest.raises(ValueError, match="4 images take at least 20 bytes"):
        world.run(rule="budget", budget_bytes=1, max_ratio=0.9, hidden_bytes=19)


@pytest.fixture
def shared_mask():
    """A sample of three images of 20 weights that loses 1 dB for each weight that all of them lack."""
    rows = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) + 0.1
    rows[:, 4] = 0.01  # the one that nobody needs

    def find(**config):
        dense = torch.tensor([34.0, 30.0, 26.0], dtype=torch.float64)
        return find_shared_mask(
            rows, lambda r: r, dense, PruneConfig(mask="shared", **config), n_layers=2,
            refine=lambda r, mask: r * mask, measure=lambda r: 30.0 - (r == 0).all(0).sum().item(),
        )  # fmt: skip

    return find


def test_a_shared_mask_drops_what_the_sample_needs_least(shared_mask):
    mask = shared_mask(rule="fixed", max_ratio=0.05)
    assert mask.shape == (1, 20)
    assert (~mask).nonzero().tolist() == [[0, 4]]


def test_a_shared_mask_stops_at_the_mean_that_the_rule_allows(shared_mask):
    assert (~shared_mask(rule="max_drop", max_drop_db=7.5, max_ratio=0.9)).sum() == 6  # rounds of two weights
    assert (~shared_mask(rule="floor", floor_db=25.5, max_ratio=0.9)).sum() == 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mask": "both"}, "prune.mask is 'both', expected own or shared"),
        ({"rule": "ceiling_first", "mask": "shared"}, "prune.mask is 'shared', expected own"),
        ({"rule": "budget"}, "prune.budget_bytes is None, expected the bytes of the whole store"),
        ({"rule": "budget", "budget_bytes": 0}, "prune.budget_bytes is 0"),
        ({"sample_images": 0}, "prune.sample_images is 0"),
        ({"rule": "floor", "floor_db": 120.0}, "prune.floor_db is 120.0, expected below 100, which no image exceeds"),
    ],
)
def test_what_a_budget_or_a_shared_mask_cannot_be(config, message):
    with pytest.raises(ValueError, match=message):
        PruneConfig(**config)
