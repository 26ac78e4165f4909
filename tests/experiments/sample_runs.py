"""An experiment with records as a sweep would have left them, for the tests of tables and of the report."""

import json

EXPERIMENT = {
    "name": "sample",
    "title": "A sample",
    "axes": {"dataset": ["a", "b"], "net": ["s"], "seed": [0, 1]},
    "points": {
        "encode": {"verb": "encode", "over": ["dataset"], "set": ["out=@/store.inr"]},
        "raw": {"verb": "train", "over": ["dataset", "seed"], "labels": {"arm": "raw"}},
        "inr": {"verb": "train", "over": ["dataset", "net", "seed"], "labels": {"arm": "INR"}},
    },
    "tables": {
        "memory": {
            "title": "Memory",
            "verb": "encode",
            "columns": {"rgb_pct": "% of RGB", "store_bytes": "stored bytes"},
            "claims": {"memory_rgb_pct": "rgb_pct", "quantizer": {"column": "store_bytes", "where": {"dataset": "a"}}},
        },
        "accuracy": {
            "title": "Accuracy",
            "verb": "train",
            "rows": ["dataset", "arm", "net"],
            "columns": {
                "top1_pct": "top-1, %",
                "lost": {"heading": "points lost", "difference": [{"metric": "top1_pct", "arm": "raw"}, "top1_pct"]},
            },
            "claims": {"accuracy_drop": "lost"},
            "figure": {"x": "arm", "y": "top1_pct", "line": "dataset"},
        },
    },
}
MACHINE = {"cpu": "Fast", "cpu_cores": 2, "os": "Linux"}
VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "triton": "3.7.1", "numpy": "2.4.6"}


def write_point(folder, verb, labels, *, status="finished", scale="cpu", epochs=(), **metrics):
    """Leave a point's folder as its run would."""
    folder.mkdir(parents=True)
    record = {
        "verb": verb, "command": f"python -m experiments.{verb} run_dir={folder.name}", "started": "2026-11-25T10:00:00+00:00",
        "commit": "0123456789abcdef", "dirty": False, "versions": VERSIONS, "machine": MACHINE, "status": status,
        "metrics": {"device": "cpu"} | metrics, "warnings": [{"name": "small_inr", "message": "images lose detail"}],
    }  # fmt: skip
    if status != "finished":
        record["error"] = "ValueError: it | broke"
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text("dataset:\n  name: a\n")
    (folder / "point.json").write_text(json.dumps({"scale": scale, "name": folder.name, "labels": labels}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


def write_sample(root):
    """Leave the records of the sample experiment below a folder of runs: dataset b failed to encode, and has one seed of raw."""
    epochs = [{"arm": "x", "epoch": i, "top1_pct": 50.0 + i, "loss": None if i == 1 else 1.0} for i in range(3)]
    folder = root / "sample"
    write_point(folder / "encode-a", "encode", {"dataset": "a"}, rgb_pct=4.96, store_bytes=1234567)
    write_point(folder / "encode-b", "encode", {"dataset": "b"}, status="failed")
    for seed, raw, inr in ((0, 90.0, 89.0), (1, 94.0, 92.0)):
        labels = {"dataset": "a", "seed": str(seed)}
        write_point(folder / f"raw-a-{seed}", "train", labels | {"arm": "raw"}, top1_pct=raw, epochs=epochs)
        write_point(folder / f"inr-a-s-{seed}", "train", labels | {"arm": "INR", "net": "s"}, top1_pct=inr, epochs=epochs)
    write_point(folder / "raw-b-0", "train", {"dataset": "b", "seed": "0", "arm": "raw"}, top1_pct=70.0)
    return root
