"""Random cosine codes whose images use the whole range from black to white, so that an error anywhere shows."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.cosine import CosineRows, CosineSpec, decode_cosine
from kernels.cosine.reference import decode_cosine_reference
from kernels.cosine.torch import dense_coefficients
from rapid_inr.inr.coords import pixel_affine


@dataclass(frozen=True)
class CosineBatch:
    """Arguments of a decode."""

    rows: CosineRows
    ids: Tensor
    affine: Tensor
    keywords: dict

    def decode(self, backend: str, **changes) -> Tensor:
        """Decode by a backend, some arguments changed by name."""
        positional = [changes.pop(name, getattr(self, name)) for name in ("rows", "ids", "affine")]
        return decode_cosine(*positional, backend=backend, **(self.keywords | changes))

    def reference(self, *, affine: Tensor | None = None, **changes) -> Tensor:
        """Return the images of the reference, computed in float64, as float32."""
        z = dense_coefficients(self.rows, self.ids, self.keywords["spec"]).double()
        options = {name: self.keywords[name] for name in ("height", "width")} | changes
        affine = self.affine if affine is None else affine
        return decode_cosine_reference(z, self.rows.colour, self.rows.mean, affine, **options).float()


def random_codes(
    spec: CosineSpec,
    device: torch.device,
    *,
    height: int,
    width: int,
    ids: tuple[int, ...] = (3, 0, 3, 1),
    seed: int = 0,
    learned: bool = True,
) -> CosineBatch:
    """Return a batch from a store of 5 rows of different profiles, decoded to unrounded float32 over the plain pixel grid.

    Two amplitudes of three are coded where the words have that many numbers; some numbers belong to no amplitude. A component
    has two coefficients of three, or one if they are not `learned`.
    """
    generator = torch.Generator().manual_seed(seed)
    m, g, d, coefficients = spec.profiles, spec.groups, spec.dimensions, 3 * spec.frequencies**2
    components = min(coefficients, 50)
    table = torch.full((m, components), -1)
    coded = min(g * d, max(1, 2 * components // 3))
    for profile in table:
        profile[torch.randperm(components, generator=generator)[:coded]] = torch.randperm(g * d, generator=generator)[:coded]
    places = torch.randperm(coefficients, generator=generator)[: max(1, 2 * coefficients // 3) if learned else components]
    unit = round(math.log2(2 * len(places) ** 0.5))  # few bits, as in the words, so that float32 sums their products exactly
    codes = torch.randint(256, (5, spec.row_bytes), generator=generator)
    if m > 1:
        codes[:, 0] = torch.randperm(max(m, 5), generator=generator)[:5] % m
    rows = CosineRows(
        codes=codes.byte(),
        books=(torch.randn(m, g, 256, d, generator=generator) * 128 / coded**0.5).round().div(256).half(),
        table=table.short(),
        basis=torch.randint(-3, 4, (components, len(places)), generator=generator) * 0.5**unit if learned else None,
        places=places,
        colour=torch.randn(3, 3, generator=generator) * 0.6,
        mean=torch.rand(3, generator=generator),
    )
    return CosineBatch(
        rows=replace(rows, **{name: tensor.to(device) for name, tensor in rows.tensors().items()}),
        ids=torch.tensor(ids, device=device),
        affine=pixel_affine(height, width).to(device),
        keywords={"spec": spec, "height": height, "width": width, "dtype": torch.float32, "round_8bit": False},
    )
