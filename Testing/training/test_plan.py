"""Planned configurations: the rules at their boundaries, worked out by hand, and real data."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import yaml

from AmbiguousSegLib.configuration import from_dict
from AmbiguousSegLib.data.inspection import Inspection
from AmbiguousSegLib.labels import DEFAULT_LABELS, Label
from AmbiguousSegLib.methods import build_method
from AmbiguousSegLib.training.config import TrainingConfig, completed
from AmbiguousSegLib.training.plan import plan
from AmbiguousSegLib.training.plan_file import as_yaml
from AmbiguousSegLib.training.plan_images import MOST_SIDE_GPU, multiple_of
from AmbiguousSegLib.training.plan_run import Machine, network
from AmbiguousSegLib.training.plan_speed import Speed, measured_speed
from AmbiguousSegLib.volume.geometry import Geometry
from AmbiguousSegLib.volume.inputs import ChannelValues
from AmbiguousSegLib.volume.preprocessing import Intensity, Preprocessing

UPRIGHT = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
# Index x runs along the patient's y, index y along z, index z along x: slices as a sagittal series stores them.
SAGITTAL = (0, 0, 1.0, 1.0, 0, 0, 0, 1.0, 0)
BYTES = ChannelValues(0, 3, 90, 240, 255, True)
HU = ChannelValues(-1024, -967, -793, 541, 1400, True)
MR = ChannelValues(0, 0.5, 110.2, 980.7, 2310.4, False)
FAST = Speed(trained_per_s=1e9, evaluated_per_s=1e12, prepared_per_s=1e12, memory_mb=500)


def seen(
    number: int = 0,
    size: tuple[int, int, int] = (128, 128, 1),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    values: tuple[ChannelValues, ...] = (BYTES,),
    lesion_px: tuple[int, int, int] = (30, 30, 1),
    corner: tuple[int, int, int] | None = None,
    **others,
) -> Inspection:
    """One lesion, at ``corner`` or in the middle; sizes in x, y, z."""
    corner = corner or tuple((n - m) // 2 for n, m in zip(size, lesion_px))
    fields = {
        "identity": f"case{number}",
        "subject": f"subject{number}",
        "group": "",
        "part": "",
        "modality": "",
        "stored": "float32",
        "geometry": Geometry(size, spacing, (0.0, 0.0, 0.0), others.pop("direction", UPRIGHT)),
        "raters": ("a", "b"),
        "values": values,
        "marked": tuple(tuple(range(c, c + n)) for c, n in zip(corner[::-1], lesion_px[::-1])),
        "largest_px": lesion_px[::-1],
        "labels": (1,),
        "empty_raters": 0,
    }
    return Inspection(**{**fields, **others})


def cases(count: int = 10, **fields) -> list[Inspection]:
    return [seen(number, **fields) for number in range(count)]


def machine(device: str = "cpu", minutes: float | None = None, speed: Speed = FAST, **fields) -> Machine:
    return Machine(device, fields.pop("cores", 2), minutes, lambda *_: speed, **fields)


def chosen(inspections, device: str = "cpu", **fields) -> dict:
    """Values by key."""
    made = plan(inspections, DEFAULT_LABELS, machine(device, **fields))
    return {key: value for key, value, _ in made.reasons}


def reason(inspections, key: str, **fields) -> str:
    return next(why for k, _, why in plan(inspections, DEFAULT_LABELS, machine(**fields)).reasons if k == key)


VOLUME = {"size": (256, 256, 40), "lesion_px": (20, 20, 4), "values": (MR,)}


# Plane


@pytest.mark.parametrize(
    ("spacing", "direction", "plane"),
    [
        ((1, 1, 1), UPRIGHT, "axial"),
        ((0.7, 0.7, 5), UPRIGHT, "axial"),
        ((1, 1.5, 1), UPRIGHT, "axial"),  # at the limit, not above
        ((1, 1.51, 1), UPRIGHT, "coronal"),
        ((1.51, 1, 1), UPRIGHT, "sagittal"),
        ((1, 1, 3), SAGITTAL, "sagittal"),
    ],
)
def test_slices_lie_across_the_coarsest_axis(spacing, direction, plane):
    inspections = cases(4, spacing=tuple(map(float, spacing)), direction=direction, **VOLUME)
    assert chosen(inspections)["dataset.plane"] == plane


def test_single_slices_are_what_they_are():
    assert chosen(cases())["dataset.plane"] == "stored"
    assert chosen(cases(spacing=(0.5, 0.5, 1.0), values=(HU,)))["dataset.plane"] == "axial"
    coronal = {"size": (128, 1, 128), "lesion_px": (30, 1, 30), "values": (HU,), "spacing": (0.5, 1.0, 0.5)}
    assert chosen(cases(**coronal))["dataset.plane"] == "coronal"
    mixed = [seen(0, **coronal), seen(1, spacing=(0.5, 0.5, 1.0), values=(HU,))]
    assert chosen(mixed)["dataset.plane"] == "stored"


# Spacing and size


@pytest.mark.parametrize(
    ("device", "lesion_px", "spacing_mm", "side"),
    [
        ("cpu", 20, 0.5, 64),  # of whole slices at least 64
        ("cpu", 40, 0.5, 80),  # twice the lesion
        ("cpu", 45, 0.5, 96),  # 90 pixels: 96 is the next multiple of 8, and of 16 as its network needs
        ("cpu", 80, 0.5, 128),  # 160 would be twice the lesion, 120 is one and a half
        ("cpu", 100, 0.59, 128),  # 150 are more than 128: 50 mm · 1.5 / 128 = 0.586 mm
        ("cuda", 100, 0.5, 224),  # 200: the next multiple of 32
        ("cuda", 200, 0.59, 256),  # 100 mm · 1.5 / 256
    ],
)
def test_a_patch_holds_the_largest_lesions_and_what_is_around_them(device, lesion_px, spacing_mm, side):
    fields = {"size": (512, 512, 40), "spacing": (0.5, 0.5, 2.0), "values": (MR,), "lesion_px": (lesion_px, 15, 4)}
    values = chosen(cases(4, **fields), device)
    assert (values["dataset.spacing_mm"], values["dataset.size"]) == (spacing_mm, [side, side])


def test_the_largest_lesions_are_those_of_the_95th_percentile():
    inspections = cases(200, size=(512, 512, 40), spacing=(0.5, 0.5, 2.0), values=(MR,), lesion_px=(40, 40, 4))
    for k in range(9):  # 4.5 %
        inspections[k] = replace(inspections[k], largest_px=(4, 100, 100))
    assert chosen(inspections)["dataset.size"] == [80, 80]


def test_spacing_is_the_median_in_the_plane():
    inspections = [
        seen(number, spacing=(mm, mm, 2.5), size=(256, 256, 40), lesion_px=(20, 20, 4), values=(MR,))
        for number, mm in enumerate((0.6, 0.703, 0.9))
    ]
    assert chosen(inspections)["dataset.spacing_mm"] == 0.703


@pytest.mark.parametrize("spacing", [0.9375, 0.48828125, 0.68359375, 1.25, 0.703125])
def test_slices_of_one_spacing_are_not_resampled(spacing):
    """Fields of 240 to 500 mm in 256 or 512 pixels: a spacing that is a little off would blur every slice."""
    inspections = cases(4, spacing=(spacing, spacing, 3.0), size=(512, 256, 40), lesion_px=(20, 20, 4), values=(MR,))
    values = chosen(inspections)
    preprocessing = Preprocessing(
        ("MR",), "axial", values["dataset.spacing_mm"], (64, 64), 8, Intensity("window", 0.0, 1.0)
    )
    pixels = np.random.default_rng(0).random((1, 1, 256, 512), np.float32)
    grid = replace(inspections[0].geometry, size=(512, 256, 1))
    np.testing.assert_array_equal(preprocessing.prepare(pixels, grid).image(0).numpy()[0], pixels[0, 0])


def test_one_huge_lesion_among_ten_makes_the_others_no_smaller():
    fields = {"size": (512, 512, 40), "spacing": (0.7, 0.7, 2.0), "values": (MR,)}
    inspections = [seen(k, lesion_px=(400, 400, 4) if k == 3 else (20, 20, 4), **fields) for k in range(10)]
    assert chosen(inspections)["dataset.spacing_mm"] == 0.7
    assert chosen(inspections)["dataset.size"] == [64, 64]


def test_crops_bound_the_size():
    """Crops of 71 pixels of 0.7 mm: twice the lesions of 40 pixels would be 80."""
    crops = cases(size=(71, 71, 1), spacing=(0.7, 0.7, 1.0), values=(HU,), lesion_px=(40, 40, 1))
    assert chosen(crops)["dataset.size"] == [64, 64]


def test_pictures_are_brought_to_one_size():
    """Pixels of 1 mm are what pictures have that tell nothing."""
    values = chosen(cases(size=(64, 64, 1), lesion_px=(20, 20, 1)))
    assert (values["dataset.spacing_mm"], values["dataset.size"]) == (None, [64, 64])
    large = {"size": (640, 480, 1), "lesion_px": (64, 40, 1)}  # a tenth of the width
    assert chosen(cases(**large))["dataset.size"] == [96, 128]  # rows, columns
    assert chosen(cases(**large), "cuda")["dataset.size"] == [192, 256]
    # Objects that span three quarters of their picture: 48 pixels of 64.
    filled = {"size": (128, 128, 1), "lesion_px": (96, 40, 1)}
    assert chosen(cases(**filled))["dataset.size"] == [64, 64]
    assert chosen(cases(**filled), "cuda")["dataset.size"] == [128, 128]


def test_every_size_fits_its_network():
    for side in range(8, MOST_SIDE_GPU + 1, 8):
        if side % multiple_of(side) == 0:
            config = network((side, side), 1, gpu=False)
            method = from_dict(type(build_method("cimd", config).config), config)
            assert side % method.unet.size_multiple == 0
            assert side < 24 or 6 <= side >> (len(config["unet"]["channel_mult"]) - 1) <= 11


# Intensity and channels


def intensity(*values: ChannelValues, **fields):
    return chosen([seen(k, values=(v,), **fields) for k, v in enumerate(values)])["dataset.intensity"]


def full_scale(high: float) -> dict:
    return {"rule": "full_scale", "high": high}


PERCENTILE = {"rule": "percentile", "low": 0.5, "high": 99.5}


def test_pictures_have_the_full_scale_that_holds_them():
    assert intensity(BYTES, replace(BYTES, greatest=200)) == full_scale(255)
    assert intensity(replace(BYTES, greatest=256)) == full_scale(1023)
    assert intensity(replace(BYTES, greatest=1024)) == full_scale(4095)
    assert intensity(replace(BYTES, greatest=3000), replace(BYTES, greatest=50_000)) == full_scale(65535)
    assert intensity(replace(BYTES, greatest=0.9, whole=False)) == full_scale(1)
    assert intensity(BYTES, replace(BYTES, greatest=60_000)) == PERCENTILE  # 8 and 16 bits, mixed
    assert intensity(replace(BYTES, least=-1)) == PERCENTILE
    assert intensity(replace(BYTES, whole=False)) == PERCENTILE


def test_volumes_of_mr_have_no_common_scale():
    assert intensity(MR, **{k: v for k, v in VOLUME.items() if k != "values"}) == PERCENTILE
    assert intensity(replace(BYTES, greatest=900), spacing=(0.5, 0.5, 1.0)) == PERCENTILE  # a slice of a scan


@pytest.mark.parametrize(
    ("low", "median", "high", "window"),
    [
        (-967, -793, 541, (-1000, 400)),  # lung nodules
        (-1024, -850, 120, (-1000, 200)),  # hardly anything but lung: not narrower than 200
        (-95, 40, 260, (-100, 250)),  # liver
        (-100, 400, 1490, (-100, 1500)),  # bone
        (12, 30, 70, (0, 200)),
    ],
)
def test_windows_of_ct_follow_the_data_within_what_is_useful(low, median, high, window):
    values = ChannelValues(-1024, low, median, high, 3000, True)
    found = intensity(values, spacing=(0.7, 0.7, 1.0))
    assert found == {"rule": "window", "low": window[0], "high": window[1]}


def test_of_ct_volumes_the_window_is_that_around_the_marks():
    inspections = cases(2, size=(512, 512, 40), spacing=(0.7, 0.7, 2.0), values=(HU,), lesion_px=(20, 20, 4))
    near = [(ChannelValues(-200, -95, 40, 260, 900, True),)] * 2
    made = plan(inspections, DEFAULT_LABELS, machine(), near=near)
    assert made.config["dataset"]["intensity"] == {"rule": "window", "low": -100, "high": 250}


def test_channels_have_a_rule_each_and_names():
    two = chosen(cases(values=(HU, MR), spacing=(0.7, 0.7, 1.0)))
    assert two["dataset.intensity"] == [{"rule": "window", "low": -1000, "high": 400}, PERCENTILE]
    assert two["dataset.channels"] == ["channel_1", "channel_2"]
    assert chosen(cases(values=(BYTES,) * 3))["dataset.channels"] == ["red", "green", "blue"]
    assert chosen(cases(values=(HU,), spacing=(0.7, 0.7, 1.0)))["dataset.channels"] == ["CT"]
    assert chosen(cases(values=(MR,), modality="MR"))["dataset.channels"] == ["MR"]
    named = plan(cases(values=(MR, MR)), DEFAULT_LABELS, machine(), channels=["T1", "FLAIR"])
    assert named.config["dataset"]["channels"] == ["T1", "FLAIR"]
    with pytest.raises(ValueError, match="case1 has 2 channel.s., case0 has 1; give all cases the same"):
        plan([seen(0), seen(1, values=(BYTES, BYTES))], DEFAULT_LABELS, machine())


# Augmentation


def augmentation(inspections) -> dict:
    return plan(inspections, DEFAULT_LABELS, machine()).config["augmentation"]


def test_hounsfield_units_are_not_varied_and_organs_not_turned():
    small = augmentation(cases(size=(71, 71, 1), spacing=(0.7, 0.7, 1.0), values=(HU,)))  # 64 · 0.7 mm
    assert small == {"flip": True, "rotate_degrees": 180, "scale": 0.15, "translate": 0.15, "gain": 0, "offset": 0}
    liver = {"size": (256, 256, 40), "spacing": (1.5, 1.5, 5.0), "lesion_px": (80, 80, 4), "values": (MR,)}
    large = augmentation(cases(4, **liver))  # 128 · 1.5 mm
    assert large == {
        "flip": False,
        "rotate_degrees": 15,
        "scale": 0.15,
        "translate": 0.05,
        "gain": 0.15,
        "offset": 0.05,
    }


def test_where_a_map_of_a_point_is_read_brightness_is_not_varied():
    """``TrainingConfig`` refuses gain and offset beside ``dataset.point``, which they would change."""
    pictures = cases(values=(MR,))
    assert [augmentation(pictures)[key] for key in ("gain", "offset")] == [0.15, 0.05]
    made = plan(pictures, DEFAULT_LABELS, machine(), pointed=True)
    assert [made.config["augmentation"][key] for key in ("gain", "offset")] == [0, 0]
    assert {why for key, _, why in made.reasons if key in ("augmentation.gain", "augmentation.offset")} == {
        "the map of the point must stay as it is"
    }


def test_lesions_that_lie_in_the_middle_of_crops_are_moved_further():
    assert augmentation(cases())["translate"] == 0.15
    assert augmentation(cases(corner=(80, 49, 0)))["translate"] == 0.05  # a quarter off the middle
    assert augmentation(cases(lesion_px=(70, 30, 1)))["translate"] == 0.05  # more than half of what is seen
    patches = {"size": (256, 256, 1), "spacing": (0.7, 0.7, 1.0), "values": (HU,)}
    assert augmentation(cases(**patches))["translate"] == 0.05  # cut from larger slices, where they are shifted


# Split


@pytest.mark.parametrize(
    ("subjects", "validation", "test"),
    [
        (1, 0, 0),
        (2, 0, 0),
        (3, 0.2, 0),
        (5, 0.2, 0),
        (6, 0.2, 0.2),
        (10, 0.15, 0.15),
        (99, 0.15, 0.15),
        (100, 0.1, 0.1),
    ],
)
def test_the_fewer_subjects_the_more_of_them_train(subjects, validation, test):
    values = chosen(cases(subjects))
    assert (values["dataset.validation_fraction"], values["dataset.test_fraction"]) == (validation, test)


def test_slices_of_one_subject_are_one_subject():
    assert chosen(cases(50, subject="she"))["dataset.validation_fraction"] == 0
    assert "none can be spared" in reason(cases(50, subject="she"), "dataset.validation_fraction")


def test_parts_that_the_data_states_are_used():
    stated = [replace(case, part="train" if k < 8 else "validation") for k, case in enumerate(cases(10))]
    made = plan(stated, DEFAULT_LABELS, machine(images=1000))
    assert made.config["dataset"]["validation_fraction"] == made.config["dataset"]["test_fraction"] == 0
    why = {key: text for key, _, text in made.reasons}
    assert why["optimisation.images"] == "as asked for; each of 8 slices 125 times"
    assert why["validation.cases"] == "of 2 held-out slices"
    only = [replace(case, part="train") for case in cases(10)]  # the test is kept apart
    assert chosen(only)["dataset.validation_fraction"] == 0.15
    assert chosen(only)["dataset.test_fraction"] == 0


# Slices of volumes


def test_of_volumes_a_few_slices_without_a_mark_are_shown():
    values = chosen(cases(1, **VOLUME))
    assert values["dataset.empty_share"] == 0.15
    assert "4 of 40 slices are marked" in reason(cases(1, **VOLUME), "dataset.empty_share")
    assert "each of 5 slices" in reason(cases(1, **VOLUME), "optimisation.images")  # 4 / 0.85
    full = {**VOLUME, "lesion_px": (20, 20, 34)}  # 85 % of 40
    assert "dataset.empty_share" not in chosen(cases(1, **full))
    assert "dataset.empty_share" not in chosen(cases())


# Time


def run(minutes: float | None, items: int = 2000, device: str = "cpu", **speed) -> dict:
    inspections = cases(items, subject="one")  # nothing is held out
    return chosen(inspections, device, minutes=minutes, speed=replace(FAST, **speed))


@pytest.mark.parametrize(
    ("minutes", "items", "per_s", "images"),
    [
        (10, 2000, 10, 5_400),  # 600 s · 0.9 · 10: what is asked for, though it is little
        (100, 2000, 10, 54_000),
        (0.01, 2000, 10, 1_000),
        (None, 2000, 20, 64_000),  # an hour: 3600 · 0.9 · 20 = 64,800
        (None, 2000, 1, 16_000),  # an hour would not be enough for anything
        (None, 2000, 10, 40_000),  # 20 times each, for it takes less than twice the hour
        (None, 4000, 10, 32_000),  # 80,000 would take more than twice the hour
        (None, 100, 100, 50_000),  # 500 times each
        (None, 4, 100, 32_000),
        (None, 5000, 1e6, 2_000_000),
    ],
)
def test_images_follow_from_time_and_speed(minutes, items, per_s, images):
    assert run(minutes, items, trained_per_s=per_s)["optimisation.images"] == images


def test_preparing_and_checking_take_their_time():
    # Without a GPU items are prepared in turns with the steps: 1/10 + 1/40 s.
    assert run(100, trained_per_s=10, prepared_per_s=40)["optimisation.images"] == 43_000  # 5400 · 8 = 43,200
    on_gpu = {"device": "cuda", "trained_per_s": 100, "prepared_per_s": 40}
    assert run(100, **on_gpu)["optimisation.images"] == 216_000  # one worker beside it: 5400 · 40
    inspections = cases(100)  # 10 of which validate: 10 · 10 · 8 · 4 evaluations
    speed = Speed(trained_per_s=10, evaluated_per_s=3.2, prepared_per_s=1e12, memory_mb=1)
    made = plan(inspections, DEFAULT_LABELS, machine(minutes=30, speed=speed))
    assert made.config["optimisation"]["images"] == 6_200  # (1620 s − 1000 s) · 10
    assert made.minutes == pytest.approx(30)


def test_the_rest_of_the_run_follows_from_its_length():
    values = run(100, trained_per_s=10)
    assert values["optimisation.batch_size"] == 16
    assert values["optimisation.warmup_images"] == 2700  # a twentieth of 54,000
    assert values["validation.every_images"] == values["checkpoint_every_images"] == 5400
    assert values["optimisation.ema_decay"] == 0.999
    assert run(None, trained_per_s=1e6)["optimisation.ema_decay"] == 0.9999  # 62,500 updates
    gpu = run(100, device="cuda", trained_per_s=10)
    assert (gpu["optimisation.batch_size"], gpu["dataset.workers"]) == (64, 1)
    assert gpu["method_config"]["unet"]["model_channels"] == 32


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_must_be_some(minutes):
    with pytest.raises(ValueError, match="The minutes that a training may take must be positive, got"):
        machine(minutes=minutes)


def test_speed_is_measured_on_the_network_that_is_planned():
    tiny = network((16, 16), 2, gpu=False)
    speed = measured_speed("cpu", seconds=0.06)({**tiny, "classes": 3}, (16, 16), 2)
    assert 0 < speed.trained_per_s < speed.evaluated_per_s < float("inf")  # a backward pass costs more than none
    assert speed.prepared_per_s > 0
    assert speed.memory_mb != speed.memory_mb or 50 < speed.memory_mb < 20_000


# The whole


def loaded(made) -> TrainingConfig:
    """The configuration as a file gives it, with its network built and its slices described."""
    config = completed(from_dict(TrainingConfig, yaml.safe_load(as_yaml(made)), ""))
    method = build_method(config.method, config.method_config)
    config.dataset.preprocessing(method.size_multiple)
    assert method.image_channels == len(config.dataset.channels)
    assert method.classes == len(config.labels)
    return config


def test_the_file_says_what_was_planned_with_its_reasons():
    made = plan(cases(values=(HU, MR), spacing=(0.7, 0.7, 1.0)), [Label("core"), Label("halo", (0, 0.5, 1))], machine())
    text = as_yaml(made)
    assert yaml.safe_load(text) == made.config
    assert max(map(len, text.splitlines())) <= 120
    lines = [line.strip() for line in text.splitlines()]
    comments = " ".join(line[2:] for line in lines if line.startswith("# "))
    assert not [why for _, _, why in made.reasons if why not in comments]
    plane = lines.index("plane: axial")
    assert lines[plane - 1] == "# every case is one axial slice"
    assert [label.name for label in loaded(made).labels] == ["core", "halo"]


def test_the_same_data_gives_the_same_plan_in_any_order():
    inspections = [
        seen(k, spacing=(0.5 + k / 50, 0.5 + k / 50, 2.0), size=(256, 256, 40), lesion_px=(10 + k, 20, 4), values=(MR,))
        for k in range(17)
    ]
    shuffled = random.Random(1).sample(inspections, len(inspections))
    assert plan(shuffled, DEFAULT_LABELS, machine()) == plan(inspections, DEFAULT_LABELS, machine())


def test_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="There is no case to plan for"):
        plan([], DEFAULT_LABELS, machine())
    empty = cases(marked=((), (), ()), largest_px=(0, 0, 0), labels=())
    with pytest.raises(ValueError, match="Nobody marked anything in any case"):
        plan(empty, DEFAULT_LABELS, machine())
