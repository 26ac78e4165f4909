import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import nn

from rapid_inr import train as training
from rapid_inr.augment import AugmentConfig
from rapid_inr.backbone import BackboneConfig, build_backbone
from rapid_inr.pipelines.batches import Batch
from rapid_inr.pipelines.on_device import DevicePipeline, resident_pipeline
from rapid_inr.train import EpochReport, OptimizeConfig, TrainingDiverged, summary, top1_pct, train


def stripes(n_images: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images whose class is the channel that is bright, under noise: uint8 [N, 8, 8, 3] and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_images) % 3
    images = torch.randint(0, 120, (n_images, 8, 8, 3), generator=generator)
    images[torch.arange(n_images), :, :, labels] += 100
    return images.to(torch.uint8), labels


def pipeline(n_images: int = 96, *, batch_size: int = 16, seed: int | None = 0, data_seed: int = 0, **options) -> DevicePipeline:
    images, labels = stripes(n_images, seed=data_seed)
    mean_std = {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2)}
    return resident_pipeline(images, labels, device="cpu", batch_size=batch_size, seed=seed, **mean_std, **options)


def clean() -> DevicePipeline:
    return pipeline(60, batch_size=25, seed=None, data_seed=1)


def small_model(seed: int = 0) -> nn.Module:
    return build_backbone(BackboneConfig(width=4), n_classes=3, image_size=(8, 8), seed=seed)


def train_small(model: nn.Module, config: OptimizeConfig, *, feed=None, autocast: bool = False, **options) -> list[EpochReport]:
    return train(model, feed or pipeline(), clean(), config, device="cpu", autocast=autocast, **options)


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

    def epoch(self, epoch: int) -> Iterator[Batch]:
        self.asked.append(epoch)
        yield from self.batches


def one_batch(images: torch.Tensor, labels: list[int]) -> Fixed:
    return Fixed([Batch(images, torch.tensor(labels), torch.arange(len(labels)))])


@pytest.mark.parametrize("autocast", [False, True])
def test_a_small_network_learns_what_can_be_told_apart(autocast):
    seen = []
    config = OptimizeConfig(epochs=10, batch_size=16, lr=0.05)
    reports = train_small(small_model(), config, autocast=autocast, on_epoch=seen.append)
    assert seen == reports
    assert [report.epoch for report in reports] == list(range(10))
    assert reports[-1].top1_pct > 95
    assert reports[-1].loss < reports[0].loss
    assert all(report.epoch_s > 0 for report in reports)
    assert all(report.images_per_s == pytest.approx(96 / report.epoch_s) for report in reports)


def test_a_seed_gives_bit_identical_weights():
    def weights(seed: int) -> dict[str, torch.Tensor]:
        model = small_model(seed)
        feed = pipeline(seed=seed, augment=AugmentConfig(crop_padding=1))
        train_small(model, OptimizeConfig(epochs=2, batch_size=16), feed=feed)
        return model.state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_the_rate_rises_linearly_and_falls_to_almost_nothing():
    total = 200
    factor = training._schedule(OptimizeConfig(warmup=0.1), total)
    factors = [factor(step) for step in range(total)]
    steps = [b - a for a, b in pairwise(factors[:21])]
    assert factors[0] == pytest.approx(1 / 21)
    assert max(steps) == pytest.approx(min(steps)) == pytest.approx(1 / 21)
    assert factors[20] == max(factors) == 1
    assert factors[110] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in pairwise(factors[20:]))
    assert factors[-1] < 1e-4
    assert factor(total) == pytest.approx(0, abs=1e-12)


def test_without_a_warm_up_the_rate_starts_at_its_peak():
    assert training._schedule(OptimizeConfig(warmup=0), 10)(0) == 1


def test_the_schedule_ends_with_the_last_batch_whatever_the_config_calls_a_batch(monkeypatch):
    totals = []
    schedule = training._schedule
    monkeypatch.setattr(training, "_schedule", lambda config, total: totals.append(total) or schedule(config, total))
    train_small(small_model(), OptimizeConfig(epochs=2, batch_size=1), feed=pipeline(96, batch_size=20))
    assert totals == [2 * 4]


def test_a_step_is_sgd_with_nesterov_momentum():
    weight, images = torch.tensor([[0.3], [-0.2]]), torch.tensor([[1.5]])
    model = nn.Linear(1, 2, bias=False)
    model.weight.data.copy_(weight)
    config = OptimizeConfig(epochs=3, batch_size=1, lr=0.5, momentum=0.9, weight_decay=0.01, warmup=0, label_smoothing=0.2)
    train(model, one_batch(images, [1]), one_batch(images, [1]), config, device="cpu", autocast=False)
    w, velocity = weight.double().flatten().tolist(), [0.0, 0.0]
    for step in range(3):
        lr = 0.5 * 0.5 * (1 + math.cos(math.pi * step / 3))
        exponentials = [math.exp(1.5 * value) for value in w]
        for i, target in enumerate((0.1, 0.9)):
            gradient = 1.5 * (exponentials[i] / sum(exponentials) - target) + 0.01 * w[i]
            velocity[i] = 0.9 * velocity[i] + gradient
            w[i] -= lr * (gradient + 0.9 * velocity[i])
    assert model.weight.flatten().tolist() == pytest.approx(w, abs=1e-6)


