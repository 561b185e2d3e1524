"""Outlines as masks against areas known by hand and a second implementation; marks as nodules."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from lidc_files import rectangle
from skimage.draw import polygon

from AmbiguousSegLib.layouts.lidc_nodules import Mark, Slices, area, marks_of, nodules_of
from AmbiguousSegLib.layouts.lidc_xml import Outline, Outlined, Readings

SLICES = Slices({"a": 0, "b": 1, "c": 2}, (10.0, 12.5, 15.0), 0.25, 40, 30)
DIAMOND = [(5, 2), (4, 3), (3, 4), (2, 5), (3, 6), (4, 7), (5, 8), (6, 7), (7, 6), (8, 5), (7, 4), (6, 3), (5, 2)]
L = [(2, 2), (6, 2), (6, 8), (12, 8), (12, 12), (2, 12)]  # 4 wide above, 10 wide below


def within(points, shape=(40, 30)):
    """The pixels inside a line, in a whole slice."""
    found, mask = area(points), np.zeros(shape, bool)
    rows, columns = found.within.shape
    mask[found.row : found.row + rows, found.column : found.column + columns] = found.within
    return mask


@pytest.mark.parametrize(
    ("points", "inside", "line"),
    [
        (rectangle(3, 4, 9, 8), 5 * 3, 2 * 7 + 2 * 3),
        (DIAMOND, 1 + 3 + 5 + 3 + 1, 12),  # |x| + |y| < 3
        (L, 3 * 9 + 6 * 3, 4 + 6 + 6 + 4 + 10 + 10),
        ([(1, 1), (1, 2), (2, 1)], 0, 3),
        ([(0, 1), (1, 0), (2, 1), (1, 2)], 1, 4),  # the smallest that encloses a pixel
        ([(7, 7)], 0, 1),
        ([(7, 7), (7, 7)], 0, 1),
        ([(4, 4), (8, 6)], 0, 3),  # there and back, by (6, 5)
        ([(0, 0), (10, 0), (10, 1), (0, 1)], 0, 22),
        ([(0, 0), (7, 3), (2, 9)], 28, 3),  # Pick's theorem: its area is 57/2 = inside + line/2 − 1
    ],
)
def test_areas_known_by_hand(points, inside, line):
    found = area(points)
    assert (found.within.sum(), found.line.sum()) == (inside, line)
    assert not (found.within & found.line).any()
    assert (area(points[::-1]).within == found.within).all()


def test_l_leaves_its_notch_out():
    mask = within(L)
    assert mask[5, 4] and mask[10, 9] and not mask[5, 9] and not mask[8, 8] and mask[9, 8]


def second(points, shape):
    """Crossing number in integers, pixel by pixel, by signs of cross products; and the winding number."""
    crossings, windings, on = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            for (xa, ya), (xb, yb) in zip(points, [*points[1:], points[0]]):
                side = (xb - xa) * (y - ya) - (x - xa) * (yb - ya)
                if side == 0 and min(xa, xb) <= x <= max(xa, xb) and min(ya, yb) <= y <= max(ya, yb):
                    on[y, x] = True
                if ya <= y < yb and side < 0:
                    crossings[y, x], windings[y, x] = crossings[y, x] + 1, windings[y, x] + 1
                if yb <= y < ya and side > 0:
                    crossings[y, x], windings[y, x] = crossings[y, x] + 1, windings[y, x] - 1
    return (crossings % 2 == 1) & ~on, (windings != 0) & ~on, on


def random_polygon(random, kind):
    if kind == "crossing":
        return [tuple(point) for point in random.integers(0, 18, (7, 2)).tolist()]
    angles = np.sort(random.uniform(0, 2 * math.pi, 11))
    radii = 8 if kind == "convex" else random.uniform(2, 8, 11)
    points = np.rint(np.stack([9 + radii * np.cos(angles), 9 + radii * np.sin(angles)], 1)).astype(int)
    return list(dict.fromkeys(map(tuple, points.tolist())))


@pytest.mark.parametrize("kind", ["convex", "concave", "crossing"])
def test_agrees_with_crossing_numbers_and_with_skimage(kind):
    random, seen = np.random.default_rng(7), 0
    for _ in range(8):
        points = random_polygon(random, kind)
        mask = within(points, (18, 18))
        odd, wound, on = second(points, (18, 18))
        assert (mask == odd).all()
        if kind == "convex":
            assert (mask == wound).all()
        theirs = np.zeros((18, 18), bool)
        xs, ys = zip(*points)
        theirs[polygon(ys, xs, theirs.shape)] = True
        assert (mask == theirs & ~on).all()
        seen += mask.sum()
    assert seen > 150


def marks(*outlines, reader=0):
    """The marks of one nodule of ``(image, inside, points)``."""
    z_of = {"a": 10.0, "b": 12.5, "c": 15.0}
    told = tuple(Outline(image, z_of[image], inside, tuple(points)) for image, inside, points in outlines)
    return marks_of(Readings(Path("x.xml"), "1.2", 4, (Outlined(reader, "7", told),), 0, 0), SLICES)


def test_volume_over_slices_and_its_box():
    (mark,) = marks(("c", True, rectangle(3, 4, 9, 8)), ("b", True, rectangle(5, 4, 12, 9)))
    assert mark.mask.sum(axis=(1, 2)).tolist() == [6 * 4, 5 * 3]
    assert mark.box == (slice(1, 3), slice(5, 9), slice(4, 12)) and mark.mask.shape == (2, 4, 8)
    assert (mark.reader, mark.name) == (0, "7")


def test_exclusion_takes_its_own_line_away():
    whole = ("a", True, rectangle(2, 2, 12, 12))
    assert marks(whole)[0].mask.sum() == 9 * 9
    for hole, less in (
        (rectangle(5, 5, 8, 8), 4 * 4),
        ([(6, 5), (5, 6), (6, 7), (7, 6)], 5),
        ([(6, 6)], 1),
        (rectangle(10, 5, 14, 8), 2 * 4),  # partly outside
        (rectangle(20, 20, 25, 25), 0),
    ):
        for order in ([whole, ("a", False, hole)], [("a", False, hole), whole]):
            assert marks(*order)[0].mask.sum() == 81 - less
    (mark,) = marks(whole, ("b", True, rectangle(2, 2, 12, 12)), ("b", False, rectangle(5, 5, 8, 8)))
    assert mark.mask.sum(axis=(1, 2)).tolist() == [81, 65]
    assert marks(whole, ("a", False, rectangle(1, 1, 13, 13))) == []


def test_several_outlines_on_one_slice():
    first = rectangle(2, 2, 6, 6)
    apart, touching = (marks(("a", True, first), ("a", True, rectangle(x, 2, x + 4, 6)))[0] for x in (9, 6))
    assert apart.mask.sum() == touching.mask.sum() == 9 + 9
    assert touching.mask.sum(axis=2).tolist() == [[6, 6, 6]]
    assert touching.mask[0, 0].tolist() == [True] * 3 + [False] + [True] * 3  # the side they share
    overlapping = marks(("a", True, first), ("a", True, rectangle(4, 2, 8, 6)))[0]
    assert overlapping.mask.sum() == 5 * 3  # what any of them encloses


def test_stray_points_enclose_nothing():
    (mark,) = marks(("a", True, rectangle(2, 2, 6, 6)), ("c", True, [(9, 9)]), ("b", True, [(1, 1), (2, 2), (1, 1)]))
    assert mark.box[0] == slice(0, 1) and mark.mask.sum() == 9
    assert marks(("a", True, [(1, 1), (2, 1), (2, 2)])) == []


def test_slices_by_image_then_by_z():
    line = ((1, 1), (2, 2))
    assert SLICES.index(Outline("b", 12.5, True, line), "x") == 1
    assert SLICES.index(Outline("gone", 14.9, True, line), "x") == 2
    assert SLICES.index(Outline("", 10.2, True, line), "x") == 0
    with pytest.raises(ValueError, match=r"^x: .* z = 15 mm, but image b lies at 12.5 mm"):
        SLICES.index(Outline("b", 15.0, True, line), "x")
    with pytest.raises(ValueError, match="z = 11.3 mm, but the nearest slice lies at 12.5 mm"):
        SLICES.index(Outline("gone", 11.3, True, line), "x")
    for point in ((30, 0), (0, 40)):
        with pytest.raises(ValueError, match=f"column {point[0]}, row {point[1]}, but slices have 30 × 40 pixels"):
            SLICES.index(Outline("b", 12.5, True, (*line, point)), "x")


def box_mark(reader, left, right, first=0, last=0, name="1"):
    """A mark of columns ``left`` to ``right`` of rows 5 to 9, on slices ``first`` to ``last``."""
    box = (slice(first, last + 1), slice(5, 10), slice(left, right + 1))
    return Mark(reader, name, box, np.ones([part.stop - part.start for part in box], bool))


def test_marks_that_overlap_are_one_nodule():
    a, b, c, d = box_mark(0, 2, 6), box_mark(1, 4, 9), box_mark(3, 5, 6, 0, 2), box_mark(2, 20, 24, 1, 1)
    near, far = nodules_of([a, b, c, d])
    assert near.marks == (a, b, c) and near.readers == (0, 1, 3) and not near.several and not near.chained
    assert near.box == (slice(0, 3), slice(5, 10), slice(2, 10))
    masks = near.masks()
    assert masks.shape == (4, 3, 5, 8) and masks.dtype == np.uint8
    assert masks.sum((1, 2, 3)).tolist() == [5 * 5, 6 * 5, 0, 2 * 5 * 3]  # reader 3 marked nothing here
    assert masks[1, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert far.marks == (d,) and far.readers == (2,) and far.masks().sum((1, 2, 3)).tolist() == [0, 0, 25, 0]


def test_what_only_touches_stays_apart():
    assert len(nodules_of([box_mark(0, 2, 6), box_mark(1, 7, 9)])) == 2  # side by side
    assert len(nodules_of([box_mark(0, 2, 6, 0, 0), box_mark(1, 2, 6, 1, 1)])) == 2  # on the next slice
    corner = np.zeros((1, 5, 5), bool)
    corner[0, 4, 4] = True
    mark = Mark(1, "1", box_mark(1, 2, 6).box, corner)
    rest = Mark(0, "1", mark.box, ~corner)
    assert len(nodules_of([mark, rest])) == 2  # of the same box
    assert nodules_of([]) == []


def test_chains_are_one_nodule_and_said_so():
    a, b, c = box_mark(0, 2, 6), box_mark(1, 6, 10), box_mark(2, 10, 14)
    for order in ([a, b, c], [c, a, b], [b, c, a]):
        (nodule,) = nodules_of(order)
        assert nodule.marks == (a, b, c) and nodule.chained and nodule.several == ()


def test_marks_of_one_reader():
    a, b, whole = box_mark(0, 2, 6), box_mark(0, 9, 12, name="2"), box_mark(1, 2, 12)
    assert [nodule.marks for nodule in nodules_of([a, b])] == [(a,), (b,)]
    over = box_mark(0, 5, 9)
    assert [nodule.marks for nodule in nodules_of([a, over])] == [(a,), (over,)]  # nobody matches with himself
    (nodule,) = nodules_of([a, b, whole])
    assert nodule.several == (0,) and not nodule.chained
    assert nodule.masks().sum((1, 2, 3)).tolist() == [5 * 5 + 4 * 5, 11 * 5, 0, 0]
    five = [a, b, whole, box_mark(2, 3, 11), box_mark(3, 3, 11)]
    (nodule,) = nodules_of(five)
    assert len(nodule.marks) == 5 and nodule.several == (0,)


def test_nodules_come_from_the_lowest_slice_up():
    given = [box_mark(0, 20, 22, 2, 2), box_mark(1, 9, 12, 0, 1), box_mark(2, 2, 4, 0, 1), box_mark(3, 2, 4, 1, 2)]
    found = [(nodule.box[0], nodule.box[2], nodule.readers) for nodule in nodules_of(given)]
    assert found == [
        (slice(0, 2), slice(9, 13), (1,)),
        (slice(0, 3), slice(2, 5), (2, 3)),
        (slice(2, 3), slice(20, 23), (0,)),
    ]
