"""`python -m experiments.rate_distortion`: PSNR at equal bytes, as tables, pictures and the numbers behind them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from experiments.reporting.curves import measured_curves, published_curves
from experiments.reporting.records import ABSENT
from experiments.setup.cli import main
from experiments.setup.run_folder import require_folder_can_be_written
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import RAW_BPP
from rapid_inr.evaluation.rate_distortion import Curve, psnr_at
from rapid_inr.files import atomic
from rapid_inr.plots.figures import rate_distortion_figure

DENSE = "INR 8 bit"  # what pruned INRs and those of fewer bits are held against
KINDS = ("inr", "coin", "classical")


def rates_of(cfg: DictConfig, dataset: str) -> list[float]:
    """Return the rates to compare a dataset's curves at."""
    rates = list(cfg.rates.get(dataset, cfg.rates.others))
    if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        raise UserError(f"rates.{dataset} is {rates}, expected one or more positive numbers")
    return rates


def equal_bytes_table(curves: Sequence[Curve], rates: Sequence[float]) -> str:
    """Return a Markdown table of PSNR in dB at rates, a row a curve, measured ones first."""
    rows = []
    for curve in sorted(curves, key=lambda curve: (curve.published, KINDS.index(curve.kind))):
        cells = [_decibels(psnr_at(curve.points, rate), published=curve.published) for rate in rates]
        rows.append([curve.label, curve.origin, *cells, curve.note])
    heads = ["codec", "from", *(f"{rate:g} bpp ({100 * rate / RAW_BPP:.1f}%)" for rate in rates), "images"]
    return _markdown(heads, rows, right=range(2, 2 + len(rates)))


def own_bytes_table(curves: Sequence[Curve]) -> str:
    """Return a Markdown table of PSNR in dB at the bytes of each INR, a row each: its own, and that of others."""
    measured = [curve for curve in curves if not curve.published]
    rivals = [curve for curve in measured if curve.label == DENSE or curve.kind == "classical"]
    rows = []
    for curve in sorted((c for c in measured if c.kind != "classical"), key=lambda curve: KINDS.index(curve.kind)):
        for point in sorted(curve.points, key=lambda point: point.bpp):
            beside = [_decibels(None if rival is curve else psnr_at(rival.points, point.bpp)) for rival in rivals]
            rate = [f"{point.bpp:.2f}", f"{100 * point.bpp / RAW_BPP:.1f}"]
            rows.append([curve.label, point.setting, *rate, f"**{point.psnr_db:.2f}**", *beside])
    heads = ["codec", "INR", "bpp", "% of RGB", "PSNR, dB", *(rival.label for rival in rivals)]
    return _markdown(heads, rows, right=range(2, len(heads)))


def _decibels(psnr: float | None, *, published: bool = False) -> str:
    return ABSENT if psnr is None else f"{psnr:.1f}" if published else f"{psnr:.2f}"  # others' are known to a tenth


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: range) -> str:
    rule = ["--:" if i in right else "---" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rule, *rows])


def write_csv(path: Path, curves: Sequence[Curve]) -> None:
    """Write every point of every curve, those too that another beats."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["dataset", "codec", "kind", "from", "bpp", "rgb_pct", "psnr_db", "ssim", "setting", "run"])
        for curve in curves:
            for p in curve.points:
                ssim = "" if p.ssim is None else f"{p.ssim:.5f}"
                rate = [f"{p.bpp:.5f}", f"{100 * p.bpp / RAW_BPP:.4f}", f"{p.psnr_db:.4f}", ssim]
                rows.writerow([curve.dataset, curve.label, curve.kind, curve.origin, *rate, p.setting, p.run])


def run_rate_distortion(cfg: DictConfig) -> None:
    root = Path(cfg.root)
    out = root if cfg.out is None else Path(cfg.out)
    measured, missing = measured_curves(root)
    rates = {dataset: rates_of(cfg, dataset) for dataset in dict.fromkeys(curve.dataset for curve in measured)}
    for line in missing:
        print(f"warning [not_measured]: {line}", file=sys.stderr)
    require_folder_can_be_written(out)
    for dataset in rates:
        curves = [curve for curve in measured if curve.dataset == dataset] + published_curves(dataset)
        text = f"## {dataset}: PSNR in dB at equal bytes\n\n{equal_bytes_table(curves, rates[dataset])}\n\n"
        text += f"At the bytes of each INR:\n\n{own_bytes_table(curves)}\n"
        text += "".join(f"\nNot measured: {line}" for line in missing if line.startswith(f"{dataset}-")) + "\n" * bool(missing)
        with atomic(out / f"{dataset}.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
        write_csv(out / f"{dataset}.csv", curves)
        print(text)
        try:
            rate_distortion_figure(out / f"{dataset}.png", curves, title=f"{dataset}: rate and distortion")
        except ImportError as error:
            print(f"warning [no_picture]: {error}", file=sys.stderr)
    print(f"tables, pictures and the numbers behind them are in {out}")


if __name__ == "__main__":
    main("rate_distortion", run_rate_distortion)
