"""The pipeline `dali`: image files read here, then decoded by NVIDIA DALI: by its CPU threads or, on a GPU, by nvJPEG."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rapid_inr.augment.warp import Geometry
from rapid_inr.errors import UserError
from rapid_inr.pipelines.base import BatchPipeline, Ids, pixel_pipeline
from rapid_inr.pipelines.batches import DecoderFailed, PipelineUnavailable
from rapid_inr.pipelines.dataloader import OnFaults, fail_on, readable_files, wrong_size

RECIPES = ("tuned", "published")
Moves = tuple[np.ndarray, np.ndarray]  # boxes int32 [N, 4] and flips int32 [N] of all images, on the host
PUBLISHED_BATCH = 64  # images decoded at once in the paper's repository


def require_dali() -> None:
    """Raise PipelineUnavailable if DALI is not installed."""
    if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
        raise PipelineUnavailable("pipeline=dali needs NVIDIA DALI: pip install nvidia-dali-cuda130 (199 MB), or '.[dali]'")


class _Graph:
    """A DALI pipeline that takes the files of one batch after another, `depth` batches ahead, and returns their images in order.

    Args:
        size: (height, width) of the results if images are cropped and resized, which decodes only the crop; None to decode
            whole images.
    """

    def __init__(self, *, device: torch.device, max_batch: int, threads: int, depth: int, size: tuple[int, int] | None) -> None:
        from nvidia.dali import fn, pipeline_def, types

        on_gpu = device.type == "cuda"
        decoder = {"device": "mixed" if on_gpu else "cpu", "output_type": types.RGB, "jpeg_fancy_upsampling": True}
        self._asked: Iterator[tuple] = iter(())
        names = ["encoded"] if size is None else ["encoded", "anchor", "shape", "flip"]
        kinds = [types.UINT8, *[types.INT32] * (len(names) - 1)]

        @pipeline_def(
            batch_size=max_batch, num_threads=threads, prefetch_queue_depth=depth,
            device_id=(device.index or 0) if on_gpu else None,
        )  # fmt: skip
        def graph():
            ndims = [1, 1, 1, 0][: len(names)]
            encoded, *moves = fn.external_source(
                source=lambda: next(self._asked), num_outputs=len(names), dtype=kinds, ndim=ndims, batch=True
            )
            if size is None:
                return fn.decoders.image(encoded, **decoder)
            anchors, shapes, flips = moves
            images = fn.decoders.image_slice(encoded, anchors, shapes, axis_names="HW", **decoder)
            images = fn.resize(images, size=list(size), interp_type=types.INTERP_LINEAR, dtype=types.FLOAT)
            return fn.flip(images, horizontal=flips)

        self._device = device
        try:
            self._pipeline = graph()
            self._pipeline.build()
        except RuntimeError as error:
            raise PipelineUnavailable(f"pipeline=dali does not start here; DALI says: {error}") from error

    def images(self, asked: Iterator[tuple]) -> Iterator[Tensor]:
        """Yield the images of each batch of `asked`, [b, height, width, 3], copied because DALI reuses its memory.

        Raises:
            RuntimeError: if an image could not be decoded, or images differ in size; DALI does not say which. The graph is then
                unusable.
        """
        self._asked = asked
        try:
            while True:
                try:
                    (images,) = self._run()
                except StopIteration:
                    break
                yield self._copied(images)
        except GeneratorExit:
            self._drain()
            raise
        self._pipeline.reset()

    def _run(self) -> tuple:
        if self._device.type == "cuda":
            return self._pipeline.run(torch.cuda.current_stream(self._device))  # this stream waits for the images, not the host
        return self._pipeline.run()

    def _copied(self, images) -> Tensor:
        if self._device.type == "cuda":
            return torch.from_dlpack(images.as_tensor()).clone()
        return torch.from_numpy(np.array(images.as_array()))

    def _drain(self) -> None:
        """Take the prefetched batches of an epoch that ended early, so that the graph can begin another."""
        self._asked = iter(())
        try:
            while True:
                self._run()
        except StopIteration:
            self._pipeline.reset()


def dali_pipeline(
    paths: Sequence[Path],
    labels: Tensor,
    *,
    image_size: tuple[int, int],
    device: torch.device | str,
    threads: int,
    prefetch: int = 2,
    recipe: str = "tuned",
    on_faults: OnFaults = fail_on,
    **options,
) -> BatchPipeline:
    """Make a pipeline in which DALI decodes image files.

    DALI also does random resized crops without rotation, by our parameters; all other augmentation is tensor code on the device.

    Args:
        paths: of N image files of one size.
        threads: of DALI, at least 1.
        prefetch: batches that DALI decodes ahead, at least 1.
        recipe: ``tuned``, or ``published`` for the paper's repository: one crop and one flip for all images of a batch, whole
            images decoded at most 64 at once, and no prefetch inside DALI; a GPU still makes the next batch in the meantime.
        on_faults: called with the messages on unreadable files of a batch; if it returns, the batch leaves them out.
        options: of `pixel_pipeline`.

    Raises:
        PipelineUnavailable: if DALI is not installed.
        ValueError: if an argument is out of range; as `BatchPipeline`.
    """
    require_dali()
    if threads < 1 or prefetch < 1 or recipe not in RECIPES:
        raise UserError(
            f"threads {threads}, prefetch {prefetch}, recipe {recipe!r}: expected at least 1, 1, and one of {RECIPES}"
        )
    device = torch.device(device)
    published = recipe == "published"
    reader = _Reader(
        list(paths), image_size=image_size, device=device, threads=threads, depth=1 if published else prefetch,
        max_batch=min(options["batch_size"], PUBLISHED_BATCH) if published else options["batch_size"],
        may_fuse=not published, on_faults=on_faults,
    )  # fmt: skip

    def move(geometry: Geometry, images: Tensor, ids: Tensor) -> Tensor:
        if reader.fuses(geometry):
            return images  # DALI has moved them
        return geometry.apply(images, ids[:1].expand(len(ids)) if published else ids)

    return pixel_pipeline(reader.batches, labels, image_size=image_size, device=device, move=move, **options)


class _Reader:
    """Reads files and passes them to a graph batch by batch; a batch leaves out files that cannot be decoded."""

    def __init__(
        self, paths: list[Path], *, image_size: tuple[int, int], device: torch.device, threads: int, depth: int, max_batch: int,
        may_fuse: bool, on_faults: OnFaults,
    ) -> None:  # fmt: skip
        self._paths, self._image_size, self._may_fuse, self._on_faults = paths, image_size, may_fuse, on_faults
        self._options = {"device": device, "threads": threads, "depth": depth, "max_batch": max_batch}
        self._graphs: dict[bool, tuple[tuple[int, int] | None, _Graph]] = {}  # whether it resizes -> its size, the graph
        self._checked: set[int] = set()  # files with a good header

    def fuses(self, geometry: Geometry) -> bool:
        params = geometry.params
        return self._may_fuse and params is not None and params.boxes is not None and params.angles is None

    def batches(self, batches: Sequence[Ids], geometry: Geometry) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the images of each batch, and their positions in it if some are left out; large batches are decoded in parts."""
        parts = [part for ids in batches for part in ids.host.split(self._options["max_batch"])]
        moves = None
        if self.fuses(geometry):  # for all images at once: a copy in every batch would wait for the device
            moves = tuple(params.cpu().int().numpy() for params in (geometry.params.boxes, geometry.params.flips))
        decoded = self._parts(parts, moves, size=geometry.image_size if moves is None else geometry.size)
        for count in map(len, batches):
            images, kept, first = [], [], 0
            while first < count:
                part, positions, asked = next(decoded)
                images.append(part)
                kept.append(positions + first)
                first += asked
            whole = sum(map(len, kept)) == count
            yield torch.cat(images) if len(images) > 1 else images[0], None if whole else torch.cat(kept)

    def _parts(self, parts: list[Tensor], moves: Moves | None, *, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield the images of each part, their positions in it, and the size of the part."""
        good: list[Tensor] = [torch.arange(len(part)) for part in parts]
        nothing = torch.empty((0, *size, 3), dtype=torch.uint8, device=self._options["device"])
        done = 0
        while done < len(parts):
            asked: deque[int] = deque()  # the parts that DALI has been given
            decoded = self._graph_of(None if moves is None else size).images(self._files(parts, good, asked, moves, done))
            try:
                while done < len(parts):
                    images = next(decoded, None)
                    while done < len(parts) and (images is None or asked[0] != done):  # no file of that part could be read
                        yield nothing, good[done], len(parts[done])
                        done += 1
                    if images is not None:
                        asked.popleft()
                        yield images, good[done], len(parts[done])
                        done += 1
            except RuntimeError as error:
                self._graphs.clear()  # a failed graph is unusable
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                if not asked:  # no file can be the cause
                    raise DecoderFailed(f"DALI failed before it had read a file; it says: {error}") from error
                done = asked[0]
                good[done] = self._readable(parts[done], good[done], error)
            except Exception:  # such as `on_faults` raising: the graph still holds images of this epoch
                self._graphs.clear()
                raise

    def _graph_of(self, size: tuple[int, int] | None) -> _Graph:
        """Return the graph that crops and resizes to a size, or with None decodes whole images; the last of each is kept."""
        resizes = size is not None
        if resizes not in self._graphs or self._graphs[resizes][0] != size:
            self._graphs.pop(resizes, None)  # free the old graph before the new one is built
            self._graphs[resizes] = size, _Graph(size=size, **self._options)
        return self._graphs[resizes][1]

    def _files(
        self, parts: list[Tensor], good: list[Tensor], asked: deque[int], moves: Moves | None, first: int
    ) -> Iterator[tuple]:
        """Yield the inputs of a graph for each part with a readable file, and append the part's number to `asked`."""
        for number in range(first, len(parts)):
            part = parts[number]
            files, good[number] = self._read(part, good[number])
            if not files:
                continue
            asked.append(number)
            if moves is None:
                yield (files,)
                continue
            boxes, flips = (params[part[good[number]].numpy()] for params in moves)
            yield files, list(boxes[:, :2]), list(boxes[:, 2:]), list(flips)

    def _read(self, part: Tensor, positions: Tensor) -> tuple[list[np.ndarray], Tensor]:
        """Return the bytes of a part's readable files and their positions; report the others to `on_faults`."""
        files, readable, faults = [], [], []
        for position in positions.tolist():
            path = self._paths[int(part[position])]
            try:
                file = np.fromfile(path, dtype=np.uint8)
            except OSError as error:
                faults.append(f"{path}: cannot be read ({error})")
                continue
            if (fault := self._header_fault(int(part[position]), file)) is not None:
                faults.append(fault)
                continue
            files.append(file)
            readable.append(position)
        self._on_faults(faults)
        return files, torch.tensor(readable, dtype=torch.int64)

    def _header_fault(self, image_id: int, file: np.ndarray) -> str | None:
        """Return what is wrong with the header of a file, or None; each file is checked once.

        DALI crashes on a JPEG with a truncated header, and a resized crop would hide a wrong size.
        """
        if image_id in self._checked:
            return None
        path = self._paths[image_id]
        try:
            with Image.open(io.BytesIO(file)) as image:  # reads the header alone
                size = image.height, image.width
        except Exception as error:  # on malformed bytes Pillow raises OSError, SyntaxError, struct.error, ...
            return f"{path}: cannot be read as an image ({type(error).__name__}: it is truncated, or not an image)"
        if size != self._image_size:
            return wrong_size(path, size, self._image_size)
        self._checked.add(image_id)
        return None

    def _readable(self, part: Tensor, positions: Tensor, error: RuntimeError) -> Tensor:
        """Return the positions of a part's files that Pillow can read; report the others to `on_faults`."""
        paths = [self._paths[i] for i in part[positions].tolist()]
        readable, faults = readable_files(paths, self._image_size, library="DALI", error=error)
        self._on_faults(faults)
        return positions[readable]
