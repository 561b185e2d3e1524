"""Training items are a function of their position, and held-out cases are others."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_training import BUSY, CASES, RATERS, SIZE, tiny_config

from AmbiguousSegLib.data.config import DataConfig
from AmbiguousSegLib.data.evaluation_cases import held_out_cases
from AmbiguousSegLib.data.lung_phantom import phantom_case, window
from AmbiguousSegLib.data.readers import read_all
from AmbiguousSegLib.data.slices import SliceStore, index
from AmbiguousSegLib.data.transforms import AugmentationConfig
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.training.dataset import CaseSource, Items, PhantomSource, batches, open_data

TWO = (Label("core"), Label("halo"))
AUGMENTED = {key: value for key, value in BUSY.items() if key == "augmentation"}


@pytest.fixture(scope="module")
def cases(data):
    return tuple(read_all(data, DataConfig(), DEFAULT_LABELS))


@cache
def store_of(cases) -> SliceStore:
    preprocessing = DataConfig(size=(SIZE, SIZE)).preprocessing()
    return SliceStore(preprocessing, 1, index(cases, preprocessing, 1)[2], 2**20)


def folder_source(cases, target: str = "random_rater", seed: int = 5) -> CaseSource:
    store = store_of(cases)
    slices = tuple(index(cases, store.preprocessing, 1)[0])
    return CaseSource(slices, store, (SIZE, SIZE), target, seed)


def phantom_source(target: str = "random_rater") -> PhantomSource:
    return PhantomSource(3, (SIZE, SIZE), 4.0, target)


def rows(found) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """All images, masks and positions of batches, one after the other."""
    found = list(found)
    images, masks = (np.concatenate([getattr(b, name).numpy() for b, _ in found]) for name in ("image", "mask"))
    return images, masks, [p for _, positions in found for p in positions]


def case_of(cases, image: np.ndarray) -> int:
    """Number of the case that an unaugmented image is of."""
    store = store_of(cases)
    (number,) = [i for i, case in enumerate(cases) if np.array_equal(store.load(case, 0)[0], image)]
    return number


@pytest.mark.parametrize("kind", ["folder", "phantom"])
def test_an_item_follows_from_seed_and_position(cases, kind):
    config = tiny_config(AUGMENTED)
    source = folder_source(cases) if kind == "folder" else phantom_source()

    def item(position: int, seed: int = 5, positions: range = range(100)) -> tuple[torch.Tensor, ...]:
        items = Items(source, (SIZE, SIZE), config.augmentation, seed, positions)
        return items[positions.index(position)]

    for position in (0, 7, 38):
        first = item(position)
        assert first[2] == position
        for other in (item(position), item(position, positions=range(position, 100, 31))):
            assert torch.equal(first[0], other[0]) and torch.equal(first[1], other[1])
        assert not torch.equal(first[0], item(position, seed=6)[0])
        assert not torch.equal(first[0], item(position + 1)[0])


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_images_of_one_row_or_column_may_be_mirrored(shape):
    image = np.arange(4, dtype=np.float32).reshape(1, *shape) / 4

    class Source:
        classes = 1

        def draw(self, position, rng):
            return image, image, (0, 0)

    items = Items(Source(), shape, AugmentationConfig(flip=True), 0, range(20))
    values = {tuple(tensor.ravel().tolist()) for item in (items[i] for i in range(20)) for tensor in item[:2]}
    assert values == {(0, 0.25, 0.5, 0.75), (0.75, 0.5, 0.25, 0)}


def test_every_case_comes_once_per_epoch_in_a_new_order(cases):
    source = folder_source(cases)
    orders = []
    for epoch in range(4):
        positions = range(epoch * CASES, (epoch + 1) * CASES)
        orders.append([case_of(cases, source.draw(p, np.random.default_rng(0))[0]) for p in positions])
        assert sorted(orders[-1]) == list(range(CASES))
    assert len({tuple(order) for order in orders}) == 4
    other = [case_of(cases, folder_source(cases, seed=6).draw(p, np.random.default_rng(0))[0]) for p in range(CASES)]
    assert other != orders[0]


def test_processes_divide_each_global_batch(cases):
    config = tiny_config({**AUGMENTED, "optimisation.images": 26, "optimisation.batch_size": 6})
    source = folder_source(cases)
    whole = [positions for _, positions in batches(source, config, 0)]
    assert whole == [list(range(first, first + 6)) for first in (0, 6, 12, 18)]  # 24 and 25 fill no batch
    images, masks, _ = rows(batches(source, config, 0))
    for processes in (2, 3):
        shares = [rows(batches(source, config, 0, rank, processes)) for rank in range(processes)]
        assert sorted(p for share in shares for p in share[2]) == list(range(24))
        for share_images, share_masks, positions in shares:
            assert [p // 6 for p in positions] == sorted(list(range(4)) * (6 // processes))
            np.testing.assert_array_equal(share_images, images[positions])
            np.testing.assert_array_equal(share_masks, masks[positions])


def test_starting_later_gives_the_rest(cases):
    config = tiny_config(AUGMENTED)
    images, masks, positions = rows(batches(folder_source(cases), config, 0))
    later = rows(batches(folder_source(cases), config, 16))
    np.testing.assert_array_equal(later[0], images[16:])
    np.testing.assert_array_equal(later[1], masks[16:])
    assert later[2] == positions[16:]


@pytest.mark.slow
def test_workers_change_nothing_even_when_they_are_signalled(cases):
    """Ctrl-C and job managers signal all processes; the trainer alone decides when to stop."""
    source = folder_source(cases)
    found = batches(source, tiny_config({**AUGMENTED, "dataset.workers": 2}), 0)
    first = [next(found), next(found)]  # one of each worker: both are up
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    expected = rows(batches(source, tiny_config(AUGMENTED), 0))
    for one, other in zip(rows([*first, *found]), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_raters_are_drawn_with_equal_frequency_and_anew(cases):
    """Rater r drew the disc larger than rater r − 1, so that a mask tells who drew it."""
    source, draws = folder_source(cases), 1500
    drawn = Counter()
    for position in range(draws):
        image, mask, _ = source.draw(position, np.random.default_rng([5, 2, position]))
        masks = store_of(cases).load(cases[case_of(cases, image)], 0)[1]
        (rater,) = [r for r in range(RATERS) if np.array_equal(masks[r], mask[0])]
        drawn[rater] += 1
    deviation = np.sqrt(draws * (1 / RATERS) * (1 - 1 / RATERS))
    assert all(abs(drawn[rater] - draws / RATERS) < 4 * deviation for rater in range(RATERS))


def test_the_mean_target_is_the_share_of_raters(cases):
    image, mask, _ = folder_source(cases, "mean").draw(0, np.random.default_rng(0))
    masks = store_of(cases).load(cases[case_of(cases, image)], 0)[1]
    np.testing.assert_allclose(mask[0], masks.sum(0) / RATERS, rtol=1e-6)
    assert (mask.dtype, len(np.unique(mask))) == (np.float32, RATERS + 1)


def test_phantom_items_are_the_phantoms_cases():
    case = phantom_case(3, 11, (SIZE, SIZE), 4.0)
    image, mask, _ = phantom_source("mean").draw(11, np.random.default_rng(0))
    np.testing.assert_array_equal(image[0], window(case.image))
    np.testing.assert_allclose(mask, case.probability_maps(), atol=1e-6)
    drawn = np.mean([phantom_source().draw(11, np.random.default_rng(i))[1][0] for i in range(400)], axis=0)
    assert np.abs(drawn - mask[0]).max() < 4 * 0.5 / np.sqrt(400)  # raters of the same case, drawn anew


@pytest.mark.parametrize("target", ["random_rater", "mean"])
def test_a_target_of_two_classes_has_a_channel_for_each(tmp_path, target):
    """Three raters' label maps on disk: their channels are where each label is, or the share of raters that say so."""
    rng = np.random.default_rng(0)
    image, masks = rng.integers(0, 256, (SIZE, SIZE)), rng.integers(0, 3, (3, SIZE, SIZE))
    for name, values in {"image": image, **{f"rater_{r}": mask for r, mask in enumerate(masks)}}.items():
        (tmp_path / "case").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(values.astype(np.uint8)), str(tmp_path / "case" / f"{name}.png"))
    fractions = {"dataset.validation_fraction": 0.0, "dataset.test_fraction": 0.0}
    config = tiny_config({"dataset.target": target, **fractions, "labels": [{"name": "core"}, {"name": "halo"}]})
    data = open_data(config, tmp_path)
    source = data.source
    assert (len(data.inspections[0].values), source.classes, data.held_out) == (1, 2, ())
    raters = np.stack([masks == 1, masks == 2], axis=1).astype(np.float32)
    for seed in range(10):
        found_image, found, _ = source.draw(0, np.random.default_rng(seed))
        np.testing.assert_allclose(found_image[0], image / 255, atol=1e-6)
        assert found.dtype == np.float32
        if target == "mean":
            np.testing.assert_allclose(found, raters.mean(axis=0), atol=1e-6)
        else:
            np.testing.assert_array_equal(found, raters[np.random.default_rng(seed).integers(3)])


