"""The report: one HTML file that opens offline, needs no script and holds its pictures itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import yaml

from hifidata.core.errors import DatasetError
from hifidata.core.files import write_bytes
from hifidata.report import statistics as stats
from hifidata.report.budget import budget
from hifidata.report.calibration import Calibration, calibrate, chosen_rate, rate_words
from hifidata.report.downloads import FETCH, losses
from hifidata.report.escape import visible, visible_lines
from hifidata.report.gallery import Gallery, GallerySize
from hifidata.report.manifests import Manifests
from hifidata.report.near_threshold import threshold_used, with_derived
from hifidata.report.possible_reasons import possible_reasons
from hifidata.report.words import Vocabulary, caption_words, vocabulary
from hifidata.stages.quality import LOW_QUALITY
from hifidata.stages.verify import OTHER_PERSON

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=visible,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class ScoreView:
    """A histogram with its words."""

    title: str
    label: str
    histogram: stats.Histogram


def write_report(dataset_dir: Path, run: Mapping[str, Any]) -> Path:
    """Writes ``report/index.html`` of a dataset folder.

    Args:
        dataset_dir: holds ``manifests/*.parquet``.
        run: the run record, which becomes dataset.json; any key may be missing.

    Returns:
        Path of the report; the same input gives the same bytes.

    Raises:
        DatasetError: the folder has no manifests.
    """
    path = dataset_dir / "report" / "index.html"
    write_bytes(path, render_report(dataset_dir, run).encode())
    return path


def render_report(dataset_dir: Path, run: Mapping[str, Any], size: GallerySize | None = None) -> str:
    """The report as text; see ``write_report``."""
    size, words = size or GallerySize(), vocabulary(run)
    manifests = Manifests(dataset_dir)
    images = with_derived(manifests.images(stats.columns_read(words)))
    identities = manifests.identities(stats.IDENTITY_COLUMNS_READ)
    recipe: Mapping[str, Any] = run.get("recipe") or {}
    reasons = stats.reason_counts(images, words)
    # What was lost before its bytes were here has no picture to judge a limit by.
    judged = tuple(count for count in reasons if count.stages != (FETCH,))
    sheets, people = Gallery(manifests, size, words).show(images, judged, recipe)
    not_run = stats.stages_not_run(run, words)
    totals = stats.totals(images, identities)
    return _TEMPLATES.get_template("report.html.j2").render(
        name=run.get("name") or recipe.get("name") or dataset_dir.resolve().name,
        description=" ".join(str(recipe.get("description") or "").split()),
        totals=totals,
        budget=budget(totals, run),
        output_px=(recipe.get("crop") or {}).get("output_px"),
        when=_when(run),
        funnel=stats.funnel(images, run, words),
        not_run=[words.stage(stage).not_run for stage in not_run],
        words=words,
        reasons=reasons,
        idle_reasons=_idle_reasons(reasons, run, words),
        losses=losses(manifests.images(("stage", "reason", "source_uri", "retryable"))),
        sheets=sheets,
        people=people,
        limits=size,
        sizes=stats.cluster_sizes(identities),
        face_areas=stats.face_areas(images),
        ages=stats.ages(images),
        genders=stats.genders(images),
        captions=stats.captions(images),
        caption_words=caption_words,
        scores=_scores(images, recipe),
        calibration=_calibration(dataset_dir, recipe),
        recipe_yaml=visible_lines(_as_yaml(recipe)),
        recipe_hash=run.get("recipe_hash") or "",
        models=run.get("models") or (),
        packages=run.get("packages") or {},
    )


def _scores(images: pa.Table, recipe: Mapping[str, Any]) -> list[ScoreView]:
    views = []
    for title, label, reason in (
        ("Face quality", "quality score", LOW_QUALITY),
        ("Same person", "similarity to the person's centre", OTHER_PERSON),
    ):
        if reason.limit is not None:
            cut = threshold_used(images, reason, recipe)
            views.append(ScoreView(title, label, stats.histogram(images, reason.limit.column, reason, cut)))
    return views


def _calibration(dataset_dir: Path, recipe: Mapping[str, Any]) -> Calibration | None:
    """None where the dataset has too few people, or no embeddings, to say anything."""
    chosen_rate(dataset_dir)  # one that cannot be read is an error, not a dataset that says nothing
    try:
        return calibrate(dataset_dir, None, (recipe.get("verify") or {}).get("min_similarity"))
    except DatasetError:
        return None


def _idle_reasons(reasons: tuple[stats.ReasonCount, ...], run: Mapping[str, Any], words: Vocabulary) -> list[str]:
    idle = possible_reasons(run, words) - {count.reason for count in reasons}
    return [reason.label for reason in words.reasons.values() if reason in idle]


def _when(run: Mapping[str, Any]) -> str:
    """``2026-03-01 12:30, took 0:03:12``; as much of it as the run record tells."""
    finished = str(run.get("finished_at") or "")
    try:
        end = datetime.fromisoformat(finished.replace("Z", "+00:00"))
        start = datetime.fromisoformat(str(run.get("started_at")).replace("Z", "+00:00"))
        took = timedelta(seconds=round((end - start).total_seconds()))
    except (ValueError, TypeError):  # no such time, no ISO time, or one of the two without a zone
        return finished
    return f"{end:%Y-%m-%d %H:%M} {end.tzname() or ''}".strip() + f", took {took}"


def _as_yaml(recipe: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(recipe, default=str))
    return (
        yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, allow_unicode=True, width=96) if plain else ""
    )


def _count(value: int) -> str:
    return f"{value:,}"


def _short(value: int) -> str:
    """At most five characters, to stand above a bar: 940, 12.3k, 1.2M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= 10 * size or (value >= size and letter == "M"):
            return f"{value / size:.3g}{letter}"
    return _count(value)


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    # Four digits undo what float32 did to a threshold: 0.44999998 reads 0.45 again.
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _bytes(value: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


_TEMPLATES.filters.update(count=_count, short=_short, percent=_percent, rate=rate_words, number=_number, bytes=_bytes)
