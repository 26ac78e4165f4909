"""PSNR at equal bytes: measured curves, tables of them, and curves that others published."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from experiments.reporting.cells import Link, formatted, natural, record_links, summarize
from experiments.reporting.markdown import ABSENT
from experiments.reporting.paper_tables import only
from experiments.reporting.tables import Figure, table
from rapid_inr.evaluation.metrics import RAW_BPP
from rapid_inr.evaluation.rate_distortion import MEASURED, Curve, CurvePoint, point_at, psnr_at
from rapid_inr.plots.rate_distortion import rate_distortion_figure

PUBLISHED = Path(__file__).parent / "published"
CODECS = {
    "jpeg": "JPEG", "jpeg_shared": "JPEG, shared tables", "webp": "WebP", "jpeg2000": "JPEG2000", "avif": "AVIF", "astc": "ASTC",
}  # fmt: skip
DENSE = "INR 8 bit"  # the INRs that others are compared with
KINDS = ("inr", "coin", "classical")
RATES = {  # bits per pixel at which curves are compared; 1.2 is 5% of RGB
    "kodak": (0.15, 0.3, 0.6, 1.0, 2.0), "kodak-224": (0.3, 0.6, 0.9, 1.2, 2.0), "photos": (0.3, 0.6, 0.9, 1.2, 2.0),
    "cifar10": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0),
}  # fmt: skip
SMALL_BPP = 0.051 * RAW_BPP  # 5% of RGB, and the header of a file
ENCODE, DECODE = "to encode, ms of a core", "to decode, ms of a core"
OTHER_RATES = (0.5, 1.0, 2.0, 4.0, 6.0)


def measured_curves(runs: pd.DataFrame) -> list[tuple[Curve, pd.DataFrame]]:
    """Return the measured curves, each with its runs.

    Encodes with equal labels ``dataset``, ``curve`` and ``kind`` are points of one curve. A codec's run is a curve by itself.
    """
    labelled = runs.dropna(subset=["dataset", "curve", "kind"]).assign(note=lambda some: some.apply(_note, axis=1))
    curves = []
    for (dataset, label, kind, note), group in labelled.groupby(["dataset", "curve", "kind", "note"]):
        points = [point for run in group.to_dict("records") for point in _points(run)]
        curves.append((Curve(dataset, CODECS.get(label, label), kind, tuple(points), note=note), group))
    return curves


def _note(run: pd.Series) -> str:
    """Return how many images a curve is of, the most optimizer steps of an image (fit, pruning, QAT), and what is not counted."""
    images = f"{int(run.images):,} images"
    if run.verb == "codec":
        return images
    if pd.notna(run.get("codebook_bytes")):
        return f"{images}; codebooks not counted"
    rounds = math.ceil(run["cfg.prune.max_ratio"] / run["cfg.prune.step"] - 1e-9) if run["cfg.prune.rule"] != "none" else 0
    qat = run["cfg.refine.steps"] if run["cfg.quantize.bits"] <= 8 else 0
    steps = (run["cfg.fit.steps"], rounds * run["cfg.prune.finetune_steps"], qat)
    return f"{images}, {' + '.join(f'{int(n):,}' for n in steps if n)} steps"


def _points(run: Mapping[str, Any]) -> list[CurvePoint]:
    if run["verb"] != "codec":
        own = run.get("own_bpp")  # of a code with codebooks: the bytes of the images alone
        rate = run["bpp"] if own is None or own != own else own
        cost = {"encode_ms": run.get("encode_ms_per_image"), "decode_ms": run.get("decode_cpu_ms")}
        shape = str(run.get("shape") or "")
        return [CurvePoint(rate, run["psnr_db"], run.get("ssim"), **cost, setting=shape, run=run["path"])]
    points = []
    for p in run["points"]:
        setting, branch = f"{p['quality']:g} {p['subsampling']}", p["subsampling"]
        if ":" not in branch:  # ASTC: the block decides the rate, so that all blocks are one curve
            setting, branch = branch, ""
        measured = {name: p.get(name) for name in MEASURED}
        points.append(CurvePoint(p["bpp"], **measured, setting=setting, branch=branch, run=run["path"]))
    return points


def published_curves(dataset: str) -> list[Curve]:
    """Return the published curves to show beside a dataset's own; their notes name their images."""
    curves = []
    for path in sorted(PUBLISHED.glob("*.yaml")):
        file = OmegaConf.to_container(OmegaConf.load(path))
        for entry in file["curves"] if dataset in file["shown_with"] else ():
            points = tuple(CurvePoint(bpp, psnr_db) for bpp, psnr_db in entry["points"])
            origin = f"{entry['mark']}: {file['sources'][entry['source']]}"
            curves.append(
                Curve(dataset, entry["codec"], entry["kind"], points, published=True, origin=origin, note=file["images"])
            )
    return curves


def draw(runs: pd.DataFrame, path: Path) -> None:
    """Draw PSNR over bits per pixel for the runs of one dataset, with published curves beside them."""
    (dataset,) = runs.dataset.unique()
    own = [curve for curve, _ in measured_curves(runs)]
    rate_distortion_figure(path, own + published_curves(dataset), title=f"{dataset}: rate and distortion")


