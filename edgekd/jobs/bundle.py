"""`edgekd bundle`: an app with a student in it, from a run or an export."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.errors import InputError
from edgekd.file_record import damage, foreign_entry, read_record
from edgekd.files import check_writable, code_key, hash_value, resolved
from edgekd.jobs.export import DEFAULT_PROMPTS
from edgekd.progress import Progress
from edgekd.reading import read_object
from edgekd.run_folder import BUNDLES, MARKER, check_apart, run_lock

if TYPE_CHECKING:
    from edgekd.bundle.build import Bundle
    from edgekd.bundle.kind import Kind

# Of a run folder.
_STUDENT, _EXPORTS = Path("distill", "student"), Path("export")


@dataclass(frozen=True)
class BundleRequest:
    """What goes into which app.

    Attributes:
        source: a run of `edgekd distill`, or an exported folder.
        kind: as `--for` takes it.
        precision: None: the kind's default, or what the exported folder has.
        licence: file with the text of the model's licence.
        zipped: also as one file beside the folder.
    """

    source: Path
    kind: str
    out: Path
    precision: str | None = None
    licence: Path | None = None
    zipped: bool = False


def bundle_run(request: BundleRequest, progress: Progress) -> Bundle:
    """`edgekd bundle`.

    Raises:
        InputError: an unknown kind or precision, a missing tool, a source that is neither run nor
            export or is not whole, an out folder with something else in it, no room.
        GateError: the run has no export in this precision, and one falls short of parity.
    """
    kind = _checked_kind(request.kind, request.precision)
    from edgekd.bundle.build import check_place
    from edgekd.bundle.licences import read_licence

    request = replace(request, source=resolved(request.source), out=resolved(request.out))
    _check_apart(request)
    if request.licence is not None:
        read_licence(request.licence)
    check_place(kind.name, request.out, request.zipped)
    with contextlib.ExitStack() as held:
        if _is_run(request.source):
            held.enter_context(run_lock(request.source))
        return _bundle(kind, request, progress)


def check_kinds(names: Iterable[str]) -> None:
    """Whether bundles of these kinds can be made here.

    Raises:
        InputError: an unknown kind, or a missing tool.
    """
    for name in names:
        _checked_kind(name, None)


def bundle_stage(run: Path, names: Iterable[str], progress: Progress) -> dict[str, Path]:
    """The last stage of the main job: `<run>/bundle/<kind>/` for each, in an open run folder.

    Raises:
        InputError, GateError: as `bundle_run`.
    """
    source, made = resolved(run), {}
    for name in names:
        request = BundleRequest(source, name, run / BUNDLES / name)
        made[name] = _bundle(_checked_kind(name, None), request, progress).path
    return made


def _checked_kind(name: str, precision: str | None) -> Kind:
    from edgekd.bundle.registry import get_kind

    kind = get_kind(name)
    if precision is not None and precision not in kind.precisions:
        raise InputError(
            f"`--precision` for {name} must be one of {', '.join(kind.precisions)}",
            repr(precision),
        )
    kind.check()
    return kind


def _bundle(kind: Kind, request: BundleRequest, progress: Progress) -> Bundle:
    from edgekd.bundle.build import build
    from edgekd.bundle.contents import read_contents

    out = resolved(request.out)
    check_writable(out)
    exported = _find_export(kind, request, progress)
    contents = read_contents(exported, request.licence)
    if not contents.licence.has_text:
        progress.info(f"  {contents.licence.sentence}")
    return build(kind, contents, out, progress, request.zipped)


def _check_apart(request: BundleRequest) -> None:
    """The bundle may lie in the run, but in none of its results; and nothing it is made from may
    lie in the bundle."""
    source, out = request.source, request.out
    licence = [] if request.licence is None else [("--license", request.licence)]
    check_apart(out, [("RUN|EXPORT", source), *licence])
    inside = out.relative_to(source).parts if out.is_relative_to(source) else ()
    if inside and inside[0] != BUNDLES:
        raise InputError(
            f"`--out` must lie outside the run or export, or in `{BUNDLES}` of the run",
            str(out),
        )


def _is_run(source: Path) -> bool:
    return (source / MARKER).is_file()


def _find_export(kind: Kind, request: BundleRequest, progress: Progress) -> Path:
    """The exported folder that the source is, or that a run has or is given now."""
    source = request.source
    if _is_run(source):
        return _export_of_run(kind, request.precision or kind.precisions[0], source, progress)
    if (source / "manifest.json").is_file():
        _check_export(source, kind, request.precision)
        return source
    hint = "Pass what `edgekd distill` or `edgekd export` wrote."
    if (source / "model_index.json").is_file():
        precision = request.precision or kind.precisions[0]
        hint = (
            f"Export it first: edgekd export {request.source} --target {kind.target} "
            f"--precision {precision} --out EXPORT"
        )
    raise InputError("a bundle must be made of a run or an export", str(source), hint)


def _check_export(folder: Path, kind: Kind, precision: str | None) -> None:
    from edgekd.export.manifest import content_hash, read_manifest

    manifest = read_manifest(folder)
    if manifest.runtime != kind.runtime:
        raise InputError(
            f"a bundle for {kind.name} must be made of an export for {kind.runtime}",
            f"{folder} (for {manifest.runtime})",
            f"Export the student with `--target {kind.target}`.",
        )
    wanted = kind.precisions if precision is None else (precision,)
    if manifest.precision not in wanted:
        raise InputError(
            f"the export must be in {' or '.join(wanted)} for {kind.name}",
            f"{folder} (in {manifest.precision})",
            f"Export the student with `--target {kind.target} --precision {wanted[0]}`.",
        )
    if content_hash(folder) != manifest.content_hash:
        raise InputError(
            "the export must be as it was made", _first_change(folder), "Export it again."
        )


def _first_change(folder: Path) -> str:
    record = read_record(folder)
    if record is not None and (harmed := damage(folder, record)):
        return f"{folder} (`{harmed}` is missing or changed)"
    if record is not None and (added := foreign_entry(folder)):
        return f"{folder} (`{added.relative_to(folder)}` was added)"
    return f"{folder} (files are missing, added or changed)"


def _export_of_run(kind: Kind, precision: str, run: Path, progress: Progress) -> Path:
    """The student's export in a precision: the run's own, or one made for its bundles."""
    student = run / _STUDENT
    record = read_record(student)
    if record is None or damage(student, record):
        said = read_object(run / MARKER).get("kind")
        raise InputError(
            "the run must have a finished student",
            f"{run} (of `edgekd {said}`, without a whole `{_STUDENT}`)",
            "Finish it: run `edgekd distill` again.",
        )
    own = run / _EXPORTS / "student" / precision
    if _is_export_of(own, kind, student):
        _check_export(own, kind, precision)
        return own
    return _make_export(kind, precision, run, str(record["key"]), progress)


def _is_export_of(folder: Path, kind: Kind, student: Path) -> bool:
    """Whether a folder is the student's export for the kind's runtime, not an earlier one's."""
    from edgekd.export.manifest import read_manifest, source_hash

    if not (folder / "manifest.json").is_file():
        return False
    manifest = read_manifest(folder)
    return manifest.runtime == kind.runtime and manifest.source.hash == source_hash(student)