def test_norms_and_biases_have_no_weight_decay():
    model = small_model()
    decayed, others = training._parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    expected = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert {names[id(p)] for p in decayed["params"]} == expected
    assert {names[id(p)] for p in others["params"]} == set(names.values()) - expected


def test_the_loss_is_the_mean_over_images():
    big, small = torch.full((3, 1), 1.0), torch.full((1, 1), 2.0)
    feed = Fixed([Batch(big, torch.tensor([0, 0, 0]), torch.arange(3)), Batch(small, torch.tensor([1]), torch.arange(3, 4))])
    model = nn.Linear(1, 2, bias=False)
    model.weight.data.copy_(torch.tensor([[1.0], [0.0]]))
    config = OptimizeConfig(epochs=1, batch_size=3, lr=1e-12)  # so small that the weights stay
    (report,) = train(model, feed, feed, config, device="cpu", autocast=False)
    expected = (3 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 4
    assert report.loss == pytest.approx(expected, abs=1e-6)
    assert report.top1_pct == 75.0


class ModeWitness(nn.Module):
    """Right in evaluation mode and wrong in training mode; notes in which it was called, and whether with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.calls = nn.Parameter(torch.ones(1)), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(("train" if self.training else "test", torch.is_grad_enabled()))
        return self.scale * images * (-1 if self.training else 1)


def test_accuracy_is_that_of_evaluation_mode_and_training_mode_comes_back():
    model, feed = ModeWitness(), one_batch(torch.eye(3), [0, 1, 2])
    reports = train(model, feed, feed, OptimizeConfig(epochs=2, batch_size=3, lr=1e-3), device="cpu", autocast=False)
    assert model.calls == [("train", True), ("test", False)] * 2
    assert [report.top1_pct for report in reports] == [100.0, 100.0]
    assert not model.training


def test_each_epoch_has_its_own_order():
    feed, test = one_batch(torch.eye(3), [0, 1, 2]), one_batch(torch.eye(3), [0, 1, 2])
    train(nn.Linear(3, 3), feed, test, OptimizeConfig(epochs=3, batch_size=3), device="cpu", autocast=False)
    assert feed.asked == [0, 1, 2]


def test_accuracy_counts_every_test_image_in_batches_of_any_size():
    images, model = torch.eye(3).repeat(4, 1), nn.Identity()
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 1, 1]
    whole = one_batch(images, labels)
    pieces = zip(images.split(5), torch.tensor(labels).split(5), torch.arange(12).split(5), strict=True)
    for feed in (whole, Fixed([Batch(*piece) for piece in pieces])):
        assert top1_pct(model, feed, device="cpu", autocast=False) == pytest.approx(100 * 10 / 12)


def test_a_loss_that_is_lost_names_its_epoch():
    with pytest.raises(TrainingDiverged, match=r"the training loss is (nan|inf) in epoch 0; a lower optimize.lr may help"):
        train_small(small_model(), OptimizeConfig(epochs=2, batch_size=16, lr=1e30))


def test_the_model_trains_in_channels_last():
    model = small_model()
    train_small(model, OptimizeConfig(epochs=1, batch_size=16))
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def report(epoch: int, *, epoch_s: float, top1: float = 50.0) -> EpochReport:
    return EpochReport(epoch=epoch, loss=2.0 - epoch, top1_pct=top1, epoch_s=epoch_s, images_per_s=100 / epoch_s)


def test_the_summary_is_the_last_epoch_at_the_speed_of_the_median_one():
    reports = [report(0, epoch_s=9.0, top1=90.0), report(1, epoch_s=1.0), report(2, epoch_s=2.0, top1=60.0)]
    assert summary(reports) == {"top1_pct": 60.0, "loss": 0.0, "epochs": 3, "epoch_s": 2.0, "images_per_s": 50.0}


def test_of_two_middle_epochs_the_slower_is_told():
    assert summary([report(0, epoch_s=3.0), report(1, epoch_s=1.0)])["epoch_s"] == 3.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("label_smoothing", 1.0),
        ("warmup", 1.0),
    ],
)
def test_an_optimisation_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"optimize\.{name} is {value}, which is out of range"):
        OptimizeConfig(**{name: value})


def test_nesterov_without_momentum_is_plain_sgd():
    reports = train_small(small_model(), OptimizeConfig(epochs=1, batch_size=16, momentum=0.0))
    assert math.isfinite(reports[0].loss)
