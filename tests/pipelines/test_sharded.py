"""One, two and three processes that each hold a share of a store, against those that each hold it whole."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import distributed

from kernels.spec import SirenSpec
from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.compress.quantize import QuantizeConfig
from rapid_inr.pipelines import batches as batches_module
from rapid_inr.pipelines.base import BatchPipeline
from rapid_inr.pipelines.batches import Batch, DeviceTooSmall
from rapid_inr.pipelines.inr import inr_pipeline
from rapid_inr.pipelines.loader import INRLoader
from rapid_inr.pipelines.sharded import ShardedStore
from rapid_inr.store.codes import pack_codes, pack_masks
from rapid_inr.store.packed import PackedStore
from tests.store.stores import SPEC, small_cosine_store, small_store, with_tensors

N = 25  # which neither two nor three processes can share evenly
WORLDS = (3, 2, 1)
STRONG = AugmentConfig(crop_padding=2, rotation_degrees=20, brightness=0.2, cutout=2, mix="cutmix")


def unevenly_masked() -> PackedStore:
    """Return a store whose rows differ much in length; with three processes the first of them has none that keeps a code."""
    codes = torch.arange(N * SPEC.n_hidden_weights, dtype=torch.int64).reshape(N, -1).remainder(16).sub(8).to(torch.int8)
    places = torch.arange(SPEC.n_hidden_weights).expand(N, -1)
    masks = places < (torch.arange(N) % 3 * torch.arange(N))[:, None]
    store = small_store(N, config=QuantizeConfig(bits=4), masks=True)
    return with_tensors(store, codes=pack_codes(codes, 4, masks), masks=pack_masks(masks))


LAYOUTS: dict[str, Callable[[], PackedStore]] = {
    **{f"{bits} bits": lambda bits=bits: small_store(N, config=QuantizeConfig(bits=bits)) for bits in (2, 5, 8, 16, 32)},
    "masks": lambda: small_store(N, config=QuantizeConfig(bits=5), masks=True),
    "masks that keep little": unevenly_masked,
    "one set of scales": lambda: small_store(N, config=QuantizeConfig(granularity="dataset")),
    "a scale a layer": lambda: small_store(N, config=QuantizeConfig(bits=4, granularity="tensor", ends_bits=32)),
    "8-bit ends": lambda: small_store(N, config=QuantizeConfig(ends_bits=8)),
    "two sizes": lambda: small_store(N, config=QuantizeConfig(bits=3, ends_bits=8), mixed=True, masks=True),
    "series": lambda: small_cosine_store(N),
    "series of two sizes": lambda: small_cosine_store(N, mixed=True),
    "no hidden layer": lambda: small_store(N, spec=SirenSpec(depth=1, hidden=5, omega=15.0)),
}  # fmt: skip


def epochs_of(feed: BatchPipeline) -> dict[str, list[Batch]]:
    """Return batches in the ways that they are asked for; a last one of an unshuffled epoch has one image."""
    in_order = replace(feed, seed=None, augment=None, batch_size=8)
    return {
        "shuffled": list(feed.epoch(0)) + list(feed.epoch(3)),
        "without mixing": list(replace(feed, augment=AugmentConfig(crop_padding=0, scale=(0.3, 1.0))).epoch(1)),
        "from the middle": list(feed.epoch(2, start=2)),
        "left early": list(islice(feed.epoch(1), 2)),
        "in order": list(in_order.epoch(0)),
        "the last one alone": list(in_order.epoch(0, start=3)),
        "of a subset, smaller": list(replace(in_order, subset=torch.arange(1, N, 3), size=(3, 3)).epoch(0)),
    }


def difference(found: Iterable[Batch], expected: Iterable[Batch]) -> str:
    """Say in what batches differ; empty where they are the same, bit for bit."""
    found, expected = list(found), list(expected)
    if len(found) != len(expected):
        return f"{len(found)} batches, expected {len(expected)}"
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        for name in ("ids", "labels", "images", "keeps", "others"):
            a, b = getattr(one, name), getattr(other, name)
            if (a is None) != (b is None) or (a is not None and not torch.equal(a, b)):
                return f"{name} of batch {number}"
    return ""


def compared(rank: int, world_size: int) -> dict[str, str | int | float]:
    """Return what was found in a process of so many."""
    found: dict[str, str | int | float] = {}
    place = {"rank": rank, "world_size": world_size}
    for layout, make in LAYOUTS.items():
        store = make()
        options = {"batch_size": 6, "augment": STRONG, "seed": 0, "size": (6, 6) if store.header.size is None else None}
        whole, part = (inr_pipeline(store, **options, **place, shard_store=sharded) for sharded in (False, True))
        expected, got = epochs_of(whole), epochs_of(part)
        found |= {f"{layout}, {way}": difference(got[way], expected[way]) for way in expected}
        found[f"{layout}, bytes"] = part.nbytes / whole.nbytes
    found["loader"] = loaders_differ(place)
    found |= refusals(place)
    return found


def loaders_differ(place: dict[str, int]) -> str:
    """Leave an epoch early and continue it with another loader."""
    boxes = torch.rand(N, 4, generator=torch.Generator().manual_seed(0))
    whole, part, other = (
        INRLoader(small_store(N), 6, augment=STRONG, labels=boxes, **place, shard_store=sharded)
        for sharded in (False, True, True)
    )
    begun = difference(islice(part, 2), islice(whole, 2))
    other.load_state_dict(whole.state_dict())
    return begun or difference([*other, *other], [*whole, *whole])


def refusals(place: dict[str, int]) -> dict[str, str]:
    said = {}
    for name, store, changed in (
        ("another rank", small_store(N), {"rank": place["rank"] + 1}),
        ("few images", small_store(2), {}),
    ):
        try:
            ShardedStore(store, device="cpu", **place | changed)
        except ValueError as error:
            said[name] = str(error)
    return said


def as_rank(rank: int, folder: str) -> None:
    """Meet the others through a file, once for each number of processes, and write what was found."""
    torch.set_num_threads(1)
    for world_size in WORLDS:
        if rank < world_size:
            distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/meet{world_size}", rank=rank, world_size=world_size
            )
            try:
                found = compared(rank, world_size)
            finally:
                distributed.destroy_process_group()
            Path(folder, f"{world_size}-{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, list[dict[str, str | int | float]]]:
    """Return what each process found, by their number."""
    folder = tmp_path_factory.mktemp("sharded")
    script = "import sys; from tests.pipelines.test_sharded import as_rank; as_rank(int(sys.argv[1]), sys.argv[2])"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")  # to look for no name of this machine
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(rank), str(folder)],
                cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True,
            )
            for rank in range(max(WORLDS))
        ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(errors)
    return {
        world_size: [json.loads((folder / f"{world_size}-{rank}.json").read_text()) for rank in range(world_size)]
        for world_size in WORLDS
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches_of_a_sharded_store_are_those_of_a_whole_one_bit_for_bit(found, layout):
    ways = {name for name in found[2][0] if name.startswith(f"{layout}, ")} - {f"{layout}, bytes"}
    assert len(ways) == 7
    for world_size, ranks in found.items():
        for rank, of_rank in enumerate(ranks):
            differ = {name: of_rank[name] for name in ways if of_rank[name]}
            assert not differ, f"rank {rank} of {world_size}"


def test_a_loader_of_a_sharded_store_goes_on_where_another_was(found):
    assert {of_rank["loader"] for ranks in found.values() for of_rank in ranks} == {""}


@pytest.mark.parametrize("world_size", WORLDS)
def test_a_process_holds_its_share_of_the_bytes(found, world_size):
    for rank, of_rank in enumerate(found[world_size]):
        share = len(range(rank, N, world_size)) / N
        assert of_rank["8 bits, bytes"] == pytest.approx(share)
        # the common scales, and one number more of where rows begin, are everybody's
        for layout in ("masks", "one set of scales"):
            assert share <= of_rank[f"{layout}, bytes"] < share + 0.06


def test_a_store_is_shared_as_torch_has_the_processes_and_has_an_image_for_each(found):
    message = "rank and world_size are 3 and 3, expected 2 and 3, the values of torch.distributed, to shard a store"
    assert found[3][2]["another rank"] == message
    assert found[3][0]["few images"] == "the store has 2 images, too few to share among 3 processes"
    assert "few images" not in found[2][0]


def test_a_process_that_has_joined_no_others_cannot_shard_a_store():
    with pytest.raises(ValueError, match=r"to shard a store, start with torchrun and call torch.distributed.init_process_group"):
        INRLoader(small_store(N), 4, shard_store=True)


def test_only_the_share_must_fit_the_device(monkeypatch):
    store = small_store(N)
    share = store.take(torch.arange(1, N, 2))
    n_bytes = share.nbytes - share.labels.nbytes - share.source_ids.nbytes
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (n_bytes - 1, 10**6))
    with pytest.raises(DeviceTooSmall, match=rf"this process's images of the store need {n_bytes:,} bytes"):
        inr_pipeline(store, batch_size=4, device="cuda", shard_store=True, rank=1, world_size=2)
    batches_module.require_fits(n_bytes - 1, n_images=N, device=torch.device("cuda"), what="the store")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_rows_that_were_exchanged_on_a_gpu_are_decoded_as_those_of_a_whole_store(tmp_path):
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        for make in (LAYOUTS["8 bits"], LAYOUTS["masks"]):
            options = {"batch_size": 6, "augment": STRONG, "seed": 0, "device": "cuda"}
            whole, part = (epochs_of(inr_pipeline(make(), **options, shard_store=sharded)) for sharded in (False, True))
            assert {way: difference(part[way], whole[way]) for way in whole} == dict.fromkeys(whole, "")
    finally:
        distributed.destroy_process_group()
