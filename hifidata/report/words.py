"""What reasons and stages are called in front of people: one title and one sentence each."""

from __future__ import annotations

from dataclasses import dataclass

from hifidata.schema import Reason


@dataclass(frozen=True)
class ReasonWords:
    """A reason for people.

    Attributes:
        title: at most 18 characters, fits under a thumbnail.
        sentence: what happened to the picture.
    """

    title: str
    sentence: str


@dataclass(frozen=True)
class StageWords:
    """A stage for people.

    Attributes:
        title: the stage's name in a table.
        did: what it does to a picture, as one sentence.
        not_run: the sentence that a report owes its reader when the stage did not run.
    """

    title: str
    did: str
    not_run: str


REASONS: dict[Reason, ReasonWords] = {
    Reason.EMPTY_FILE: ReasonWords("Empty file", "The file holds no bytes."),
    Reason.UNREADABLE_FILE: ReasonWords("Unreadable file", "The source could not hand over the file."),
    Reason.TOO_MANY_BYTES: ReasonWords(
        "File too large", "The file is larger than the recipe allows, so it was not opened."
    ),
    Reason.NOT_IMAGE: ReasonWords("Not a picture", "The bytes are no picture, whatever the file is called."),
    Reason.FORMAT_NOT_ALLOWED: ReasonWords(
        "Format not allowed", "A picture, but in a format that the recipe does not list."
    ),
    Reason.TOO_MANY_PIXELS: ReasonWords(
        "Too many pixels", "The header announces more pixels than the recipe allows, so the picture was not decoded."
    ),
    Reason.TOO_SMALL: ReasonWords("Too small", "The shorter side of the picture is below the recipe's minimum."),
    Reason.BAD_ASPECT: ReasonWords("Extreme shape", "The picture is far too long or too tall for its width."),
    Reason.TRUNCATED: ReasonWords("Truncated", "The file ends before the picture does."),
    Reason.CORRUPT: ReasonWords("Corrupt", "The file starts like a picture but cannot be decoded."),
    Reason.ANIMATED: ReasonWords("Animated", "The file holds several frames and the recipe wants still pictures only."),
    Reason.DUPLICATE_BYTES: ReasonWords("Same file twice", "The same bytes already stand in this person's set."),
    Reason.NO_FACE: ReasonWords("No face", "The detector found no face."),
    Reason.SEVERAL_FACES: ReasonWords(
        "Several faces", "A second face is large enough to count, and a portrait shows exactly one person."
    ),
    Reason.FACE_CUT_OFF: ReasonWords("Face cut off", "Too much of the face lies outside the picture."),
    Reason.FACE_SHARE_TOO_LOW: ReasonWords(
        "Face share too low", "The face fills too little of the square cut around it."
    ),
    Reason.CROP_TOO_SMALL: ReasonWords(
        "Crop too small", "The square around the face has too few pixels to be enlarged to the output size."
    ),
    Reason.LOW_QUALITY: ReasonWords(
        "Low quality",
        "The face scored below the quality limit: blurred, badly lit, turned away or with too few pixels.",
    ),
    Reason.TEXT_ON_FACE: ReasonWords("Text on face", "Recognised text, such as a watermark, covers part of the face."),
    Reason.OCCLUDED: ReasonWords("Face covered", "Something in front of the face hides part of it."),
    Reason.NEAR_DUPLICATE: ReasonWords(
        "Near-duplicate", "Almost the same picture as a better one of this person, which stayed."
    ),
    Reason.OTHER_PERSON: ReasonWords(
        "Other person", "The face is not similar enough to the centre of this person's largest cluster of pictures."
    ),
    Reason.IDENTITY_TOO_SMALL: ReasonWords(
        "Too few left",
        "The picture passed, but fewer of this person's pictures were left than verify.min_images asks for.",
    ),
    Reason.MODEL_ERROR: ReasonWords("Model error", "A model broke on this picture, so it was never judged."),
}

STAGES: dict[str, StageWords] = {
    "intake": StageWords(
        "Intake",
        "Files are recognised by content, limited in bytes and pixels, decoded, turned upright and converted to sRGB.",
        "Files were not checked before decoding: the intake stage did not run.",
    ),
    "detect": StageWords(
        "Face detection",
        "Faces are detected; a picture needs exactly one that counts.",
        "Faces were not detected: no model was set in the recipe.",
    ),
    "crop": StageWords(
        "Crop",
        "A square is cut around the face; face share and side length have minimums.",
        "Pictures were not cropped: the crop stage did not run.",
    ),
    "quality": StageWords(
        "Quality",
        "The face is scored from 0 to 1 and poor scores are dropped.",
        "Face quality was not checked: no model was set in the recipe.",
    ),
    "watermark": StageWords(
        "Text on face",
        "Text is recognised on the face region, and pictures with text on the face are dropped.",
        "Text on faces was not checked: no model was set in the recipe.",
    ),
    "occlusion": StageWords(
        "Occlusion",
        "Pictures in which something covers the face are dropped.",
        "Occlusion was not checked: no model was set in the recipe. "
        "Hands, microphones or masks may cover faces that were kept.",
    ),
    "embed": StageWords(
        "Embedding",
        "An embedding of the face is computed, by which people are told apart.",
        "Faces were not embedded: no model was set in the recipe.",
    ),
    "dedup": StageWords(
        "Near-duplicates",
        "Pictures of one person are compared by perceptual hash, and the best copy stays.",
        "Near-duplicates were not looked for: the recipe switched it off.",
    ),
    "verify": StageWords(
        "Same person",
        "Face embeddings are clustered per person; pictures far from the largest cluster's centre are dropped.",
        "Nobody checked that pictures show the person they are filed under: no model was set in the recipe.",
    ),
    "restore": StageWords(
        "Restoration",
        "Faces are restored by a model; pixels of the output are then partly its invention.",
        "Faces were not restored: no model was set in the recipe. The output has the sharpness of its sources.",
    ),
    "matting": StageWords(
        "Matting",
        "The outline of the person is stored beside the portrait.",
        "The person was not separated from the background: no model was set in the recipe.",
    ),
    "landmarks": StageWords(
        "Landmarks",
        "68 facial points are stored for every portrait.",
        "Facial landmarks were not stored: no model was set in the recipe.",
    ),
    "attributes": StageWords(
        "Attributes",
        "Attributes such as gender are recorded where something states them.",
        "Gender and age were not determined: the recipe switched it off.",
    ),
    "caption": StageWords(
        "Captions",
        "Every portrait gets a caption.",
        "Captions were not written: no model was set in the recipe.",
    ),
}
"""Stages in the order in which they run."""


def reason_words(reason: str) -> ReasonWords:
    """Words for a manifest's ``reason``; a word that a newer version wrote stands for itself."""
    try:
        return REASONS[Reason(reason)]
    except ValueError:
        return ReasonWords(reason.replace("_", " ").capitalize(), "A reason that this version does not know.")


def stage_words(stage: str) -> StageWords:
    """Words for a stage name; a stage that a newer version added stands for itself."""
    title = stage.replace("_", " ").capitalize()
    return STAGES.get(stage, StageWords(title, f"{title}.", f"{title} did not run."))
