"""What libtiff says is kept off standard error; what others say is not lost."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from AmbiguousSegLib.volume.image import read_image
from AmbiguousSegLib.volume.library_words import libtiff_words


def test_only_the_words_of_libtiff_are_kept(capfd):
    with libtiff_words() as words:
        os.write(2, b"tempfile.tif: Using code not yet in table.\nA warning of another: it stays\n")
        os.write(2, b"Fax4Decode: Bad code word at line 7 of strip 0 (x 0).\n")
    assert words == [
        "tempfile.tif: Using code not yet in table.",
        "Fax4Decode: Bad code word at line 7 of strip 0 (x 0).",
    ]
    assert capfd.readouterr() == ("", "A warning of another: it stays\n")


def test_standard_error_is_back_after_an_exception(capfd):
    with pytest.raises(KeyError), libtiff_words():
        raise KeyError
    os.write(2, b"here")
    assert capfd.readouterr().err == "here"


def test_a_fax_with_a_changed_byte_is_refused_or_decoded_without_a_complaint(tmp_path, capfd):
    """libtiff fills up a line that it cannot decode, and only says so."""
    marked = np.random.default_rng(0).random((40, 60)) > 0.7
    Image.fromarray(marked).save(tmp_path / "m.tif", compression="group4")
    whole = (tmp_path / "m.tif").read_bytes()
    refused = 0
    for at in range(8, 200, 3):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        (tmp_path / "x.tif").write_bytes(changed)
        try:
            read_image(tmp_path / "x.tif")
        except ValueError as error:
            refused += "cut off or damaged" in str(error)
    assert refused > 30 and capfd.readouterr() == ("", "")
