"""A step that is replayed leaves what the plain one leaves."""

import copy

import pytest
import torch
from torch.nn import functional as F

from rapid_inr.models.resnet import BackboneConfig, build_backbone
from rapid_inr.pipelines.batches import Batch
from rapid_inr.training import cuda_graph as steps
from rapid_inr.training.cuda_graph import plain_step, replayed_step
from rapid_inr.training.loop import batch_loss
from tests.tolerances import REPLAYED_LOSS, REPLAYED_WEIGHTS

CPU = torch.device("cpu")


def network(device):
    model = build_backbone(BackboneConfig(width=8), n_classes=5, image_size=(16, 16), seed=0)
    return model.to(device, memory_format=torch.channels_last).train()


def batches(device, *, mixed=False, autocast=False):
    draw = torch.Generator().manual_seed(0)
    for n in (8, 8, 5, 8):  # one is of another shape
        images = torch.randn((n, 3, 16, 16), generator=draw).to(device, torch.bfloat16 if autocast else torch.float32)
        labels = torch.randint(0, 5, (2, n), generator=draw).to(device)
        mixing = {"keeps": torch.rand(n, generator=draw).to(device), "others": labels[1]} if mixed else {}
        yield Batch(images.contiguous(memory_format=torch.channels_last), labels[0], torch.arange(n), **mixing)


def loss_of(logits, batch):
    return batch_loss(logits, batch, label_smoothing=0.1)


def learn(model, step, some_batches):
    """Return the loss of each step of SGD."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), []
    for batch in some_batches:
        losses.append(step(batch).item())
        optimizer.step()
    return losses


def test_a_plain_step_leaves_the_gradients_of_its_batch_alone_and_its_loss():
    model, mine = network(CPU), network(CPU)
    step = plain_step(model, loss_of, autocast=False)
    for batch in batches(CPU):
        loss = step(batch)
        expected = F.cross_entropy(mine(batch.images), batch.labels, label_smoothing=0.1)
        mine.zero_grad()
        expected.backward()
        assert not loss.requires_grad
        assert torch.equal(loss, expected.detach())
        assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), mine.parameters(), strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_replayed_steps_are_those_of_the_plain_network(monkeypatch, device, autocast, mixed):
    plain = network(device)
    model = copy.deepcopy(plain)
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(graph) or replay(graph))
    kinds = {"autocast": autocast, "mixed": mixed}
    losses = learn(model, replayed_step(model, loss_of, autocast=autocast), batches(device, **kinds))
    expected = learn(plain, plain_step(plain, loss_of, autocast=autocast), batches(device, **kinds))
    assert len(replays) == 3
    assert losses == pytest.approx(expected, abs=REPLAYED_LOSS[autocast])
    for name, tensor in plain.state_dict().items():
        tolerance = REPLAYED_WEIGHTS[autocast]
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=tolerance, rtol=0, msg=name)


def test_the_graph_is_that_of_the_largest_batch_so_far(monkeypatch):
    captured, taken = [], []

    class Stub:
        def __init__(self, model, plain, like):
            self.size = len(like.ids)
            captured.append(self.size)

        def fits(self, batch):
            return len(batch.ids) == self.size

        def replay(self, batch):
            taken.append(len(batch.ids))

    monkeypatch.setattr(steps, "CapturedStep", Stub)
    step = replayed_step(network(CPU), loss_of, autocast=False)
    for n in (7, 8, 8, 5, 8):  # a file of the first batch could not be read
        step(Batch(torch.randn(n, 3, 16, 16), torch.zeros(n, dtype=torch.int64), torch.arange(n)))
    assert captured == [7, 8]
    assert taken == [7, 8, 8, 8]
