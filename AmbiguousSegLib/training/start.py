"""Going on from a model that stands: what a run takes from it, and what it must not change."""

from __future__ import annotations

from typing import Any

from AmbiguousSegLib.configuration import to_dict
from AmbiguousSegLib.model import Model
from AmbiguousSegLib.training.config import TrainingConfig, completed

_SLICES = ("channels", "plane", "spacing_mm", "intensity")  # of the data: how the model's slices are made


def config_from(model: Model) -> dict[str, Any]:
    """The part of a training configuration that follows from a model, as plain types."""
    preprocessing = to_dict(model.preprocessing)
    told = preprocessing["point_sigma_mm"]
    point = {} if told is None else {"point": {"sigma_mm": told}}
    return {
        "method": model.method.name,
        "method_config": to_dict(model.method.config),
        "labels": to_dict(model.labels),
        "dataset": {"size": preprocessing["size"], **{name: preprocessing[name] for name in _SLICES}, **point},
        "sampling": to_dict(model.sampling),
    }


def check_start(config: TrainingConfig, model: Model) -> None:
    """Refuse a configuration whose network or slices are not those of the model that it starts from.

    The size of the patches may differ; so may the names of the labels, and what the method names in
    ``Method.not_of_the_network``.

    Raises:
        ValueError: the method, one of its settings, the number of labels, or how slices are made; the key is named.
    """
    wanted, given = config_from(model), to_dict(completed(config))
    pairs = {"method": (wanted["method"], given["method"])}
    if wanted["method"] == given["method"]:
        keys = wanted["method_config"].keys() | given["method_config"].keys()
        both = (wanted["method_config"], given["method_config"])
        pairs |= {
            f"method_config.{key}": (both[0].get(key), both[1].get(key))
            for key in sorted(keys - model.method.not_of_the_network)
        }
    pairs["labels"] = (len(wanted["labels"]), len(given["labels"]))
    pairs |= {f"dataset.{name}": (wanted["dataset"][name], given["dataset"][name]) for name in _SLICES}
    told = [(one["dataset"].get("point") or {}).get("sigma_mm") for one in (wanted, given)]
    pairs["dataset.point.sigma_mm"] = (told[0], told[1])
    for key, (own, other) in pairs.items():
        if own != other:
            what = "number of labels" if key == "labels" else key
            raise ValueError(
                f"The model to start from has {what} = {own!r}, this run has {other!r}; leave {key} out, or train anew "
                "without --from."
            )