@table("rate_distortion", "{}: PSNR in dB at equal bytes", each="dataset", picture=draw)
def at_equal_bytes(runs: pd.DataFrame) -> pd.DataFrame:
    measured = sorted(measured_curves(runs), key=lambda pair: KINDS.index(pair[0].kind))
    (dataset,) = runs.dataset.unique()
    published = sorted(published_curves(dataset), key=lambda curve: KINDS.index(curve.kind))
    rates = RATES.get(dataset, OTHER_RATES)
    rows = []
    for curve, some in [*measured, *((curve, None) for curve in published)]:
        digits = 1 if curve.published else 2  # published values have one digit
        cells = {f"{rate:g} bpp ({100 * rate / RAW_BPP:.1f}%)": _decibels(psnr_at(curve.points, rate), digits) for rate in rates}
        links = () if some is None else record_links(some)
        rows.append({"codec": curve.label, "from": curve.origin, **cells, "images": curve.note, "records": links})
    return pd.DataFrame(rows, dtype=object)


@table("rate_distortion", "The best PSNR in dB within 5% and 10% of the RGB bytes")
def at_five_percent(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each kind of code: the best of its curves, interpolated at the rate, and of its points below it."""
    curves = [curve for curve, _ in measured_curves(runs)]
    best: dict[str, dict[str, float]] = defaultdict(dict)  # by kind of code, then by column
    for curve in sorted(curves, key=lambda curve: KINDS.index(curve.kind)):
        code = best["SIREN" if curve.label.startswith("INR") else curve.label.partition(",")[0]]
        for share in (5, 10):
            column, rate = f"{curve.dataset}, {share}%", share * RAW_BPP / 100
            within = [point.psnr_db for point in curve.points if point.bpp <= rate]
            if (psnr := max([*within, psnr_at(curve.points, rate) or -math.inf])) > -math.inf:
                code[column] = max(psnr, code.get(column, -math.inf))
    columns = sorted({column for code in best.values() for column in code}, key=natural)
    rows = [{"code": name, **{c: _decibels(code.get(c), 2) for c in columns}} for name, code in best.items() if code]
    return pd.DataFrame(rows, dtype=object)


@table("rate_distortion", "{}: PSNR in dB and SSIM at the bytes of each INR", each="dataset")
def at_the_bytes_of_each_inr(runs: pd.DataFrame) -> pd.DataFrame:
    return own_bytes_table([curve for curve, _ in measured_curves(runs)])


def own_bytes_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """Return a row for each INR: its rate and quality, and the quality of others at that rate."""
    rivals = [curve for curve in curves if curve.label == DENSE or curve.kind == "classical"]
    rows = []
    for curve in sorted((c for c in curves if c.kind != "classical"), key=lambda curve: KINDS.index(curve.kind)):
        for point in sorted(curve.points, key=lambda point: point.bpp):
            own = {"bpp": f"{point.bpp:.2f}", "% of RGB": f"{100 * point.bpp / RAW_BPP:.1f}", "its own": _quality(point)}
            beside = {r.label: ABSENT if r is curve else _quality(point_at(r.points, point.bpp)) for r in rivals}
            rows.append({"codec": curve.label, "INR": point.setting, **own, **beside, "records": (Link("record", point.run),)})
    return pd.DataFrame(rows, dtype=object)


@table("rate_distortion", "{}: the best INR within 5% of RGB, else the smallest, and others in its bytes", each="dataset")
def costs(runs: pd.DataFrame) -> pd.DataFrame:
    curves = measured_curves(runs)
    inrs = sorted((point for curve, _ in curves if curve.kind == "inr" for point in curve.points), key=lambda point: point.bpp)
    if not inrs:
        return pd.DataFrame()
    rate = max([point for point in inrs if point.bpp <= SMALL_BPP] or inrs[:1], key=lambda point: point.psnr_db).bpp
    reached = [(curve.label, point, some) for curve, some in curves if (point := point_at(curve.points, rate)) is not None]
    rows = [
        {
            "codec": label, "bpp": f"{rate:.2f}", "PSNR, dB": f"{point.psnr_db:.2f}", "SSIM": formatted(point.ssim, ".3f"),
            ENCODE: formatted(point.encode_ms, ",.1f"), DECODE: formatted(point.decode_ms, ",.1f"), "records": record_links(some),
        }
        for label, point, some in sorted(reached, key=lambda row: -row[1].psnr_db)
    ]  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


@table(
    "encode_time", "Photographs at 224 px by the time to encode one, and codecs in the same bytes",
    figure=Figure(ENCODE, "PSNR, dB", line=("curve",), log=True),
)  # fmt: skip
def encode_time(runs: pd.DataFrame) -> pd.DataFrame:
    encodes = only(runs, "encode")
    if encodes.empty:  # codecs are shown in the bytes of INRs
        return encodes
    for stage in ("fit", "refine"):
        encodes[f"{stage} steps"] = encodes[f"cfg.{stage}.steps"].map("{:.0f}".format)
    rows = [run | asdict(_points(run)[0]) for run in encodes.to_dict("records")]
    for run in only(runs, "codec").to_dict("records"):
        if (point := point_at(_points(run), encodes.bpp.min())) is not None:
            rows.append(run | asdict(point) | {"curve": CODECS[run["curve"]]})
    return summarize(pd.DataFrame(rows), ["curve", "fit steps", "refine steps"], {
        "bpp": ("bpp", 2), "PSNR, dB": ("psnr_db", 2), "SSIM": ("ssim", 3), ENCODE: ("encode_ms", 0), DECODE: ("decode_ms", 1),
    })  # fmt: skip


def _quality(point: CurvePoint | None) -> str:
    """Return PSNR in dB and SSIM as one cell."""
    if point is None:
        return ABSENT
    return f"{point.psnr_db:.2f}" + ("" if point.ssim is None else f" / {point.ssim:.3f}")


def _decibels(psnr: float | None, digits: int) -> str:
    return ABSENT if psnr is None else f"{psnr:.{digits}f}"
