"""Titles and sentences of stages, reasons and captions, as declared by the stages of hifidata and of other packages."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hifidata.core.errors import UsageError
from hifidata.core.reasons import MODEL_ERROR, Limit, Reason, by_code
from hifidata.core.schema import CaptionFlag, CaptionProblem
from hifidata.stages.table import DECLARED
from hifidata.store.layout import DatasetFolder


@dataclass(frozen=True)
class StageWords:
    """Texts of a stage.

    Attributes:
        title: name of the stage in a table.
        does: effect of the stage on an image, in one sentence.
        not_run: sentence for a dataset without this stage.
        reasons: reasons that the stage can give.
    """

    title: str
    does: str
    not_run: str
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """The stages and reasons of one dataset.

    Attributes:
        stages: by name, in the order in which they run.
        reasons: by code, in the order of the stages.
    """

    stages: Mapping[str, StageWords]
    reasons: Mapping[str, Reason]

    def stage(self, name: str) -> StageWords:
        """Return the texts of a stage; an unknown stage gets its name as title."""
        title = name.replace("_", " ").capitalize()
        return self.stages.get(name, StageWords(title, f"{title}.", f"{title} did not run."))

    def reason(self, code: str) -> Reason:
        """Return a reason; an unknown reason gets its code as label."""
        return self.reasons.get(code, Reason(code, sentence="This version of hifidata does not know this reason."))

    def in_order(self, codes: Mapping[str, Any]) -> list[str]:
        """Sort codes in the order of the stages; unknown codes come last."""
        known = [code for code in self.reasons if code in codes]
        return known + sorted(set(filter(None, codes)) - set(known))


def vocabulary(run: Mapping[str, Any]) -> Vocabulary:
    """Build the vocabulary of a dataset.

    Args:
        run: contents of dataset.json; ``extensions`` declares the stages and models of other packages.
    """
    words = {s.name: StageWords(s.title, s.does, s.not_run, s.reasons) for s in DECLARED}
    for item in run.get("extensions") or ():
        reasons = tuple(_reason(fields) for fields in item.get("reasons") or ())
        if item.get("title"):
            words[item["name"]] = StageWords(item["title"], item["does"], item["not_run"], reasons)
        elif item.get("stage") in words:  # a model
            stage = words[item["stage"]]
            words[item["stage"]] = StageWords(stage.title, stage.does, stage.not_run, (*stage.reasons, *reasons))
    order = [entry["stage"] for entry in run.get("stages") or () if entry.get("stage") in words]
    ordered = {name: words[name] for name in _merged_order(list(words), order)}
    codes = by_code([*(reason for stage in ordered.values() for reason in stage.reasons), MODEL_ERROR])
    return Vocabulary(ordered, codes)


def _merged_order(known: list[str], recorded: list[str]) -> list[str]:
    """Insert the stages of other packages where the run recorded them."""
    order = [name for name in known if name in {stage.name for stage in DECLARED}]
    for before, name in zip(["", *recorded], recorded, strict=False):
        if name not in order:
            order.insert(order.index(before) + 1 if before in order else len(order), name)
    return order + [name for name in known if name not in order]


def _reason(fields: Mapping[str, Any]) -> Reason:
    limit = fields.get("limit")
    return Reason(
        fields["code"], fields["label"], fields["sentence"], failed=bool(fields.get("failed")),
        limit=Limit(**limit) if limit else None,
    )  # fmt: skip


CAPTIONS: dict[CaptionProblem | CaptionFlag, str] = {
    CaptionProblem.REFUSED: "the model refused to describe the image",
    CaptionProblem.EMPTY: "the answer was empty",
    CaptionProblem.TRUNCATED: "the answer was truncated at a limit",
    CaptionProblem.TIMEOUT: "the request timed out",
    CaptionProblem.RATE_LIMITED: "the server's rate limit was exceeded",
    CaptionProblem.SERVER_ERROR: "the server failed",
    CaptionProblem.REJECTED: "the server rejected the request",
    CaptionProblem.MISSING: "the image has no readable text file beside it",
    CaptionProblem.BAD_ANSWER: "the answer was invalid",
    CaptionFlag.TOO_SHORT: "too short for a sentence",
    CaptionFlag.OTHER_LANGUAGE: "probably not English",
    CaptionFlag.EXPRESSION: "mentions a facial expression, which the prompt forbids",
    CaptionFlag.POSE: "mentions a pose, which the prompt forbids",
    CaptionFlag.MARKUP: "contains a URL, a tag or code",
}


def require_reason(code: str, folder: DatasetFolder) -> None:
    """Check that a stage of the dataset can give a reason. Raises UsageError."""
    run = folder.read_dataset() if folder.dataset_json.exists() else {}
    known = [str(reason) for reason in vocabulary(run).reasons]
    if code not in known:
        close = difflib.get_close_matches(code, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "manifests/README.md lists all reasons"
        raise UsageError(f"--reason {code}: unknown reason; {hint}")


def caption_text(code: str) -> str:
    """Return the description of a ``caption_problem`` or of one ``caption_flags`` entry in the manifest."""
    known = {str(key): text for key, text in CAPTIONS.items()}
    return known.get(code, code.replace("_", " "))
