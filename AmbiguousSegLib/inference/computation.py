"""How the numbers of sampling are computed: what is always the same, and what is faster on a GPU and not the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from AmbiguousSegLib.diffusion.noise import DeviceNoise, RowNoise
from AmbiguousSegLib.inference.choices import PRECISIONS, RANDOM_SOURCES
from AmbiguousSegLib.inference.noise_ahead import NoiseAhead
from AmbiguousSegLib.methods.base import Method

_WARM_UP = 3  # evaluations before one is recorded, as torch's documentation of CUDA graphs has it

Forward = Callable[..., Tensor]


@dataclass(frozen=True)
class Computation:
    """The default is float32 and noise that is made on the CPU: the same masks everywhere, but for rounding.

    Attributes:
        precision: "bfloat16": the network in half precision, on CUDA GPUs that have it.
        cuda_graph: record an evaluation of the network once and replay it, which spares a GPU the wait for Python.
        random_source: "device": noise by the device's own generator (``DeviceNoise``), other masks for the same seed.

    Raises:
        ValueError: a precision or source that there is not.
    """

    precision: str = "float32"
    cuda_graph: bool = False
    random_source: str = "addressed"

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("random_source", RANDOM_SOURCES)):
            if getattr(self, name) not in known:
                raise ValueError(f"Computation.{name} must be {' or '.join(known)}, got {getattr(self, name)!r}.")

    def check(self, method: Method, device: torch.device) -> None:
        """ValueError for what cannot work, or gains nothing, with this method on this device."""
        if self.precision == "bfloat16" and device.type != "cuda":
            raise ValueError(f"bfloat16 is for CUDA GPUs, on {device} it would be slower than float32; take float32.")
        if self.precision == "bfloat16" and not torch.cuda.is_bf16_supported():
            raise ValueError(f"{torch.cuda.get_device_name(device)} does not compute in bfloat16; take float32.")
        if self.cuda_graph and device.type != "cuda":
            raise ValueError(f"A CUDA graph needs a CUDA GPU, the model is on {device}; leave it out.")
        if self.cuda_graph and not method.samples_by_steps:
            raise ValueError(
                f"{method.name} evaluates its network once, which a CUDA graph gains nothing for; leave it out."
            )

    @contextmanager
    def noises(self, seed: int, device: torch.device, slice_period: float) -> Iterator[Noises]:
        """What gives the noise of one batch after the other."""
        if self.random_source == "addressed" and device.type == "cuda":  # elsewhere nothing computes meanwhile
            ahead = NoiseAhead(seed, device, slice_period)
            try:
                yield ahead
            finally:
                ahead.close()
        else:
            yield _NoiseAtOnce(DeviceNoise if self.random_source == "device" else RowNoise, seed, device, slice_period)

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Within it networks compute in the precision."""
        if self.precision == "float32":
            return nullcontext()
        # Weights that were converted outside of a graph are gone when it is replayed.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=not self.cuda_graph)

    @contextmanager
    def applied(self, method: Method) -> Iterator[None]:
        """Within it the networks of the method run as graphs, where that is wanted."""
        with ExitStack() as stack:
            if self.cuda_graph:
                stack.enter_context(replayed(method.get_submodule("unet")))
            yield

    def in_json(self, device: torch.device) -> dict[str, Any]:
        """For the provenance."""
        source = f"generator of {device.type}" if self.random_source == "device" else self.random_source
        return {"precision": self.precision, "cuda_graph": self.cuda_graph, "random_source": source}


class Noises(Protocol):
    """Gives the noise of batches that follow each other."""

    def of(self, rows: Sequence[tuple[int, int]], following: Sequence[tuple[int, int]]) -> RowNoise:
        """Noise of a batch; ``following`` are the rows of the one after it, as far as is known."""


@dataclass(frozen=True)
class _NoiseAtOnce:
    kind: type[RowNoise]
    seed: int
    device: torch.device
    slice_period: float

    def of(self, rows: Sequence[tuple[int, int]], following: Sequence[tuple[int, int]]) -> RowNoise:
        return self.kind(self.seed, rows, device=self.device, slice_period=self.slice_period)


@contextmanager
def replayed(
    network: nn.Module, record: Callable[[Forward, tuple[Tensor | None, ...]], Forward] | None = None
) -> Iterator[None]:
    """Within it the network is evaluated by replaying what was recorded once for each shape of its arguments.

    Args:
        record: makes, of the network's ``forward`` and its first arguments, what stands in for it.
    """
    forward, made = network.forward, dict[Any, Forward]()

    def evaluate(*arguments: Tensor | None) -> Tensor:
        key = tuple(None if a is None else (a.shape, a.stride(), a.dtype) for a in arguments)
        if key not in made:
            made[key] = (record or CudaGraph)(forward, arguments)
        return made[key](*arguments)

    network.forward = evaluate
    try:
        yield
    finally:
        del network.forward  # that of the class is back


class CudaGraph:
    """One evaluation, recorded; the result of each call is the caller's own."""

    def __init__(self, forward: Forward, arguments: tuple[Tensor | None, ...]) -> None:
        self._held = tuple(None if a is None else a.clone() for a in arguments)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                forward(*self._held)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = forward(*self._held)

    def __call__(self, *arguments: Tensor | None) -> Tensor:
        """As ``forward``, for arguments of the same shapes."""
        for held, given in zip(self._held, arguments, strict=True):
            if held is not None and given is not None:
                held.copy_(given)
        self._graph.replay()
        return self._out.clone()
