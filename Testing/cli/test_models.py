"""``models``: what there is, installed, verified and removed from the command line; without torch or network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from shared_data import REPOSITORY

from AmbiguousSegLib.cli import main

PAST = REPOSITORY / "Testing" / "Past" / "model"


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("AMBIGUOUSSEG_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


def test_install_list_verify_remove(own_store, capsys):
    assert main(["models", "install", str(PAST), "--name", "past"]) == 0
    assert (
        capsys.readouterr().out == f"past: installed into {own_store / 'past'}; its weights are those that it names.\n"
    )
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("past (installed): marks ") and lines[-1] == f"Models are installed into {own_store}."
    assert lines[0] == "lung-nodule (bundled): marks nodule; reads CT"
    assert main(["models", "verify"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["lung-nodule", "phantom-cimd-64", "past"]
    assert all("verified" in line for line in told)
    assert main(["models", "remove", "past"]) == 0
    assert not own_store.exists() or not list(own_store.iterdir())


def test_the_json_names_what_another_program_needs(own_store, capsys):
    main(["models", "install", str(PAST)])
    capsys.readouterr()
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    described = json.loads((PAST / "model.json").read_text(encoding="utf-8"))
    assert listed["folder"] == str(own_store)
    model = listed["models"][-1]
    assert model["name"] == "model" and model["source"] == "installed" and model["problem"] is None
    assert model["weights_sha256"] == described["weights_sha256"]
    assert model["channels"] == described["preprocessing"]["channels"]


def test_a_damaged_model_ends_verify_with_1_and_is_repaired(own_store, capsys):
    main(["models", "install", str(PAST)])
    with (own_store / "model" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x7f")
    assert main(["models", "verify", "model", "lung-nodule"]) == 1
    out = capsys.readouterr().out
    assert "the weights are not those that model.json names" in out and "lung-nodule: verified" in out
    assert main(["models", "install", str(PAST)]) == 0 and main(["models", "verify", "model"]) == 0


def test_another_model_of_the_name_needs_replace(own_store, tmp_path, capsys):
    main(["models", "install", str(PAST)])
    other = REPOSITORY / "Testing" / "Past" / "model_probabilistic_unet"
    assert main(["models", "install", str(other), "--name", "model"]) == 2
    assert "error: Another model 'model' is installed; add --replace, or another --name." in capsys.readouterr().err
    assert main(["models", "install", str(other), "--name", "model", "--replace"]) == 0
    assert (own_store / "model" / "model.json").read_bytes() == (other / "model.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["remove", "lung-nodule"], 2, "'lung-nodule' is no installed model"),
        (["verify", "none"], 1, "none: neither a folder nor a bundled model"),
        (["install", "none"], 1, "none does not exist"),
    ],
)
def test_one_line_says_what_is_wrong(capsys, arguments, code, told):
    assert main(["models", *arguments]) == code
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_an_installed_model_samples_without_network_and_listing_needs_no_torch(own_store, tmp_path):
    """Any socket is refused; what looks up names is, too."""
    main(["models", "install", str(PAST)])
    refused = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network: ' + repr(a))\n"
        "for name in ('create_connection', 'getaddrinfo', 'gethostbyname'): setattr(socket, name, refuse)\n"
        "class Refused(socket.socket):\n"
        "    def connect(self, *a): refuse(*a)\n"
        "    connect_ex = sendto = connect\n"
        "socket.socket = Refused\n"
        "from AmbiguousSegLib.cli import main\n"
    )
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", PAST)
    volume = str(REPOSITORY / "Testing" / "Past" / "volume.nrrd")
    code = refused + (
        f"codes = [main(['models', 'install', {archive!r}]), main(['models', 'verify']), main(['models', 'list'])]\n"
        "assert codes == [0, 0, 0] and 'torch' not in sys.modules, sorted(sys.modules)\n"
        f"sys.exit(main(['sample', {volume!r}, '--model', 'zipped', '--samples', '1', '--steps', '2', "
        f"'--out', {str(tmp_path / 'out')!r}]))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "sample_01.seg.nrrd").stat().st_size > 0
    assert json.loads((tmp_path / "out" / "samples.json").read_text(encoding="utf-8"))["model"]
