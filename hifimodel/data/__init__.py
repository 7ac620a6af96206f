"""Training batches, streamed from dataset shards; a resume continues at the exact sample.

The flow, one file each: ``config`` (settings) -> ``checks`` (tars compared with
dataset.json) -> ``shards`` (identities from tars) -> ``sample`` (members of one image,
checked) -> ``stream`` (order of targets and references) -> ``group`` (pixels of one training sample) -> ``batch`` (tensors)
-> ``loader`` (worker processes, position, limits).
"""

from hifimodel.data.batch import Batch
from hifimodel.data.config import DataConfig
from hifimodel.data.drawing import DrawLandmarks, StoredLandmarks
from hifimodel.data.loader import Loader
from hifimodel.data.shards import find_shards
from hifimodel.data.stream import ShardFacts, describe_shards

__all__ = [
    "Batch", "DataConfig", "DrawLandmarks", "Loader", "ShardFacts", "StoredLandmarks", "describe_shards", "find_shards",
]  # fmt: skip
