"""JPEG files held in the host's memory and decoded in batches on the GPU by nvJPEG, through torchvision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from rapid_inr.data.source import CorruptImage
from rapid_inr.pipelines.batches import PipelineUnavailable
from rapid_inr.pipelines.dataloader import Faults, fail_on, read_rgb
from rapid_inr.pipelines.pipeline import BatchPipeline, Ids, Streamed, normalizer
from rapid_inr.warp import Geometry


def require_nvjpeg(device: torch.device) -> None:
    """Raise PipelineUnavailable unless there is a GPU and torchvision."""
    if device.type != "cuda":
        raise PipelineUnavailable(f"pipeline=nvjpeg decodes on a CUDA GPU, this is device={device}")
    if find_spec("torchvision") is None:
        raise PipelineUnavailable("pipeline=nvjpeg needs torchvision in its CUDA build: pip install torchvision")


def nvjpeg_pipeline(
    paths: Sequence[Path],
    labels: Tensor,
    *,
    image_size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device | str,
    on_faults: Faults = fail_on,
    dtype: torch.dtype = torch.float32,
    **options,
) -> BatchPipeline:
    """Read all files into the host's memory, and decode each batch of them on the GPU.

    Args:
        paths: of N JPEG files of one size.
        on_faults: called with what was wrong with the files of a batch; where it returns, the batch goes without them.
        options: of `BatchPipeline`, `batch_size` at least.

    Raises:
        PipelineUnavailable: without a GPU or torchvision.
        CorruptImage: if a file is not there.
        ValueError: if a file is no JPEG; as `BatchPipeline`.
    """
    device = torch.device(device)
    require_nvjpeg(device)
    files = [_bytes_of(path) for path in paths]
    mean, std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    normalize = normalizer(mean, std, dtype)

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for ids in batches:
            kept = None
            try:
                images = _decode([files[i] for i in ids.host.tolist()], device)
            except RuntimeError:  # of the whole batch; which image it was has to be found out
                kept = _readable(ids.host, paths, image_size, on_faults)
                images = _decode([files[i] for i in ids.host[kept].tolist()], device)
            there = ids.device if kept is None else ids.device[kept.to(device)]
            yield Streamed(geometry.apply(normalize(images), there), kept)

    host_bytes = sum(file.nbytes for file in files)
    return BatchPipeline(
        stream, labels.to(device), image_size=image_size, mean=mean, std=std, host_bytes=host_bytes, **options
    )  # fmt: skip


def _bytes_of(path: Path) -> Tensor:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptImage(f"{path}: cannot be read ({error})") from error
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"{path} is no JPEG, which is all that pipeline=nvjpeg decodes; export with format=jpeg")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _decode(files: list[Tensor], device: torch.device) -> Tensor:
    """Return the images of files, uint8 [B, height, width, 3].

    Raises:
        RuntimeError: if one of them cannot be decoded, or they differ in size.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    if not files:
        raise CorruptImage("no image of a batch could be decoded")
    return torch.stack(decode_jpeg(files, mode=ImageReadMode.RGB, device=device)).permute(0, 2, 3, 1)


def _readable(ids: Tensor, paths: Sequence[Path], image_size: tuple[int, int], on_faults: Faults) -> Tensor:
    """Return which images of a batch Pillow can read; the others are faults."""
    readable, faults = [], []
    for position, image_id in enumerate(ids.tolist()):
        try:
            read_rgb(paths[image_id], image_size)
            readable.append(position)
        except CorruptImage as error:
            faults.append(str(error))
    if not faults:
        raise CorruptImage(f"nvJPEG cannot decode a file of the batch that begins with {paths[int(ids[0])]}, which Pillow can")
    on_faults(faults)
    return torch.tensor(readable, dtype=torch.int64)
