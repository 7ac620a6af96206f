"""The HTML report: one file without scripts, with embedded images, for offline use."""

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
from hifidata.core.filenames import escaped
from hifidata.core.files import write_bytes
from hifidata.report import statistics as stats
from hifidata.report.budget import failure_budget
from hifidata.report.calibration import Calibration, calibrate, chosen_rate, format_rate
from hifidata.report.downloads import FETCH, not_fetched
from hifidata.report.escape import escape_controls, escape_lines
from hifidata.report.gallery import Gallery, GallerySize
from hifidata.report.manifests import Manifests
from hifidata.report.near_threshold import threshold_used, with_derived
from hifidata.report.possible_reasons import possible_reasons
from hifidata.report.same_bytes import COLUMNS as SAME_BYTES_COLUMNS
from hifidata.report.same_bytes import same_bytes
from hifidata.report.words import Vocabulary, caption_text, vocabulary
from hifidata.stages.quality import LOW_QUALITY
from hifidata.stages.verify import OTHER_PERSON

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=escape_controls,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class ScoreView:
    """A histogram with its title and the name of its score."""

    title: str
    label: str
    histogram: stats.Histogram


def write_report(dataset_dir: Path, run: Mapping[str, Any]) -> Path:
    """Write ``report/index.html`` of a dataset folder.

    Args:
        dataset_dir: folder with ``manifests/*.parquet``.
        run: the run record, as in dataset.json; any key may be missing.

    Returns:
        Path of the report; the same input gives the same bytes.

    Raises:
        DatasetError: the folder has no manifests.
    """
    path = dataset_dir / "report" / "index.html"
    write_bytes(path, escaped(render_report(dataset_dir, run)).encode())
    return path


def render_report(dataset_dir: Path, run: Mapping[str, Any], size: GallerySize | None = None) -> str:
    """Render the report as HTML text; see ``write_report``."""
    size, words = size or GallerySize(), vocabulary(run)
    manifests = Manifests(dataset_dir)
    images = with_derived(manifests.images(stats.columns_read(words)))
    identities = manifests.identities(stats.IDENTITY_COLUMNS_READ)
    recipe: Mapping[str, Any] = run.get("recipe") or {}
    reasons = stats.reason_counts(images, words)
    # Candidates that were not fetched have no image to show.
    with_images = tuple(count for count in reasons if count.stages != (FETCH,))
    sheets, shown, refused = Gallery(manifests, size, words).show(images, with_images, recipe)
    not_run = stats.stages_not_run(run, words)
    totals = stats.totals(images, identities)
    return _TEMPLATES.get_template("report.html.j2").render(
        name=run.get("name") or recipe.get("name") or dataset_dir.resolve().name,
        description=" ".join(str(recipe.get("description") or "").split()),
        totals=totals,
        budget=failure_budget(totals, run),
        output_px=(recipe.get("crop") or {}).get("output_px"),
        when=_when(run),
        funnel=stats.funnel(images, run, words),
        not_run=[words.stage(stage).not_run for stage in not_run],
        words=words,
        reasons=reasons,
        unused_reasons=_unused_reasons(reasons, run, words),
        not_fetched=not_fetched(manifests.images(("stage", "reason", "source_uri", "retryable"))),
        same_bytes=same_bytes(manifests.images(SAME_BYTES_COLUMNS)),
        source_notes=run.get("source_notes") or (),
        sheets=sheets,
        shown=shown,
        refused=refused,
        limits=size,
        sizes=stats.cluster_sizes(identities),
        face_areas=stats.face_areas(images),
        ages=stats.ages(images),
        genders=stats.genders(images),
        captions=stats.captions(images),
        caption_text=caption_text,
        scores=_scores(images, recipe),
        calibration=_calibration(dataset_dir, recipe),
        recipe_yaml=escape_lines(_as_yaml(recipe)),
        recipe_hash=run.get("recipe_hash") or "",
        models=run.get("models") or (),
        packages=run.get("packages") or {},
    )


def _scores(images: pa.Table, recipe: Mapping[str, Any]) -> list[ScoreView]:
    views = []
    for title, label, reason in (
        ("Face quality", "quality score", LOW_QUALITY),
        ("Similarity", "similarity to the identity's centre", OTHER_PERSON),
    ):
        if reason.limit is not None:
            threshold = threshold_used(images, reason, recipe)
            views.append(ScoreView(title, label, stats.histogram(images, reason.limit.column, reason, threshold)))
    return views


def _calibration(dataset_dir: Path, recipe: Mapping[str, Any]) -> Calibration | None:
    """Calibrate the similarity threshold; None if the dataset has too few identities or no embeddings."""
    chosen_rate(dataset_dir)  # raises if the rate cannot be read; below, the same error would be ignored
    try:
        return calibrate(dataset_dir, None, (recipe.get("verify") or {}).get("min_similarity"))
    except DatasetError:
        return None


def _unused_reasons(reasons: tuple[stats.ReasonCount, ...], run: Mapping[str, Any], words: Vocabulary) -> list[str]:
    unused = possible_reasons(run, words) - {count.reason for count in reasons}
    return [reason.label for reason in words.reasons.values() if reason in unused]


def _when(run: Mapping[str, Any]) -> str:
    """Format the end and duration as ``2026-03-01 12:30 UTC, duration 0:03:12``; missing times are left out."""
    finished = str(run.get("finished_at") or "")
    try:
        end = datetime.fromisoformat(finished.replace("Z", "+00:00"))
        start = datetime.fromisoformat(str(run.get("started_at")).replace("Z", "+00:00"))
        duration = timedelta(seconds=round((end - start).total_seconds()))
    except (ValueError, TypeError):  # a missing or invalid time, or only one of them with a time zone
        return finished
    return f"{end:%Y-%m-%d %H:%M} {end.tzname() or ''}".strip() + f", duration {duration}"


def _as_yaml(recipe: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(recipe, default=str))
    return (
        yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, allow_unicode=True, width=96) if plain else ""
    )


def _count(value: int) -> str:
    return f"{value:,}"


def _short(value: int) -> str:
    """Format a number with at most five characters, for the top of a bar: 940, 12.3k, 1.2M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= 10 * size or (value >= size and letter == "M"):
            return f"{value / size:.3g}{letter}"
    return _count(value)


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    # Four digits hide the float32 rounding of a threshold: 0.44999998 becomes 0.45.
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _bytes(value: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


_TEMPLATES.filters.update(count=_count, short=_short, percent=_percent, rate=format_rate, number=_number, bytes=_bytes)
