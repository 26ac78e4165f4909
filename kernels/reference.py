"""The reference of the decode, its formula in torch; the CPU backend and the Triton kernel are tested against it in float64.

An affine map A takes a pixel to a coordinate, which a SIREN (Sitzmann et al. 2020, arXiv 2006.09661, section 3) takes to RGB:
h_0 = A (row, column, 1);   h_i = sin(omega (h_{i-1} W_i + b_i)),  i = 1..D;   rgb = h_D W_{D+1} + b_{D+1}
"""

from collections.abc import Callable

import torch
from torch import Tensor


def decode_reference(layers: list[tuple[Tensor, Tensor]], affine: Tensor, *, omega: float, **sampling) -> Tensor:
    """Decode images from (weight [B, in, out], bias [B, out]) of each layer; other arguments are those of `sample_reference`."""

    def evaluate(h: Tensor) -> Tensor:
        for weight, bias in layers[:-1]:
            h = torch.sin(omega * (h @ weight + bias[:, None]))
        return h @ layers[-1][0] + layers[-1][1][:, None]

    return sample_reference(evaluate, affine.to(layers[0][0]), **sampling)


def sample_reference(
    evaluate: Callable[[Tensor], Tensor], affine: Tensor, *, height: int, width: int, padding="none", edges=None, supersample=1
) -> Tensor:
    """Sample INRs, given by `evaluate` from coordinates [P, 2] or [B, P, 2] to RGB [B, P, 3], in the dtype of `affine`.

    The other arguments are those of `kernels.decode.decode_siren`. Returns RGB [B, 3, height, width] in [0, 1].
    """
    i, j = ((torch.arange(size * supersample).to(affine) + 0.5) / supersample - 0.5 for size in (height, width))
    bent = coords = torch.cartesian_prod(i, j, affine.new_ones(1)) @ affine.mT  # [P, 2] or [B, P, 2]
    if padding in ("border", "reflection"):
        edge = edges.to(affine)[..., None, :]
        folded = edge - ((coords + edge).remainder(4 * edge) - 2 * edge).abs()
        bent = coords.clamp(-edge, edge) if padding == "border" else torch.where(edge > 0, folded, 0)
    rgb = evaluate(bent).nan_to_num(nan=0.0).clamp(0, 1)  # [B, P, 3]
    if padding == "zeros":
        rgb = torch.where((coords.abs() <= 1).all(-1, keepdim=True), rgb, 0)
    return torch.nn.functional.avg_pool2d(rgb.mT.unflatten(2, (height * supersample, width * supersample)), supersample)
