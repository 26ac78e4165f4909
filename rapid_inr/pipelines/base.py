"""The base of all input pipelines: it owns order, labels and augmentation, and a stream supplies the images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rapid_inr.augment.photometric import cut_out, jitter_colours, mix_neighbours
from rapid_inr.augment.policy import AugmentConfig, AugmentParams, sample_params
from rapid_inr.augment.warp import Geometry
from rapid_inr.errors import UserError, require
from rapid_inr.pipelines.batches import Batch, count_batches, epoch_batches, share_of_rank
from rapid_inr.pipelines.prefetch import ahead


@dataclass(frozen=True)
class Ids:
    """The ids of a batch's images, int64 [B], on the CPU and on the pipeline's device.

    Args:
        shares: the ids of each process's share, on the CPU; only for streams that need all processes.
    """

    host: Tensor
    device: Tensor
    shares: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.host)


@dataclass(frozen=True)
class Streamed:
    """The images that a stream yields for a batch.

    Args:
        images: normalised, floating [B, 3, *geometry.size], on the device, moved by the geometry.
        kept: positions in the batch of the images that could be read, int64 on the CPU; None for all.
    """

    images: Tensor
    kept: Tensor | None = None


Stream = Callable[[Sequence[Ids], Geometry], Iterator[Streamed]]  # the batches of an epoch, in order


@dataclass(frozen=True, eq=False)
class BatchPipeline:
    """Batches of N images from a stream; use `dataclasses.replace` for another subset, size or order.

    Args:
        stream: yields the images.
        labels: [N, ...] on the device.
        image_size: (height, width) of the images.
        mean, std: [3], the normalisation of the stream, on the device.
        batch_size: images of a step over all ranks.
        augment: None for no augmentation.
        seed: of order and augmentation; None keeps the order and every image.
        size: (height, width) of the batches; None for `image_size`.
        subset: int64 [M], the distinct positions of an epoch's images, on the CPU; None for all.
        rank: which share of each batch this process takes; the order does not depend on the number of processes.
        world_size: number of processes.
        together: whether the stream needs all processes at once. It then gets the shares of all, and every batch, even one of
            which this process takes no image.
        masks: whether the labels are masks, [N, *image_size], which are moved like their images; `Batch.labels` is then int64
            [B, *size]. Masks are padded like images, with class 0 for ``zeros``.
        compiles: whether the stream compiles kernels at the first batch of a size; `warm_up` then makes such a batch.
        nbytes: bytes of the images on the device, without labels.
        host_bytes: bytes of the images in the host's memory.

    Raises:
        UserError: if `batch_size` is out of range, or not a multiple of `world_size` when shuffled; if `subset` is not within the
            dataset; if `augment` has no seed; or if `masks` differ from the images in size or would be mixed.
    """

    stream: Stream
    labels: Tensor
    image_size: tuple[int, int]
    mean: Tensor
    std: Tensor
    batch_size: int
    augment: AugmentConfig | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    subset: Tensor | None = None
    rank: int = 0
    world_size: int = 1
    together: bool = False
    masks: bool = False
    compiles: bool = False
    nbytes: int = 0
    host_bytes: int = 0

    def __post_init__(self) -> None:
        if self.augment is not None and self.seed is None:
            raise UserError("augmentation needs a seed")
        if self.subset is not None:
            _require_positions(self.subset, n_images=len(self.labels))
        if self.masks and tuple(self.labels.shape[1:]) != tuple(self.image_size):
            raise UserError(f"masks are {tuple(self.labels.shape[1:])}, the images {tuple(self.image_size)}")
        if self.masks and self.augment is not None and self.augment.mix != "none":
            raise UserError(f"augment.mix is {self.augment.mix}, expected none: a mixture of images has no mask")
        share_of_rank((), rank=self.rank, world_size=self.world_size)
        whole = self.seed is None or self.batch_size % self.world_size == 0
        require(whole, "batch_size", self.batch_size, f"a multiple of the {self.world_size} processes")
        _ = self.n_batches  # raises if there is no batch

    def __len__(self) -> int:
        return len(self.labels) if self.subset is None else len(self.subset)

    @property
    def n_batches(self) -> int:
        return count_batches(n_images=len(self), batch_size=self.batch_size, shuffled=self.seed is not None)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `start` on; on a GPU, the next one is made in the meantime."""
        batches = epoch_batches(n_images=len(self), batch_size=self.batch_size, epoch=epoch, seed=self.seed)[start:]
        if self.subset is not None:
            batches = tuple(self.subset[ids] for ids in batches)
        ranks = range(self.world_size) if self.together else (self.rank,)
        shares = [
            share_of_rank(batches, rank=rank, world_size=self.world_size, with_leader=self._has_leader, keep_empty=self.together)
            for rank in ranks
        ]
        if shares[0]:
            yield from ahead(self._batches(list(zip(*shares, strict=True)), epoch), self.device)

    def warm_up(self) -> None:
        """Make and drop a batch if that compiles kernels, so that no epoch's time includes the compilation."""
        if self.compiles:
            batches = self.epoch(0)
            next(batches, None)
            batches.close()

    def state_dict(self, *, epoch: int, batch: int) -> dict[str, Any]:
        """Return the position in an epoch with its order and augmentation, as JSON values; `batch` is the next batch."""
        return {"epoch": epoch, "batch": batch, **self._decided()}

    def place_of(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """Return the epoch and the batch of a state; continue there with ``epoch(epoch, start=batch)``.

        The number of processes and the stream may differ from those of the state.

        Raises:
            ValueError: if the state has another order or augmentation, or a batch that does not exist.
        """
        decided = self._decided()
        missing = [name for name in ("epoch", "batch", *decided) if name not in state]
        if missing:
            raise UserError(f"the state lacks {', '.join(missing)}; expected the state_dict() of a pipeline")
        for name, value in decided.items():
            if state[name] != value:
                raise UserError(f"{name} is {value}, the state is of a pipeline with {name} {state[name]}")
        epoch, batch = state["epoch"], state["batch"]
        if not (isinstance(epoch, int) and epoch >= 0 and isinstance(batch, int) and 0 <= batch < self.n_batches):
            raise UserError(f"the state is at epoch {epoch}, batch {batch}; expected at least 0, and 0..{self.n_batches - 1}")
        return epoch, batch

    def _decided(self) -> dict[str, Any]:
        """Return everything that order and augmentation depend on."""
        subset = None if self.subset is None else hashlib.sha256(self.subset.numpy().tobytes()).hexdigest()[:16]
        augment = None if self.augment is None else json.loads(json.dumps(asdict(self.augment)))
        return {
            "seed": self.seed, "batch_size": self.batch_size, "n_images": len(self), "subset": subset, "augment": augment,
        }  # fmt: skip

    @property
    def _has_leader(self) -> bool:
        """Whether each share starts with the last image of the previous share, which its first image is mixed with."""
        return self.world_size > 1 and self.augment is not None and self.augment.mix != "none"

    def _batches(self, shares: Sequence[tuple[Tensor, ...]], epoch: int) -> Generator[Batch]:
        # this runs on the CUDA stream that reads these tensors, so they are copied to the device here
        params, padding = None, "border"
        if self.augment is not None:
            on_cpu = sample_params(len(self.labels), self.augment, seed=self.seed, epoch=epoch, image_size=self.image_size)
            params, padding = on_cpu.to(self.device), self.augment.padding
        # once an epoch: a copy in every batch would make the host wait for the device
        batches = [of_all[self.rank if self.together else 0] for of_all in shares]
        on_device = torch.cat(batches).to(self.device).split([len(ids) for ids in batches])
        pairs = [Ids(*ids) for ids in zip(batches, on_device, shares, strict=True)]
        geometry = Geometry.of(
            params, image_size=self.image_size, size=self.size or self.image_size, padding=padding, black=-self.mean / self.std
        )
        for ids, streamed in zip(pairs, self.stream(pairs, geometry), strict=True):
            led, kept = self._has_leader, streamed.kept
            if kept is not None:
                led = led and 0 in kept  # without its leader a share is mixed within itself
                ids = Ids(ids.host[kept], ids.device[kept.to(self.device)])
            if len(ids) > led:
                labels = self.labels[ids.device]
                if self.masks:
                    labels = _moved_masks(labels, ids.device, geometry)
                yield self._finished(streamed.images, labels, ids, None if params is None else params[ids.device], led=led)

    def _finished(self, images: Tensor, labels: Tensor, ids: Ids, params: AugmentParams | None, *, led: bool) -> Batch:
        """Finish a batch of moved images; with `led`, the first one only serves to be mixed with the second."""
        keeps, others = None, None
        if params is not None and params.colours is not None:
            images = jitter_colours(images, params.colours, mean=self.mean, std=self.std)
        if params is not None and params.cutouts is not None:
            images = cut_out(images, params.cutouts, self.augment.cutout)
        if params is not None and params.keeps is not None:
            own = slice(1 if led else 0, None)
            before, others = (tensor[:-1] if led else tensor.roll(1, 0) for tensor in (images, labels))
            images, keeps = mix_neighbours(images[own], before, params[own], paste=self.augment.mix == "cutmix")
            ids, labels = Ids(ids.host[own], ids.device[own]), labels[own]
        return Batch(images.contiguous(memory_format=torch.channels_last), labels, ids.host, keeps, others)


def _moved_masks(masks: Tensor, ids: Tensor, geometry: Geometry) -> Tensor:
    """Move masks, [B, height, width], like their images; int64."""
    background = replace(geometry, black=torch.zeros(1, device=masks.device))
    return background.apply(masks[:, None].float(), ids, mode="nearest")[:, 0].long()


def _require_positions(subset: Tensor, *, n_images: int) -> None:
    require(subset.dtype == torch.int64 and subset.ndim == 1, "subset", f"{subset.dtype} {tuple(subset.shape)}", "int64 [M]")
    within = len(subset) > 0 and 0 <= int(subset.min()) <= int(subset.max()) < n_images
    require(within, "subset", "empty or out of range", f"positions in 0..{n_images - 1}")
    if len(subset.unique()) < len(subset):
        raise UserError("subset holds a position twice, expected distinct positions")


def pixel_pipeline(
    read: Callable[[Sequence[Ids], Geometry], Iterator[tuple[Tensor, Tensor | None]]],
    labels: Tensor,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    move: Callable[[Geometry, Tensor, Tensor], Tensor] = Geometry.apply,
    **options,
) -> BatchPipeline:
    """Make a pipeline from a reader of pixels, which are normalised and moved on the device.

    Args:
        read: yields the images of each batch, uint8 [b, height, width, 3] on any device, and `Streamed.kept`.
        labels: [N, ...] of any type.
        mean, std: per channel, of values in [0, 1].
        dtype: of the images.
        move: (geometry, normalised images, their ids) on the device -> images of `geometry.size`.
        options: of `BatchPipeline`, at least `image_size` and `batch_size`.

    Raises:
        UserError: as `BatchPipeline`.
    """
    device = torch.device(device)
    mean, std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
    scale, shift = 1 / (255 * std), mean / std

    def stream(batches: Sequence[Ids], geometry: Geometry) -> Iterator[Streamed]:
        for ids, (images, kept) in zip(batches, read(batches, geometry), strict=True):
            kept = None if kept is None or len(kept) == len(ids) else kept
            kept_ids = ids.device if kept is None else ids.device[kept.to(device)]
            images = (images.to(device, non_blocking=True) * scale - shift).to(dtype).permute(0, 3, 1, 2)
            yield Streamed(move(geometry, images, kept_ids) if len(images) else images, kept)

    return BatchPipeline(stream, labels.to(device), mean=mean, std=std, **options)