def _make_export(
    kind: Kind, precision: str, run: Path, student_key: str, progress: Progress
) -> Path:
    """`<run>/export/bundle-<target>/<precision>/`; one that is there and up to date is kept."""
    from edgekd.benchmark.generation import recommended_generation
    from edgekd.export.stage import ExportPlan, export_all
    from edgekd.recipe import ExportSection
    from edgekd.target import load_target

    target = load_target(kind.target)
    progress.info(f"  the run's export for {kind.name}: {target.name} in {precision}")
    student = run / _STUDENT
    # What draws is the app; it knows the student's sampler, or `fill` refuses it.
    changes = {"precisions": [precision], "deploy": precision, "schedulers": [_sampler(student)]}
    plan = ExportPlan(
        target.model_copy(update=changes),
        ExportSection(precisions=[precision], parity_prompts=len(DEFAULT_PROMPTS)),
        DEFAULT_PROMPTS,
        recommended_generation(student),
    )
    key = hash_value([code_key(), student_key, target.model_dump()])
    out = run / _EXPORTS / f"{BUNDLES}-{target.name}"
    return export_all(student, plan, out, key, progress)[precision].path


def _sampler(student: Path) -> str:
    return str(read_object(student / "scheduler" / "scheduler_config.json").get("_class_name"))


def to_json(made: Bundle) -> dict[str, Any]:
    """What `edgekd bundle --json` prints."""
    told = {"kind", "model", "runtime", "precision", "licence", "bytes"}
    return {
        "path": made.path,
        "zip": made.archive,
        **made.facts.model_dump(mode="json", include=told),
        "files": len(made.facts.files),
    }
