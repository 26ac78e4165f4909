"""The shape of a cosine code and its packed rows: the tensors that a decode reads, and their checks.

At v, u in [0, 1] (row and column; 0 and 1 are the image's edges), an image is

    rgb = colour @ s(v, u) + mean;   s_c(v, u) = sum over fy, fx of Z[c, fy, fx] phi_fy(v) phi_fx(u)
    phi_0(t) = 1;   phi_f(t) = sqrt(2) cos(pi f t)

so Z is the image's cosine transform (Ahmed, Natarajan and Rao 1974, IEEE Trans. Computers C-23) divided by its number of pixels.
Z is a sum of K components, each a pattern of coefficients (a row of the basis) times an amplitude; without a basis, each is a
single coefficient. Each group of amplitudes is coded by one byte, the index of a word in the group's codebook. With several
profiles, the first byte of an image names its profile, which determines the coded amplitudes, their groups and their codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kernels.checks import require
from kernels.rows import TensorRows, require_contiguous
from kernels.spec import OUT_FEATURES

MAX_FREQUENCIES = 64
MAX_DIMENSIONS = 8
MAX_PROFILES = 32
MAX_INT16 = 2**15 - 1
WORDS = 256  # of a codebook, indexed by a byte


@dataclass(frozen=True)
class CosineSpec:
    """Shape of a cosine code.

    Args:
        frequencies: F, number of frequencies of each axis, 0 to F - 1.
        groups: G, number of groups, a byte each.
        dimensions: D, most amplitudes in a group.
        profiles: M, number of profiles; with two or more, an image has an additional byte.

    Raises:
        ValueError: if an argument is out of range.
    """

    frequencies: int
    groups: int
    dimensions: int
    profiles: int

    def __post_init__(self) -> None:
        require(1 <= self.frequencies <= MAX_FREQUENCIES, "frequencies", self.frequencies, f"1 to {MAX_FREQUENCIES}")
        require(1 <= self.dimensions <= MAX_DIMENSIONS, "dimensions", self.dimensions, f"1 to {MAX_DIMENSIONS}")
        require(1 <= self.profiles <= MAX_PROFILES, "profiles", self.profiles, f"1 to {MAX_PROFILES}")
        most = MAX_INT16 // self.dimensions
        require(1 <= self.groups <= most, "groups", self.groups, f"1 to {most}, the range of the table's int16")

    @property
    def row_bytes(self) -> int:
        """Bytes of an image."""
        return self.groups + (self.profiles > 1)


@dataclass(frozen=True, eq=False)
class CosineRows(TensorRows):
    """N images as cosine codes, and the tensors that they share.

    Args:
        codes: uint8 [N, G + (M > 1)]: the profile if M > 1, then the word of each group.
        books: float16 [M, G, 256, D], the words.
        table: int16 [M, K], the source of each amplitude: group * D + number in the word, or -1 for zero.
        places: int64 [J], the coefficients of a component, counted through Z[c, fy, fx]; the others are zero.
        colour: float32 [3, 3], from the series to RGB.
        mean: float32 [3], of RGB.
        basis: float32 [K, J], the components; None if component k is the coefficient places[k].
    """

    books: Tensor
    table: Tensor
    places: Tensor
    colour: Tensor
    mean: Tensor
    basis: Tensor | None = None
    checked: CosineSpec | None = field(init=False, default=None, repr=False)  # the spec that `check_rows` accepted

    def __len__(self) -> int:
        return len(self.codes)


def check_rows(rows: CosineRows, spec: CosineSpec) -> None:
    """Check that rows fit `spec`; rows are checked once, and their values only on the CPU.

    Raises:
        ValueError: if a tensor has the wrong dtype, shape or device, is not contiguous or, on the CPU, has a wrong value.
    """
    require(isinstance(spec, CosineSpec), "spec", spec, "a CosineSpec; decode_siren decodes SIRENs")
    if rows.checked == spec:
        return
    m = spec.profiles
    shape = tuple(rows.places.shape * 2 if rows.basis is None else rows.basis.shape)
    require(len(shape) == 2, "basis.shape", shape, "[K, J]")
    k, j = shape
    expected = {
        "codes": (torch.uint8, (len(rows), spec.row_bytes)),
        "books": (torch.float16, (m, spec.groups, WORDS, spec.dimensions)),
        "table": (torch.int16, (m, k)),
        "basis": (torch.float32, (k, j)),
        "places": (torch.int64, (j,)),
        "colour": (torch.float32, (OUT_FEATURES, OUT_FEATURES)),
        "mean": (torch.float32, (OUT_FEATURES,)),
    }
    require(len(rows) >= 1, "codes.shape", tuple(rows.codes.shape), "[N, bytes] with N >= 1")
    for name, tensor in rows.tensors().items():
        dtype, shape = expected[name]
        require(tensor.dtype == dtype, f"{name}.dtype", tensor.dtype, dtype)
        require(tuple(tensor.shape) == shape, f"{name}.shape", tuple(tensor.shape), f"{shape} for {spec}")
        require(tensor.device == rows.device, f"{name}.device", tensor.device, f"{rows.device}, that of codes")
    require_contiguous(**rows.tensors())
    if rows.device.type == "cpu":
        profile = int(rows.codes[:, 0].max()) if m > 1 else 0
        require(profile < m, "the profile of an image", profile, f"0 to {m - 1}")
        ranges = {"table": (-1, spec.groups * spec.dimensions - 1), "places": (0, OUT_FEATURES * spec.frequencies**2 - 1)}
        for name, (least, most) in ranges.items():
            low, high = (int(value) for value in torch.aminmax(getattr(rows, name)))
            require(low >= least and high <= most, name, f"in [{low}, {high}]", f"within [{least}, {most}]")
    object.__setattr__(rows, "checked", spec)
