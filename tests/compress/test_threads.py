"""Compression on a CPU: every operation on one core, and the same bits for any number of threads."""

import pytest
import torch

from kernels.spec import SirenSpec
from rapid_inr.compress import gptq as gptq_module
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.compress.qat import RefineConfig, compress
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.inr.fit import FitConfig, fit
from tests.images import smooth_images

SPEC, CPU = SirenSpec(depth=3, hidden=8, omega=15.0), torch.device("cpu")
FIT = FitConfig(steps=10, pixels_per_step=64, max_batch=2)
INT6 = QuantizeConfig(6, 8, "column")
WAYS = {
    "qat": {"quantize_config": INT6, "refine_config": RefineConfig(steps=6)},
    "qat with shared scales": {"quantize_config": QuantizeConfig(6, 8, "dataset"), "refine_config": RefineConfig(steps=6)},
    "freezing": {"quantize_config": INT6, "refine_config": RefineConfig(steps=6, method="freeze")},
    "freezing with shared scales": {
        "quantize_config": QuantizeConfig(6, 8, "dataset"), "refine_config": RefineConfig(steps=6, method="freeze"),
    },
    "pruning": {"prune_config": PruneConfig("fixed", max_ratio=0.4, step=0.2, finetune_steps=3)},
    "gptq": {"quantize_config": QuantizeConfig(6, 8, "column", "max", "gptq")},
}  # fmt: skip


def compressed(way, *, on_progress=None):
    images = smooth_images(7, 12, 13)
    configs = {"prune_config": PruneConfig(), "quantize_config": INT6, "refine_config": RefineConfig()} | WAYS[way]
    result = fit(images, torch.arange(7), SPEC, FIT)
    stored = compress(result, images, SPEC, FIT, device=CPU, on_progress=on_progress, **configs)
    rows = stored.rows
    return [result.weights, result.psnr_db, rows.codes, rows.ends, rows.scales, rows.end_scales, stored.masks, stored.ratio]


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", WAYS)
def test_the_number_of_threads_changes_no_bit(torch_threads, way):
    torch_threads(1)
    expected = compressed(way)
    for count in (2, 3, 8):
        torch_threads(count)
        assert all(map(torch.equal, compressed(way), expected))


@pytest.mark.parametrize("way", WAYS)
def test_every_step_takes_one_core(torch_threads, monkeypatch, way):
    cores, hessian = [], gptq_module.hessian
    monkeypatch.setattr(gptq_module, "hessian", lambda *args: cores.append(torch.get_num_threads()) or hessian(*args))
    torch_threads(2)
    compressed(way, on_progress=lambda _: cores.append(torch.get_num_threads()))
    assert cores.count(1) >= 7  # once an image, or each step; what a stage has left to count is told by the caller
    assert torch.get_num_threads() == 2
