"""`python -m experiments.codec`: measure rate and distortion of a classical codec on a dataset."""

from __future__ import annotations

from dataclasses import asdict

from omegaconf import DictConfig

from experiments.setup.build import build, build_source
from experiments.setup.cli import main
from experiments.setup.run_folder import start_run
from rapid_inr.data.codecs import measure_curve, require_available
from rapid_inr.runlog.progress import progress_bar
from rapid_inr.runlog.run import write_csv


def run_codec(cfg: DictConfig) -> None:
    config = build(cfg.codec)
    require_available(config.name)
    source = build_source(cfg)
    with start_run(cfg, "codec") as run:
        with progress_bar(config.name, len(source), unit="images") as bar:
            points, skipped = measure_curve(source, config, on_corrupt=cfg.dataset.on_corrupt, on_progress=bar.advance)
        for message in skipped:
            run.warn("image_skipped", message)
        write_csv(run.folder / "curve.csv", [asdict(point) for point in points])
        run.metrics |= {"images": points[0].images, "points": [asdict(point) for point in points]}
    low, high = points[0], points[-1]
    print(
        f"{config.name}: {len(points)} points from {low.bpp:.2f} bpp, {low.psnr_db:.2f} dB to {high.bpp:.2f} bpp, "
        f"{high.psnr_db:.2f} dB over {low.images:,} images; run in {run.folder}"
    )


if __name__ == "__main__":
    main("codec", run_codec)
