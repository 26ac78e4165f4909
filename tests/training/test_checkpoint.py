import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rapid_inr.training.checkpoint import METADATA_KEY, Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from rapid_inr.training.state import Learner

TRAINING = {"backbone.width": 8, "classes": 3, "image_size": [8, 8]}


def checkpoint() -> Checkpoint:
    tensors = {"model.a": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last), "momentum.a": torch.ones(2)}
    return Checkpoint(tensors, [{"epoch": 0, "loss": 1.25}], steps=7)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    written = checkpoint()
    write_checkpoint(tmp_path / "a", written, training=TRAINING)
    found = read_checkpoint(tmp_path / "a", training=TRAINING | {"image_size": (8, 8)})
    assert (found.reports, found.steps) == (written.reports, 7)
    assert found.tensors.keys() == written.tensors.keys()
    assert all(torch.equal(found.tensors[name], written.tensors[name]) for name in found.tensors)
    assert found.part("model").keys() == {"a"}


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    write_checkpoint(tmp_path / "a", checkpoint(), training=TRAINING)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(TypeError):
        write_checkpoint(tmp_path / "a", Checkpoint({}, [{"epoch": object()}], steps=7), training=TRAINING)
    assert (tmp_path / "a").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (TRAINING | {"backbone.width": 4}, "is of a training with backbone.width=8, this one has backbone.width=4"),
        (TRAINING | {"classes": 10}, "classes=3, this one has classes=10"),
        (TRAINING | {"seed": 1}, "seed=None, this one has seed=1"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, asked, message):
    write_checkpoint(tmp_path / "a", checkpoint(), training=TRAINING)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "a", training=asked)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "a", training=TRAINING)
    path = tmp_path / "b"
    path.write_text("text")
    with pytest.raises(CheckpointError, match="b is not a checkpoint of a training"):
        read_checkpoint(path, training=TRAINING)
    for metadata in (None, {METADATA_KEY: "{"}, {METADATA_KEY: "[]"}, {METADATA_KEY: json.dumps({"version": 2})}):
        save_file({"model.a": torch.ones(1)}, path, metadata)
        with pytest.raises(CheckpointError, match="b is not a checkpoint of a training"):
            read_checkpoint(path, training=TRAINING)
    facts = {"version": 1, "training": TRAINING, "reports": [], "steps": 0}
    save_file({"model.a": torch.ones(1)}, path, {METADATA_KEY: json.dumps(facts)})
    with pytest.raises(CheckpointError, match="has checkpoint version 1, expected 3"):
        read_checkpoint(path, training=TRAINING)


def flip_bit(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("where", ["tensor", "report"])
def test_a_flipped_bit_is_found(tmp_path, where):
    path = tmp_path / "a"
    write_checkpoint(path, checkpoint(), training=TRAINING)
    flip_bit(path, -3 if where == "tensor" else path.read_bytes().index(b"1.25"))
    with pytest.raises(CheckpointError, match="a is damaged: its checksum does not match its content"):
        read_checkpoint(path, training=TRAINING)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    write_checkpoint(tmp_path / "a", Checkpoint({"model.a": torch.tensor([1.0, torch.nan])}, [], steps=1), training=TRAINING)
    with pytest.raises(CheckpointError, match=r"holds values in model\.a that are not finite"):
        read_checkpoint(tmp_path / "a", training=TRAINING)


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_a_checkpoint_of_another_network_is_refused(change):
    network = nn.Linear(3, 2)
    learner = Learner(network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), average=None)
    tensors = dict(learner.checkpoint([]).tensors)
    if change == "missing":
        del tensors["model.bias"]
    else:
        tensors["model.bias" if change == "shape" else "model.other"] = torch.ones(3)
    with pytest.raises(CheckpointError, match=r"does not fit this network: model\.(bias|other) is"):
        learner.restore(Checkpoint(tensors, [], steps=0))
