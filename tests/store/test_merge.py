"""Shards are merged to the store that encoding all images at once would give."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.spec import SirenSpec
from kernels.unpack.torch import gather_codes
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.source import CorruptImage, ImageSource
from rapid_inr.encoding.encode import encode_shards, plan_store
from rapid_inr.encoding.siren import SirenConfig
from rapid_inr.inr.fit import FitConfig
from rapid_inr.store import siren
from rapid_inr.store.format import read_store, write_store
from rapid_inr.store.merge import merge
from rapid_inr.store.shards import ShardFolder
from tests.images import encode, smooth_images

SPEC = SirenSpec(depth=2, hidden=8, omega=10.0)
FIT = FitConfig(steps=12, pixels_per_step=64)
FLOOR = PruneConfig(rule="floor", floor_db=10.0, max_ratio=0.9, step=0.45, finetune_steps=1)  # which spares the poor images


def source_of(images, *, corrupt=()):
    arrays = [image.numpy() for image in images]

    def read(i):
        if i in corrupt:
            raise CorruptImage(f"image {i} is torn")
        return arrays[i]

    n = len(arrays)
    return ImageSource("test", (("train", n),), np.arange(n), np.arange(n) % 2, ("a", "b"), read=read)


def noise(n):
    """Return images of black and white dots, which no small INR brings to 10 dB."""
    return 255 * torch.randint(0, 2, (n, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def whole_and_merged(tmp_path, source, config, prune_config, *, shard_images=2):
    """Return the bytes of a store that is encoded as one shard in memory, and of one that is merged from the files of many."""
    whole, report = encode(source, SPEC, FIT, config, prune_config=prune_config, on_corrupt="skip")
    write_store(tmp_path / "whole.inr", whole)
    encode_config, options = SirenConfig(SPEC, FIT, config, prune_config), {"device": torch.device("cpu"), "on_corrupt": "skip"}
    folder = ShardFolder(tmp_path / "shards", plan_store(source, encode_config, shard_images=shard_images, made={}, **options))
    shared = folder.share(lambda: encode_config.choose_shared(source, **options))
    encode_shards(source, encode_config, shared, folder, range(folder.plan.n_shards), **options)
    merged = merge(folder.plan, folder, folder.shared())
    merged.write(tmp_path / "merged.inr")
    assert torch.equal(merged.survey.measured["psnr_db"], report.psnr_db)
    assert tuple(merged.survey.skipped.values()) == report.skipped
    return whole, (tmp_path / "whole.inr").read_bytes(), (tmp_path / "merged.inr").read_bytes()


@pytest.mark.parametrize(
    "config", [QuantizeConfig(), QuantizeConfig(5, 8, "tensor"), QuantizeConfig(3, 16, "dataset"), QuantizeConfig(16)]
)
def test_a_dense_store_does_not_depend_on_its_shards(tmp_path, config):
    _, whole, merged = whole_and_merged(tmp_path, source_of(smooth_images(5, 8, 8)), config, PruneConfig())
    assert whole == merged


@pytest.mark.parametrize("bits", [3, 8])
def test_masks_of_their_own_are_merged_with_shards_that_were_spared(tmp_path, bits):
    images = torch.cat([smooth_images(3, 8, 8), noise(2), smooth_images(3, 8, 8, seed=1)])  # pruned, both, spared, pruned
    store, whole, merged = whole_and_merged(tmp_path, source_of(images[[0, 1, 2, 3, 4, 4, 5, 6]]), QuantizeConfig(bits), FLOOR)
    assert store.starts is not None
    assert store.starts.diff().unique().numel() > 1
    assert whole == merged


def test_where_masks_do_not_pay_for_the_whole_the_pruned_codes_are_zeros(tmp_path):
    images = torch.cat([smooth_images(2, 8, 8), noise(8)])  # the first shard alone would be smaller with masks
    store, whole, merged = whole_and_merged(tmp_path, source_of(images), QuantizeConfig(4), FLOOR)
    assert store.rows.masks is None
    assert (store.rows.codes[:2] == 0).double().mean() > 0.5
    assert whole == merged


def test_shards_of_different_sizes_and_shards_that_cannot_be_read_are_merged(tmp_path):
    images = [*smooth_images(2, 8, 8), *smooth_images(2, 8, 8), *smooth_images(3, 6, 9)]
    store, whole, merged = whole_and_merged(tmp_path, source_of(images, corrupt={2, 3, 5}), QuantizeConfig(), PruneConfig())
    assert store.sizes.tolist() == [[8, 8], [8, 8], [6, 9], [6, 9]]
    assert store.source_ids.tolist() == [0, 1, 4, 6]
    assert store.header.skipped == (2, 3, 5)
    assert whole == merged
    assert len(read_store(tmp_path / "merged.inr")) == 4


def test_shards_of_one_image_share_what_all_share(tmp_path):
    source = source_of(smooth_images(3, 8, 8))
    store, whole, merged = whole_and_merged(tmp_path, source, QuantizeConfig(8, 16, "dataset"), PruneConfig(), shard_images=1)
    assert store.rows.scales.shape == (1, 1)
    assert whole == merged


def test_where_no_train_image_could_be_read_all_images_give_mean_and_std():
    images = smooth_images(4, 8, 8)
    source = replace(source_of(images, corrupt={0, 1}), splits=(("train", 2), ("test", 2)))
    store, _ = encode(source, SPEC, FIT, QuantizeConfig(), on_corrupt="skip", shard_images=1)
    rest = images[2:].double() / 255
    assert store.header.mean == pytest.approx(rest.mean((0, 1, 2)).tolist())
    assert store.header.std == pytest.approx(rest.std((0, 1, 2), correction=0).tolist())


def test_codes_are_repacked_for_the_codes_alone(tmp_path, monkeypatch):
    repacked = []
    monkeypatch.setattr(siren, "gather_codes", lambda *a, **k: repacked.append(1) or gather_codes(*a, **k))
    images = torch.cat([smooth_images(2, 8, 8), noise(8)])  # pruned codes are zeros in the whole
    whole_and_merged(tmp_path, source_of(images), QuantizeConfig(4), FLOOR, shard_images=2)
    # one shard as a whole: the first look, and the tensor in memory; of five one was pruned: look, checksum, file
    assert len(repacked) == 2 + 3


def test_nothing_readable_is_no_store():
    with pytest.raises(ValueError, match="none of 3 images could be read; the first: image 0 is torn"):
        encode(
            source_of(smooth_images(3, 8, 8), corrupt={0, 1, 2}), SPEC, FIT, QuantizeConfig(), on_corrupt="skip", shard_images=2
        )
