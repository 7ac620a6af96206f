"""Width and height of pictures that were refused for them: those were never decoded, and only the message tells."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from hifidata.core.schema import Reason
from hifidata.report.manifests import Manifests

_OF_SIZE = [str(Reason.TOO_SMALL), str(Reason.BAD_ASPECT)]
_SAID = r"(?P<width_px>\d{1,9}) x (?P<height_px>\d{1,9}) pixels"


def with_said_sizes(images: pa.Table, manifests: Manifests) -> pa.Table:
    """Fills ``width_px`` and ``height_px`` where intake refused a picture for its size and said it in its message.

    Args:
        images: columns image_id, width_px and height_px.
        manifests: where the messages are; only those of these reasons are read.
    """
    refused = manifests.images(["image_id", "message"], pc.field("reason").isin(_OF_SIZE))
    if not refused.num_rows:
        return images
    said = pc.extract_regex(refused["message"].combine_chunks(), _SAID)
    place = pc.index_in(images["image_id"], value_set=refused["image_id"].combine_chunks())
    for name in ("width_px", "height_px"):
        column = pc.cast(pc.struct_field(said, name), pa.int32()).take(place)
        images = images.set_column(images.schema.get_field_index(name), name, pc.coalesce(images[name], column))
    return images
