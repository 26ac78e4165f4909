"""`python -m experiments.sheet`: one image as several stores hold it, side by side, and its quality over its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from omegaconf import DictConfig

from experiments.encoding.decoded import as_decoded, likeness
from experiments.reporting.curves import CODECS
from experiments.setup.build import build_codec, build_device, build_source
from experiments.setup.cli import main
from experiments.setup.run_folder import start_run
from experiments.training.provenance import require_made_from
from rapid_inr.data.codecs import CodecConfig, measure_curve, require_available
from rapid_inr.data.source import ImageSource, keep
from rapid_inr.errors import UserError
from rapid_inr.evaluation.metrics import bpp, rgb_pct
from rapid_inr.evaluation.rate_distortion import Curve, CurvePoint
from rapid_inr.plots.figures import contact_sheet, rate_distortion_figure
from rapid_inr.runlog.run import write_csv
from rapid_inr.store.format import read_store
from rapid_inr.store.packed import PackedStore, image_bytes

WIDTH = 200  # pixels that a picture has at least, and its caption under it


@dataclass(frozen=True)
class Held:
    """What an image costs and how good it is, as a store or a codec holds it."""

    codec: str
    setting: str
    n_bytes: float
    bpp: float
    rgb_pct: float
    psnr_db: float
    ssim: float | None


def one_image(cfg: DictConfig) -> ImageSource:
    """Return a source of the one image that ``image`` counts to."""
    source = build_source(cfg)
    if not 0 <= cfg.image < len(source):
        raise UserError(f"image is {cfg.image}, expected 0..{len(source) - 1}")
    return keep(source, slice(cfg.image, cfg.image + 1))


def held_by(store: PackedStore, source: ImageSource) -> tuple[Held, np.ndarray]:
    """Return how a store holds the image of a source of one, and what it decodes to."""
    image_id, quantize, spec = int(source.ids[0]), store.header.quantize, store.header.spec
    held = np.arange(len(store)) if store.source_ids is None else store.source_ids.cpu().numpy()
    if image_id not in held:
        raise UserError(f"a store of {len(store)} images lacks {source.name_of(image_id)}; name stores that hold it")
    own = store.take(torch.from_numpy(np.flatnonzero(held == image_id)))
    pixels = as_decoded(source, own).read(image_id)
    cost = {"n_bytes": image_bytes(own), "n_pixels": own.n_pixels}
    near = likeness([image_id], lambda _: pixels, source.read)
    settings = (f"INR {quantize.bits} bit", f"{spec.depth}x{spec.hidden}", cost["n_bytes"], bpp(**cost), rgb_pct(**cost))
    return Held(*settings, near["psnr_db"], near.get("ssim")), pixels


def held_by_codec(config: CodecConfig, source: ImageSource) -> list[Held]:
    """Return what a codec makes of the image at each of its settings."""
    points, _ = measure_curve(source, config)
    settings = [f"{p.quality:g} {p.subsampling}" for p in points]
    return [
        Held(CODECS[config.name], setting, p.n_bytes, p.bpp, p.rgb_pct, p.psnr_db, p.ssim)
        for p, setting in zip(points, settings, strict=True)
    ]


def curves_of(rows: Sequence[Held], *, dataset: str) -> list[Curve]:
    """Return a curve for each codec and each number of bits of an INR."""
    points: dict[str, list[CurvePoint]] = {}
    for row in rows:
        points.setdefault(row.codec, []).append(CurvePoint(row.bpp, row.psnr_db, row.ssim, setting=row.setting))
    kinds = {label: "classical" if label in CODECS.values() else "inr" for label in points}
    return [Curve(dataset, label, kinds[label], tuple(some)) for label, some in points.items()]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """Return a picture wide enough for its caption, each pixel repeated."""
    factor = -(-WIDTH // pixels.shape[1])
    return pixels.repeat(factor, 0).repeat(factor, 1)


def run_sheet(cfg: DictConfig) -> None:
    codec, source = build_codec(cfg), one_image(cfg)
    require_available(codec.name)
    found = []
    for path in cfg.stores:
        store = read_store(path, device=build_device(cfg))
        require_made_from(store, cfg)
        found.append(held_by(store, source))
    if not found:
        raise UserError("stores is empty, expected one or more FILES.inr")
    found.sort(key=lambda item: item[0].n_bytes)
    inrs, original = [row for row, _ in found], source.read(int(source.ids[0]))
    with start_run(cfg, "sheet") as run:
        rows = inrs + held_by_codec(codec, source)
        write_csv(run.folder / "curve.csv", [asdict(row) for row in rows])
        captions = [f"{row.setting}, {row.codec[4:]}: {row.n_bytes:,.0f} bytes, {row.psnr_db:.1f} dB" for row in inrs]
        name = source.name_of(int(source.ids[0]))
        title = f"{source.name} {name}: the original and {len(inrs)} INRs of it"
        pictures = [enlarged(pixels) for pixels in (original, *(pixels for _, pixels in found))]
        contact_sheet(run.picture("sheet.png"), pictures, ["original", *captions], title=title)
        try:
            curves = curves_of(rows, dataset=source.name)
            rate_distortion_figure(run.picture("curve.png"), curves, title=f"{source.name} {name}", one_image=True)
        except ImportError as error:
            run.warn("no_figure", str(error))
        run.metrics |= {"images": 1, "points": [asdict(row) for row in inrs]}
    low, high = inrs[0], inrs[-1]
    print(
        f"{len(inrs)} INRs of {name} from {low.n_bytes:,.0f} bytes, {low.psnr_db:.2f} dB to {high.n_bytes:,.0f} bytes, "
        f"{high.psnr_db:.2f} dB; run in {run.folder}"
    )


if __name__ == "__main__":
    main("sheet", run_sheet)
