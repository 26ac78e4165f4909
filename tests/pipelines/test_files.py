"""What all pipelines that read files share, each beside the raw images on the device."""

import io
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.training.inputs import Faults
from rapid_inr.augment.policy import AugmentConfig, sample_params
from rapid_inr.augment.warp import crop_and_flip
from rapid_inr.data.export import Export
from rapid_inr.data.pixels import read_image
from rapid_inr.data.source import CorruptImage
from rapid_inr.pipelines import dali, nvjpeg
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import DecoderFailed, PipelineUnavailable
from rapid_inr.pipelines.dali import dali_pipeline
from rapid_inr.pipelines.dataloader import FileImages, loader_pipeline
from rapid_inr.pipelines.resident import resident_pipeline
from tests.pipelines.exports import SIZE, N, small_export
from tests.tolerances import WARP_WHOLE_PIXELS

has_dali = find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None
DALI = pytest.param("dali", marks=pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed"))
ANY = pytest.mark.parametrize("reader", ["dataloader", "nvjpeg", DALI])
MOVES = {
    "none": None,
    "crop_flip": AugmentConfig(crop_padding=4, padding="zeros"),
    "turn": AugmentConfig(crop_padding=2, rotation_degrees=20, brightness=0.2, mix="cutmix"),
    "resized_crop": AugmentConfig(crop_padding=0, scale=(0.2, 1.0)),
}


@pytest.fixture(scope="module")
def pngs(tmp_path_factory) -> Export:
    return small_export(tmp_path_factory.mktemp("png") / "a")


@pytest.fixture
def jpegs(tmp_path) -> Export:
    return small_export(tmp_path / "jpeg", format="jpeg")


@pytest.fixture(autouse=True)
def pillow_for_nvjpeg(monkeypatch):
    """Let the pipeline of nvJPEG run here: Pillow decodes, and fails on a whole batch without naming a file, as nvJPEG does."""

    def decode(data: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
        try:
            pictures = [Image.open(io.BytesIO(file.numpy().tobytes())).convert("RGB") for file in data]
        except Exception:
            raise RuntimeError("decode_jpegs_cuda: error in nvjpegDecodeBatched") from None
        return [torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(device) for picture in pictures]

    monkeypatch.setattr(nvjpeg, "require_nvjpeg", lambda device: None)
    monkeypatch.setattr(nvjpeg, "_decode_jpegs", decode)


def files(reader: str, export: Export, **options) -> BatchPipeline:
    labels = torch.tensor(export.splits["train"].labels)
    common = {"image_size": export.size, "mean": export.mean, "std": export.std, "device": "cpu", "seed": 0, "batch_size": 8}
    common |= options
    if reader == "nvjpeg":
        return nvjpeg.nvjpeg_pipeline(export.paths("train"), labels, **common)
    if reader == "dali":
        return dali_pipeline(export.paths("train"), labels, threads=2, **common)
    return loader_pipeline(FileImages(export.paths("train"), export.size), labels, workers=common.pop("workers", 1), **common)


def raw(export: Export, **options) -> BatchPipeline:
    images = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in export.paths("train")]))
    labels = torch.tensor(export.splits["train"].labels)
    options = {"seed": 0, "batch_size": 8} | options
    return resident_pipeline(images, labels, mean=export.mean, std=export.std, device="cpu", **options)


def by_id(pipeline: BatchPipeline) -> dict[int, torch.Tensor]:
    return {i: image for batch in pipeline.epoch(0) for i, image in zip(batch.ids.tolist(), batch.images, strict=True)}


@pytest.fixture
def exact(reader, request) -> Export:
    """Files of the kind that a reader decodes to the same bytes as Pillow does."""
    return request.getfixturevalue("jpegs" if reader == "nvjpeg" else "pngs")


@ANY
@pytest.mark.parametrize("moves", MOVES)
def test_an_image_is_augmented_as_it_is_from_raw(reader, moves, exact):
    pipeline, reference = files(reader, exact, augment=MOVES[moves]), raw(exact, augment=MOVES[moves])
    for epoch in (0, 1):
        for batch, expected in zip(pipeline.epoch(epoch), reference.epoch(epoch), strict=True):
            assert torch.equal(batch.ids, expected.ids)
            assert torch.equal(batch.labels, expected.labels)
            if reader == "dali" and moves == "resized_crop":  # its crop does not see the pixels beside it
                inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
                torch.testing.assert_close(batch.images[inside], expected.images[inside], atol=WARP_WHOLE_PIXELS, rtol=0)
            else:
                assert torch.equal(batch.images, expected.images)
            assert (batch.keeps is None) == (expected.keeps is None)


