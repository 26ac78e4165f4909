"""Share bytes among images so that their mean PSNR is as high as it can be: every byte goes where it buys the most dB.

Each image has a curve of PSNR over bytes, one point a round of pruning. All images pay the same price per dB at the optimum, so
the upper hulls of the curves are climbed together, steepest step first, until the bytes are spent (Shoham & Gersho 1988).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rapid_inr.errors import UserError


def allocate(psnr_db: Tensor, cost_bytes: Tensor, total_bytes: int) -> Tensor:
    """Choose a point of each image's curve.

    Args:
        psnr_db: float64 [R, B], of R ways to store each of B images.
        cost_bytes: int64 [R], what each way costs an image.
        total_bytes: for all images together.

    Returns:
        int64 [B], the chosen way of each image. The bytes left over are fewer than a step of one image's hull, or none would buy
        a higher PSNR.

    Raises:
        ValueError: if even the cheapest way exceeds `total_bytes`.
    """
    n_images = psnr_db.shape[1]
    cheapest = int(cost_bytes.argmin())
    left = total_bytes - n_images * int(cost_bytes[cheapest])
    if left < 0:
        raise UserError(f"{n_images} images take at least {total_bytes - left:,} bytes, the budget leaves them {total_bytes:,}")
    image, slope, extra, way = _hull_steps(psnr_db, cost_bytes, start=cheapest)
    order = slope.argsort(descending=True, stable=True)  # slopes fall along a hull, so an image's steps stay in their order
    taken = order[extra[order].cumsum(0) <= left]
    chosen = torch.full((n_images,), cheapest)
    for i, w in zip(image[taken].tolist(), way[taken].tolist(), strict=True):
        chosen[i] = w
    return chosen


def _hull_steps(psnr_db: Tensor, cost_bytes: Tensor, *, start: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the steps of all upper hulls from the way `start`: whose it is, its dB per byte, its bytes, the way it leads to."""
    images = torch.arange(psnr_db.shape[1])
    place = torch.full_like(images, start)
    steps = []
    while True:
        extra = cost_bytes[:, None] - cost_bytes[place]  # [R, B]
        slope = (psnr_db - psnr_db[place, images]) / extra
        best, way = torch.where(extra > 0, slope, -torch.inf).max(0)
        rises = best > 0
        if not rises.any():
            break
        steps.append((images[rises], best[rises], extra[way, images][rises], way[rises]))
        place = torch.where(rises, way, place)
    if not steps:
        return images[:0], psnr_db.new_empty(0), images[:0], images[:0]
    return tuple(torch.cat(column) for column in zip(*steps, strict=True))
