from dataclasses import replace

import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.data.moments import ChannelMoments
from rapid_inr.store.format import StoreFormatError
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard, ShardFolder, open_shards
from rapid_inr.store.siren import SirenCode

MADE = {"fit": {"steps": 5, "betas": [0.9, 0.95]}, "seed": 0}
PLAN = StorePlan(SirenCode(SirenSpec(2, 5, 15.0), QuantizeConfig()), (("train", 7),), ("cat", "dog"), 7, 3, "f00d", MADE)


def shard_of(number, *, seed=0):
    n = len(PLAN.shard(number))
    moments = ChannelMoments()
    moments.add(torch.full((2, 3), 7, dtype=torch.uint8).numpy())
    rows = {"codes": torch.full((n, 25), seed, dtype=torch.uint8), "ends": torch.zeros(n, 30, dtype=torch.float16)}
    ids = torch.tensor(PLAN.shard(number))
    return Shard(
        number, ids, torch.ones(n, 2, dtype=torch.int32), rows, 0, {"psnr_db": ids.double()}, moments, ChannelMoments(),
        {9: "a: torn"}, 1.5, 0.5,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return ShardFolder(tmp_path / "a.inr.shards", PLAN)


def test_shards_divide_the_images_in_order():
    assert PLAN.n_shards == 3
    assert [list(PLAN.shard(number)) for number in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_shard_is_read_as_it_was_written(folder):
    shard = shard_of(2)
    folder.write(shard)
    (again,) = folder.read([2])
    assert torch.equal(again.ids, shard.ids)
    assert torch.equal(again.measured["psnr_db"], shard.measured["psnr_db"])
    assert all(torch.equal(again.rows[name], shard.rows[name]) for name in shard.rows)
    assert (again.number, again.skipped, again.fit_s, again.compress_s) == (2, {9: "a: torn"}, 1.5, 0.5)
    assert again.moments.mean_std() == shard.moments.mean_std()
    assert again.moments.n_pixels == 2


def test_a_folder_knows_what_is_there_and_what_is_missing(folder):
    assert folder.present() == []
    folder.write(shard_of(1))
    assert folder.present() == [1]
    assert folder.missing() == [0, 2]
    with pytest.raises(ValueError, match=r"lacks 2 of 3 shards \(00000, 00002\)"):
        folder.require_complete()
    folder.write(shard_of(0))
    folder.write(shard_of(2))
    folder.require_complete()
    assert [shard.number for shard in folder] == [0, 1, 2]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(PLAN, code=SirenCode(SirenSpec(2, 6, 15.0), QuantizeConfig())), "inr.hidden is 5 there, 6 here"),
        (replace(PLAN, code=SirenCode(PLAN.code.spec, QuantizeConfig(bits=4))), "quantize.bits is 8 there, 4 here"),
        (replace(PLAN, shard_images=4), "shard_images is 3 there, 4 here"),
        (replace(PLAN, made={**MADE, "seed": 1}), "seed is 0 there, 1 here"),
        (replace(PLAN, made={**MADE, "fit": {**MADE["fit"], "steps": 6}}), "fit.steps is 5 there, 6 here"),
        (replace(PLAN, digest="beef"), "the images, or their files' names, sizes or times of modification, have changed since"),
        (replace(PLAN, made={}), r"fit.betas is \[0.9, 0.95\] there, None here"),
    ],
)
def test_a_shard_of_another_encoding_is_refused_by_the_key_that_differs(folder, other, message):
    folder.write(shard_of(0))
    with pytest.raises(ValueError, match=f"{message}.*overwrite=true"):
        ShardFolder(folder.path, other).present()


def test_the_plan_of_a_folder_is_found_in_its_shards(folder):
    with pytest.raises(FileNotFoundError, match="no shards in"):
        open_shards(folder.path)
    folder.write(shard_of(1))
    assert open_shards(folder.path) == folder


def test_mixed_plans_are_refused_whoever_looks(folder):
    folder.write(shard_of(0))
    ShardFolder(folder.path, replace(PLAN, digest="beef")).write(shard_of(1))
    with pytest.raises(ValueError, match="have changed since"):
        open_shards(folder.path).require_complete()


def test_a_damaged_part_is_named(folder):
    for number in range(3):
        folder.write(shard_of(number))
    path = folder.file(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreFormatError, match=r"00001\.shard is damaged: a checksum"):
        folder.require_complete()
    path.write_bytes(whole[:-1])
    with pytest.raises(StoreFormatError, match=r"00001\.shard is damaged"):
        folder.present()


