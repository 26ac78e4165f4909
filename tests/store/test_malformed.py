"""Each way for the file of a store to be wrong is refused, in words that name it."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from kernels.unpack.torch import gather_codes, unpack_bits
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.store.codes import pack_codes
from rapid_inr.store.format import METADATA_KEY, StoreFormatError, read_store, write_store
from rapid_inr.store.sealed import seal
from tests.store.stores import header_in, small_store, with_tensors


@pytest.mark.parametrize("keep", [0, 4, 50, -1])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "a.inr"
    write_store(path, small_store(3))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreFormatError, match="not a whole safetensors file"):
        read_store(path)


def test_any_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.inr"
    write_store(path, small_store(1))
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(StoreFormatError):
            read_store(path)


def test_a_header_that_was_changed_is_noticed_by_its_checksum(tmp_path):
    path = tmp_path / "a.inr"
    write_store(path, small_store(3))
    raw = header_in(path) | {"mean": [0.5, 0.4, 0.2]}
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(raw)})
    with pytest.raises(StoreFormatError, match="checksum of its header"):
        read_store(path)


def test_a_tensor_of_a_type_that_no_store_holds_is_refused(tmp_path):
    write_store(tmp_path / "a.inr", small_store(3))
    tensors, metadata = load_file(tmp_path / "a.inr"), {METADATA_KEY: seal(header_in(tmp_path / "a.inr"))}
    save_file(tensors | {"ends": tensors["ends"].to(torch.float8_e4m3fn)}, tmp_path / "a.inr", metadata)
    with pytest.raises(StoreFormatError, match=r"ends is torch\.float8_e4m3fn"):
        read_store(tmp_path / "a.inr")


def test_an_image_without_pixels_is_refused(tmp_path):
    store = small_store(3, mixed=True)
    for side in (0, 65537):
        sizes = store.sizes.clone()
        sizes[1, 0] = side
        write_store(tmp_path / "a.inr", with_tensors(store, sizes=sizes), overwrite=True)
        with pytest.raises(StoreFormatError, match="a side of no pixels, or of more than 65536"):
            read_store(tmp_path / "a.inr")


def edited(path, change):
    """Write a small store whose header went through `change` and whose tensors are as the header says."""
    write_store(path, small_store(3), overwrite=True)
    raw = header_in(path)
    change(raw)
    save_file(load_file(path), path, {METADATA_KEY: seal(raw)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(version=1), "format version 1"),
        (lambda raw: raw.update(family="wavelet"), "family 'wavelet', this program reads siren, cosine"),
        (lambda raw: raw.update(images=4), "counts 4 images"),
        (lambda raw: raw.pop("spec"), "contradicts itself"),
        (lambda raw: raw["spec"].update(hidden=6), "ends has shape"),
        (lambda raw: raw["quantize"].update(bits=5), "codes has shape"),
        (lambda raw: raw["quantize"].update(granularity="row"), "granularity is 'row'"),
        (lambda raw: raw["spec"].update(depth=0), "depth is 0"),
        (lambda raw: raw["spec"].update(width=6), "contradicts itself"),
        (lambda raw: raw["quantize"].update(granularity="dataset"), "scales has shape"),
        (lambda raw: raw["quantize"].update(ends_bits=8), "end_scales is None, expected a tensor"),
        (lambda raw: raw["quantize"].update(ends_bits=32), "ends is torch.float16"),
        (lambda raw: raw["quantize"].update(bits=16), "scales is a tensor, expected None"),
        (lambda raw: raw["quantize"].update(bits=9), "bits is 9"),
        (lambda raw: raw["quantize"].update(rounding="up"), "rounding is 'up'"),
        (lambda raw: raw["quantize"].update(rounding=1), "quantize.rounding is 1, expected str"),
        (lambda raw: raw.update(quantize=None), "contradicts itself"),
        (lambda raw: raw.update(images=3.0), "counts 3.0 images"),
        (lambda raw: raw["spec"].update(depth=2.0), "spec.depth is 2.0, expected int"),
        (lambda raw: raw["spec"].update(omega="15"), "spec.omega is '15', expected float"),
        (lambda raw: raw.update(size=[6]), r"size is \[6\], expected 2 of type int from 1 to 65536"),
        (lambda raw: raw.update(size=[0, 4]), r"size is \[0, 4\], expected 2"),
        (lambda raw: raw.update(size=[8.9, 8.9]), r"size is \[8.9, 8.9\], expected 2"),
        (lambda raw: raw.update(size=[10**12, 10**12]), "size is .*, expected 2"),
        (lambda raw: raw.update(size=[True, True]), "size is .*, expected 2"),
        (lambda raw: raw.update(size=None), "sizes is None, expected a tensor by the header"),
        (lambda raw: raw.update(mean=[1, 2]), r"mean is \[1, 2\], expected 3 of type float from 0 to 1"),
        (lambda raw: raw.update(mean=[math.inf, 0, 0]), "mean is .*, expected 3"),
        (lambda raw: raw.update(mean=[math.nan, 0, 0]), "mean is .*, expected 3"),
        (lambda raw: raw.update(std=[0, 0, 0]), r"std is \[0, 0, 0\], expected 3 of type float from 0.00392 to 1"),
        (lambda raw: raw.update(class_names="abc"), "class_names is 'abc', expected a list of names"),
        (lambda raw: raw.update(class_names=[1, 2, 3]), "class_names is .*, expected a list of names"),
        (lambda raw: raw.update(splits=[["train", 6.5]]), "splits are .*, expected a name and a number"),
        (lambda raw: raw.update(splits=[["train", -1], ["test", 9]]), "splits are"),
        (lambda raw: raw.update(splits="train"), "contradicts itself"),
        (lambda raw: raw.update(class_names=["cat", "dog"]), "outside the 2 classes"),
        (lambda raw: raw.update(splits=[["train", 2]]), "beyond the 2 images"),
        (lambda raw: raw.pop("crc32"), "lacks a checksum"),
        (lambda raw: raw["crc32"].pop("codes"), "lacks a checksum"),
        (lambda raw: raw["crc32"].update(codes=1), "checksum of codes"),
        (lambda raw: raw["spec"].update(depth=10**9), "spec.depth is 1000000000, expected above 0 and at most 256"),
        (lambda raw: raw["spec"].update(hidden=10**9), "spec.hidden is 1000000000, expected"),
        (lambda raw: raw["spec"].update(omega=10**400), "spec.omega is 1000.*, expected"),
        (lambda raw: raw["spec"].update(omega=2**65), "spec.omega is 36893488147419103232, expected"),
        (lambda raw: raw["spec"].update(omega=math.nan), "spec.omega is nan, expected"),
        (
            lambda raw: raw.update(size=[16_000, 16_000]),
            "an image has 256,000,000 pixels, expected at most 90,000,000; max_pixels",
        ),
        (lambda raw: raw.update(splits=[["../../../x", 6]]), "a split is called '../../../x', which is not a plain name"),
        (lambda raw: raw.update(splits=[["/x", 6]]), "a split is called"),
        (lambda raw: raw.update(splits=[["train\n", 6]]), "a split is called"),
        (lambda raw: raw.update(splits=[["", 6]]), "a split is called"),
        (lambda raw: raw.update(splits=[["t" * 300, 6]]), "a split is called"),
        (lambda raw: raw.update(splits=[["train", 3], ["train", 3]]), "two split names are equal"),
        (lambda raw: raw.update(class_names=["a\0", "b", "c"]), "a class is called 'a.x00'"),
        (lambda raw: raw.update(class_names=["\x1b[2J", "b", "c"]), "a class is called"),
        (lambda raw: raw.update(class_names=["a/b", "b", "c"]), "a class is called"),
        (lambda raw: raw.update(class_names=["..", "b", "c"]), "a class is called"),
        (lambda raw: raw.update(class_names=["a" * 300, "b", "c"]), "a class is called"),
        (lambda raw: raw.update(class_names=["a", "a", "c"]), "two class names are equal"),
        (lambda raw: raw.update(skipped=[0.5]), "skipped is .*, expected a list of source ids"),
        (lambda raw: raw.update(family=["x" * 10**6]), "holds INRs of family"),
    ],
)
def test_each_way_for_a_header_to_be_wrong_is_refused(tmp_path, change, message):
    edited(tmp_path / "a.inr", change)
    with pytest.raises(StoreFormatError, match=message) as raised:
        read_store(tmp_path / "a.inr")
    assert str(tmp_path / "a.inr") in str(raised.value)
    assert len(str(raised.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "without the metadata"),
        ({METADATA_KEY: "{"}, "not JSON"),
        ({METADATA_KEY: "[1]"}, "version"),
        ({METADATA_KEY: "[" * 10**6}, "not JSON"),
        ({METADATA_KEY: '{"version": ' + "9" * 5000 + "}"}, "not JSON"),
        ({METADATA_KEY: '{"a": [' + "[1]," * 2_000_000 + "0]}"}, "has a header of 8,0.* characters, expected at most"),
    ],
)
def test_a_safetensors_file_that_is_no_store_is_refused(tmp_path, metadata, message):
    save_file({"codes": torch.zeros(1)}, tmp_path / "a.inr", metadata)
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


WRAPPING = torch.tensor([0, 2**31 - 1, -2], dtype=torch.int32)  # the last difference is 2^31 - 1 in 32 bits


def test_source_ids_must_increase_and_stay_inside_the_splits(tmp_path):
    for ids, message in (
        ([0, 2, 2], "do not increase"),
        ([-1, 0, 1], "do not increase"),
        ([0, 1, 6], "beyond the 6"),
        (WRAPPING, "do not increase"),
    ):
        write_store(tmp_path / "a.inr", with_tensors(small_store(3), source_ids=torch.as_tensor(ids)), overwrite=True)
        with pytest.raises(StoreFormatError, match=message):
            read_store(tmp_path / "a.inr")


@pytest.mark.parametrize("name", ["codes", "ends", "scales", "end_scales"])
def test_weights_that_are_not_finite_are_refused(tmp_path, name):
    configs = {"codes": QuantizeConfig(bits=16), "end_scales": QuantizeConfig(ends_bits=8)}
    store = small_store(3, config=configs.get(name))
    tensor = store.packed[name].clone()
    tensor[1, 2] = torch.nan
    write_store(tmp_path / "a.inr", with_tensors(store, **{name: tensor}))
    with pytest.raises(StoreFormatError, match="not finite"):
        read_store(tmp_path / "a.inr")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"scales": lambda s: s.rows.scales * 0}, "scales has values that are not positive"),
        ({"end_scales": lambda s: -s.rows.end_scales}, "end_scales has values that are not positive"),
        ({"ends": lambda s: torch.full_like(s.rows.ends, -128)}, "ends has a code of -128"),
    ],
)
def test_scales_and_codes_that_the_format_forbids_are_refused(tmp_path, tensors, message):
    store = small_store(3, config=QuantizeConfig(ends_bits=8))
    write_store(tmp_path / "a.inr", with_tensors(store, **{name: make(store) for name, make in tensors.items()}))
    with pytest.raises(StoreFormatError, match=message):
        read_store(tmp_path / "a.inr")


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("masked", [False, True])
def test_the_one_code_that_is_never_written_is_refused(tmp_path, bits, masked):
    store = small_store(1200, config=QuantizeConfig(bits), masks=masked)
    codes = gather_codes(
        store.rows.codes, torch.arange(1200), bits=bits, n_codes=25, masks=store.rows.masks, starts=store.starts
    ).clone()  # fmt: skip
    kept = None if store.rows.masks is None else unpack_bits(store.rows.masks, 1, 25).bool()
    place = 0 if kept is None else int(kept[1100].nonzero()[0])
    codes[1100, place] = -(2 ** (bits - 1))
    write_store(tmp_path / "a.inr", with_tensors(store, codes=pack_codes(codes, bits, kept)))
    with pytest.raises(StoreFormatError, match=f"a code is {-(2 ** (bits - 1))}, expected"):
        read_store(tmp_path / "a.inr")
    codes[1100, place] += 1
    write_store(tmp_path / "a.inr", with_tensors(store, codes=pack_codes(codes, bits, kept)), overwrite=True)
    assert torch.equal(read_store(tmp_path / "a.inr").rows.codes, pack_codes(codes, bits, kept))


def test_an_image_of_many_pixels_is_read_where_that_is_allowed(tmp_path):
    edited(tmp_path / "a.inr", lambda raw: raw.update(size=[16_000, 16_000]))
    assert read_store(tmp_path / "a.inr", max_pixels=16_000**2).header.size == (16_000, 16_000)


def test_a_mask_with_bits_behind_its_last_weight_is_refused(tmp_path):
    store = small_store(3, masks=True)
    masks, first = store.rows.masks.clone(), int(store.starts[1])
    masks[0, -1] |= 128  # 25 weights take 4 bytes, of which the last uses one bit
    codes = torch.cat([store.rows.codes[:first], store.rows.codes[:1], store.rows.codes[first:]])  # one more, as the mask says
    write_store(tmp_path / "a.inr", with_tensors(store, masks=masks, codes=codes))
    with pytest.raises(StoreFormatError, match="behind its last weight"):
        read_store(tmp_path / "a.inr")
