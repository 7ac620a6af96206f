"""Titles and sentences for stages, reasons and captions: what the stages declare, those of other packages among them."""

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
    """A stage for people.

    Attributes:
        title: the stage's name in a table.
        does: its effect on a picture, in one sentence.
        not_run: sentence for a dataset that the stage did not see.
        reasons: reasons that it can give.
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
        """Words for a stage; one that this version does not know gets its own name."""
        title = name.replace("_", " ").capitalize()
        return self.stages.get(name, StageWords(title, f"{title}.", f"{title} did not run."))

    def reason(self, code: str) -> Reason:
        """A reason; one that this version does not know gets its own code as a label."""
        return self.reasons.get(code, Reason(code, sentence="This version does not know this reason."))

    def limit(self, code: str) -> Limit | None:
        """The number and limit that a reason compares."""
        return self.reason(code).limit

    def in_order(self, codes: Mapping[str, Any]) -> list[str]:
        """Codes in the order of the stages, unknown ones last."""
        known = [code for code in self.reasons if code in codes]
        return known + sorted(set(filter(None, codes)) - set(known))


def vocabulary(run: Mapping[str, Any]) -> Vocabulary:
    """The words of a dataset.

    Args:
        run: contents of dataset.json; ``extensions`` declares the stages and models of other packages.
    """
    words = {s.name: StageWords(s.title, s.does, s.not_run, s.reasons) for s in DECLARED}
    theirs = list(run.get("extensions") or ())
    for item in theirs:
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


def _merged_order(ours: list[str], recorded: list[str]) -> list[str]:
    """``ours`` with stages of other packages at the place that the run recorded."""
    order = [name for name in ours if name in {stage.name for stage in DECLARED}]
    for before, name in zip(["", *recorded], recorded, strict=False):
        if name not in order:
            order.insert(order.index(before) + 1 if before in order else len(order), name)
    return order + [name for name in ours if name not in order]


def _reason(fields: Mapping[str, Any]) -> Reason:
    limit = fields.get("limit")
    return Reason(
        fields["code"], fields["label"], fields["sentence"], failed=bool(fields.get("failed")),
        limit=Limit(**limit) if limit else None,
    )  # fmt: skip


CAPTIONS: dict[CaptionProblem | CaptionFlag, str] = {
    CaptionProblem.REFUSED: "the model refused to describe the picture",
    CaptionProblem.EMPTY: "the model's answer was empty",
    CaptionProblem.TRUNCATED: "the answer was cut at a limit",
    CaptionProblem.TIMEOUT: "the answer took too long",
    CaptionProblem.RATE_LIMITED: "the server was too busy",
    CaptionProblem.SERVER_ERROR: "the server failed",
    CaptionProblem.REJECTED: "the server rejected the request",
    CaptionProblem.BAD_ANSWER: "the answer could not be read",
    CaptionFlag.TOO_SHORT: "too short for a sentence",
    CaptionFlag.OTHER_LANGUAGE: "does not read like English",
    CaptionFlag.EXPRESSION: "mentions a facial expression, which the prompt forbids",
    CaptionFlag.POSE: "mentions a pose, which the prompt forbids",
    CaptionFlag.MARKUP: "holds an address, a tag or code",
}


def require_reason(code: str, folder: DatasetFolder) -> None:
    """Raises UsageError unless a dataset's stages can give a reason."""
    run = folder.read_dataset() if folder.dataset_json.exists() else {}
    known = [str(reason) for reason in vocabulary(run).reasons]
    if code not in known:
        close = difflib.get_close_matches(code, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "see manifests/README.md"
        raise UsageError(f"--reason {code}: no such reason; {hint}")


def caption_words(word: str) -> str:
    """Words for a manifest's ``caption_problem``, or one of its ``caption_flags``."""
    known = {str(key): words for key, words in CAPTIONS.items()}
    return known.get(word, word.replace("_", " "))
