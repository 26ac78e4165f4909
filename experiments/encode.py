"""`python -m experiments.encode`: a dataset becomes a packed file of SIRENs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.cli import main
from experiments.encoding import encode_dataset, plan_encode
from experiments.runs import require_file_can_be_written, start_run


def run_encode(cfg: DictConfig) -> None:
    out = Path(cfg.out)
    require_file_can_be_written(out, overwrite=cfg.overwrite)
    plan = plan_encode(cfg)
    with start_run(cfg, "encode") as run:
        encode_dataset(cfg, plan, run, out=out)
    m = run.metrics
    print(
        f"{out}: {m['images']:,} images, {m['store_bytes']:,} bytes, {m['rgb_pct']:.1f}% of RGB, {m['bpp']:.2f} bpp, "
        f"{m['psnr_db']:.2f} dB, {m['encode_ms_per_image']:.1f} ms an image; run in {run.folder}"
    )


if __name__ == "__main__":
    main("encode", run_encode)
