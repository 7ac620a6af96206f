"""What reasons and stages are called in front of people: one title and one sentence each."""

from __future__ import annotations

from dataclasses import dataclass

from hifidata.core.schema import CaptionFlag, CaptionProblem, Reason


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
    Reason.BAD_ROW: ReasonWords("Unreadable row", "The list's row names no person or no URL."),
    Reason.DUPLICATE_URL: ReasonWords("Listed twice", "The list names this URL for this person a second time."),
    Reason.NO_HITS: ReasonWords("No hits", "The search engine knows no picture for this name."),
    Reason.SEARCH_ERROR: ReasonWords("Search failed", "The search engine could not be asked, or did not answer."),
    Reason.BAD_URL: ReasonWords("Bad URL", "The URL cannot be asked for: no host, a password in it, an odd port."),
    Reason.BAD_SCHEME: ReasonWords("Bad scheme", "The URL is neither http nor https."),
    Reason.BLOCKED_ADDRESS: ReasonWords(
        "Blocked address", "The URL leads to an address that is not public, such as one of the own network."
    ),
    Reason.BAD_REDIRECT: ReasonWords("Bad redirect", "The site sent us on without saying where to."),
    Reason.TOO_MANY_REDIRECTS: ReasonWords(
        "Too many redirects", "The site sent us on more often than the recipe allows."
    ),
    Reason.TLS_DOWNGRADE: ReasonWords("TLS downgrade", "The site sent us from https to plain http, and we did not go."),
    Reason.ROBOTS_DISALLOWED: ReasonWords("robots.txt", "The site's robots.txt asks crawlers to leave this picture."),
    Reason.ROBOTS_UNREACHABLE: ReasonWords(
        "No robots.txt", "The site's robots.txt could not be read, which counts as a no."
    ),
    Reason.CRAWL_DELAY_TOO_LONG: ReasonWords("Slow crawl asked", "The site asks for longer pauses than we can keep."),
    Reason.OPTED_OUT: ReasonWords("Opted out", "The site's headers reserve its pictures from data mining."),
    Reason.UNKNOWN_HOST: ReasonWords("Unknown host", "The host's name does not exist."),
    Reason.DNS_ERROR: ReasonWords("Name lookup failed", "The host's name could not be looked up."),
    Reason.CONNECT_ERROR: ReasonWords("No connection", "No connection came about, or it was lost before an answer."),
    Reason.TLS_ERROR: ReasonWords("TLS error", "The site's certificate is not valid."),
    Reason.TIMEOUT: ReasonWords("Timeout", "The site took too long."),
    Reason.HOST_STOPPED: ReasonWords("Host stopped", "The site failed too often in a row and was left alone."),
    Reason.HTTP_4XX: ReasonWords("Not there (4xx)", "The site refuses the picture or no longer has it."),
    Reason.HTTP_5XX: ReasonWords("Site broken (5xx)", "The site answered with an error of its own."),
    Reason.RATE_LIMITED: ReasonWords("Rate limited", "The site asked us to come less often."),
    Reason.BAD_RESPONSE: ReasonWords("Bad answer", "The answer was no proper HTTP, or not what was asked for."),
    Reason.TOO_LARGE: ReasonWords(
        "Download too large", "The download is larger than the recipe allows and was stopped."
    ),
    Reason.INCOMPLETE_BODY: ReasonWords("Incomplete", "The download broke off before its end."),
    Reason.PLACEHOLDER: ReasonWords("Placeholder", "The site sent a picture that stands for a removed one."),
    Reason.HASH_MISMATCH: ReasonWords("Other bytes", "The bytes are not those that the list's sha256 names."),
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
    Reason.FACE_MISMATCH: ReasonWords("Other face", "The face found is not where the list says the person's face is."),
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
    Reason.NO_CAPTION: ReasonWords("No caption", "The caption model gave no text, and the recipe takes no other."),
    Reason.MODEL_ERROR: ReasonWords("Model error", "A model broke on this picture, so it was never judged."),
}

STAGES: dict[str, StageWords] = {
    "fetch": StageWords(
        "Download",
        "Pictures are fetched from the URLs of the list, where the sites allow it.",
        "Nothing was downloaded: the pictures were at hand.",
    ),
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
    "face3d": StageWords(
        "3D face",
        "A 3D face model is fitted to every portrait: shape, expression, pose and camera are stored.",
        "No 3D face was fitted: no model was set in the recipe.",
    ),
    "landmarks": StageWords(
        "Landmarks",
        "68 facial points are stored for every portrait.",
        "Facial landmarks were not stored, as the recipe asks (landmarks.model: null): hifimodel cannot be trained on this dataset.",
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

CAPTIONS: dict[CaptionProblem | CaptionFlag, str] = {
    CaptionProblem.REFUSED: "the model would not describe the picture",
    CaptionProblem.EMPTY: "the model answered nothing",
    CaptionProblem.TRUNCATED: "the answer was cut at a limit",
    CaptionProblem.TIMEOUT: "the answer took too long",
    CaptionProblem.RATE_LIMITED: "the server was too busy",
    CaptionProblem.SERVER_ERROR: "the server failed",
    CaptionProblem.REJECTED: "the server did not take the request",
    CaptionProblem.BAD_ANSWER: "the answer could not be read",
    CaptionFlag.TOO_SHORT: "hardly a sentence",
    CaptionFlag.OTHER_LANGUAGE: "does not read like English",
    CaptionFlag.EXPRESSION: "mentions a facial expression, which the prompt forbids",
    CaptionFlag.POSE: "mentions a pose, which the prompt forbids",
    CaptionFlag.MARKUP: "holds an address, a tag or code",
}


def caption_words(word: str) -> str:
    """Words for a manifest's ``caption_problem``, or one of its ``caption_flags``."""
    known = {str(key): words for key, words in CAPTIONS.items()}
    return known.get(word, word.replace("_", " "))


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
