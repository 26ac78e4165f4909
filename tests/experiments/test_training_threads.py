"""A small training on a CPU takes one thread, and its record says so."""

import json

import torch

from tests.experiments.commands import SHAPES, SMOKE


def test_a_small_training_takes_one_thread_and_its_record_says_so(command, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        code, _, err = command("train", *SHAPES, *SMOKE, "pipeline=resident", "run_dir=run")
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert code == 0, err
    assert after == 2
    assert json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]["threads"] == 1
