"""A network whose passes are replayed learns what it would have learned."""

import copy

import pytest
import torch
from torch.nn import functional as F

from rapid_inr.backbone import BackboneConfig, build_backbone
from rapid_inr.graphed import graphed
from tests.tolerances import REPLAYED_LOGITS, REPLAYED_WEIGHTS

SHAPE = (8, 3, 16, 16)


def network(device):
    model = build_backbone(BackboneConfig(width=8), n_classes=5, image_size=(16, 16), seed=0)
    return model.to(device, memory_format=torch.channels_last).train()


def test_on_a_cpu_the_network_is_what_it_was():
    model = network(torch.device("cpu"))
    assert graphed(model, SHAPE, device=torch.device("cpu"), autocast=False) is model


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("autocast", [False, True])
def test_replayed_steps_are_those_of_the_plain_network(device, autocast):
    plain = network(device)
    model = copy.deepcopy(plain)
    forward = graphed(model, SHAPE, device=device, autocast=autocast)
    for name, buffer in model.named_buffers():  # capturing leaves no trace in the statistics
        assert torch.equal(buffer, plain.get_buffer(name)), name
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9) for network in (plain, model)]
    draw, dtype = torch.Generator(device).manual_seed(0), torch.bfloat16 if autocast else torch.float32
    for n_images in (8, 8, 5, 8):  # one batch is of another shape
        images = torch.randn((n_images, *SHAPE[1:]), device=device, generator=draw).to(dtype)
        labels = torch.randint(0, 5, (n_images,), device=device, generator=draw)
        results = []
        for call, optimizer in zip((plain, forward), optimizers, strict=True):
            with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
                results.append(call(images.contiguous(memory_format=torch.channels_last)))
                loss = F.cross_entropy(results[-1], labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(results[1], results[0], atol=REPLAYED_LOGITS[autocast], rtol=0)
    for (name, mine), theirs in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=REPLAYED_WEIGHTS[autocast], rtol=0, msg=name)
    model.eval()
    torch.testing.assert_close(model(images.float()), plain.eval()(images.float()), atol=REPLAYED_LOGITS[autocast], rtol=0)