@pytest.fixture
def sharing(folder):
    """Return the same folder of a plan whose images share scales."""
    code = SirenCode(SirenSpec(2, 5, 15.0), QuantizeConfig(granularity="dataset"))
    return replace(folder, plan=replace(PLAN, code=code))


def scale(value):
    return {"scales": torch.tensor([value])}


def test_the_scales_that_shards_share_are_those_of_the_first_job(sharing):
    folder = sharing

    def slow():  # meanwhile another job writes the same file
        folder.share(lambda: scale(1.0))
        return scale(2.0)

    assert folder.share(slow) == scale(1.0)
    assert folder.share(lambda: scale(2.0)) == scale(1.0)
    assert folder.present() == []
    assert [path.name for path in folder.path.iterdir()] == ["shared.shard"]


def test_what_shards_share_must_be_there_and_be_theirs(sharing):
    for number in range(3):
        sharing.write(shard_of(number))
    with pytest.raises(StoreFormatError, match=r"shared\.shard is missing .scales."):
        sharing.require_complete()
    sharing.share(lambda: scale(1.0))
    with pytest.raises(StoreFormatError, match=r"00000\.shard was encoded with another shared\.shard \(scales\)"):
        sharing.require_complete()


def test_the_scales_that_shards_share_are_checked_whenever_they_are_read(sharing):
    folder = sharing
    for number in range(3):
        folder.write(shard_of(number))
    folder.share(lambda: scale(1.0))
    path = folder.path / "shared.shard"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")  # the last byte of the tensor
    for read in (lambda: folder.share(lambda: None), folder.require_complete):
        with pytest.raises(StoreFormatError, match=r"shared\.shard is damaged: a checksum"):
            read()


def test_any_flipped_bit_of_a_shard_is_noticed(folder):
    for number in range(3):
        folder.write(shard_of(number))
    path = folder.file(1)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        with pytest.raises(StoreFormatError, match=r"00001\.shard"):
            folder.require_complete()


def test_a_shard_under_the_name_of_another_is_refused(folder):
    for number in range(3):
        folder.write(shard_of(number))
    folder.file(1).write_bytes(folder.file(0).read_bytes())
    with pytest.raises(StoreFormatError, match=r"00001\.shard does not hold the images of its shard"):
        folder.require_complete()
    for ids in ([2, 3, 4], [3, 3, 5], [3, 4, 7]):  # outside, twice, and of the next shard
        folder.write(replace(shard_of(1), ids=torch.tensor(ids)))
        with pytest.raises(StoreFormatError, match="does not hold the images of its shard"):
            folder.require_complete()


def test_a_shard_without_images_under_the_name_of_another_is_refused(folder):
    for number in (0, 2):
        folder.write(shard_of(number))
    empty = shard_of(1)
    columns = {"ids": empty.ids[:0], "sizes": empty.sizes[:0], "rows": {}, "measured": {"psnr_db": empty.ids[:0].double()}}
    folder.write(replace(empty, **columns))
    folder.require_complete()
    folder.file(2).write_bytes(folder.file(1).read_bytes())
    with pytest.raises(StoreFormatError, match=r"00002\.shard does not hold the images of its shard"):
        folder.require_complete()


def test_what_was_left_by_a_merge_that_was_killed_is_no_shard(folder):
    folder.write(shard_of(1))
    folder.whole_file.write_bytes(b"the store")
    assert folder.present() == [1]
    folder.clear()
    assert not folder.path.exists()


def test_only_the_files_of_another_plan_and_the_damaged_ones_are_discarded(folder):
    folder.write(shard_of(0))
    folder.write(shard_of(1))
    folder.file(2).write_bytes(b"torn")
    replace(folder, plan=replace(PLAN, digest="beef")).write(shard_of(1))
    assert folder.discard_others() == 2
    assert folder.present() == [0]


def test_a_shard_that_vanishes_while_the_folder_is_read_is_not_there(folder, monkeypatch):
    folder.write(shard_of(0))
    monkeypatch.setattr(ShardFolder, "_files", lambda self: [self.file(0), self.file(1)])
    assert folder.present() == [0]
    assert folder.discard_others() == 0


def test_clearing_removes_the_shards_and_nothing_else(folder):
    folder.write(shard_of(0))
    (folder.path / ".00001.shard.0123").write_text("of a writer that was killed")
    (folder.path / ".whole.inr.0123").write_text("of a merge that was killed")
    (folder.path / "notes.txt").write_text("precious")
    (folder.path / ".notes").write_text("precious")
    folder.clear()
    assert sorted(path.name for path in folder.path.iterdir()) == [".notes", "notes.txt"]
    (folder.path / "notes.txt").unlink()
    (folder.path / ".notes").unlink()
    folder.clear()
    assert not folder.path.exists()
    folder.clear()
