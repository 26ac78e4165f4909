"""Results at a glance: one row a claim, the paper's number beside our best record and how sure that is."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.reporting.cells import ABSENT, measured, record_links
from experiments.reporting.claims import read_paper


def at_a_glance(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the README's first table; what was not measured is a dash."""
    done = runs[runs.status == "finished"]
    rows = [
        _memory(done), _accuracy(done), _accuracy_at_5pct(done), _speed(done, "speedup_pytorch", "DataLoader"),
        _speed(done, "speedup_dali", "DALI"), _decode_rate(done), _encode_rate(done),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["claim", "paper", "ours", "measured on", "records"], dtype=object)


def _row(claim: str, paper: str, ours: str, where: str, runs: pd.DataFrame) -> dict[str, Any]:
    return {"claim": claim, "paper": paper, "ours": ours, "measured on": where, "records": record_links(runs)}


def _memory(runs: pd.DataFrame) -> dict[str, Any]:
    """The encoding of photographs in at most 5% of their bytes that has the most images, and of these the best PSNR."""
    small = runs[(runs.verb == "encode") & (runs.rgb_pct <= 5) & (runs.get("cfg.dataset.size") == 224)]
    best = small.sort_values(["images", "psnr_db"]).tail(1)
    if best.empty:
        return _row("dataset in 5% of its uncompressed bytes", read_paper()["memory_rgb_pct"].text, ABSENT, ABSENT, best)
    run = best.iloc[0]
    ours = f"{run.rgb_pct:.1f}% at {run.psnr_db:.1f} dB"
    where = f"{int(run.images)} photographs at 224 px, {run['cfg.inr']} in {run['cfg.quantize.bits']:.0f} bits; {run.machine}"
    return _row("dataset in 5% of its uncompressed bytes", read_paper()["memory_rgb_pct"].text, ours, where, best)


def _accuracy(runs: pd.DataFrame) -> dict[str, Any]:
    """The smallest loss on all of CIFAR-10."""
    return _loss(runs[(runs.experiment == "accuracy") & (runs.preset == "whole")], "all of CIFAR-10, a small ResNet-18")


def _accuracy_at_5pct(runs: pd.DataFrame) -> dict[str, Any]:
    """The loss at 5% of RGB, on the one dataset where it was measured."""
    return _loss(runs[runs.experiment == "fourth_dataset"], "pictures of houses at 48 px, 120 test images")


def _loss(runs: pd.DataFrame, images: str) -> dict[str, Any]:
    """The network of INRs that loses the least against raw images of the same seeds."""
    trained, paper = runs[runs.verb == "train"], read_paper()["accuracy_drop"].text
    raw = trained[trained.arm == "raw"].set_index("seed").top1_pct
    inrs = trained[trained.arm == "INR"].assign(lost=lambda nets: nets.seed.map(raw) - nets.top1_pct)
    if inrs.lost.isna().all():
        return _row("accuracy lost", paper, ABSENT, ABSENT, inrs[:0])
    best = min((nets for _, nets in inrs.groupby(["net", "cfg.store"], dropna=False)), key=lambda nets: nets.lost.mean())
    ours = f"{measured(best.lost, 1)} points"
    where = f"{images}; {len(best)} seeds; {best.machine.iloc[0]}"
    return _row(f"accuracy lost, at {best.rgb_pct.mean():.0f}% of RGB", paper, ours, where, best)


def _speed(runs: pd.DataFrame, key: str, rival: str) -> dict[str, Any]:
    """The training speed over a rival on a GPU; a CPU's network step hides what feeds it, so no claim is judged there."""
    speeds, names = (
        runs[(runs.experiment == "speedup") & (runs.get("device") == "cuda")],
        {"DataLoader": "dataloader", "DALI": "dali"},
    )
    column, paper = f"{names[rival]}_together_images_per_s", read_paper()[key].text
    timed = speeds.dropna(subset=[column]) if column in speeds else speeds[:0]
    claim = f"training speed over {rival}"
    if timed.empty:
        return _row(claim, paper, ABSENT, "`make gpu`", timed)
    ratio = timed.inr_together_images_per_s / timed[column]
    run = timed.loc[[ratio.idxmax()]]
    where = f"ResNet-18 at 224 px, {run.workers.iloc[0]} workers; {run.machine.iloc[0]}"
    return _row(claim, paper, f"{ratio.max():.2f}x", where, run)


def _decode_rate(runs: pd.DataFrame) -> dict[str, Any]:
    run = runs[(runs.get("cfg.suite") == "decode") & (runs.get("device") == "cuda")].tail(1)
    if run.empty:
        return _row("images decoded a second", ABSENT, ABSENT, "`make gpu`", run)
    rate = {line["size"]: line["images_per_s"] for line in run.iloc[0]["rows"] if line["backend"] == "kernel"}
    ours = f"{rate['3x16@32'] / 1e6:.0f} million at 32 px, {rate['10x32@224'] / 1e3:.0f} thousand at 224 px"
    return _row("images decoded a second", ABSENT, ours, f"3x16 and 10x32; {run.machine.iloc[0]}", run)


def _encode_rate(runs: pd.DataFrame) -> dict[str, Any]:
    run = runs[(runs.get("cfg.suite") == "fit") & (runs.get("device") == "cuda")].sort_values("images_per_s").tail(1)
    if run.empty:
        return _row("images fitted a second, by torch", ABSENT, ABSENT, "`make gpu`", run)
    where = f"{run['cfg.inr'].iloc[0]} at 32 px, {run['cfg.fit.steps'].iloc[0]:.0f} steps; {run.machine.iloc[0]}"
    return _row("images fitted a second, by torch", ABSENT, f"{run.images_per_s.iloc[0]:,.0f}", where, run)
