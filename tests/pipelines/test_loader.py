import json
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from rapid_inr.augment.policy import AugmentConfig
from rapid_inr.pipelines.loader import INRLoader
from rapid_inr.store.decode import decode
from rapid_inr.store.format import write_store
from tests.store.stores import small_store

N = 22


def loader(**options) -> INRLoader:
    return INRLoader(small_store(N), 4, **{"augment": AugmentConfig(crop_padding=2)} | options)


def seen(batches) -> list[tuple[list[int], torch.Tensor]]:
    return [(batch.ids.tolist(), batch.images) for batch in batches]


def assert_same(some, others) -> None:
    assert len(some) == len(others)
    for (ids, images), (other_ids, other_images) in zip(some, others, strict=True):
        assert ids == other_ids
        assert torch.equal(images, other_images)


def test_a_loader_without_a_seed_starts_at_the_first_image_unless_it_was_given_a_state():
    loader = INRLoader(small_store(6), 2, seed=None)
    first = next(iter(loader))
    assert [batch.ids.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
    assert first.ids.tolist() == [0, 1]
    iteration = iter(loader)
    next(iteration)
    state = loader.state_dict()
    other = INRLoader(small_store(6), 2, seed=None)
    other.load_state_dict(state)
    assert [batch.ids.tolist() for batch in other] == [[2, 3], [4, 5]]


def test_each_iteration_is_another_epoch():
    feed = loader()
    first, second = seen(feed), seen(feed)
    assert (len(feed), len(first), feed.n_images, feed.epoch) == (5, 5, N, 2)
    assert first[0][0] != second[0][0]
    assert_same(seen(loader()), first)


def test_a_file_is_as_good_as_a_store(tmp_path):
    write_store(tmp_path / "a.inr", small_store(N))
    assert_same(seen(INRLoader(tmp_path / "a.inr", 4)), seen(INRLoader(small_store(N), 4)))


@pytest.mark.parametrize("taken", [0, 3, 5, 7])
def test_a_loader_continues_exactly_where_another_was(taken):
    feed, reference = loader(), []
    for _ in range(3):
        reference += seen(feed)
    broken, had = loader(), []
    while len(had) < taken:
        for batch in broken:
            had += seen([batch])
            if len(had) == taken:
                break
    resumed = loader()
    resumed.load_state_dict(broken.state_dict())
    assert resumed.state_dict() == broken.state_dict() == {"epoch": taken // 5, "batch": taken % 5} | {
        "seed": 0, "batch_size": 4, "n_images": N, "subset": None, "augment": broken.state_dict()["augment"],
    }  # fmt: skip
    rest = []
    while len(rest) < len(reference) - taken:
        rest += seen(resumed)
    assert_same(had + rest, reference)


def test_it_can_continue_with_another_number_of_processes():
    feed = loader()
    next(iter(feed))
    ranks = [loader(rank=rank, world_size=2) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(feed.state_dict())
    for whole, *parts in zip(seen(feed), *map(seen, ranks), strict=True):
        assert whole[0] == [i for ids, _ in parts for i in ids]
        assert torch.equal(whole[1], torch.cat([images for _, images in parts]))


def test_a_process_without_a_share_of_the_last_batch_ends_its_epoch_too():
    feed = INRLoader(small_store(5), 4, seed=None, rank=1, world_size=2)
    assert [ids for ids, _ in seen(feed)] == [[2, 3]]
    assert feed.state_dict()["epoch"] == 1
    assert feed.state_dict()["batch"] == 0


@pytest.mark.parametrize("name", ["seed", "batch_size", "n_images"])
def test_the_state_of_another_loader_is_refused(name):
    feed = loader()
    with pytest.raises(ValueError, match=rf"{name} is {feed.state_dict()[name]}, the state is of a pipeline with {name} 99"):
        feed.load_state_dict(feed.state_dict() | {name: 99})


def test_the_state_of_another_subset_or_augmentation_is_refused():
    state = json.loads(json.dumps(loader(subset=torch.arange(10)).state_dict()))
    loader(subset=torch.arange(10)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"subset is [0-9a-f]+, the state is of a pipeline with subset [0-9a-f]+"):
        loader(subset=torch.arange(1, 11)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"augment is None, the state is of a pipeline with augment \{'crop_padding': 2"):
        loader(subset=torch.arange(10), augment=None).load_state_dict(state)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 99}, r"the state is at epoch 0, batch 99; expected at least 0, and 0\.\.4"),
        ({"batch": -1}, "batch -1"),
        ({"batch": "1"}, "batch 1"),
        ({"epoch": -1}, "epoch -1"),
        ({"epoch": None}, "epoch None"),
    ],
)
def test_a_state_that_names_no_batch_is_refused(changed, message):
    feed = loader()
    with pytest.raises(ValueError, match=message):
        feed.load_state_dict(feed.state_dict() | changed)
    with pytest.raises(ValueError, match="the state lacks epoch, batch, seed, batch_size, n_images, subset, augment"):
        feed.load_state_dict({})
    assert feed.state_dict() == loader().state_dict()


