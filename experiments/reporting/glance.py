"""Results at a glance: one row a claim, the paper's number beside our best record, how sure that is, and its command."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from experiments.reporting.cells import Measured, gap, record_links
from experiments.reporting.claims import ClaimRow, read_paper
from experiments.reporting.commands import commands_of, swept_commands
from experiments.reporting.markdown import ABSENT
from experiments.reporting.paper_tables import RAW, beside, by_pipeline, only

SMALL = "dataset in 5% of its uncompressed bytes"
OWN = re.compile(r"python -m experiments\.| (track|run_dir|overwrite)=\S+|(?<= out=)\S*/")  # parts of a command to leave out
MEASURED = {  # where accuracy was measured, by experiment and preset, the best evidence first
    "accuracy": {"h200": "all of CIFAR-10, ResNet-18", "whole": "all of CIFAR-10, a small ResNet-18"},
    "rate_accuracy": {"cpu": "Flowers-102 at 64 px, a small ResNet-18"},
}  # fmt: skip
STORE_OF_RECORD = "fit.steps=100"  # how the store was fitted that the speed record names
ABOUT_5_PCT = 7


def at_a_glance(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the README's first table; a dash is not measured."""
    done = runs[runs.status == "finished"]
    rows = [
        _memory(done), _accuracy(done, "accuracy", "SIREN", 20), _accuracy(done, "accuracy", "cosine series", 6.5),
        _accuracy(done, "rate_accuracy", "SIREN", 5.5), _accuracy(done, "rate_accuracy", "cosine series", 5.5),
        _speed(done, "speedup_pytorch", "DataLoader"), _speed(done, "speedup_dali", "DALI"), _decode_rate(done), _fit_rate(done),
    ]  # fmt: skip
    columns = ["claim", "paper", "ours", "within the claim", "evidence", "measured on", "command", "records"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _row(
    claim: str, key: str | None, runs: pd.DataFrame, ours: str = ABSENT, evidence: str = ABSENT, where: str = "",
    value: Measured | None = None, commands: list[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the row of some runs; without runs, the command that measures it."""
    paper = read_paper()[key] if key else None
    row = {"claim": claim, "paper": paper.text if paper else ABSENT, "ours": ours, "records": record_links(runs)}
    if runs.empty:
        return row | {"within the claim": ABSENT, "evidence": ABSENT, "measured on": ABSENT, "command": "`make gpu`"}
    verdict = ClaimRow(paper, "", {}, value, ()).verdict if paper else ABSENT
    first = runs.iloc[0]
    commands = commands or swept_commands(runs) or _told(first)
    command = " and ".join(f"`{OWN.sub('', line)}`" for line in commands)
    return row | {
        "within the claim": verdict, "evidence": evidence, "measured on": f"{where}; {first.machine}", "command": command,
    }  # fmt: skip


def _told(run: pd.Series) -> list[str]:
    """Return the command of a run that was not started with ``experiment=...``: its own, or that of its experiment's files."""
    if not isinstance(run.experiment, str):
        return [run.command]
    commands = commands_of(run.experiment, run.preset, run.to_frame().T)
    return [line for line in commands if f"experiments.{run.verb} " in line][-1:]


def _one(value: float) -> Measured:
    return Measured(value, None, 1, 1)


def _memory(runs: pd.DataFrame) -> dict[str, Any]:
    """The encoding of photographs in at most 5% of their bytes: the one with the most images, then the best PSNR."""
    small = runs[(runs.verb == "encode") & (runs.rgb_pct <= 5) & (runs.get("cfg.dataset.size") == 224)]
    best = small.sort_values(["images", "psnr_db"]).tail(1)
    if best.empty:
        return _row(SMALL, "memory_rgb_pct", best)
    run = best.iloc[0]
    where = f"photographs at 224 px, {run['cfg.inr']} in {run['cfg.quantize.bits']:.0f} bits"
    ours = f"{run.rgb_pct:.1f}% at {run.psnr_db:.1f} dB"
    return _row(SMALL, "memory_rgb_pct", best, ours, f"{int(run.images)} images", where, value=_one(run.rgb_pct))


def _accuracy(runs: pd.DataFrame, experiment: str, codec: str, most_pct: float) -> dict[str, Any]:
    """The smallest loss of a codec within a share of the RGB bytes, from the best evidence available."""
    for preset, images in MEASURED[experiment].items():
        nets = only(runs, "train", experiment=experiment, preset=preset)
        raw = only(nets, **RAW)
        nets["raw"] = beside(nets, raw)
        nets = nets[(nets.codec == codec) & (nets.rgb_pct <= most_pct) & nets.raw.notna()]
        groups = [(gap(some, "raw", "top1_pct", 1), some) for _, some in nets.groupby("variant", dropna=False)]
        if groups:
            lost, best = min(groups, key=lambda pair: pair[0].mean)
            claim = f"accuracy lost, {codec} at {best.rgb_pct.mean():.0f}% of RGB"
            both = pd.concat([best, raw[raw.seed.isin(best.seed)]])
            row = _row(
                claim, "accuracy_drop", both, f"{lost.text} points", f"{lost.n} seeds, ± standard error", images, value=lost
            )
            if best.rgb_pct.mean() > ABOUT_5_PCT:  # the paper claims both at once
                row["within the claim"] += ", but not in 5% of the bytes"
            return row
    return _row(f"accuracy lost, {codec} at {most_pct:.0f}% of RGB", "accuracy_drop", runs[:0])


def _speed(runs: pd.DataFrame, key: str, rival: str) -> dict[str, Any]:
    """The training speed over a rival on a GPU. On a CPU the network's step hides the pipeline, so no claim is judged there."""
    claim, speeds = f"training speed over {rival}", only(runs, "benchmark", experiment="speedup")
    rows = by_pipeline(speeds).query("pipeline == @rival").dropna(subset="over")
    if rows.empty:
        return _row(claim, key, speeds[:0])
    best = rows.sort_values("over").tail(1)
    run = best.iloc[0]
    size = {"cifar10": 32}.get(run.dataset, 224)
    where = f"ResNet-18 at {size} px, {run.workers} workers"
    evidence = f"one run, medians of {run['cfg.repeats']:.0f} epochs"
    by_hand = f"benchmark experiment=speedup_{run.dataset}/{run.preset} workers={run.workers} repeats={run['cfg.repeats']:.0f}"
    commands = None if swept_commands(best) else [f"{by_hand} {STORE_OF_RECORD}"]
    return _row(claim, key, best, f"{run.over:.2f}x", evidence, where, value=_one(run.over), commands=commands)


def _decode_rate(runs: pd.DataFrame) -> dict[str, Any]:
    claim, run = "images decoded a second", runs[(runs.get("cfg.suite") == "decode") & (runs.get("device") == "cuda")].tail(1)
    if run.empty:
        return _row(claim, None, run)
    rate = {line["size"]: line["images_per_s"] for line in run.iloc[0]["rows"] if line["backend"] == "kernel"}
    ours = f"{rate['3x16@32'] / 1e6:.0f} million at 32 px, {rate['10x32@224'] / 1e3:.0f} thousand at 224 px"
    return _row(claim, None, run, ours, f"medians of {run['cfg.repeats'].iloc[0]:.0f} batches", "3x16 and 10x32")


def _fit_rate(runs: pd.DataFrame) -> dict[str, Any]:
    fits = runs[(runs.get("cfg.suite") == "fit") & (runs.get("device") == "cuda")].sort_values("images_per_s").tail(1)
    if fits.empty:
        return _row("images fitted a second", None, fits)
    run = fits.iloc[0]
    claim = f"images fitted a second, by {'the fused kernel' if run.get('backend') == 'kernel' else 'torch'}"
    where = f"{run['cfg.inr']} at 32 px, {run['cfg.fit.steps']:.0f} steps"
    return _row(claim, None, fits, f"{run.images_per_s:,.0f}", f"median of {run['cfg.repeats']:.0f} fits", where)
