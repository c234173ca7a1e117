"""Loads a model from the Hub: its config first, and its weights only if they can be those of the config."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from mvcore.errors import ModelFileError
from mvcore.storage import blueprint, hub
from mvcore.storage.address import parse
from mvcore.storage.folder import read_config
from mvcore.storage.models import load_linked
from mvcore.storage.saved import builder_of
from mvcore.storage.weights import HEADER_LIMIT

if TYPE_CHECKING:
    from mvcore.models.base import Model

log = logging.getLogger(__name__)
_LEAST_OF_A_TENSOR = 40  # bytes of a header that describe one


def load_shared(address: str, endpoint: str | None, token: str | bool | None) -> Model:
    """As ``mvcore.load`` of an address."""
    found = hub.find(parse(address), endpoint, token)
    config = read_config(found.folder, links=found.cache)
    found.fetch(hub.WEIGHTS, partial(_check_weights, config, f"{found.origin}: {hub.WEIGHTS}"))
    model = load_linked(found.folder, found.cache)
    model.origin = found.origin
    log.info("Loaded %s", found.origin)
    return model


def _check_weights(config: dict[str, Any], what: str, size: int) -> None:
    """Refuses weights that are larger or smaller than those of a config, before they are fetched."""
    build, precision = builder_of(config), config.get("weights", {}).get("precision")
    most = min(size, HEADER_LIMIT) // _LEAST_OF_A_TENSOR
    wanted = sum(outline.size for outline in blueprint.bounded(build, most, size, precision).values())
    if not wanted < size <= wanted + HEADER_LIMIT:
        raise ModelFileError(
            f"{what} has {size:,} bytes, the model of its config has {wanted:,}: it is not fetched. The repository is "
            "damaged, or was made to fill the disk."
        )
