"""Random packed rows whose images use the whole range from black to white, so that an error anywhere shows."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.decode import decode_siren
from kernels.reference import decode_reference
from kernels.rows import CODE_DTYPES, PackedRows
from kernels.spec import SirenSpec, end_sections
from kernels.unpack.torch import unpack_layers
from rapid_inr.inr.coords import pixel_affine
from rapid_inr.store.codes import pack_codes, pack_masks, row_starts


@dataclass(frozen=True)
class Batch:
    """Arguments of a decode."""

    rows: PackedRows
    ids: Tensor
    affine: Tensor
    keywords: dict

    def decode(self, backend: str, **changes) -> Tensor:
        """Decode by a backend, some arguments changed by name."""
        positional = [changes.pop(name, getattr(self, name)) for name in ("rows", "ids", "affine")]
        return decode_siren(*positional, backend=backend, **(self.keywords | changes))

    def reference(self, *, ids: Tensor | None = None, affine: Tensor | None = None, **changes) -> Tensor:
        """Return the images of the reference, computed in float64, as float32."""
        spec, ids = self.keywords["spec"], self.ids if ids is None else ids
        layers = unpack_layers(self.rows, ids, spec, torch.float64)
        options = {name: self.keywords[name] for name in ("height", "width")} | changes
        return decode_reference(layers, self.affine if affine is None else affine, omega=spec.omega, **options).float()


def random_batch(
    spec: SirenSpec,
    device: torch.device,
    *,
    height: int,
    width: int,
    ids: tuple[int, ...] = (3, 0, 3, 1),
    bits: int = 8,
    ends: torch.dtype = torch.float16,
    scales: int | None = None,
    shared_scales: bool = False,
    masked: bool = False,
    seed: int = 0,
) -> Batch:
    """Return a batch from a store of 5 rows, decoded to unrounded float32 over the plain pixel grid.

    Args:
        scales: how many a hidden layer has with integer codes; one a column by default.
        masked: whether each row has a mask, which keeps two weights of three.
    """
    generator = torch.Generator().manual_seed(seed)
    n = 5

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    bound = (6 / spec.hidden) ** 0.5 / spec.omega  # Sitzmann et al.'s initialisation of the hidden layers
    last = 2 * spec.hidden**-0.5
    bounds = {"first_weight": (-1, 1), "biases": (-0.3, 0.3), "last_weight": (-last, last), "last_bias": (0.2, 0.8)}
    parts = [uniform(*bounds[name], n, section.size) for name, section in end_sections(spec).items()]
    end_scales = None
    if ends == torch.int8:
        end_scales = torch.stack([part.abs().amax(1) / 127 for part in parts], 1).half()
        parts = [(part / scale).round() for part, scale in zip(parts, end_scales.float().split(1, 1), strict=True)]
    hidden = uniform(-1, 1, n, spec.n_hidden_weights)
    kept, row_scales = None, None
    if bits <= 8:
        top = 2 ** (bits - 1)
        hidden = (hidden * top).floor().to(torch.int8)
        columns = (spec.depth - 1) * (scales or spec.hidden)
        row_scales = uniform(0.5 * bound / top, 1.5 * bound / top, 1 if shared_scales else n, columns).half()
        if masked:
            kept = uniform(0, 1, n, spec.n_hidden_weights) < 0.67
        codes = pack_codes(hidden, bits, kept)
    else:
        codes = (hidden * bound).to(CODE_DTYPES[bits])
    packed_masks = None if kept is None else pack_masks(kept)
    starts = row_starts(packed_masks, bits) if masked else None
    tensors = (codes, torch.cat(parts, 1).to(ends), row_scales, end_scales)
    return Batch(
        rows=on(device, PackedRows(*tensors, bits, packed_masks, starts)),
        ids=torch.tensor(ids, device=device),
        affine=pixel_affine(height, width).to(device),
        keywords={"spec": spec, "height": height, "width": width, "dtype": torch.float32, "round_8bit": False},
    )


def on(device: torch.device, rows: PackedRows) -> PackedRows:
    """Return rows on a device."""
    return replace(rows, **{name: tensor.to(device) for name, tensor in rows.tensors().items()})
