import math

import pytest
import torch
from torch import nn

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.pipelines.batches import Batch
from rapid_inr.training import loop as training
from rapid_inr.training.loop import EvalSets, TrainingDiverged, batch_loss, best_epoch, evaluate, summary, train
from rapid_inr.training.schedule import OptimizerConfig
from rapid_inr.training.tasks import classification
from tests.trainings import THREE, Fixed, clean, one_batch, pipeline, report, small_model, train_small


@pytest.mark.parametrize("autocast", [False, True])
def test_a_small_network_learns_what_can_be_told_apart(autocast):
    seen = []
    config = OptimizerConfig(epochs=10, batch_size=16, lr=0.05)
    reports = train_small(small_model(), config, autocast=autocast, on_epoch=lambda report, learner: seen.append(report))
    assert seen == reports
    assert [report.epoch for report in reports] == list(range(10))
    assert reports[-1].scores["top1_pct"] > 95
    assert reports[-1].loss < reports[0].loss
    assert all(report.epoch_s > 0 for report in reports)
    assert all(report.images_per_s == pytest.approx(96 / report.epoch_s) for report in reports)


def test_a_seed_gives_bit_identical_weights():
    def weights(seed: int) -> dict[str, torch.Tensor]:
        model = small_model(seed)
        feed = pipeline(seed=seed, augment=AugmentConfig(crop_padding=1))
        train_small(model, OptimizerConfig(epochs=2, batch_size=16), feed=feed)
        return model.state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_the_schedule_ends_with_the_last_batch_whatever_the_config_calls_a_batch(monkeypatch):
    totals = []
    schedule = training.rate_factor
    monkeypatch.setattr(training, "rate_factor", lambda config, total: totals.append(total) or schedule(config, total))
    train_small(small_model(), OptimizerConfig(epochs=2, batch_size=1), feed=pipeline(96, batch_size=20))
    assert totals == [2 * 4]


def test_a_step_is_sgd_with_nesterov_momentum():
    weight, images = torch.tensor([[0.3], [-0.2]]), torch.tensor([[1.5]])
    model = nn.Linear(1, 2, bias=False)
    model.weight.data.copy_(weight)
    config = OptimizerConfig(epochs=3, batch_size=1, lr=0.5, momentum=0.9, weight_decay=0.01, warmup=0, label_smoothing=0.2)
    train(
        model,
        one_batch(images, [1]),
        EvalSets(one_batch(images, [1])),
        config,
        task=classification(2),
        device="cpu",
        autocast=False,
    )
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
    config = OptimizerConfig(epochs=1, batch_size=3, lr=1e-12)  # so small that the weights stay
    (report,) = train(model, feed, EvalSets(feed), config, task=classification(2), device="cpu", autocast=False)
    expected = (3 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 4
    assert report.loss == pytest.approx(expected, abs=1e-6)
    assert report.scores == {"top1_pct": 75.0}


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
    config = OptimizerConfig(epochs=2, batch_size=3, lr=1e-3)
    reports = train(model, feed, EvalSets(feed), config, task=THREE, device="cpu", autocast=False)
    assert model.calls == [("train", True), ("test", False)] * 2
    assert [report.scores["top1_pct"] for report in reports] == [100.0, 100.0]
    assert not model.training


def test_each_epoch_has_its_own_order():
    feed, test = one_batch(torch.eye(3), [0, 1, 2]), one_batch(torch.eye(3), [0, 1, 2])
    train_small(nn.Linear(3, 3), OptimizerConfig(epochs=3, batch_size=3), feed=feed, eval_sets=EvalSets(test))
    assert feed.asked == [0, 1, 2]


def test_accuracy_counts_every_test_image_in_batches_of_any_size():
    images, model = torch.eye(3).repeat(4, 1), nn.Identity()
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 1, 1]
    whole = one_batch(images, labels)
    pieces = zip(images.split(5), torch.tensor(labels).split(5), torch.arange(12).split(5), strict=True)
    for feed in (whole, Fixed([Batch(*piece) for piece in pieces])):
        assert evaluate(model, feed, THREE, device="cpu", autocast=False) == pytest.approx(100 * 10 / 12)


def test_a_loss_that_is_lost_names_its_epoch():
    model = small_model()
    torch.nn.init.constant_(model.fc.weight, float("nan"))
    with pytest.raises(TrainingDiverged, match=r"the training loss is (nan|inf) in epoch 0; a lower optimizer.lr may help"):
        train_small(model, OptimizerConfig(epochs=2, batch_size=16))


def test_the_model_trains_in_channels_last():
    model = small_model()
    train_small(model, OptimizerConfig(epochs=1, batch_size=16))
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_summary_is_the_last_epoch_at_the_speed_of_the_median_one_after_the_first():
    seconds = (9.0, 1.0, 2.0, 1.5)
    reports = [report(epoch, epoch_s=epoch_s, top1=90.0 - epoch) for epoch, epoch_s in enumerate(seconds)]
    assert summary(reports, "top1_pct") == {
        "top1_pct": 87.0,
        "loss": -1.0,
        "epochs": 4,
        "epoch_s": 1.5,
        "images_per_s": 100 / 1.5,
    }


def test_of_two_middle_epochs_the_slower_is_told_and_an_only_one_is():
    assert summary([report(0, epoch_s=0.5), report(1, epoch_s=3.0), report(2, epoch_s=1.0)], "top1_pct")["epoch_s"] == 3.0
    assert summary([report(0, epoch_s=4.0)], "top1_pct")["epoch_s"] == 4.0


def test_nesterov_without_momentum_is_plain_sgd():
    reports = train_small(small_model(), OptimizerConfig(epochs=1, batch_size=16, momentum=0.0))
    assert math.isfinite(reports[0].loss)


def test_a_mixed_image_is_of_both_classes_by_its_shares():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 2]), torch.arange(2), torch.tensor([1.0, 0.25]), torch.tensor([2, 0]))
    found = batch_loss(logits, batch, label_smoothing=0.1)
    soft = torch.tensor([[1.0, 0.0, 0.0], [0.75, 0.0, 0.25]])
    expected = -((0.9 * soft + 0.1 / 3) * logits.log_softmax(1)).sum(1).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_validation_split_chooses_the_best_epoch():
    reports = [
        report(epoch, epoch_s=1.0, top1=top1, val_top1_pct=validation, decoded_top1_pct=top1 - 1)
        for epoch, top1, validation in ((0, 90.0, 50.0), (1, 60.0, 80.0), (2, 70.0, 80.0))
    ]
    assert best_epoch(reports, "top1_pct").epoch == 1
    found = summary(reports, "top1_pct")
    assert (found["best_epoch"], found["best_top1_pct"], found["val_top1_pct"]) == (1, 60.0, 80.0)
    assert (found["top1_pct"], found["decoded_top1_pct"]) == (70.0, 69.0)


def test_each_eval_set_has_a_score_of_its_own():
    (found,) = train_small(
        small_model(), OptimizerConfig(epochs=1, batch_size=16), eval_sets=EvalSets(clean(), clean(), pipeline())
    )
    assert found.scores.keys() == {"top1_pct", "decoded_top1_pct", "val_top1_pct"}
    assert found.scores["decoded_top1_pct"] == found.scores["top1_pct"]


def test_an_epoch_without_a_readable_image_is_an_error():
    with pytest.raises(ValueError, match="no image of the epoch could be read"):
        train_small(small_model(), OptimizerConfig(epochs=1, batch_size=16), feed=Fixed([]))
