import threading
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from rapid_inr.data import reading
from rapid_inr.data.reading import load_all, read_chunks
from rapid_inr.data.source import CorruptImage, exclude, of_splits


def source_of(n, *, sizes=None, corrupt=(), labels=True, on_read=lambda image_id: None):
    def read(image_id):
        on_read(image_id)
        if image_id in corrupt:
            raise CorruptImage(f"image {image_id} is broken")
        height, width = sizes[image_id] if sizes else (4, 5)
        return np.full((height, width, 3), image_id % 256, dtype=np.uint8)

    classes = [f"class {i}" for i in range(2 * n)] if labels else ()
    return of_splits(
        "test source", "train", {"train": n}, labels=np.arange(n) * 2 if labels else None, class_names=classes, read=read
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 3])
def test_images_arrive_in_order_whatever_takes_longest_to_read(workers):
    # the first images wait until later ones were read, where another thread can do so
    later = threading.Event()

    def on_read(image_id):
        if image_id == 0 and workers > 1:
            assert later.wait(10)
        elif image_id == 2:
            later.set()

    chunks = list(read_chunks(source_of(23, on_read=on_read), 10, workers=workers))
    assert [chunk.ids.tolist() for chunk in chunks] == [list(range(10)), list(range(10, 20)), [20, 21, 22]]
    for chunk in chunks:
        assert chunk.ids.dtype == np.int64
        assert chunk.labels.tolist() == (2 * chunk.ids).tolist()
        assert [int(image[0, 0, 0]) for image in chunk.images] == chunk.ids.tolist()
        assert chunk.skipped == {}


def test_ids_and_labels_are_those_of_what_is_left_after_an_exclusion():
    (chunk,) = read_chunks(exclude(source_of(6), [0, 3]), 10)
    assert chunk.ids.tolist() == [1, 2, 4, 5]
    assert chunk.labels.tolist() == [2, 4, 8, 10]
    assert [int(image[0, 0, 0]) for image in chunk.images] == [1, 2, 4, 5]


def test_a_chunk_holds_no_more_bytes_than_allowed_unless_one_image_does():
    sizes = [(10, 10), (10, 10), (40, 40), (10, 10), (10, 10), (10, 10)]
    chunks = list(read_chunks(source_of(6, sizes=sizes), 100, max_bytes=600))
    assert [chunk.ids.tolist() for chunk in chunks] == [[0, 1], [2], [3, 4], [5]]


class InlineExecutor:
    """Runs a task as soon as it is submitted: the fastest pool there can be."""

    def __init__(self, workers, thread_name_prefix):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, wait, cancel_futures):
        pass


@pytest.mark.parametrize(("side", "task_images"), [(64, 64), (512, 5), (2048, 1)])
def test_reading_ahead_is_bounded_by_threads_and_by_bytes(monkeypatch, side, task_images):
    monkeypatch.setattr(reading, "ThreadPoolExecutor", InlineExecutor)
    started = []
    image = np.zeros((side, side, 3), dtype=np.uint8)
    source = of_splits("test source", "train", {"train": 5000}, labels=None, read=lambda i: started.append(i) or image)
    consumed = 0
    for chunk in read_chunks(source, 50, workers=2, max_bytes=10**12):
        consumed += len(chunk.ids)
        # one image closes the chunk, one task is being handed out and 4 wait
        assert len(started) <= consumed + 1 + 5 * task_images
        if consumed >= 1000:
            break


def test_a_reader_that_is_left_early_stops_its_threads():
    def readers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-images")]

    chunks = read_chunks(source_of(1000), 5, workers=4)
    next(chunks)
    assert readers()
    chunks.close()
    assert readers() == []


def test_a_corrupt_image_is_fatal_by_default():
    with pytest.raises(CorruptImage, match=r"image 3 is broken; repair or remove it, or set dataset\.on_corrupt=skip"):
        list(read_chunks(source_of(8, corrupt={3, 5}), 100))


def test_a_corrupt_image_can_be_skipped_and_is_named():
    chunks = list(read_chunks(source_of(9, corrupt={0, 3, 4, 8}), 2, on_corrupt="skip"))
    assert [chunk.ids.tolist() for chunk in chunks] == [[1, 2], [5, 6], [7]]
    assert [chunk.labels.tolist() for chunk in chunks] == [[2, 4], [10, 12], [14]]
    assert chunks[0].skipped | chunks[1].skipped | chunks[2].skipped == {i: f"image {i} is broken" for i in (0, 3, 4, 8)}


def test_a_source_of_which_nothing_can_be_read_is_refused():
    with pytest.raises(ValueError, match="none of 3 images could be read; the first: image 0 is broken"):
        load_all(source_of(3, corrupt={0, 1, 2}), on_corrupt="skip")
    (chunk,) = read_chunks(source_of(3, corrupt={0, 1, 2}), 2, on_corrupt="skip")  # which may be a part of many
    assert chunk.images == []
    assert len(chunk.skipped) == 3


def test_an_error_that_is_not_a_corrupt_image_is_never_skipped():
    def on_read(image_id):
        raise RuntimeError("a mistake in a reader")

    with pytest.raises(RuntimeError, match="a mistake in a reader"):
        list(read_chunks(source_of(3, on_read=on_read), 2, on_corrupt="skip"))


@pytest.mark.parametrize("argument", [{"max_images": 0}, {"max_bytes": 0}, {"workers": 0}, {"on_corrupt": "ignore"}])
def test_a_wrong_argument_is_refused_at_the_call(argument):
    with pytest.raises(ValueError, match=f"{next(iter(argument))} is"):
        read_chunks(source_of(3), **{"max_images": 2, **argument})


def test_loading_all_gives_tensors_in_order():
    images, labels, ids, skipped = load_all(source_of(600))
    assert images.dtype == torch.uint8
    assert images.shape == (600, 4, 5, 3)
    assert images[:, 0, 0, 0].tolist() == [i % 256 for i in range(600)]
    assert labels.dtype == ids.dtype == torch.int64
    assert labels.tolist() == [2 * i for i in range(600)]
    assert ids.tolist() == list(range(600))
    assert skipped == ()


def test_loading_all_leaves_out_what_was_skipped():
    images, labels, ids, skipped = load_all(source_of(5, corrupt={0, 3}), on_corrupt="skip")
    assert images[:, 0, 0, 0].tolist() == ids.tolist() == [1, 2, 4]
    assert labels.tolist() == [2, 4, 8]
    assert skipped == ("image 0 is broken", "image 3 is broken")


def test_loading_all_without_labels_gives_none():
    assert load_all(source_of(3, labels=False)).labels is None


@pytest.mark.parametrize("odd", [1, 300])
def test_loading_all_of_mixed_sizes_names_two_of_them(odd):
    sizes = [(4, 5)] * 301
    sizes[odd] = (5, 4)
    with pytest.raises(ValueError, match=rf"train_00000 is 4x5, train_{odd:05d} is 5x4.*dataset\.size=S"):
        load_all(source_of(301, sizes=sizes))
