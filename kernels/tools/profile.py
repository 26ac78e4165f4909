"""Decode a batch of each size once, for NVIDIA's profiler:

    ncu --kernel-name _decode_siren_kernel --set full python -m kernels.tools.profile 10x32@224 10x40@224

The load of the sine unit (XU), of the multiply-adds (FMA) and of the instruction issue, and the stalls of warps show what bounds
the decode.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from kernels.decode.launch import capability_of, launch_config
from kernels.tools.tune import make_case


def main(sizes: Sequence[str], device: torch.device) -> None:
    """Decode one batch of each DEPTHxWIDTH@PIXELS and print its launch."""
    for size in sizes:
        case = make_case(size, device)
        config = launch_config(case.spec, case.side**2, capability=capability_of(device))
        print(f"{size}: {tuple(case.decode(config).shape)} by {config}")


if __name__ == "__main__":
    main(sys.argv[1:] or ("10x32@224", "10x40@224"), torch.device("cuda"))
