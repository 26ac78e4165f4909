"""The optimizers of a fit, batched over images: each row [S] of a batch [B, S] is optimised independently.

SOAP (Vyas et al. 2024, arXiv 2409.11321) is Adam in the eigenbasis of Shampoo. For the gradient G of a layer, with the biases as
an additional row, it keeps moving averages of G G^T and G^T G, and takes Adam's step in the bases Q_L, Q_R of their eigenvectors:

    D = Q_L^T G Q_R,   step = Q_L adam(D) Q_R^T
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.spec import SirenSpec, weight_sections

EPS = 1e-8
SHAPE_BETA = 0.95  # of the averages of G G^T and G^T G
REFRESH_STEPS = 10  # between two updates of the bases
FIRST_REFRESHES = (1, 2, 4, 7)  # more often at first, while the bases change most
WARMUP_STEPS = 60  # over which the rate rises, since full steps with poor bases undo the progress of a fit


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) for tensors like `values`."""

    def __init__(self, values: Tensor, betas: tuple[float, float]) -> None:
        self.betas, self.steps = betas, 0
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)

    def step(self, values: Tensor, grad: Tensor, lr: float) -> None:
        """Update `values` in place."""
        beta_1, beta_2 = self.betas
        self.steps += 1
        self.mean.lerp_(grad, 1 - beta_1)
        self.square.mul_(beta_2).addcmul_(grad, grad, value=1 - beta_2)
        root = self.square.sqrt().mul_(1 / math.sqrt(1 - beta_2**self.steps)).add_(EPS)
        values.addcdiv_(self.mean, root, value=-lr / (1 - beta_1**self.steps))


class Soap:
    """SOAP for rows [B, S] of SIRENs."""

    def __init__(self, rows: Tensor, betas: tuple[float, float], spec: SirenSpec) -> None:
        self.spec, self.steps, self.betas = spec, 0, betas
        self.layers = [_LayerSoap(matrices, betas) for matrices in layer_matrices(rows, spec)]

    def step(self, rows: Tensor, grad: Tensor, lr: float) -> None:
        """Update `rows` in place."""
        self.steps += 1
        lr = lr * min(1.0, self.steps / WARMUP_STEPS)
        refresh = self.steps in FIRST_REFRESHES or self.steps % REFRESH_STEPS == 0
        for layer, matrices, layer_grad in zip(
            self.layers, layer_matrices(rows, self.spec), layer_matrices(grad, self.spec), strict=True
        ):
            layer.step(matrices, layer_grad, lr, refresh=refresh)


class _LayerSoap:
    """SOAP for layers of one shape: matrices [B, L, n, m]."""

    def __init__(self, matrices: Tensor, betas: tuple[float, float]) -> None:
        self.betas, self.steps = betas, 0
        self.mean, self.square = torch.zeros_like(matrices), torch.zeros_like(matrices)
        self.left, self.right = (matrices.new_zeros(*matrices.shape[:2], n, n) for n in matrices.shape[2:])
        self.left_basis, self.right_basis = (
            torch.eye(n, device=matrices.device).expand(*matrices.shape[:2], n, n) for n in matrices.shape[2:]
        )

    def step(self, matrices: Tensor, grad: Tensor, lr: float, *, refresh: bool) -> None:
        beta_1, beta_2 = self.betas
        self.steps += 1
        self.left.lerp_(grad @ grad.mT, 1 - SHAPE_BETA)
        self.right.lerp_(grad.mT @ grad, 1 - SHAPE_BETA)
        if refresh:  # one step of orthogonal iteration
            self.left_basis = _orthonormal(self.left @ self.left_basis)
            self.right_basis = _orthonormal(self.right @ self.right_basis)
        self.mean.lerp_(grad, 1 - beta_1)
        rotated = self.left_basis.mT @ grad @ self.right_basis
        self.square.mul_(beta_2).addcmul_(rotated, rotated, value=1 - beta_2)
        root = self.square.sqrt().mul_(1 / math.sqrt(1 - beta_2**self.steps)).add_(EPS)
        step = (self.left_basis.mT @ self.mean @ self.right_basis).div_(root)
        matrices.add_(self.left_basis @ step @ self.right_basis.mT, alpha=-lr / (1 - beta_1**self.steps))


def layer_matrices(rows: Tensor, spec: SirenSpec) -> list[Tensor]:
    """Return views of the layers in rows [B, S], one for each shape: [B, L, fan_in + 1, fan_out], biases last."""
    sections = weight_sections(spec)
    views = []
    for layers in (range(1), range(1, spec.depth), range(spec.depth, spec.depth + 1)):
        if layers:
            span = slice(sections[f"weight_{layers[0]}"].start, sections[f"bias_{layers[-1]}"].stop)
            views.append(rows[:, span].unflatten(1, (len(layers), -1, spec.fans[layers[0]][1])))
    return views


def _orthonormal(matrices: Tensor) -> Tensor:
    """Return the Q of each QR decomposition; on a CPU one by one, since LAPACK's last bits depend on memory alignment."""
    if matrices.is_cuda:
        return torch.linalg.qr(matrices).Q
    return torch.stack([torch.linalg.qr(matrix).Q for matrix in matrices.flatten(0, 1)]).unflatten(0, matrices.shape[:2])