def test_phantom_items_of_two_classes_are_core_and_halo():
    labels = [{"name": "core"}, {"name": "halo"}]
    phantom = {"dataset.kind": "phantom", "dataset.phantom_seed": 3}
    run = tiny_config({**phantom, "labels": labels})
    config, source = run.dataset, open_data(run, None).source
    image, mask, _ = source.draw(11, np.random.default_rng(4))
    np.testing.assert_array_equal(image, phantom_source().draw(11, np.random.default_rng(4))[0])
    drawn = phantom_case(3, 11, (SIZE, SIZE), 4.0, classes=2).draw_masks(np.random.default_rng(4), 1)[0]
    np.testing.assert_array_equal(mask, [drawn == 1, drawn == 2])
    case = held_out_cases(config, "validation", 1, 500, TWO)[0]
    expected = phantom_case(4, 0, (SIZE, SIZE), 4.0, classes=2).probability_maps()
    shares = np.array([(case.masks == label).mean(axis=0) for label in (1, 2)])
    assert np.abs(shares - expected).max() < 4 * 0.5 / np.sqrt(500)
    with pytest.raises(ValueError, match="the two labels core, halo"):
        open_data(tiny_config({**phantom, "labels": labels[::-1]}), None)


def test_held_out_phantoms_are_no_training_phantoms():
    run = tiny_config({"dataset.kind": "phantom", "dataset.phantom_seed": 3})
    config, source = run.dataset, open_data(run, None).source
    training = [source.draw(p, np.random.default_rng(0))[0].tobytes() for p in range(20)]
    found = {part: held_out_cases(config, part, 20, 2) for part in ("validation", "test")}
    images = training + [case.image.tobytes() for part in found.values() for case in part]
    assert len(set(images)) == 60
    assert len({case.identity for part in found.values() for case in part}) == 40
    again = held_out_cases(config, "validation", 5, 2)  # the first ones, whatever the count
    for one, other in zip(again, found["validation"]):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.masks, other.masks)


