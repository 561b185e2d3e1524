"""Predictions as nnU-Net writes them: which mask is which case's, what values mean, what is drawn, what is refused."""

from __future__ import annotations

import json
import logging
import pickle
import struct
import zipfile

import numpy as np
import pytest
import SimpleITK as sitk

from AmbiguousSegLib.ensemble.nested_draws import nested_label_maps
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.layouts.nnunet_predictions import find_predictions
from AmbiguousSegLib.volume.geometry import Geometry

DESCRIBED = {
    "channel_names": {"0": "T2"},
    "labels": {"background": 0, "PZ": 1, "TZ": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}
SHAPE = (3, 4, 5)
GRID = Geometry((5, 4, 3), (0.5, 0.75, 3.0), (-10.0, 20.0, 5.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
PZ, TZ = Label("PZ"), Label("TZ")


class Trap:
    """What unpickling runs."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def write(place, name, values, probabilities=None, key="probabilities", grid=GRID, described=DESCRIBED):
    """The files of a case as ``nnUNetv2_predict --save_probabilities`` leaves them, a pickle that none may open."""
    place.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(grid.image(values), str(place / f"{name}.nii.gz"))
    if described is not None:
        for file in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
            (place / file).write_text(json.dumps(described if file == "dataset.json" else {}), encoding="utf-8")
    (place / f"{name}.pkl").write_bytes(pickle.dumps(Trap()))
    if probabilities is not None:
        np.savez_compressed(place / f"{name}.npz", **{key: probabilities})
    return place


def softmax(seed=0, classes=3, dtype=np.float32):
    logits = np.random.default_rng(seed).normal(size=(classes, *SHAPE))
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(dtype)


def test_one_mask_is_one_sample_with_its_labels_by_name(tmp_path):
    p = softmax()
    place = write(tmp_path / "out", "a", p.argmax(0).astype(np.uint8), p)
    found = find_predictions(place)
    assert found.files == {"a": (place / "a.nii.gz",)}
    assert [label.name for label in found.labels()] == ["PZ", "TZ"]
    samples = found.sample_set("a", GRID, (Label("tz"), Label("pz")))  # numbered the other way round
    assert np.array_equal(samples.masks[0], np.array([0, 2, 1], np.uint8)[p.argmax(0)])
    assert samples.geometry == GRID and samples.provenance["predictions"] == [str(place / "a.nii.gz")]
    whole = find_predictions(place).sample_set("a", GRID, DEFAULT_LABELS)  # one label: all classes together
    assert np.array_equal(whole.masks[0], p.argmax(0) > 0)


def test_folders_are_samples_and_folds_go_before_what_lies_beside_them(tmp_path, caplog):
    masks = [softmax(k).argmax(0).astype(np.uint8) for k in range(3)]
    for k, mask in enumerate(masks):
        write(tmp_path / "many" / f"sample_{k + 8}", "a", mask)
    samples = find_predictions(tmp_path / "many").sample_set("a", GRID, (PZ, TZ))
    assert np.array_equal(samples.masks, masks)  # sample_8, 9, 10
    run = tmp_path / "nnUNetTrainer__nnUNetPlans__2d"
    for k, name in enumerate("ab"):  # held out in one fold each, described above the folds
        write(run / f"fold_{k}" / "validation", name, masks[k], described=None)
    write(run / "crossval_results_folds_0_1", "a", masks[2])
    (run / "dataset.json").write_text(json.dumps(DESCRIBED), encoding="utf-8")
    found = find_predictions(run)
    assert {name: [file.parts[-3:] for file in files] for name, files in found.files.items()} == {
        "a": [("fold_0", "validation", "a.nii.gz")],
        "b": [("fold_1", "validation", "b.nii.gz")],
    }
    assert [label.name for label in find_predictions(run / "fold_1" / "validation").labels()] == ["PZ", "TZ"]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            swapped = found.sample_set("b", GRID, (TZ,))
    assert np.array_equal(swapped.masks[0], masks[1] == 2)
    assert len(caplog.records) == 1  # that PZ is background is told once
    write(tmp_path / "plain", "patient_1", (masks[0] > 0).astype(np.uint8), described=None)
    write(tmp_path / "converted", "a", masks[0], described=DESCRIBED | {"file_ending": ".mha"})
    assert list(find_predictions(tmp_path / "converted").files) == ["a"]  # of another ending than is told
    plain = find_predictions(tmp_path / "plain")
    assert plain.labels() == () and len(plain.of("patient/1")) == 1 and plain.of("patient/2") == ()


def test_draws_are_nested_and_have_the_probabilities(tmp_path):
    p = softmax(classes=2)
    place = write(tmp_path, "a", p.argmax(0).astype(np.uint8), p, described=None)
    thresholds = [0.9, 0.1, 0.5]
    samples = find_predictions(place).sample_set("a", GRID, DEFAULT_LABELS, thresholds)
    for mask, u in zip(samples.masks, thresholds, strict=True):
        assert np.array_equal(mask, p[1] > u)
    assert np.array_equal(samples.masks[2], p.argmax(0))  # at one half: the mask itself
    even = (np.arange(1000) + 0.5) / 1000
    for classes in (1, 3):
        p = softmax(classes=classes + 1)
        maps = np.stack(list(nested_label_maps(p[1:], even)))
        for label in range(1, classes + 1):
            assert (maps == label).mean(0) == pytest.approx(p[label], abs=1.1e-3)
        assert (np.diff(maps.astype(int), axis=0) <= 0).all()  # a greater threshold never marks more


def test_draws_of_several_folds_are_of_their_mean_and_labels_are_found_by_name(tmp_path):
    stored = [softmax(k, dtype=np.float16) for k in range(2)]
    for k, (p, key) in enumerate(zip(stored, ("probabilities", "softmax"), strict=True)):
        write(tmp_path / f"fold_{k}", "a", p.argmax(0).astype(np.uint8), p, key)
    mean = (stored[0].astype(float) + stored[1]) / 2
    samples = find_predictions(tmp_path).sample_set("a", GRID, (TZ,), [0.3])
    far = np.abs(mean[2] - 0.3) > 1e-3
    assert np.array_equal(samples.masks[0][far], (mean[2] > 0.3)[far])


def refusal(place, labels=(PZ, TZ), thresholds=None, name="a", grid=GRID):
    with pytest.raises(ValueError) as caught:
        find_predictions(place).sample_set(name, grid, labels, thresholds)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_what_does_not_fit_is_one_line(tmp_path):
    p = softmax()
    mask = p.argmax(0).astype(np.uint8)
    good = write(tmp_path / "good", "a", mask)
    assert "holds no prediction of b" in refusal(good, name="b")
    assert "a.npz does not exist; predict with --save_probabilities" in refusal(good, thresholds=[0.5])
    small = Geometry((4, 4, 3), *(getattr(GRID, key) for key in ("spacing_mm", "origin_mm", "direction")))
    write(tmp_path / "small", "a", mask[:, :, :4], grid=small)
    assert "size (5, 4, 3) against (4, 4, 3) voxels" in refusal(tmp_path / "small")
    coarse = Geometry(GRID.size, (1.0, 0.75, 3.0), GRID.origin_mm, GRID.direction)
    write(tmp_path / "coarse", "a", mask, p, grid=coarse)
    assert "spacing (0.5, 0.75, 3.0) against (1.0, 0.75, 3.0) mm" in refusal(tmp_path / "coarse")
    assert "spacing" in refusal(tmp_path / "coarse", thresholds=[0.5])
    write(tmp_path / "beyond", "a", mask + 1)
    assert "holds the value 3, expected 0 and 1, 2" in refusal(tmp_path / "beyond")
    assert "classes PZ, TZ, which do not fit the labels PZ, zone" in refusal(good, (PZ, Label("zone")))
    write(tmp_path / "ignore", "a", mask, described=DESCRIBED | {"labels": {**DESCRIBED["labels"], "ignore": 3}})
    assert 'has the label "ignore"' in refusal(tmp_path / "ignore")
    for key, stored, told in (
        ("probabilities", p[:, :, :3], "shape (3, 3, 3, 5), expected (3, 3, 4, 5)"),
        ("probabilities", p[:2], "shape (2, 3, 4, 5), expected (3, 3, 4, 5)"),
        ("probabilities", p * 2, "no probabilities that sum to 1"),
        ("probabilities", np.full_like(p, np.nan), "no probabilities that sum to 1"),
        ("probabilities", mask, "holds probabilities (uint8), expected floats under probabilities or softmax"),
        ("logits", p, "holds logits (float32), expected floats"),
        ("probabilities", np.array([Trap()], object), "expected floats"),
    ):
        assert told in refusal(write(tmp_path / "bad", "a", mask, stored, key), thresholds=[0.5])
    write(tmp_path / "many", "a", mask, described=None)
    np.savez(tmp_path / "many" / "a.npz", **{f"a{k}": np.zeros(1) for k in range(50)})
    assert "a9 (float64) and 40 more, expected floats" in refusal(tmp_path / "many", thresholds=[0.5])
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "many" / "a.npz", "w", kind) as archive:
            archive.writestr("probabilities.npy", bytes(range(256)) * 9)
        data = bytearray((tmp_path / "many" / "a.npz").read_bytes())
        data[60:90] = bytes(30)
        (tmp_path / "many" / "a.npz").write_bytes(data)
        assert "a.npz cannot be read as .npz" in refusal(tmp_path / "many", thresholds=[0.5])
    regions = DESCRIBED | {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    write(tmp_path / "regions", "a", mask, p[1:], described=regions)
    assert "regions overlap" in refusal(tmp_path / "regions", (Label("core"),), [0.5])
    one = find_predictions(tmp_path / "regions").sample_set("a", GRID, (Label("whole"),))
    assert np.array_equal(one.masks[0], mask > 0)
    (tmp_path / "nothing" / "fold_0").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no masks, nor do its folders"):
        find_predictions(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"gone is no folder; --predictions takes folders of masks\."):
        find_predictions(tmp_path / "gone")
    write(tmp_path / "twice", "a", mask, described=None)
    sitk.WriteImage(GRID.image(mask), str(tmp_path / "twice" / "a.nrrd"))
    with pytest.raises(ValueError, match="two masks of a; give each sample a folder of its own"):
        find_predictions(tmp_path / "twice")


def test_channels_that_a_header_makes_up_take_no_memory(tmp_path):
    place = write(tmp_path, "a", softmax(classes=2).argmax(0).astype(np.uint8), described=None)
    shape = (10**12, *SHAPE)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(place / "a.npz", "w") as archive:
        archive.writestr("probabilities.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header)
    told = refusal(place, DEFAULT_LABELS, [0.5])
    assert "probabilities of shape (1000000000000, 3, 4, 5), expected (2, 3, 4, 5)" in told
