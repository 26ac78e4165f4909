"""`python -m experiments.capacity`: what a card of a given memory would hold of a large dataset, projected from measured runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.reporting.columns import machine
from experiments.reporting.records import read_record
from experiments.setup.cli import main
from experiments.setup.run_folder import start_run
from rapid_inr.compress.capacity import Constants, project
from rapid_inr.errors import UserError
from rapid_inr.runlog.run import Run


def read_run(folder: str, *, key: str, verb: str, metric: str) -> dict[str, Any]:
    """Read the record of a finished run.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if it is of another command, did not finish, or measured something else.
    """
    path = Path(folder) / "record.json"
    if not path.is_file():
        raise FileNotFoundError(f"no run in {folder}; {key}=RUN is the folder of an earlier experiments.{verb}")
    record = read_record(path)
    if record["verb"] != verb or record["status"] != "finished" or metric not in record["metrics"]:
        raise UserError(f"{key} {folder} is a {record['status']} run of {record['verb']}, expected one of {verb} with {metric}")
    return record


def constants_of(encoded: dict[str, Any], fed: dict[str, Any] | None) -> Constants:
    """Return what runs have measured, an image; raw bytes follow from the share that the store takes of them."""
    m = encoded["metrics"]
    return Constants(
        raw_bytes=100 * m["store_bytes"] / m["rgb_pct"] / m["images"],
        inr_bytes=m["device_bytes"] / m["images"],
        encode_ms=m["encode_ms_per_image"],
        decode_images_per_s=None if fed is None else fed["metrics"]["inr_loader_images_per_s"],
    )


def run_capacity(cfg: DictConfig) -> None:
    encoded = read_run(cfg.encoded, key="encoded", verb="encode", metric="device_bytes")
    fed = None if cfg.fed is None else read_run(cfg.fed, key="fed", verb="benchmark", metric="inr_loader_images_per_s")
    constants = constants_of(encoded, fed)
    projection = project(constants, images=cfg.images, card_gb=cfg.card_gb, reserve_gb=cfg.reserve_gb)
    with start_run(cfg, "capacity") as run:
        run.metrics |= {"basis": "projection", "images": cfg.images, "card_gb": cfg.card_gb, "reserve_gb": cfg.reserve_gb}
        run.metrics |= {f"image_{name}": value for name, value in asdict(constants).items() if value is not None}
        run.metrics |= {name: value for name, value in asdict(projection).items() if value is not None}
        run.metrics |= {"measured_images": encoded["metrics"]["images"], "psnr_db": encoded["metrics"]["psnr_db"]}
        run.metrics |= {"encoded_on": machine(encoded)} | ({} if fed is None else {"decoded_on": machine(fed)})
    say(run)


def say(run: Run) -> None:
    m = run.metrics
    print(
        f"projection, not a measurement: {m['images']:,} images like the {m['measured_images']:,} that were encoded at "
        f"{m['psnr_db']:.2f} dB, a card of {m['card_gb']:g} GB with {m['reserve_gb']:g} GB kept for the training"
    )
    for name, key in (("raw", "raw"), ("INR", "inr")):
        print(
            f"  {name}: {m[f'image_{key}_bytes']:,.0f} bytes an image, {m[f'{key}_gb']:,.1f} GB in all; "
            f"{m[f'{key}_fit_images']:,} images fit, {m[f'{key}_fit_pct']:.1f}% of the dataset"
        )
    print(f"  encoding: {m['encode_hours']:,.0f} hours on {m['encoded_on']}")
    if "decode_s" in m:
        print(f"  decoding: {m['decode_s']:,.0f} s an epoch on {m['decoded_on']}")
    print(f"run in {run.folder}")


if __name__ == "__main__":
    main("capacity", run_capacity)