def test_held_out_phantom_raters_are_the_phantoms():
    case = held_out_cases(DataConfig(kind="phantom", size=(SIZE, SIZE)), "validation", 1, 500)[0]
    (expected,) = phantom_case(1, 0, (SIZE, SIZE), 4.0).probability_maps()
    assert case.masks.shape == (500, SIZE, SIZE) and case.masks.dtype == np.uint8
    assert np.abs(case.masks.mean(0) - expected).max() < 4 * 0.5 / np.sqrt(500)


def test_the_endless_phantom_needs_a_count():
    config = tiny_config({"dataset.kind": "phantom", "validation.cases": None})
    with pytest.raises(ValueError, match="endless; say with validation.cases how many"):
        open_data(config, None)


def test_held_out_cases_are_those_of_the_split(data):
    found = open_data(tiny_config({"validation.cases": None}), data)
    assert len(found.source.slices) == 6 and found.config.dataset.kind == "folder"
    identities = [case.identity for case in found.held_out]
    assert identities == [case.identity for case in found.split.validation] and len(identities) == 3
    few = open_data(tiny_config({"validation.cases": 2}), data)
    assert [case.identity for case in few.held_out] == identities[:2]


def test_training_never_changes_the_cases_in_memory(cases):
    store, source = store_of(cases), folder_source(cases)
    before = [tuple(array.copy() for array in store.load(case, 0)) for case in cases]
    for changes in ({}, AUGMENTED, {"augmentation": {"gain": 0.5, "offset": 0.5}}, {"augmentation": {"flip": True}}):
        for batch, _ in batches(source, tiny_config(changes), 0):
            batch.image.zero_(), batch.mask.zero_()  # whoever gets a batch may overwrite it
    for case, arrays in zip(cases, before):
        assert store.load(case, 0)[0] is store.load(case, 0)[0]  # read once
        for now, then in zip(store.load(case, 0), arrays):
            np.testing.assert_array_equal(now, then)


