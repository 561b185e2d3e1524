"""What the phantom images: a continuous lung-like scene of vessels, sometimes a chest wall, and nodules.

Points are millimetres from the centre of the field, arrays (3, …) in z, y, x order. Densities are Hounsfield units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

LUNG_HU, WALL_HU = -850.0, 40.0
CORE_HU = (-350.0, 50.0)  # at core_contrast 0 and 1
HALO_HU = (-780.0, -450.0)  # at halo_contrast 0 and 1


@dataclass(frozen=True)
class Nodule:
    """A deformed ellipsoid: core of about ``core_radius_mm``, and a halo that is the same shape times ``halo_ratio``.

    Attributes:
        centre_mm: (z, y, x).
        core_radius_mm: radius of the sphere that ``shape`` and ``bumps`` deform.
        halo_ratio: size of the halo over size of the core, more than 1.
        core_contrast, halo_contrast: in [0, 1], how dense the two look (``CORE_HU``, ``HALO_HU``).
        shape: (3, 3); the undeformed core is {p: |shape @ (p − centre)| < core_radius_mm}.
        bumps: (K, 3) vectors b; in direction u the radius is multiplied by 1 + Σ (b·u)³.
    """

    centre_mm: np.ndarray
    core_radius_mm: float
    halo_ratio: float
    core_contrast: float
    halo_contrast: float
    shape: np.ndarray
    bumps: np.ndarray

    @property
    def core_hu(self) -> float:
        """Density of the core, HU."""
        return CORE_HU[0] + self.core_contrast * (CORE_HU[1] - CORE_HU[0])

    @property
    def halo_hu(self) -> float:
        """Density of the halo, HU."""
        return HALO_HU[0] + self.halo_contrast * (HALO_HU[1] - HALO_HU[0])

    @property
    def mode_probabilities(self) -> np.ndarray:
        """Exact probabilities that a rater draws nothing, the core, core and halo: (3,) float64.

        With core contrast a and halo contrast h: nothing 0.45 (1 − a), core and halo (1 − nothing) (0.1 + 0.8 h).
        """
        nothing = 0.45 * (1.0 - self.core_contrast)
        halo = (1.0 - nothing) * (0.1 + 0.8 * self.halo_contrast)
        return np.array([nothing, 1.0 - nothing - halo, halo])

    @property
    def reach_mm(self) -> float:
        """No point of the halo is farther than this from the centre."""
        stretch = 1.0 / np.linalg.svd(self.shape, compute_uv=False)[-1]
        return float(self.core_radius_mm * self.halo_ratio * stretch * (1.0 + np.sum(_norm(self.bumps) ** 3)))

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Signed distances of ``points`` (3, …) from core and halo, mm, negative inside: (2, …) float32.

        To first order: level function over the slope of its ellipsoid. Exact on the border, and for a sphere.
        """
        p = (points.reshape(3, -1) - self.centre_mm[:, None]).astype(np.float32)
        shape = self.shape.astype(np.float32)
        q = shape @ p
        radius = np.maximum(np.sqrt(np.einsum("ip,ip->p", q, q)), np.float32(1e-6))
        gradient = shape.T @ q
        slope = np.maximum(np.sqrt(np.einsum("ip,ip->p", gradient, gradient)), np.float32(1e-6)) / radius
        cosine = self.bumps.astype(np.float32) @ q / radius
        bump = 1 + np.sum(cosine * cosine * cosine, axis=0)
        core = np.float32(self.core_radius_mm)
        level = radius / bump
        return (np.stack([level - core, level - core * np.float32(self.halo_ratio)]) / slope).reshape(
            2, *points.shape[1:]
        )


@dataclass(frozen=True)
class Scene:
    """What is in the field. Arrays of V vessels and W background waves; ``wall`` is None where there is no chest wall.

    Attributes:
        nodules: apart from each other and from the wall.
        waves: (W, 5) background texture: wave vector (z, y, x) in rad/mm, phase, amplitude in HU.
        frames: (V, 3, 3) rows: direction of the vessel and two normals.
        vessels: (V, 9) origin (z, y, x), radius and its loss per mm, bend amplitude, rad/mm and phase, HU above lung.
        wall: (4,) unit normal (z, y, x) pointing into the wall, and its distance from the field's centre in mm.
    """

    nodules: tuple[Nodule, ...]
    waves: np.ndarray
    frames: np.ndarray
    vessels: np.ndarray
    wall: np.ndarray | None

    def wall_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance of ``points`` (3, …) from the chest wall, mm, negative inside it; ``inf`` without a wall."""
        return _wall_distance(self.wall, points)

    def hounsfield(self, points: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Noise-free image at ``points`` (3, …), HU: float32 (…), given the nodules' ``distances`` (nodules, 2, …)."""
        p = points.reshape(3, -1).astype(np.float32)
        waves = self.waves.astype(np.float32)
        hu = LUNG_HU + waves[:, 4] @ np.cos(waves[:, :3] @ p + waves[:, 3:4])
        hu += self._vessels(p)
        if self.wall is not None:
            hu += (WALL_HU - hu) * _inside(self.wall_distance(p), 0.8)
        for nodule, (core, halo) in zip(self.nodules, distances.reshape(len(self.nodules), 2, p.shape[1]), strict=True):
            hu += (nodule.halo_hu - hu) * _inside(halo, 0.8)
            hu += (nodule.core_hu - hu) * _inside(core, 0.5)
        return hu.reshape(points.shape[1:]).astype(np.float32)

    def _vessels(self, p: np.ndarray) -> np.ndarray:
        frames, v = self.frames.astype(np.float32), self.vessels.astype(np.float32)
        origins = np.einsum("vij,vj->vi", frames, v[:, :3])
        local = (frames.reshape(-1, 3) @ p).reshape(len(v), 3, -1) - origins[..., None]
        radius, loss, bend, frequency, phase, hu = v[:, 3:].T[..., None]
        along = local[:, 0]
        sideways = local[:, 1] - bend * np.sin(frequency * along + phase)
        across = np.sqrt(sideways * sideways + local[:, 2] * local[:, 2])
        radius = np.maximum(radius - loss * np.abs(along), 0.0)
        return np.max(hu * _inside(across - radius, 0.35) * np.minimum(radius / 0.6, 1.0), axis=0)


