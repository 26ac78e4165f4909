"""`python -m tests.soak.determinism`: what batches, shards, workers, threads and instruction sets change, as a table.

Each way runs in a process of its own, since libraries choose their instructions as they are loaded. It fits 16 images of 32 px
in 100 steps, decodes the store of the first way, and trains a small ResNet-18 for an epoch; all of it is compared with the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.soak.commands import ROOT, empty_folder

IMAGES, SIZE = 16, 32
WAYS: dict[str, dict[str, str]] = {
    "1 thread": {},
    "the same again": {},
    "fits in batches of 1": {"MAX_BATCH": "1"},
    "fits in batches of 5": {"MAX_BATCH": "5"},
    "shards of 1 image": {"SHARD_IMAGES": "1"},
    "shards of 7 images": {"SHARD_IMAGES": "7"},
    "2 workers": {"WORKERS": "2"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "`ATEN_CPU_CAPABILITY=default`": {"ATEN_CPU_CAPABILITY": "default"},
    "`ATEN_CPU_CAPABILITY=avx2`": {"ATEN_CPU_CAPABILITY": "avx2"},
    "`MKL_CBWR=COMPATIBLE`": {"MKL_CBWR": "COMPATIBLE"},
    "`ONEDNN_MAX_CPU_ISA=AVX2`": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "`ONEDNN_MAX_CPU_ISA=SSE41`": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
}


def measure(out: Path) -> None:
    """Write what this way comes to; in a process of its own."""
    from experiments.setup import cli
    from experiments.train import run_train
    from kernels.spec import SirenSpec
    from rapid_inr.compress.quantize import QuantizeConfig
    from rapid_inr.data import load_all, open_source
    from rapid_inr.encoding.encode import encode
    from rapid_inr.encoding.siren import SirenConfig
    from rapid_inr.inr.fit import FitConfig, fit
    from rapid_inr.store.decode import decode
    from rapid_inr.store.format import read_store, write_store

    source = open_source("shapes", split="train", count=IMAGES, size=SIZE)
    batch, shards = os.environ.get("MAX_BATCH"), os.environ.get("SHARD_IMAGES")
    spec, config = SirenSpec(3, 16, 15.0), FitConfig(steps=100, max_batch=batch and int(batch))
    images = load_all(source)
    result = fit(images.images, images.ids, spec, config)
    store, _ = encode(source, SirenConfig(spec, config, QuantizeConfig()), shard_images=shards and int(shards))
    if not Path("first.inr").exists():
        write_store("first.inr", store)
    decoded = decode(read_store("first.inr"), torch.arange(IMAGES))
    sys.argv = ["train", "dataset=shapes", f"dataset.size={SIZE}", "dataset.count=128", "dataset.test_count=16", "track=off",
                "pipeline=ram", f"pipeline.workers={os.environ.get('WORKERS', 0)}", "backbone=resnet18_w8", "augment=crop_flip",
                "optimizer.epochs=1", "optimizer.batch_size=32", f"run_dir={out.stem}"]  # fmt: skip
    cli.main("train", run_train)
    tensors = {"weights": result.weights, "psnr": result.psnr_db, "codes": store.packed["codes"], "decoded": decoded}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)


def largest(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


def compare(out: Path, first: Path) -> str:
    """Return a line of the table."""
    one, other = load_file(first), load_file(out)
    losses = [json.loads((Path(path.stem) / "metrics.jsonl").read_text())["loss"] for path in (first, out)]
    networks = [load_file(Path(path.stem) / "ram.safetensors") for path in (first, out)]
    same_network = all(torch.equal(tensor, networks[1][name]) for name, tensor in networks[0].items())
    fits = "the same" if torch.equal(one["weights"], other["weights"]) else (
        f"weights by {largest(one['weights'], other['weights']):.1e}, PSNR by {largest(one['psnr'], other['psnr']):.1e} dB, "
        f"{(one['codes'] != other['codes']).double().mean():.1%} of the codes"
    )  # fmt: skip
    changed, most = (one["decoded"] != other["decoded"]).double().mean(), largest(one["decoded"], other["decoded"])
    decodes = f"{changed:.2%} of the values, by at most {most:.0f}" if most > 0 else "the same"
    trains = "the same" if same_network else f"loss by {abs(losses[0] - losses[1]):.1e}"
    return f"{fits} | {decodes} | {trains}"


def main() -> None:
    with empty_folder():
        print("| way | fit | decode | an epoch of training |\n|---|---|---|---|", flush=True)
        for number, (way, variables) in enumerate(WAYS.items()):
            out = Path(f"{number}.safetensors")
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
            command = [sys.executable, "-m", "tests.soak.determinism", str(out)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{way}: {done.stderr}")
            print(f"| {way} | {compare(out, Path('0.safetensors'))} |", flush=True)


if __name__ == "__main__":
    measure(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