@ANY
def test_a_jpeg_is_what_pillow_decodes(reader, jpegs):
    for batch, expected in zip(files(reader, jpegs).epoch(0), raw(jpegs).epoch(0), strict=True):
        levels = (batch.images - expected.images).abs().permute(0, 2, 3, 1) * torch.tensor(jpegs.std) * 255
        assert levels.max() < 1.01  # both decode by libjpeg-turbo; a level is left to versions that round otherwise


@ANY
def test_an_epoch_left_early_and_one_begun_late_are_as_if_whole(reader, exact):
    pipeline, whole = files(reader, exact), [batch.images for batch in raw(exact).epoch(5)]
    for _ in range(2):
        first = next(iter(pipeline.epoch(5)))
        assert torch.equal(first.images, whole[0])
    epoch, start = pipeline.place_of(raw(exact).state_dict(epoch=5, batch=1))
    for batch, expected in zip(pipeline.epoch(epoch, start=start), whole[1:], strict=True):
        assert torch.equal(batch.images, expected)


@ANY
@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no picture", "half"])
def test_a_corrupt_file_is_named_in_mid_epoch(reader, content, jpegs):
    path = jpegs.paths("train")[17]
    path.write_bytes(path.read_bytes()[:300] if content == "half" else content)
    pipeline = files(reader, jpegs)
    with pytest.raises(CorruptImage, match=rf"{path.name}: cannot be read"):
        list(pipeline.epoch(0))
    with pytest.raises(CorruptImage, match=rf"{path.name}: cannot be read"):  # and again: nothing hangs, nothing is forgotten
        list(pipeline.epoch(0))


@ANY
@pytest.mark.parametrize("augment", [None, MOVES["resized_crop"]])
def test_corrupt_files_can_be_left_out(reader, augment, jpegs):
    expected = {
        i: image
        for batch in raw(jpegs, augment=augment).epoch(0)
        for i, image in zip(batch.ids.tolist(), batch.images, strict=True)
    }
    corrupt = {3: b"", 17: b"\xff\xd8\xff\xe0 no picture", 18: None}
    for i, content in corrupt.items():
        path = jpegs.paths("train")[i]
        path.unlink() if content is None else path.write_bytes(content)
    faults = Faults("skip")
    batches = list(files(reader, jpegs, augment=augment, on_faults=faults).epoch(0))
    seen = [i for batch in batches for i in batch.ids.tolist()]
    assert seen == [i for i in expected if i not in corrupt]
    assert len(faults.messages) == len(corrupt.keys() & expected.keys())
    for batch in batches:
        for i, image in zip(batch.ids.tolist(), batch.images, strict=True):
            assert (image - expected[i]).abs()[:, 4:-4, 4:-4].max() < 0.05


@ANY
def test_a_batch_of_corrupt_files_alone_is_left_out(reader, jpegs):
    order = next(iter(raw(jpegs).epoch(0))).ids.tolist()
    for i in order:
        jpegs.paths("train")[i].write_bytes(b"")
    batches = list(files(reader, jpegs, on_faults=Faults("skip")).epoch(0))
    assert len(batches) == N // 8 - 1
    assert not {i for batch in batches for i in batch.ids.tolist()} & set(order)


@ANY
@pytest.mark.parametrize("moves", ["none", "resized_crop"])
@pytest.mark.parametrize("size", [(10, 20), (2 * SIZE[0], 2 * SIZE[1])])
def test_a_file_of_another_size_is_named(reader, moves, size, jpegs):
    path = jpegs.paths("train")[9]
    Image.new("RGB", size[::-1]).save(path)
    with pytest.raises(CorruptImage, match=rf"{path.name}: is {size[0]}x{size[1]}, expected {SIZE[0]}x{SIZE[1]}"):
        list(files(reader, jpegs, batch_size=N, augment=MOVES[moves]).epoch(0))


@pytest.mark.parametrize("reader", ["dataloader", DALI])
def test_an_epoch_after_one_that_failed_has_its_own_images(reader, pngs):
    pipeline, whole = files(reader, pngs, batch_size=4), list(raw(pngs, batch_size=4).epoch(0))
    path = pngs.paths("train")[int(whole[4].ids[0])]
    content = path.read_bytes()
    try:
        path.write_bytes(b"")
        with pytest.raises(CorruptImage):
            list(pipeline.epoch(0))
    finally:
        path.write_bytes(content)
    for batch, expected in zip(pipeline.epoch(0), whole, strict=True):
        assert torch.equal(batch.ids, expected.ids)
        assert torch.equal(batch.images, expected.images)


@pytest.mark.parametrize("reader", ["nvjpeg", DALI])
def test_an_error_that_is_not_the_files_is_told_in_the_librarys_words(reader, jpegs, monkeypatch):
    def fail(*ignored):
        raise RuntimeError("the driver has gone")

    owner, name = (nvjpeg, "_decode_jpegs") if reader == "nvjpeg" else (dali._Graph, "_copied")
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(DecoderFailed, match=r"but Pillow can read them all; .* says: the driver has gone") as caught:
        list(files(reader, jpegs).epoch(0))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("reader", ["nvjpeg", DALI])