def test_a_folder_is_never_left_unread(data):
    with pytest.raises(ValueError, match="would not be read, as dataset.kind is phantom; add --dataset.kind auto"):
        open_data(tiny_config({"dataset.kind": "phantom"}), data)


def test_no_folder_is_refused():
    with pytest.raises(ValueError, match="No data folder given; name one with --data"):
        open_data(tiny_config(), None)


# Several raters an item


@pytest.mark.parametrize("raters", [2, 3, 5])
def test_an_item_has_masks_of_different_raters_as_long_as_there_are_any(cases, raters):
    """Of the three raters of a case; with five masks, each has one or two of them."""
    source = replace(folder_source(cases), raters=raters)
    firsts = set()
    for seed in range(30):
        image, masks, _ = source.draw(0, np.random.default_rng(seed))
        theirs = store_of(cases).load(cases[case_of(cases, image)], 0)[1]
        distinct = {mask.tobytes() for mask in theirs}
        assert len(distinct) == RATERS and masks.shape == (raters, 1, SIZE, SIZE) and masks.dtype == np.float32
        drawn = [mask.astype(np.uint8).tobytes() for mask in masks[:, 0]]
        assert set(drawn) <= distinct
        counts = [drawn.count(mask) for mask in distinct]
        assert max(counts) == -(-raters // RATERS) and min(counts) == raters // RATERS
        firsts.add(drawn[0])
    assert firsts == distinct  # any of them may be the one that other methods are given


def test_a_phantom_item_has_as_many_of_its_raters(cases):
    source = replace(phantom_source(), raters=400)
    image, masks, _ = source.draw(11, np.random.default_rng(0))
    mean = phantom_source("mean").draw(11, np.random.default_rng(0))[1]
    np.testing.assert_allclose(masks.mean(0), mean, atol=0.12)
    np.testing.assert_array_equal(image, phantom_source().draw(11, np.random.default_rng(0))[0])


def test_a_batch_has_all_masks_and_the_first_of_them(cases):
    config = tiny_config({**AUGMENTED, "dataset.raters": 3})
    batch, _ = next(batches(replace(folder_source(cases), raters=3), config, 0))
    assert batch.raters.shape == (4, 3, 1, SIZE, SIZE) and torch.equal(batch.mask, batch.raters[:, 0])
    assert {float(v) for v in batch.raters.unique()} == {0.0, 1.0}
    some = batch.part(slice(1, 3), torch.device("cpu"))
    for name in ("image", "mask", "raters"):
        assert torch.equal(getattr(some, name), getattr(batch, name)[1:3])
    one, _ = next(batches(folder_source(cases), config, 0))
    assert one.raters is None and one.part(slice(1, 3), torch.device("cpu")).raters is None
    with pytest.raises(ValueError, match="raters must be 1 where target is mean, got 3"):
        DataConfig(target="mean", raters=3)


def test_a_network_can_be_told_where_somebody_pointed(cases, data):
    point = {"sigma_mm": 2.0, "elsewhere": 0.5, "clear_mm": 3.0}
    told = {"dataset": {"kind": "auto", "size": [SIZE, SIZE], "spacing_mm": 1.0, "point": point, "shift": 0.0}}
    config = tiny_config(told)
    opened = open_data(config, data)
    store = opened.source.store
    empty = set()
    for position in range(24):
        image, mask, _ = opened.source.draw(position, np.random.default_rng(position))
        one = opened.source.slice_at(position)
        plain, masks = store.load(one.case, one.number)
        np.testing.assert_array_equal(image[: len(plain)], plain)
        place = np.unravel_index(image[-1].argmax(), image.shape[1:])
        assert image[-1].max() == 1.0 and len(image) == len(plain) + 1
        assert masks.any(0)[place] or not mask.any() or not masks.any()
        empty.add(bool(mask.any()))
    assert empty == {True, False}
    for case in opened.held_out:  # judged by pointing at the middle
        assert np.ptp(np.argwhere(case.image[-1] == case.image[-1].max()), axis=0).max() <= 1
    for name in ("gain", "offset", "blur", "sharpen", "dark_corners"):
        with pytest.raises(ValueError, match=rf"augmentation.gain.*got {name} 0\.1; leave"):
            tiny_config({**told, "augmentation": {name: 0.1}})
    with pytest.raises(ValueError, match=r"DataConfig\.point must be null"):
        tiny_config({"dataset": {"kind": "phantom", "spacing_mm": 1.0, "point": point}})
