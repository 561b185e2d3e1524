"""Two processes that share the slices of a volume give what one gives, and one that was killed is gone on from."""

from __future__ import annotations

import numpy as np
import pytest
from process_threads import Thread, Together, results_of
from tiny_models import tiny_model

from AmbiguousSegLib.inference.shared_drawing import WORK_FOLDER, Sharing, forget_parts
from AmbiguousSegLib.inference.volume_sampling import SampleRequest, sample_volume
from AmbiguousSegLib.volume.geometry import Geometry

GRID = Geometry((16, 16, 6), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
REQUEST = SampleRequest(3, first_sample=2, seed=4, coherence_mm=6.0)
VOLUME = np.random.default_rng(0).random((1, *GRID.shape), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def alone(model):
    return sample_volume(model, VOLUME, GRID, REQUEST)


def shared(model, folder, count, request=REQUEST):
    """What each of ``count`` processes gets."""
    return results_of(count, folder, lambda sharing: sample_volume(model, VOLUME, GRID, request, sharing=sharing))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_that_share_give_what_one_gives(model, alone, tmp_path, count):
    assert 0.05 < alone.masks.mean() < 0.95
    for found in shared(model, tmp_path, count):
        assert np.array_equal(found.masks, alone.masks)
        assert found.provenance == alone.provenance
    assert len(list((tmp_path / WORK_FOLDER).iterdir())) == GRID.shape[0]  # each slice by one of them
    forget_parts(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_finished_is_not_drawn_again(model, alone, tmp_path, monkeypatch):
    shared(model, tmp_path, 2)
    parts = sorted((tmp_path / WORK_FOLDER).iterdir())
    for part in parts[:2]:  # as if the run had been killed before
        part.unlink()
    left = {part: part.stat().st_mtime_ns for part in parts[2:]}
    (found,) = shared(model, tmp_path, 1)
    assert np.array_equal(found.masks, alone.masks)
    assert {part: part.stat().st_mtime_ns for part in parts[2:]} == left and all(part.exists() for part in parts)


def test_parts_of_another_request_are_not_taken(model, tmp_path):
    other = SampleRequest(3, first_sample=2, seed=5, coherence_mm=6.0)
    shared(model, tmp_path, 1, other)
    (found,) = shared(model, tmp_path, 1)
    assert np.array_equal(found.masks, sample_volume(model, VOLUME, GRID, REQUEST).masks)
    assert len(list((tmp_path / WORK_FOLDER).iterdir())) == 2 * GRID.shape[0]


def test_a_part_that_is_damaged_is_named(model, tmp_path):
    shared(model, tmp_path, 1)
    part = next((tmp_path / WORK_FOLDER).iterdir())
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"{part.name} cannot be read \(.*\); remove .*{WORK_FOLDER}"):
        sample_volume(model, VOLUME, GRID, REQUEST, sharing=Sharing(Thread(Together(1), 0), tmp_path))
