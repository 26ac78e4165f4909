"""Random packed rows whose images use the whole range from black to white, so that an error anywhere shows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.spec import SirenSpec, float_sections, n_floats
from rapid_inr.coords import pixel_affine


@dataclass(frozen=True)
class Batch:
    """Arguments of a decode."""

    codes: Tensor
    floats: Tensor
    ids: Tensor
    affine: Tensor
    keywords: dict

    def decode(self, function, **changes) -> Tensor:
        """Call a decode with these arguments, some of them changed by name."""
        positional = {name: changes.pop(name, getattr(self, name)) for name in ("codes", "floats", "ids", "affine")}
        return function(*positional.values(), **(self.keywords | changes))


def random_batch(
    spec: SirenSpec,
    device: torch.device,
    *,
    height: int,
    width: int,
    ids: tuple[int, ...] = (3, 0, 3, 1),
    codes: torch.dtype = torch.int8,
    floats: torch.dtype = torch.float16,
    scales: int | None = None,
    seed: int = 0,
) -> Batch:
    """Return a batch from a store of 5 rows, decoded to unrounded float32 over the plain pixel grid.

    Args:
        scales: how many a hidden layer has with int8 codes; one a column by default.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 5
    scales = (scales or spec.hidden) if codes == torch.int8 else 0
    bound = (6 / spec.hidden) ** 0.5 / spec.omega  # Sitzmann et al.'s initialisation of the hidden layers
    ranges = {
        "first_weight": (-1, 1),
        "biases": (-0.3, 0.3),
        "last_weight": (-2 * spec.hidden**-0.5, 2 * spec.hidden**-0.5),
        "last_bias": (0.2, 0.8),
        "scales": (0.5 * bound / 127, 1.5 * bound / 127),
    }
    row = torch.empty(n, n_floats(spec, scales=scales))
    for name, section in float_sections(spec, scales=scales).items():
        low, high = ranges[name]
        row[:, section.start : section.stop] = torch.rand(n, section.size, generator=generator) * (high - low) + low
    hidden = torch.rand(n, spec.n_hidden_weights, generator=generator) * 2 - 1
    hidden = (hidden * 128).floor() if scales else hidden * bound
    return Batch(
        codes=hidden.to(codes).to(device),
        floats=row.to(floats).to(device),
        ids=torch.tensor(ids, device=device),
        affine=pixel_affine(height, width).to(device),
        keywords={"spec": spec, "height": height, "width": width, "dtype": torch.float32, "round_8bit": False},
    )
