"""How the kernel is cut up, for GPUs that have been measured and for others."""

import pytest

from kernels.decode.launch import LaunchConfig, column_parts, launch_config, padded_width
from kernels.spec import SirenSpec
from kernels.tools import profile, tune
from kernels.tools.tune import VALUES_A_THREAD, candidates

WIDTHS = {1: (16, 0), 13: (16, 0), 17: (32, 0), 32: (32, 0), 33: (32, 16), 40: (32, 16), 48: (32, 16), 49: (64, 0), 64: (64, 0)}


@pytest.mark.parametrize(("hidden", "parts"), WIDTHS.items())
def test_a_layer_is_held_in_tensors_whose_sides_are_powers_of_two(hidden, parts):
    assert column_parts(SirenSpec(2, hidden, 30.0)) == parts
    assert padded_width(SirenSpec(2, hidden, 30.0)) == sum(parts) >= hidden


@pytest.mark.parametrize("capability", [0, 8, 9, 10])
@pytest.mark.parametrize("hidden", WIDTHS)
def test_every_gpu_has_a_configuration_for_every_width_and_small_images_small_blocks(hidden, capability):
    spec = SirenSpec(2, hidden, 30.0)
    large, small = (launch_config(spec, n_pixels, capability=capability) for n_pixels in (10**6, 50))
    assert large.block % 64 == 0
    assert small.block == 64
    assert padded_width(spec) * 64 >= 32 * large.num_warps * large.polynomial_every  # a thread has whole groups of sines


def test_what_is_tried_is_what_there_is_and_other_things_that_can_work():
    spec = SirenSpec(10, 40, 30.0)
    present, *others = candidates(spec, 224**2, capability=9)
    assert present == launch_config(spec, 224**2, capability=9)
    assert len({present, *others}) == len(others) + 1 > 6
    assert LaunchConfig(64, num_warps=2) in others  # the cycle model's choice
    for config in others:
        assert VALUES_A_THREAD[0] <= config.block * 48 // (32 * config.num_warps) <= VALUES_A_THREAD[1]
        assert config.block % 64 == 0


def test_what_is_profiled_decodes_a_batch_of_each_size(monkeypatch, device, capsys):
    monkeypatch.setattr(tune, "PIXELS_AT_ONCE", 128)
    profile.main(["2x8@8", "2x40@8"], device)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2x8@8: (2, 3, 8, 8) by LaunchConfig(block=64")
    assert second.startswith("2x40@8: (2, 3, 8, 8)")
