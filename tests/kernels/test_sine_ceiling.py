"""The kernel that measures the sine unit: it takes the sines it says, and adds up what they leave."""

import torch

from kernels.tools import sine_ceiling
from kernels.tools.sine_ceiling import launch_sines


def test_it_takes_as_many_sines_as_it_says(device, monkeypatch):
    monkeypatch.setattr(sine_ceiling, "PROGRAMS", 2)
    sink = torch.zeros(3, device=device)
    count = launch_sines(sink, rounds=2)
    assert count == 2 * 3 * sine_ceiling.BLOCK * 2
    start = torch.arange(sine_ceiling.BLOCK, dtype=torch.float64)
    expected = [sum((start + 2 * i + k).sin().sin().sum().item() for k in range(2)) for i in range(3)]
    torch.testing.assert_close(sink.cpu().double(), torch.tensor(expected, dtype=torch.float64), atol=0.5, rtol=0)