def random_scene(rng: np.random.Generator, extent_mm: tuple[float, float, float], nodules: int) -> Scene:
    """A scene in a field of ``extent_mm`` (z, y, x) with that many nodules; an extent of 0 along z stands for a slice.

    Raises:
        ValueError: the nodules do not fit in the field.
    """
    extent = np.asarray(extent_mm)
    waves = np.column_stack([
        _directions(rng, 6) * (2 * np.pi / rng.uniform(14, 60, (6, 1))),
        rng.uniform(0, 2 * np.pi, 6), rng.uniform(4, 12, 6),
    ])  # fmt: skip
    around = np.maximum(extent, 24.0)  # vessels start above and below a slice too
    count = 3 + rng.poisson(5 * np.prod(around) / (24 * 64 * 64))
    tilt = np.linalg.qr(rng.standard_normal((count, 3, 3)) * np.array([0.5, 1, 1])[:, None])[0]
    vessels = np.column_stack([
        (rng.random((count, 3)) - 0.5) * around, rng.uniform(0.8, 2.2, count), rng.uniform(0.005, 0.05, count),
        rng.uniform(0, 3, count), 2 * np.pi / rng.uniform(25, 60, count), rng.uniform(0, 2 * np.pi, count),
        rng.uniform(780, 900, count),
    ])  # fmt: skip
    wall = None
    if rng.random() < 0.35:
        angle = rng.integers(4) * np.pi / 2 + rng.uniform(-0.3, 0.3)
        normal = np.array([0.0, np.sin(angle), np.cos(angle)])
        wall = np.append(normal, np.abs(normal) @ extent / 2 - rng.uniform(3, 10))
    return Scene(_nodules(rng, extent, nodules, wall), waves, np.swapaxes(tilt, 1, 2), vessels, wall)


def _nodules(rng: np.random.Generator, extent: np.ndarray, count: int, wall: np.ndarray | None) -> tuple[Nodule, ...]:
    """Nodules that fit: drawn again until they lie in the field, apart from each other and from the wall."""
    for _ in range(50):
        placed: list[Nodule] = []
        for _ in range(60):
            if len(placed) == count:
                return tuple(placed)
            nodule = _nodule(rng, extent)
            if (
                nodule is not None
                and _wall_distance(wall, nodule.centre_mm) > nodule.reach_mm
                and all(
                    _norm(nodule.centre_mm - other.centre_mm) > nodule.reach_mm + other.reach_mm for other in placed
                )
            ):
                placed.append(nodule)
    size = " × ".join(f"{e:g}" for e in extent)
    raise ValueError(f"{count} nodules do not fit in a field of {size} mm (z, y, x): take fewer, or a larger field.")


def _nodule(rng: np.random.Generator, extent: np.ndarray) -> Nodule | None:
    """A random nodule in a field, or None if it is larger than the field. Extent 0 along z stands for a slice."""
    stretch = np.exp(rng.uniform(-0.22, 0.22, 3))
    stretch /= np.cbrt(stretch.prod())
    shape = np.linalg.qr(rng.standard_normal((3, 3)))[0] / stretch[:, None]
    radius, ratio = rng.uniform(4, 9), rng.uniform(1.45, 1.9)
    bumps = _directions(rng, 2) * np.cbrt(rng.uniform(0, 0.09, (2, 1)))
    nodule = Nodule(np.zeros(3), radius, ratio, rng.random(), rng.random(), shape, bumps)
    room = extent / 2 - nodule.reach_mm
    position = rng.uniform(-1, 1, 3) * room
    if extent[0] == 0:
        beside = rng.random() < 1 / 12
        position[0] = radius * (rng.uniform(1.15, 0.85 * ratio) if beside else rng.uniform(-0.75, 0.75))
        room = room[1:]
    return None if room.min() < 0 else replace(nodule, centre_mm=position)


def _wall_distance(wall: np.ndarray | None, points: np.ndarray) -> np.ndarray:
    if wall is None:
        return np.full(points.shape[1:], np.inf)
    tangent = wall[1] * points[2] - wall[2] * points[1]
    return wall[3] - np.tensordot(wall[:3], points, 1) - tangent**2 / 120.0


def _inside(distance: np.ndarray, softness_mm: float) -> np.ndarray:
    """1 inside, 0 outside, smooth over a few ``softness_mm``."""
    return 0.5 - 0.5 * np.tanh(distance / np.float32(2 * softness_mm))


def _directions(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.standard_normal((n, 3))
    return vectors / _norm(vectors)[:, None]


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(vectors**2, axis=-1))
