"""What labels may be, how they name files and segments, and when segments are classes."""

from __future__ import annotations

import pytest

from AmbiguousSegLib.labels import Label, check_labels, file_names, segments_are_classes, segments_of_mask

TUMOUR = ("core", "halo", "oedema")


@pytest.mark.parametrize("color", [(1.0, 0.5), (0.1, 0.2, 1.1), (-0.1, 0, 0), (255, 0, 0)])
def test_a_label_has_a_name_and_a_colour(color):
    with pytest.raises(ValueError, match=r"red, green, blue in \[0, 1\]"):
        Label(color=color)
    with pytest.raises(ValueError, match="needs a name"):
        Label(" ")


@pytest.mark.parametrize("text", ["core\nhalo", "core\x00", "\ud800", "a\u2028b", "a\tb"])
def test_a_label_is_what_a_header_can_hold(text):
    for wrong in ({"name": text}, {"terminology": text}):
        with pytest.raises(ValueError, match=f"Label.{next(iter(wrong))} must be one line") as error:
            Label(**wrong)
        assert len(str(error.value).splitlines()) == 1
    assert Label("\u3000Ödem\xa0(T2) 腫瘍").name.endswith("腫瘍")


def test_long_names_fit_into_names_of_files():
    names = file_names([Label("腫" * 300 + end) for end in "ab"])
    assert len(set(names)) == 2 and all(len(f"variance_{name}.nrrd".encode()) <= 255 for name in names)


def test_labels_are_one_to_255_of_different_names():
    check_labels([Label(str(k)) for k in range(255)])
    for labels in ([], [Label(str(k)) for k in range(256)]):
        with pytest.raises(ValueError, match=f"1 to 255 labels, got {len(labels)}"):
            check_labels(labels)
    with pytest.raises(ValueError, match="differ in name, got core, halo, core"):
        check_labels([Label("core"), Label("halo"), Label("core")])


def test_names_of_files_differ_whatever_the_labels_are_called():
    names = ["Core", "Ödem (T2)", "GD+", "gd-", "core 1"]
    assert file_names([Label(name) for name in names]) == ["core", "ödem__t2_", "gd__3", "gd__4", "core_1"]
    names = file_names([Label(name) for name in ("a", "A", "a 1")])
    assert len(set(names)) == 3 and names[1] == "a_2"


def test_segments_of_one_class_are_named_by_the_mask_and_of_several_by_the_labels():
    one, two = Label("lesion", (0.1, 0.2, 0.3), "a~b"), [Label("Core"), Label("halo")]
    assert segments_of_mask([one], "lesion 3", "sample_03") == (
        [Label("lesion 3", (0.1, 0.2, 0.3), "a~b")],
        ["sample_03"],
    )
    assert segments_of_mask(two, "core 3", "sample_03") == (two, ["core", "halo"])


@pytest.mark.parametrize(
    ("segments", "segments_are", "expected"),
    [
        (["core"], "auto", True),
        (["halo", "core", "oedema"], "auto", True),
        (["Dr. A", "Dr. B"], "auto", False),
        (["Core"], "auto", False),  # another name
        (["core", "halo"], "raters", False),
        (["Dr. A", "core"], "raters", False),
        (["Dr. A", "Dr. A"], "auto", False),
        (["halo"], "classes", True),
    ],
)
def test_segments_are_classes_if_each_bears_the_name_of_a_label(segments, segments_are, expected):
    assert segments_are_classes(segments, TUMOUR, segments_are) is expected


@pytest.mark.parametrize("segments", [["lesion"], ["lesion", "Dr. B"], ["lesion", "lesion"], ["Dr. A"]])
def test_beside_a_single_label_segments_are_raters_unless_told(segments):
    assert not segments_are_classes(segments, ["lesion"])
    assert segments_are_classes(["lesion"], ["lesion"], "classes")


@pytest.mark.parametrize(
    ("segments", "segments_are", "message"),
    [
        (
            ["core", "Dr. B", "x"],
            "auto",
            r"'Dr\. B', 'x' do not have .* \(core, halo, oedema\), while other segments do",
        ),
        (["Dr. A"], "classes", r"'Dr\. A' do not have the name of a label \(core, halo, oedema\); rename them"),
        (["core", "core"], "auto", "Two segments are named 'core', which is one label"),
        (["core"], "labels", "auto, raters, classes, got 'labels'"),
    ],
)
def test_a_mixture_is_refused_with_its_names(segments, segments_are, message):
    with pytest.raises(ValueError, match=message) as error:
        segments_are_classes(segments, TUMOUR, segments_are)
    assert "\n" not in str(error.value)
