"""Commands that read a dataset folder: ``status``, ``check``, ``inspect``, ``failures``, ``replay``, ``calibrate``, ``report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from hifidata.cli import console
from hifidata.cli.options import DatasetArg, JsonOption, SetOption
from hifidata.core.errors import UsageError

if TYPE_CHECKING:
    from hifidata.report.calibration import Calibration


def status(dataset: DatasetArg, json_out: JsonOption = False) -> None:
    """Show whether a dataset is finished, and its counts so far."""
    from hifidata.store.query import status as look

    found = look(dataset)
    if json_out:
        console.write_json(found)
    else:
        console.table("", ("", " "), list(found.items()))


def check(dataset: DatasetArg, json_out: JsonOption = False) -> None:
    """Compare all shards and manifests with dataset.json. Exits with 1 if a file was altered."""
    from hifidata.store.verify import check as compare

    found = compare(dataset)
    if json_out:
        console.write_json(asdict(found))
    else:
        if found.problems:
            console.table("", ("file", "problem"), list(found.problems.items()))
        manifests = f" and {found.n_manifests_right} of {found.n_manifests} manifests" if found.n_manifests else ""
        console.out.print(f"{found.n_right} of {found.n_shards} shards{manifests} are unaltered")
    if found.problems:
        raise typer.Exit(1)


def inspect(
    dataset: DatasetArg,
    what: Annotated[str, typer.Argument(help="identity id or name, image id, sample key, or end of a file name")],
    json_out: JsonOption = False,
) -> None:
    """Show one identity, or one image with all its columns."""
    from hifidata.store.query import find

    identity, rows = find(dataset, what)
    if json_out:
        console.write_json({"identity": identity, "images": rows})
    elif identity is not None:
        console.table("identity", ("", " "), _facts(identity))
        columns = ("image_id", "source_uri", "status", "stage", "reason", "quality_score", "similarity")
        folder = _common_folder([row["source_uri"] for row in rows])
        shown = [row | {"source_uri": row["source_uri"][len(folder) :]} for row in rows]
        console.table(
            f"images in {folder}" if folder else "images", columns, [[row[name] for name in columns] for row in shown]
        )
    else:
        for row in rows:
            console.table(f"image {row['image_id']}", ("column", "value"), _facts(row))


def _common_folder(uris: Sequence[str]) -> str:
    """Return the folder of all URIs with its slash, or an empty text if they are in several folders."""
    folders = {uri[: uri.rfind("/") + 1] for uri in uris}
    return folders.pop() if len(folders) == 1 else ""


def _facts(row: dict[str, Any]) -> list[tuple[str, Any]]:
    long = {"embedding", "target_embedding", "face_landmarks", "portrait_landmarks"}
    return [
        (name, f"{len(value)} numbers" if name in long else value) for name, value in row.items() if value is not None
    ]


def failures(
    dataset: DatasetArg,
    dropped: Annotated[bool, typer.Option("--dropped", help="list dropped candidates, too")] = False,
    reason: Annotated[Optional[str], typer.Option(help="list only candidates with this reason")] = None,  # noqa: UP045
    captions: Annotated[
        bool,
        typer.Option("--captions", help="list kept images with a fallback caption or an incomplete caption instead"),
    ] = False,
    json_out: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
) -> None:
    """List failed candidates, with the reason and the file."""
    from hifidata.report.words import require_reason
    from hifidata.store.layout import DatasetFolder
    from hifidata.store.query import failures as look
    from hifidata.store.query import missing_captions

    if captions and (dropped or reason):
        raise UsageError(
            "--captions: cannot be combined with --dropped and --reason, because it lists kept images; omit them"
        )
    if reason:
        require_reason(reason, DatasetFolder(dataset))
    rows = missing_captions(dataset) if captions else look(dataset, dropped, reason)
    if json_out:
        console.write_json_lines(rows)
    else:
        facts = ("caption_model", "caption_problem") if captions else ("stage", "reason", "message")
        columns = ("source_uri", *facts)
        console.table("", columns, [[row[name] for name in columns] for row in rows])


def replay(dataset: DatasetArg, overrides: SetOption = [], json_out: JsonOption = False) -> None:  # noqa: B006
    """Show the effect of other thresholds, from stored numbers. Runs no model and writes nothing."""
    from hifidata.run.replay import replay as redecide

    result = redecide(dataset, overrides)
    if json_out:
        console.write_json(vars(result) | {"unknown_by_stage": result.unknown_by_stage})
        return
    for change in result.changes or ["no setting changes"]:
        console.out.print(change)
    n_undecided = len(result.unknown) + len(result.dependent)
    console.out.print(
        f"kept: {result.kept_before} -> {result.kept_after}{f' to {result.kept_after + n_undecided}' if n_undecided else ''} "
        f"of {result.n_candidates} ({len(result.newly_kept)} newly kept, {len(result.newly_dropped)} newly dropped, "
        f"{n_undecided} undecided)"
    )
    before, after = result.reasons_before, result.reasons_after
    rows = [(name, before[name], after[name]) for name in sorted(before | after) if before[name] != after[name]]
    if rows:
        console.table("", ("reason", "before", "after"), rows, right=("before", "after"))
    for stage, count in sorted(result.unknown_by_stage.items()):
        console.out.print(
            f"{count} images are undecided: they would now reach `{stage}`, but it never measured them, because an earlier "
            "stage dropped them. Only a run can decide them."
        )
    if result.dependent:
        console.out.print(
            f"{len(result.dependent)} images are undecided: a stage judges them together with these images of the same "
            "identity."
        )


def calibrate(
    dataset: DatasetArg,
    far: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--far",
            help="false-accept rate: largest share of images of other persons that may pass; stored for the report. Default: "
            "the stored rate, or the smallest common rate that the dataset supports",
        ),
    ] = None,
    json_out: JsonOption = False,
) -> None:
    """Compute the verify.min_similarity that the dataset supports, from stored embeddings."""
    from hifidata.report.calibration import calibrate as fit
    from hifidata.report.calibration import choose
    from hifidata.report.html import write_report
    from hifidata.store.layout import DatasetFolder

    folder = DatasetFolder(dataset)
    record = folder.read_dataset("recipe")
    found = fit(dataset, far, (record["recipe"].get("verify") or {}).get("min_similarity"))
    if json_out:
        console.write_json(asdict(found) | {"why": found.why})
    else:
        _print_calibration(found)
    if far is not None:
        choose(dataset, far)
        console.err.print(
            f"stored the rate for this dataset, and wrote it to the report: {write_report(folder.root, record)}"
        )


def _print_calibration(found: Calibration) -> None:
    console.out.print(
        f"{found.embedding_model}: {found.n_comparisons:,} comparisons of {found.n_pictures:,} images with the centres of "
        f"other identities; {found.n_people:,} identities"
    )
    rows = [(t.source, f"{t.value:.3f}", f"{t.strangers_accepted:.3%}", f"{t.own_lost:.1%}") for t in found.thresholds]
    columns = ("threshold of", "similarity above", "false accept rate", "false reject rate")
    console.table("", columns, rows, right=columns[1:])
    console.out.print(
        f"Threshold: {found.threshold:.3f} (95 % confidence interval: {found.low:.3f} to {found.high:.3f}). {found.why}"
    )
    for warning in found.warnings:
        console.out.print(warning)
    first, second = found.closest
    console.out.print(
        f"Closest pair: {first} / {second} (cosine {found.closest_similarity:.3f}). If both are the same person, merge them "
        "in the source."
    )


def report(dataset: DatasetArg) -> None:
    """Write the HTML report, the dataset card and croissant.json again, from the manifests."""
    from hifidata.run.finish import report_path, write_reports
    from hifidata.store.layout import DatasetFolder

    folder = DatasetFolder(dataset)
    write_reports(folder, folder.read_dataset())
    console.out.print(str(report_path(folder)))


COMMANDS = (status, check, inspect, failures, replay, calibrate, report)
"""The commands, in the order of ``hifidata --help``."""