def test_a_subset_is_given_as_positions_or_as_a_mask():
    positions = torch.tensor([0, 3, 4, 9, 17, 21])
    mask = torch.zeros(N, dtype=torch.bool)
    mask[positions] = True
    assert_same(seen(loader(subset=positions)), seen(loader(subset=mask)))
    assert {i for ids, _ in seen(INRLoader(small_store(N), 3, subset=mask)) for i in ids} == set(positions.tolist())
    with pytest.raises(ValueError, match=r"subset is a mask of \(5,\), expected one for each of the 22 images"):
        loader(subset=mask[:5])


def test_in_order_every_image_comes_as_it_is_decoded():
    store, labels = small_store(N), torch.rand(N, 2)
    batches = list(INRLoader(store, 5, seed=None, labels=labels, size=(8, 8), dtype=torch.bfloat16))
    assert torch.cat([batch.ids for batch in batches]).tolist() == list(range(N))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), labels)
    whole = decode(store, torch.arange(N), size=(8, 8), dtype=torch.bfloat16, normalize=True, channels_last=True)
    assert torch.equal(torch.cat([batch.images for batch in batches]), whole)


def test_its_bytes_are_those_of_the_codes():
    store = small_store(N)
    assert INRLoader(store, 4).nbytes == store.nbytes - store.labels.nbytes


def test_mixed_sizes_need_a_size():
    with pytest.raises(ValueError, match="differ in size; give the size to decode at"):
        INRLoader(small_store(N, mixed=True), 4)
    assert next(iter(INRLoader(small_store(N, mixed=True), 4, size=(6, 6)))).images.shape == (4, 3, 6, 6)


def test_a_list_will_do_for_a_subset_and_a_number_for_a_size():
    some = [0, 3, 5, 7, 21]
    mask = [i in some for i in range(N)]
    for subset in (some, mask, torch.tensor(some)):
        assert sorted(i for batch in loader(subset=subset, augment=None, seed=None) for i in batch.ids.tolist()) == some
    assert next(iter(loader(size=9))).images.shape[2:] == (9, 9)


@pytest.mark.parametrize("size", [0, (0, 5), (4, 5, 6)])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match=r"size is .*, expected"):
        loader(size=size)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device is cuda, but torch sees no CUDA device"):
        loader(device="cuda")


def test_torchs_data_loader_takes_it_and_its_batches_unpack():
    expected = seen(loader())
    ids = [batch.ids.tolist() for batch in DataLoader(loader(), batch_size=None)]
    assert ids == [ids for ids, _ in expected]
    for (images, labels), (_, other_images) in zip(loader(), expected, strict=True):
        assert torch.equal(images, other_images)
        assert labels.shape == (4,)
    batch = next(iter(loader()))
    assert batch[0] is batch.images
    assert batch[1] is batch.labels


def test_worker_processes_are_refused():
    with pytest.raises(ValueError, match="INRLoader decodes on its own device, not in worker processes"):
        next(iter(DataLoader(loader(), batch_size=None, num_workers=1)))


def test_an_augmentation_by_name_is_refused_at_once():
    with pytest.raises(ValueError, match="augment is 'resized_crop', expected an AugmentConfig or None"):
        loader(augment="resized_crop")


def test_a_loader_prints_what_it_yields(tmp_path):
    write_store(tmp_path / "a.inr", small_store(N))
    assert repr(INRLoader(tmp_path / "a.inr", 4)) == f"INRLoader({tmp_path}/a.inr, {N} images, batch_size=4, device=cpu)"
    assert repr(loader()).startswith("INRLoader(PackedStore, 22 images")


def test_a_batch_of_mixed_images_does_not_unpack():
    with pytest.raises(ValueError, match="a batch of mixed images has two labels an image"):
        _, _ = next(iter(loader(augment=AugmentConfig(mix="mixup"))))
    with pytest.raises(ValueError, match="a batch of mixed images has two labels an image"):
        next(iter(loader(augment=AugmentConfig(mix="mixup"))))[0]


def test_two_iterations_of_one_loader_do_not_share_a_place():
    feed = loader()
    first = iter(feed)
    next(first)
    assert len(seen(feed)) == len(feed) - 1
    with pytest.raises(ValueError, match="another iteration of this INRLoader has begun"):
        next(first)
    second = iter(feed)
    feed.load_state_dict(feed.state_dict())
    with pytest.raises(ValueError, match="it was given another state"):
        next(second)


def test_a_test_loader_takes_the_mean_and_std_of_its_training_loader():
    train, test = loader(), small_store(N)
    test = replace(test, header=replace(test.header, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)))
    own = INRLoader(test, 4, seed=None)
    assert (own.mean, own.std, own.classes) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7), test.header.class_names)
    normalised = INRLoader(test, 4, seed=None, mean=train.mean, std=train.std)
    assert_same(seen(normalised), seen(INRLoader(small_store(N), 4, seed=None)))
    for name, values in (("mean", (0.5,)), ("std", (0.0, 1.0, 1.0))):
        with pytest.raises(ValueError, match=f"{name} is .*, expected one value a channel"):
            INRLoader(test, 4, **{name: values})


def test_one_split_of_a_store_can_be_taken():
    store = small_store(N)
    store = replace(store, header=replace(store.header, splits=(("train", 15), ("test", N - 15))))
    assert [loader.n_images for loader in (INRLoader(store, 4, split="train"), INRLoader(store, 4, split="test"))] == [15, 7]