def test_a_memory_that_is_too_small_is_no_fault_of_the_files(reader, jpegs, monkeypatch):
    def fail(*ignored):
        raise torch.OutOfMemoryError("CUDA out of memory")

    owner, name = (nvjpeg, "_decode_jpegs") if reader == "nvjpeg" else (dali._Graph, "_copied")
    monkeypatch.setattr(owner, name, fail)
    jpegs.paths("train")[3].write_bytes(b"\xff\xd8")
    with pytest.raises(torch.OutOfMemoryError):
        list(files(reader, jpegs, on_faults=Faults("skip")).epoch(0))


def test_reading_in_this_process_is_the_same(pngs):
    for batch, expected in zip(files("dataloader", pngs, workers=0).epoch(0), raw(pngs).epoch(0), strict=True):
        assert torch.equal(batch.images, expected.images)
    with pytest.raises(ValueError, match="workers is -1"):
        files("dataloader", pngs, workers=-1)


def test_a_loader_leaves_the_global_random_state_alone(pngs):
    pipeline, before = files("dataloader", pngs), torch.get_rng_state()
    list(pipeline.epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed")
def test_dali_as_published_has_one_draw_for_a_batch(pngs):
    augment = AugmentConfig(crop_padding=4)
    params = sample_params(N, augment, seed=3, epoch=0, image_size=SIZE)
    clean, black = by_id(raw(pngs, seed=3, batch_size=10)), -torch.tensor(pngs.mean) / torch.tensor(pngs.std)
    for batch in files("dali", pngs, augment=augment, recipe="published", seed=3, batch_size=10).epoch(0):
        first = params[batch.ids[:1].expand(10)]
        images = torch.stack([clean[i] for i in batch.ids.tolist()])
        expected = crop_and_flip(images, first.shifts, first.flips, padding="reflection", black=black)
        assert torch.equal(batch.images, expected)


@pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed")
def test_a_dali_that_does_not_start_is_unavailable_in_its_own_words(pngs, monkeypatch):
    def fail(self):
        raise RuntimeError("libnvimgcodec was not found")

    monkeypatch.setattr("nvidia.dali.pipeline.Pipeline.build", fail)
    with pytest.raises(PipelineUnavailable, match="pipeline=dali does not start here; DALI says: libnvimgcodec was not found"):
        list(files("dali", pngs).epoch(0))


@pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed")
def test_dali_builds_a_graph_once_for_training_and_once_for_what_is_judged(pngs, monkeypatch):
    built, real = [], dali._Graph
    monkeypatch.setattr(dali, "_Graph", lambda **options: built.append(options["size"]) or real(**options))
    training = files("dali", pngs, augment=MOVES["resized_crop"])
    judged = replace(training, augment=None, seed=None)
    for epoch in range(3):
        list(training.epoch(epoch))
        list(judged.epoch(0))
    assert built == [SIZE, None]


@pytest.mark.skipif(not has_dali, reason="nvidia-dali-cuda130 is not installed")
def test_dali_refuses_what_it_could_not_do(pngs):
    for options in ({"prefetch": 0}, {"recipe": "best"}):
        with pytest.raises(ValueError, match="threads 2, prefetch"):
            files("dali", pngs, **options)


def test_a_16_bit_or_turned_file_is_read_as_encode_reads_it(tmp_path):
    grey = np.linspace(0, 65535, 6 * 4).astype(np.uint16).reshape(6, 4)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray((grey.T // 256).astype(np.uint8)).save(tmp_path / "turned.png", exif=exif)
    paths = [tmp_path / "grey.png", tmp_path / "turned.png"]
    images, _, faults = FileImages(paths, (6, 4))[[0, 1]]
    assert not faults
    for image, path in zip(images, paths, strict=True):
        assert np.array_equal(image.numpy(), read_image(path))
    assert images[0].unique().numel() > 20


@pytest.mark.parametrize("n_bytes", [0, 20, 300])
def test_a_jpeg_that_is_cut_in_its_header_never_reaches_dali(tmp_path, n_bytes):
    whole = io.BytesIO()
    Image.new("RGB", (12, 12)).save(whole, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole.getvalue()[:n_bytes])
    options = {"device": torch.device("cpu"), "threads": 1, "depth": 1, "max_batch": 4, "may_fuse": True}
    faults = []
    reader = dali._Reader([path], image_size=(12, 12), on_faults=faults.extend, **options)
    files, positions = reader._read(torch.tensor([0]), torch.tensor([0]))
    assert (files, len(positions)) == ([], 0)
    assert f"{path}: cannot be read as an image" in faults[0]
