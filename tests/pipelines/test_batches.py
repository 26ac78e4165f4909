import pytest
import torch

from rapid_inr.augment import policy as augment
from rapid_inr.pipelines import batches as batches_module
from rapid_inr.pipelines.batches import count_batches, epoch_batches


def order(*, n_images: int = 100, batch_size: int = 10, epoch: int = 0, seed: int | None = 0) -> torch.Tensor:
    return torch.cat(epoch_batches(n_images=n_images, batch_size=batch_size, epoch=epoch, seed=seed))


def test_every_image_comes_once_an_epoch():
    ids = order()
    assert ids.dtype == torch.int64
    assert ids.sort().values.tolist() == list(range(100))


def test_without_a_seed_the_images_come_in_order_and_none_is_left_out():
    batches = epoch_batches(n_images=10, batch_size=4, epoch=3, seed=None)
    assert [ids.tolist() for ids in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_what_does_not_fill_a_shuffled_batch_waits_for_another_epoch():
    epochs = [epoch_batches(n_images=10, batch_size=4, epoch=epoch, seed=0) for epoch in range(50)]
    assert all([len(ids) for ids in batches] == [4, 4] for batches in epochs)
    assert all(len(torch.cat(batches).unique()) == 8 for batches in epochs)
    assert len(torch.cat([torch.cat(batches) for batches in epochs]).unique()) == 10


def test_the_order_depends_on_seed_and_epoch_alone():
    first = order(seed=5, epoch=3)
    torch.manual_seed(99)
    assert torch.equal(first, order(seed=5, epoch=3))
    assert torch.equal(first, order(seed=5, epoch=3, batch_size=25))
    for seed, epoch in ((5, 4), (6, 3), (3, 5)):
        assert not torch.equal(first, order(seed=seed, epoch=epoch))


def test_every_position_is_as_likely_for_every_image():
    n_epochs = 2000
    firsts = torch.bincount(torch.tensor([order(n_images=8, batch_size=8, epoch=e)[0] for e in range(n_epochs)]), minlength=8)
    assert (firsts - n_epochs / 8).abs().max() < 5 * (n_epochs / 8) ** 0.5


def test_order_and_augmentation_are_drawn_apart():
    assert batches_module._STREAM != augment._STREAM


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize(("n_images", "batch_size"), [(10, 1), (10, 3), (10, 5), (10, 10)])
def test_the_batches_are_counted_as_they_come(n_images, batch_size, shuffled):
    batches = epoch_batches(n_images=n_images, batch_size=batch_size, epoch=0, seed=0 if shuffled else None)
    assert count_batches(n_images=n_images, batch_size=batch_size, shuffled=shuffled) == len(batches)


def test_a_batch_larger_than_the_set_is_refused_where_it_would_be_dropped():
    with pytest.raises(ValueError, match=r"^batch_size is 11, more than the 10 images of the set; set it to 10 or less$"):
        order(n_images=10, batch_size=11)
    assert order(n_images=10, batch_size=11, seed=None).tolist() == list(range(10))


def test_a_batch_without_images_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1"):
        order(batch_size=0, seed=None)
