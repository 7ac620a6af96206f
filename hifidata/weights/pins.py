"""Pins: hashes of files without a published hash, stored at the first download and checked from then on.

They lie in ``hifidata-pins.json`` beside the files; so a copied folder brings them along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hifidata.core.errors import WeightsError
from hifidata.core.files import write_bytes
from hifidata.weights.catalogue import FileState

PINS_FILE = "hifidata-pins.json"


@dataclass(frozen=True)
class Pin:
    """The first download of one catalogue entry.

    Attributes:
        origin: its address; of a hub repository with the commit.
        files: by path inside the entry's folder; "" is the entry itself, if it is one file.
    """

    origin: str
    files: Mapping[str, FileState]


def read_pins(folder: Path) -> dict[str, Pin]:
    """Return the pins of a folder by entry name; empty if it has none. Raises WeightsError where they cannot be read."""
    path = folder / PINS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Pin(pin["origin"], {file: FileState(**state) for file, state in pin["files"].items()})
            for name, pin in content.items()
        }
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise WeightsError(
            f"{folder}: is not a folder of model files; correct HIFI_WEIGHTS, --weights, weights.folder or HIFI_WEIGHTS_CACHE"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{path}: pins of downloaded weights cannot be read ({type(error).__name__}: {error}); restore the file, or "
            "remove it to pin again"
        ) from error


def write_pin(folder: Path, name: str, pin: Pin) -> None:
    """Add or replace one entry's pin."""
    pins = {**read_pins(folder), name: pin}
    content = {key: asdict(value) for key, value in sorted(pins.items())}
    write_bytes(folder / PINS_FILE, (json.dumps(content, indent=2) + "\n").encode())
