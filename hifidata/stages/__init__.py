"""The steps of the paper's section 3.4, one file each, in the order in which they run."""

from __future__ import annotations

from hifidata.stages.attributes import Attributes
from hifidata.stages.base import Stage
from hifidata.stages.caption import Caption
from hifidata.stages.crop import Crop
from hifidata.stages.dedup import Dedup
from hifidata.stages.detect import Detect
from hifidata.stages.face3d import Face3D
from hifidata.stages.intake import Intake
from hifidata.stages.landmarks import Landmarks
from hifidata.stages.matting import Matting
from hifidata.stages.occlusion import Occlusion
from hifidata.stages.quality import Quality
from hifidata.stages.restore import Restore
from hifidata.stages.verify import Embed, Verify
from hifidata.stages.watermark import Watermark

STAGES: tuple[type[Stage], ...] = (
    Intake, Detect, Crop, Quality, Watermark, Occlusion, Embed, Dedup, Verify,
    Restore, Matting, Face3D, Landmarks, Attributes, Caption,
)  # fmt: skip
