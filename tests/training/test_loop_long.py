"""What a training does over many epochs: EMA, resuming, progressive resizing."""

from dataclasses import replace

import torch
from torch import nn

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.training import loop as training
from rapid_inr.training.loop import EvalSets, train
from rapid_inr.training.schedule import OptimizerConfig
from rapid_inr.training.state import EpochReport
from rapid_inr.training.tasks import classification
from tests.trainings import clean, one_batch, pipeline, small_model, train_small


def weights_of(learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.weights().items()}


def test_the_average_follows_the_weights_and_is_what_is_tested():
    weights, averages = [], []
    feed = one_batch(torch.tensor([[1.0], [-2.0]]), [0, 1])

    def look(report: EpochReport, learner) -> None:
        weights.append(learner.model.weight.detach().clone())
        averages.append(learner.average["weight"].clone())
        assert not torch.equal(learner.tested()(torch.ones(1, 1)), learner.model(torch.ones(1, 1)))

    torch.manual_seed(0)
    model = nn.Linear(1, 2, bias=False)
    expected = model.weight.detach().clone()
    config = OptimizerConfig(epochs=12, batch_size=2, lr=0.3, warmup=0, ema=0.5)
    train(model, feed, EvalSets(feed), config, task=classification(2), device="cpu", autocast=False, on_epoch=look)
    for step, (weight, average) in enumerate(zip(weights, averages, strict=True), start=1):
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * weight
        torch.testing.assert_close(average, expected, atol=1e-6, rtol=0)


RESUMED = OptimizerConfig(epochs=4, batch_size=16, lr=0.05, warmup=0.3, ema=0.9, validation_split=0.2, first_size=4)


def test_a_resumed_training_is_bit_identical_to_one_that_never_stopped():
    feed = pipeline(augment=AugmentConfig(crop_padding=2, mix="mixup"))
    eval_sets, checkpoints, finals = EvalSets(clean(), validation=clean()), [], []

    def keep(report: EpochReport, learner) -> None:
        checkpoint = learner.checkpoint(([] if not checkpoints else kept_reports) + [report])
        kept_reports.append(report)
        checkpoints.append(replace(checkpoint, tensors={name: tensor.clone() for name, tensor in checkpoint.tensors.items()}))
        finals.append(weights_of(learner))

    kept_reports: list[EpochReport] = []
    whole = train_small(small_model(), RESUMED, feed=feed, eval_sets=eval_sets, on_epoch=keep)
    for done in (1, 3):
        final = []
        resume = replace(checkpoints[done - 1], reports=[report.values() for report in whole[:done]])
        again = train_small(
            small_model(seed=7), RESUMED, feed=feed, eval_sets=eval_sets, resume=resume,
            on_epoch=lambda report, learner, final=final: final.append(weights_of(learner)),
        )  # fmt: skip
        timeless = [[replace(report, epoch_s=0, images_per_s=0) for report in reports] for reports in (whole, again)]
        assert timeless[0] == timeless[1]
        assert len(final) == 1 + 4 - done  # the restored epoch comes first
        assert all(torch.equal(final[-1][name], finals[-1][name]) for name in final[-1])


def test_a_resumed_training_counts_the_steps_it_took_where_batches_were_left_out(monkeypatch):
    steps, checkpoints = [], []
    schedule = training.rate_factor

    def watched(config: OptimizerConfig, total: int):
        factor = schedule(config, total)
        return lambda step: steps.append(step) or factor(step)

    monkeypatch.setattr(training, "rate_factor", watched)
    whole = pipeline()

    def stream(batches, geometry):
        for number, streamed in enumerate(whole.stream(batches, geometry)):
            gone = torch.empty(0, dtype=torch.int64)
            yield replace(streamed, images=streamed.images[gone], kept=gone) if number == 2 else streamed

    feed, config = replace(whole, stream=stream), OptimizerConfig(epochs=2, batch_size=16)
    assert feed.n_batches == 6

    def keep(report: EpochReport, learner) -> None:
        kept = learner.checkpoint([report])
        checkpoints.append(replace(kept, tensors={name: tensor.clone() for name, tensor in kept.tensors.items()}))

    train_small(small_model(), config, feed=feed, on_epoch=keep)
    assert sorted(set(steps)) == list(range(10))
    steps.clear()
    train_small(small_model(), config, feed=feed, resume=checkpoints[0])
    assert sorted(set(steps)) == list(range(5, 10))


def test_progressive_resizing_ends_at_full_size():
    sizes = []

    class Witness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                sizes.append(tuple(images.shape[2:]))
            return self.scale * images.mean((2, 3))

    config = OptimizerConfig(epochs=4, batch_size=96, first_size=4, full_size_from=0.5)
    train_small(Witness(), config, feed=pipeline(batch_size=96))
    assert sizes == [(4, 4), (8, 8), (8, 8), (8, 8)]
