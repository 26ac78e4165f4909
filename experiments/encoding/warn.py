"""What an encoding warns of, and the one thing it refuses halfway."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from experiments.setup.build import build_device
from rapid_inr.compress.prune import PruneConfig
from rapid_inr.data.source import ImageSource
from rapid_inr.encoding.encode import EncodeReport
from rapid_inr.encoding.encoder import Encoder
from rapid_inr.errors import UserError
from rapid_inr.runlog import named_warnings
from rapid_inr.runlog.records import inr_name
from rapid_inr.runlog.run import Run
from rapid_inr.store.plan import StorePlan
from rapid_inr.store.shards import Shard, ShardFolder

LARGE_SIDE, SMALL_DEPTH = 128, 5  # images of that many pixels a side and more want INRs of more layers


def warn_beforehand(cfg: DictConfig, run: Run, *, source: ImageSource, encoder: Encoder, image_size: tuple[int, int]) -> None:
    """Say what can be known before any image is fitted, which may take hours."""
    if max(image_size) >= LARGE_SIDE and (cfg.inr.depth is None or cfg.inr.depth <= SMALL_DEPTH):
        lose = "x".join(map(str, image_size)) + f" lose detail in inr={inr_name(cfg.inr)}"
        run.warn("small_inr", f"images of {lose}; inr=6x44 fit=photo is meant for them")
    if cfg.prune.rule == "none":
        store_bytes = len(source) * encoder.code.row_bytes
        warn_too_large(cfg, run, store_bytes=store_bytes, n_images=len(source))


def warn_too_large(cfg: DictConfig, run: Run, *, store_bytes: int, n_images: int) -> None:
    """Say so if a store does not fit ``gpu_memory_gb`` or, without that, the GPU of this process where there is one."""
    memory_bytes, device = None, build_device(cfg)
    if cfg.get("gpu_memory_gb") is not None:
        memory_bytes = int(1e9 * cfg.gpu_memory_gb)
    elif device.type == "cuda":
        memory_bytes = torch.cuda.mem_get_info(device)[1]
    for warning in named_warnings.store_does_not_fit(store_bytes=store_bytes, n_images=n_images, memory_bytes=memory_bytes):
        run.warn(*warning)


def require_floor_met(config: PruneConfig, shard: Shard, folder: ShardFolder) -> None:
    """Refuse to continue after a first shard in which no image has the PSNR from which it would be pruned."""
    best = max(shard.measured["fit_psnr_db"].tolist(), default=config.floor_db)
    if config.rule == "floor" and best < config.floor_db:
        raise UserError(
            f"prune.floor_db is {config.floor_db:g}, but the best of the first {len(shard):,} images has {best:.2f} dB before "
            f"pruning; their shard is kept in {folder.path}, and the same command continues without pruning"
        )


def warn_failures(run: Run, report: EncodeReport, plan: StorePlan) -> None:
    """Count the images that did not converge, and name some."""
    least = plan.made.get("fit", {}).get("min_psnr_db")
    for warning in named_warnings.fits_not_converged(report.unconverged, n_images=len(report.psnr_db), min_psnr_db=least):
        run.warn(*warning)


def warn_codebooks(run: Run) -> None:
    """Say so where most bytes of a store are codebooks, which pay off if many images share them."""
    m = run.metrics
    if (codebooks := m.get("codebook_bytes", 0)) > m["store_bytes"] / 2:
        enough = round(codebooks / (m["store_bytes"] - codebooks) * m["images"])
        share = f"codebooks take {codebooks:,} of {m['store_bytes']:,} bytes; {enough:,} images would fill as many"
        run.warn("codebooks_outweigh_images", f"{share}; for fewer, take inr.basis=cosines, less inr.profiles, or SIRENs")


def warn_unpruned(run: Run, report: EncodeReport, plan: StorePlan) -> None:
    """Say so where a rule let no image be pruned: most likely its numbers are not what was meant."""
    config = PruneConfig(**plan.made.get("prune", {}))
    if config.rule != "none" and config.max_ratio > 0 and not bool(report.prune_ratio.any()):
        highest = f"{report.fit_psnr_db.max():.2f} dB at best before pruning"
        run.warn("nothing_pruned", f"no image meets prune.rule={config.rule} at {config.step:.0%} pruned ({highest})")
