"""The pipeline `nvjpeg`: JPEG files in the host's memory, decoded in batches on the GPU through torchvision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from rapid_inr.augment.warp import Geometry
from rapid_inr.data.source import CorruptImage
from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline, Ids, pixel_pipeline
from rapid_inr.pipelines.batches import PipelineUnavailable
from rapid_inr.pipelines.dataloader import OnFaults, fail_on, read_sized, readable_files


def require_nvjpeg(device: torch.device) -> None:
    """Raise PipelineUnavailable unless the device is a GPU and torchvision is installed."""
    if device.type != "cuda":
        raise PipelineUnavailable(f"pipeline=nvjpeg decodes on a CUDA GPU, but device is {device}; set device=cuda")
    if find_spec("torchvision") is None:
        raise PipelineUnavailable("pipeline=nvjpeg needs torchvision in its CUDA build: pip install torchvision")


def nvjpeg_pipeline(
    paths: Sequence[Path],
    labels: Tensor,
    *,
    image_size: tuple[int, int],
    device: torch.device | str,
    on_faults: OnFaults = fail_on,
    **options,
) -> BatchPipeline:
    """Make a pipeline that reads all files into the host's memory and decodes each batch on the GPU.

    Args:
        paths: of N JPEG files of one size.
        on_faults: called with the messages on unreadable files of a batch; if it returns, the batch leaves them out.
        options: of `pixel_pipeline`.

    Raises:
        PipelineUnavailable: without a GPU or torchvision.
        ValueError: if a file is an image but not a JPEG; as `BatchPipeline`.
    """
    device = torch.device(device)
    require_nvjpeg(device)
    reader = _Reader(list(paths), image_size, device, on_faults)

    def read(batches: Sequence[Ids], _: Geometry) -> Iterator[tuple[Tensor, Tensor]]:
        return (reader.read(ids.host) for ids in batches)

    return pixel_pipeline(read, labels, image_size=image_size, device=device, host_bytes=reader.n_bytes, **options)


class _Reader:
    """Holds the bytes of all files and decodes batches of them; a faulty file is reported in its batch."""

    def __init__(self, paths: list[Path], image_size: tuple[int, int], device: torch.device, on_faults: OnFaults) -> None:
        self._paths, self._image_size, self._device, self._on_faults = paths, image_size, device, on_faults
        self._files = [_bytes_of(path, image_size) for path in paths]  # the bytes, or what is wrong
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def n_bytes(self) -> int:
        return sum(file.nbytes for file in self._files if isinstance(file, Tensor))

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decodable images, uint8 [b, height, width, 3], and their positions in `ids`."""
        files = [self._files[i] for i in ids.tolist()]
        self._on_faults([file for file in files if isinstance(file, str)])
        kept = torch.tensor([i for i, file in enumerate(files) if isinstance(file, Tensor)], dtype=torch.int64)
        while len(kept):
            try:
                return self._decode([files[i] for i in kept.tolist()]), kept
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # it does not name the file
                paths = [self._paths[i] for i in ids[kept].tolist()]
                readable, faults = readable_files(paths, self._image_size, library="nvJPEG", error=error)
                self._on_faults(faults)
                kept = kept[readable]
        return torch.empty((0, *self._image_size, 3), dtype=torch.uint8, device=self._device), kept

    def _decode(self, files: list[Tensor]) -> Tensor:
        """Return the images of files, uint8 [B, height, width, 3].

        Torchvision decodes on an internal stream that waits for no other, into memory of the current stream. So the current
        stream here is always idle; else the decode could overwrite memory that a pending copy still reads.

        Raises:
            RuntimeError: if one of them cannot be decoded or has another size.
        """
        with torch.cuda.stream(self._stream):
            images = _decode_jpegs(files, self._device)
            if any(tuple(image.shape[1:]) != self._image_size for image in images):
                raise RuntimeError(f"an image is not of size {self._image_size}")
            stacked = torch.stack(images)
        if self._stream is not None:
            self._stream.synchronize()
            stacked.record_stream(torch.cuda.current_stream(self._device))
        return stacked.permute(0, 2, 3, 1)


def _bytes_of(path: Path, image_size: tuple[int, int]) -> Tensor | str:
    """Return the bytes of a JPEG file, or what is wrong with it.

    Raises:
        ValueError: if it is an image in another format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"{path}: cannot be read ({error})"
    if data[:2] == b"\xff\xd8":
        return torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        read_sized(path, image_size)
    except CorruptImage as error:
        return str(error)
    raise UserError(f"{path} is not a JPEG, the only format of pipeline=nvjpeg; export with format=jpeg")


def _decode_jpegs(files: list[Tensor], device: torch.device) -> list[Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg

    return decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
