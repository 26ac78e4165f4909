from importlib.util import find_spec

import pytest
import torch

from rapid_inr.pipelines import nvjpeg
from rapid_inr.pipelines.batches import PipelineUnavailable
from rapid_inr.pipelines.dataloader import FileImages, loader_pipeline
from tests.pipelines.exports import small_export


def test_without_a_gpu_or_torchvision_it_says_what_is_missing(monkeypatch):
    with pytest.raises(PipelineUnavailable, match="pipeline=nvjpeg decodes on a CUDA GPU, but device is cpu"):
        nvjpeg.require_nvjpeg(torch.device("cpu"))
    monkeypatch.setattr(nvjpeg, "find_spec", lambda name: None)
    with pytest.raises(PipelineUnavailable, match="pipeline=nvjpeg needs torchvision"):
        nvjpeg.require_nvjpeg(torch.device("cuda"))


def test_an_image_that_is_no_jpeg_is_refused_at_once(tmp_path):
    export = small_export(tmp_path / "a")
    with pytest.raises(ValueError, match=r"\.png is not a JPEG, the only format of pipeline=nvjpeg"):
        nvjpeg._bytes_of(export.paths("train")[0], export.size)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or find_spec("torchvision") is None, reason="needs a CUDA GPU and torchvision")
def test_batches_are_those_of_pillow_but_for_the_decoders_roundings(tmp_path):
    export = small_export(tmp_path / "a", format="jpeg")
    labels = torch.tensor(export.splits["train"].labels)
    common = {
        "image_size": export.size, "mean": export.mean, "std": export.std, "device": "cuda", "seed": 0, "batch_size": 8,
    }  # fmt: skip
    reference = loader_pipeline(FileImages(export.paths("train"), export.size), labels, workers=0, **common)
    pipeline = nvjpeg.nvjpeg_pipeline(export.paths("train"), labels, **common)
    for batch, expected in zip(pipeline.epoch(0), reference.epoch(0), strict=True):
        assert torch.equal(batch.ids, expected.ids)
        assert (batch.images - expected.images).abs().mean() * 255 * max(export.std) < 2
