"""Small trainings that the tests of several files share."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from rapid_inr.models.resnet import BackboneConfig, build_backbone
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import Batch
from rapid_inr.pipelines.resident import resident_pipeline
from rapid_inr.training.loop import EvalSets, train
from rapid_inr.training.schedule import OptimizerConfig
from rapid_inr.training.state import EpochReport
from rapid_inr.training.tasks import classification

THREE = classification(3)


def stripes(n_images: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images whose class is the channel that is bright, under noise: uint8 [N, 8, 8, 3] and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_images) % 3
    images = torch.randint(0, 120, (n_images, 8, 8, 3), generator=generator)
    images[torch.arange(n_images), :, :, labels] += 100
    return images.to(torch.uint8), labels


def pipeline(n_images: int = 96, *, batch_size: int = 16, seed: int | None = 0, data_seed: int = 0, **options) -> BatchPipeline:
    images, labels = stripes(n_images, seed=data_seed)
    mean_std = {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)}
    return resident_pipeline(images, labels, device="cpu", batch_size=batch_size, seed=seed, **mean_std, **options)


def clean() -> BatchPipeline:
    return pipeline(60, batch_size=25, seed=None, data_seed=1)


def small_model(seed: int = 0) -> nn.Module:
    return build_backbone(BackboneConfig(width=4), n_classes=3, image_size=(8, 8), seed=seed)


def train_small(model: nn.Module, config: OptimizerConfig, *, feed=None, autocast: bool = False, **options) -> list[EpochReport]:
    eval_sets = options.pop("eval_sets", None) or EvalSets(clean())
    where = {"task": THREE, "device": "cpu", "autocast": autocast}
    return train(model, pipeline() if feed is None else feed, eval_sets, config, **where, **options)


@dataclass
class Fixed:
    """A pipeline that gives the same batches in every epoch, and notes which epochs it was asked for."""

    batches: list[Batch]
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(batch.ids) for batch in self.batches)

    @property
    def n_batches(self) -> int:
        return len(self.batches)

    def warm_up(self) -> None:
        pass

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        self.asked.append(epoch)
        yield from self.batches[start:]


def one_batch(images: torch.Tensor, labels: list[int]) -> Fixed:
    return Fixed([Batch(images, torch.tensor(labels), torch.arange(len(labels)))])


def report(epoch: int, *, epoch_s: float, top1: float = 50.0, **scores: float) -> EpochReport:
    return EpochReport(epoch, loss=2.0 - epoch, epoch_s=epoch_s, images_per_s=100 / epoch_s, scores={"top1_pct": top1} | scores)
