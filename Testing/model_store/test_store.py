"""Models are installed whole or not at all, verified by their checksum, and removed only from the store."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from shared_data import REPOSITORY

from AmbiguousSegLib.model_store import sources, store
from AmbiguousSegLib.model_store.store import NameTakenError, finish, installation, list_models, remove, verification
from AmbiguousSegLib.resources import find_model, installed_models, models_folder

PAST = REPOSITORY / "Testing" / "Past"
FILES = {name: (PAST / "model" / name).read_bytes() for name in ("model.json", "model.safetensors")}


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("AMBIGUOUSSEG_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


def folder_of(path: Path, files=FILES) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def zip_of(path: Path, entries, method=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def inside(folder: str, files=FILES):
    return [(folder + name, content) for name, content in files.items()]


def whole_store() -> dict[str, bytes]:
    store_folder = models_folder()
    return {p.relative_to(store_folder).as_posix(): p.read_bytes() for p in store_folder.rglob("*") if p.is_file()}


def test_an_installed_folder_is_the_source_byte_for_byte_and_found_by_name(tmp_path):
    source = folder_of(tmp_path / "my model", {**FILES, "LICENSE": b"free"})
    model = finish(installation(source))
    assert (model.name, model.source, model.problem) == ("my model", "installed", "")
    assert whole_store() == {f"my model/{name}": data for name, data in {**FILES, "LICENSE": b"free"}.items()}
    assert find_model("my model") == model.folder == models_folder() / "my model"
    assert [(m.name, m.source) for m in list_models([source])][-2:] == [
        ("my model", "installed"),
        (str(source), "folder"),
    ]
    assert finish(verification(model.folder)) == ""


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (inside("lesions/"), "lesions"),
        (inside("a/b/lesions/"), "lesions"),
        (inside(""), "archive"),
        (
            [("lesions/", ""), *inside("lesions/"), ("__MACOSX/lesions/._model.json", "x"), ("lesions/.DS_Store", "x")],
            "lesions",
        ),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_named_after_the_folder_in_it_or_itself(tmp_path, entries, name, method):
    assert finish(installation(zip_of(tmp_path / "archive.zip", entries, method))).name == name
    assert whole_store() == {f"{name}/{file}": data for file, data in FILES.items()}


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


OTHER_WEIGHTS = {**FILES, "model.safetensors": FILES["model.safetensors"][:-1] + b"\x7f"}
BOMB = zipfile.ZipInfo("m/model.safetensors")
BOMB.compress_type = zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([*inside("m/"), ("../evil.py", "x")], r"'\.\./evil\.py' has a name that leads out of the zip"),
        ([*inside("m/"), ("/etc/evil", "x")], "'/etc/evil' has a name that leads out"),
        ([*inside("m/"), ("C:/evil", "x")], "'C:/evil' has a name that leads out"),
        ([*inside("m/"), ("m\\..\\..\\evil", "x")], "evil' has a name that leads out"),
        ([*inside("m/"), ("m/model\n.json", "x")], r"'m/model\\n.json' has a name"),
        (
            [("m/model.json", FILES["model.json"]), (link("m/model.safetensors"), "/etc/passwd")],
            "is a link or a device",
        ),
        ([("m/model.json", FILES["model.json"]), (BOMB, bytes(50_000_000))], "would unpack to 50 MB"),
        ([*inside("m/"), ("m/setup.py", "x")], "'setup.py' belongs to no model; it may hold model.json, "),
        ([*inside("m/"), *inside("n/")], "files in several folders .'m', 'n'."),
        ([*inside("m/"), *inside("m/")], "is there twice"),
        (inside("m/")[:1], "holds no model: model.safetensors is missing"),
        ([], "holds no model: model.json and model.safetensors are missing"),
        ([(f"m/{n}", "x") for n in range(101)], "holds 101 files"),
        (inside("m/", {**FILES, "README.md": bytes(range(256)) * 4000}), "more than the 1 MB that it may have"),
        (inside("m/", OTHER_WEIGHTS), "the weights are not those that model.json names"),
        (inside("m/", {**FILES, "model.json": b"{}"}), "not a model description"),
        (inside("m/", {**FILES, "model.json": b"[" * 1_000_0}), "not a model description"),
        (inside("CON/"), "'CON' cannot be the name of a model: it is a device of Windows"),
        (inside("lpt1.old/"), "it is a device of Windows"),
        (inside("model /"), "begins with a dot"),
        (inside("lung-nodule/"), "'lung-nodule' is the name of a bundled model"),
        (inside("Lung-Nodule/"), "is the name of a bundled model"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_is_refused_leaves_nothing(tmp_path, entries, told):
    source = zip_of(tmp_path / "archive.zip", entries)
    with pytest.raises(ValueError, match=told) as error:
        finish(installation(source))
    assert "\n" not in str(error.value) and str(models_folder()) not in str(error.value)
    assert not models_folder().exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive.zip"]


def test_an_encrypted_a_truncated_and_a_damaged_zip(tmp_path):
    source = zip_of(tmp_path / "archive.zip", inside("m/"))
    data = source.read_bytes()
    position = data.index(FILES["model.safetensors"]) + 1000
    encrypted = bytearray(data)
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        where = encrypted.index(mark)
        encrypted[where + (6 if mark[2] == 3 else 8)] |= 1
    for changed, told in (
        (bytes(encrypted), "is encrypted"),
        (data[:-40], "is no zip that can be read"),
        (data[:position] + b"\x00\xff\x00\xff" + data[position + 4 :], r"is damaged \(Bad CRC-32"),
        (b"hello", "is no zip that can be read"),
    ):
        source.write_bytes(changed)
        with pytest.raises(ValueError, match=told):
            finish(installation(source))
        assert not models_folder().exists()


def test_a_zip_that_lies_of_a_files_size(tmp_path):
    source = zip_of(tmp_path / "archive.zip", inside("m/"), zipfile.ZIP_DEFLATED)
    data, size = source.read_bytes(), len(FILES["model.safetensors"])
    for wrong in (size - 1, size + 1):
        source.write_bytes(data.replace(size.to_bytes(4, "little"), wrong.to_bytes(4, "little")))
        with pytest.raises(ValueError, match="is damaged|fewer than the|more than the"):
            finish(installation(source))
        assert not models_folder().exists()


def test_a_folder_with_links_folders_or_others_is_refused(tmp_path):
    good = folder_of(tmp_path / "good")
    linked = folder_of(tmp_path / "linked", {"model.json": FILES["model.json"]})
    (linked / "model.safetensors").symlink_to(good / "model.safetensors")
    deep = folder_of(tmp_path / "deep")
    (deep / "more").mkdir()
    odd = folder_of(tmp_path / "odd", {**FILES, "model.pt": b"x"})
    for source, told in (
        (linked, "'model.safetensors' is a link"),
        (deep, "'more' is a folder"),
        (odd, "belongs to no"),
    ):
        with pytest.raises(ValueError, match=told):
            finish(installation(source))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        finish(installation(tmp_path / "nowhere"))
    assert not models_folder().exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path):
    source = folder_of(tmp_path / "m", {"model.json": FILES["model.json"]})
    os.mkfifo(source / "model.safetensors")
    with pytest.raises(ValueError, match="is no file on disk"):
        finish(installation(source))


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a/b", "..", ".hidden", "-rf", "NUL.txt", "com7", "x" * 65, "a.", "\u202etxt"]
)
def test_a_name_that_cannot_be(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be the name of a model: ") as error:
        finish(installation(folder_of(tmp_path / "m"), name))
    assert "\n" not in str(error.value)
    assert not models_folder().exists()


@pytest.mark.parametrize("name", ["Läsion 3", "v1.2_b", "肺結節", "console"])
def test_a_name_that_can_be(tmp_path, name):
    finish(installation(folder_of(tmp_path / "m"), name))
    assert [folder.name for folder in installed_models()] == [name] and find_model(name).is_dir()


def other_model() -> dict[str, bytes]:
    weights = FILES["model.safetensors"] + b"!"
    described = {**json.loads(FILES["model.json"]), "weights_sha256": hashlib.sha256(weights).hexdigest()}
    return {"model.json": json.dumps(described).encode(), "model.safetensors": weights}


def test_another_model_of_the_name_goes_only_if_it_may(tmp_path):
    finish(installation(folder_of(tmp_path / "m", {**FILES, "NOTICE": b"old"})))
    before, other = whole_store(), folder_of(tmp_path / "new" / "M", other_model())
    steps = installation(other)
    with pytest.raises(NameTakenError, match="Another model 'm' is installed") as error:
        finish(steps)
    assert error.value.name == "m" and whole_store() == before
    assert finish(installation(other, replace=True)).name == "m"
    assert whole_store() == {f"m/{name}": data for name, data in other_model().items()}


def test_the_question_comes_before_the_weights_are_copied(tmp_path, monkeypatch):
    finish(installation(folder_of(tmp_path / "m")))
    other = folder_of(tmp_path / "new" / "m", other_model())
    read, hashed = [], store._hashed
    monkeypatch.setattr(store, "_hashed", lambda *a: (read.append(Path(a[0].name).name), hashed(*a))[1])
    with pytest.raises(NameTakenError):
        finish(installation(other))
    assert read == ["model.json"]


def test_a_damaged_model_is_told_and_repaired_by_the_same_again(tmp_path):
    source = folder_of(tmp_path / "m")
    model = finish(installation(source))
    weights = model.folder / "model.safetensors"
    weights.write_bytes(OTHER_WEIGHTS["model.safetensors"])
    assert "the weights are not those that model.json names" in finish(verification(model.folder))
    finish(installation(source))
    assert finish(verification(model.folder)) == "" and whole_store() == {f"m/{n}": d for n, d in FILES.items()}
    weights.unlink()
    assert "the weights are missing" in finish(verification(model.folder))
    assert "the weights are missing" in list_models()[-1].problem


def test_work_that_is_closed_half_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_BLOCK", 1000)
    steps = installation(folder_of(tmp_path / "m"))
    shares = [next(steps) for _ in range(5)]
    assert len(list(models_folder().iterdir())) == 1 and not installed_models()
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] < 1
    steps.close()
    assert not models_folder().exists()


def test_a_rename_that_fails_brings_the_earlier_model_back(tmp_path, monkeypatch):
    finish(installation(folder_of(tmp_path / "m")))
    before, replace = whole_store(), os.replace

    def fails(source, target):
        if Path(target).name == "m" and Path(source, "model.json").read_bytes() != FILES["model.json"]:
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match=r"cannot be renamed \(Permission denied\)"):
        finish(installation(folder_of(tmp_path / "new" / "m", other_model()), replace=True))
    assert whole_store() == before and [p.name for p in models_folder().iterdir()] == ["m"]


def test_a_disk_without_space_is_told_before_anything_is_copied(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(OSError, match="10 kB are free"):
        finish(installation(folder_of(tmp_path / "m")))
    assert not models_folder().exists()


def test_only_what_lies_in_the_store_is_removed(tmp_path):
    source = folder_of(tmp_path / "m")
    finish(installation(source))
    (models_folder() / "link").symlink_to(source, target_is_directory=True)
    outside = folder_of(tmp_path / "outside")
    for name in ("lung-nodule", "link", str(outside), "../outside", ".", "", "none"):
        with pytest.raises(ValueError, match=r"is no installed model and was not removed \(installed: m\)"):
            remove(name)
    assert outside.is_dir() and source.is_dir() and find_model("lung-nodule").is_dir()
    remove("m")
    assert not installed_models() and [p.name for p in models_folder().iterdir()] == ["link"]


def test_what_killed_installations_left_is_swept_but_not_what_is_under_way(tmp_path):
    for name, age in ((".unfinished-dead", 100_000), (".unfinished-alive", 0)):
        folder_of(models_folder() / name)
        when = (models_folder() / name).stat().st_mtime - age
        os.utime(models_folder() / name, (when, when))
    finish(installation(folder_of(tmp_path / "m")))
    assert sorted(p.name for p in models_folder().iterdir()) == [".unfinished-alive", "m"]
    assert [folder.name for folder in installed_models()] == ["m"]


def test_the_checksum_is_that_of_the_standard_library_over_several_blocks(monkeypatch):
    monkeypatch.setattr(store, "_BLOCK", 7)
    data, copy = bytes(range(250)), io.BytesIO()
    assert finish(store._hashed(io.BytesIO(data), 250, copy)) == hashlib.sha256(data).hexdigest()
    assert copy.getvalue() == data


def test_every_name_that_is_kept_has_a_limit():
    assert set(sources.NOTES) | set(FILES) == set(sources._MOST_BYTES)
