from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from rapid_inr.augment.photometric import cut_out, jitter_colours, mix_neighbours
from rapid_inr.augment.policy import AugmentConfig, sample_params
from rapid_inr.augment.warp import Geometry
from rapid_inr.pipelines.base import BatchPipeline, Ids, Streamed
from rapid_inr.pipelines.batches import Batch, share_of_rank
from rapid_inr.pipelines.resident import resident_pipeline

N = 24
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)


def pipeline(**options) -> BatchPipeline:
    images = torch.randint(0, 256, (N, 8, 10, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    options = {"batch_size": 6, "seed": 0} | options
    return resident_pipeline(images, torch.arange(N) * 10, mean=MEAN, std=STD, device="cpu", **options)


def ids_of(batches: Iterator[Batch]) -> list[list[int]]:
    return [batch.ids.tolist() for batch in batches]


def test_an_epoch_can_be_begun_in_its_middle():
    feed = pipeline(augment=AugmentConfig())
    whole, rest = list(feed.epoch(3)), list(feed.epoch(3, start=2))
    assert [batch.ids.tolist() for batch in rest] == [batch.ids.tolist() for batch in whole[2:]]
    assert all(torch.equal(a.images, b.images) for a, b in zip(rest, whole[2:], strict=True))
    assert list(feed.epoch(3, start=4)) == []


@pytest.mark.parametrize("world_size", [2, 3, 6])
@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_the_ranks_together_see_what_one_process_sees(world_size, mix):
    augment = AugmentConfig(rotation_degrees=10, cutout=2, mix=mix)
    alone = list(pipeline(augment=augment).epoch(1))
    ranks = [list(pipeline(augment=augment, rank=rank, world_size=world_size).epoch(1)) for rank in range(world_size)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert torch.equal(batch.ids, torch.cat([share.ids for share in shares]))
        assert torch.equal(batch.labels, torch.cat([share.labels for share in shares]))
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))
        assert len({len(share.ids) for share in shares}) == 1
        for name in ("keeps", "others") if mix != "none" else ():
            assert torch.equal(getattr(batch, name), torch.cat([getattr(share, name) for share in shares]))


def test_a_share_whose_leader_cannot_be_read_is_mixed_within_itself():
    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for number, ids in enumerate(batches):
            kept = [torch.tensor([1, 3]), torch.tensor([0, 2]), torch.tensor([0]), None][number]
            count = len(ids) if kept is None else len(kept)
            yield Streamed(torch.zeros(count, 3, 8, 10), kept)

    feed = pipeline(augment=AugmentConfig(mix="mixup"), rank=1, world_size=2)
    whole, part = list(feed.epoch(0)), list(replace(feed, stream=stream).epoch(0))
    assert [batch.ids.tolist() for batch in part] == [
        whole[0].ids[[0, 2]].tolist(), whole[1].ids[[1]].tolist(), whole[3].ids.tolist(),
    ]  # fmt: skip
    assert torch.equal(part[0].others, part[0].labels.roll(1, 0))
    assert torch.equal(part[1].others, whole[1].others[:1])
    assert torch.equal(part[2].others, whole[3].others)


def test_in_order_a_last_batch_of_few_images_leaves_a_rank_without_one():
    batches = torch.arange(7).split(3)
    assert [[ids.tolist() for ids in share_of_rank(batches, rank=rank, world_size=2)] for rank in range(2)] == [
        [[0, 1], [3, 4], [6]],
        [[2], [5]],
    ]
    ranks = [ids_of(pipeline(seed=None, batch_size=23, rank=rank, world_size=2).epoch(0)) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [2, 1]


def test_a_subset_is_all_that_an_epoch_holds():
    chosen = torch.tensor([1, 5, 8, 13, 21, 22, 23])
    part = pipeline(subset=chosen, batch_size=3)
    assert (len(part), part.n_batches) == (7, 2)
    batches = list(part.epoch(0))
    assert {i for batch in batches for i in batch.ids.tolist()} <= set(chosen.tolist())
    assert all(torch.equal(batch.labels, batch.ids * 10) for batch in batches)
    in_order = replace(part, seed=None, batch_size=4)
    assert ids_of(in_order.epoch(0)) == [[1, 5, 8, 13], [21, 22, 23]]


def test_an_image_of_a_subset_keeps_its_draw():
    augment = AugmentConfig(crop_padding=3)
    whole = {
        i: image
        for batch in pipeline(augment=augment).epoch(2)
        for i, image in zip(batch.ids.tolist(), batch.images, strict=True)
    }
    for batch in pipeline(augment=augment, subset=torch.arange(0, N, 2)).epoch(2):
        for i, image in zip(batch.ids.tolist(), batch.images, strict=True):
            assert torch.equal(image, whole[i])


def test_another_size_is_that_of_the_batches():
    small = next(iter(pipeline(size=(4, 5), augment=AugmentConfig()).epoch(0)))
    assert small.images.shape == (6, 3, 4, 5)
    assert small.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_what_moves_no_pixel_is_jitter_then_cutout_then_mixing(mix):
    augment = AugmentConfig(crop_padding=0, flip=False, cutout=3, mix=mix, brightness=0.4, contrast=0.3, saturation=0.2)
    params = sample_params(N, augment, seed=0, epoch=4, image_size=(8, 10))
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    for clean, batch in zip(pipeline().epoch(4), pipeline(augment=augment).epoch(4), strict=True):
        own = params[batch.ids]
        expected = jitter_colours(clean.images, own.colours, mean=mean, std=std)
        expected = cut_out(expected, own.cutouts, 3)
        expected, keeps = mix_neighbours(expected, expected.roll(1, 0), own, paste=mix == "cutmix")
        assert torch.equal(batch.images, expected)
        assert torch.equal(batch.keeps, keeps)
        assert torch.equal(batch.others, batch.labels.roll(1, 0))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_without_mixing_no_share_is_told():
    assert all(batch.keeps is None for batch in pipeline(augment=AugmentConfig()).epoch(0))


def test_a_batch_goes_without_the_images_that_its_stream_lacks():
    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for number, ids in enumerate(batches):
            kept = [None, torch.tensor([0, 2]), torch.tensor([], dtype=torch.int64), torch.tensor([1])][number]
            count = len(ids) if kept is None else len(kept)
            yield Streamed(torch.zeros(count, 3, 8, 10), kept)

    whole, part = pipeline(seed=None), replace(pipeline(seed=None), stream=stream)
    assert ids_of(whole.epoch(0))[1] == [6, 7, 8, 9, 10, 11]
    assert ids_of(part.epoch(0)) == [[0, 1, 2, 3, 4, 5], [6, 8], [19]]
    assert [batch.labels.tolist() for batch in part.epoch(0)][1:] == [[60, 80], [190]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 25}, "batch_size is 25, more than the 24 images"),
        ({"batch_size": 5, "world_size": 2}, "batch_size is 5, expected a multiple of the 2 processes"),
        ({"rank": 2, "world_size": 2}, r"rank is 2, expected 0\.\.1"),
        ({"subset": torch.tensor([3, 24])}, r"subset is empty or out of range, expected positions in 0\.\.23"),
        ({"subset": torch.tensor([], dtype=torch.int64)}, "subset is empty"),
        ({"subset": torch.tensor([3, 4, 3])}, "subset holds a position twice"),
        ({"subset": torch.arange(6.0)}, r"subset is torch.float32 \(6,\), expected int64 \[M\]"),
        ({"subset": torch.arange(6)[None]}, r"subset is torch.int64 \(1, 6\), expected int64 \[M\]"),
        ({"subset": torch.arange(5)}, "batch_size is 6, more than the 5 images"),
        ({"seed": None, "augment": AugmentConfig()}, "augmentation needs a seed"),
    ],
)
def test_what_cannot_be_fed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**options)
