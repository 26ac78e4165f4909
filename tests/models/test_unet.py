import pytest
import torch

from rapid_inr.models.unet import UNetConfig, build_unet


def small_unet(*, seed: int = 0, levels: int = 2):
    return build_unet(UNetConfig(width=4, levels=levels), n_classes=3, seed=seed)


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (5, 1)])
def test_every_pixel_of_any_size_has_a_logit_for_each_class(size):
    assert small_unet(levels=3)(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


def test_the_papers_network_has_its_layers():
    model = build_unet(UNetConfig(width=64, levels=4), n_classes=2, seed=0)
    assert [block[0].out_channels for block in model.down] == [64, 128, 256, 512, 1024]
    assert [block[0].out_channels for block in model.up] == [512, 256, 128, 64]
    assert model.head.weight.shape == (2, 64, 1, 1)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_pixel_sees_details_beside_it_and_as_far_as_the_coarsest_level(levels):
    model = small_unet(levels=levels).eval()
    with torch.no_grad():  # fresh batch norms change nothing here: no statistics of the batch are taken
        black, dot = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
        dot[0, :, 31, 31] = 1
        change = (model(dot) - model(black)).abs().amax((0, 1))
    assert change[31, 31] > 0
    reach = int((change > 0).nonzero()[:, 0].max()) - 31
    assert 5 * 2 ** (levels - 1) < reach < 10 * 2**levels


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone():
    state = torch.random.get_rng_state()
    a, b, other = small_unet(seed=1), small_unet(seed=1), small_unet(seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(a.head.weight, b.head.weight)
    assert not torch.equal(a.head.weight, other.head.weight)


@pytest.mark.parametrize("name", ["width", "levels"])
def test_a_network_without_channels_or_levels_is_refused(name):
    with pytest.raises(ValueError, match=f"unet.{name} is 0, expected at least 1"):
        UNetConfig(**{name: 0})
