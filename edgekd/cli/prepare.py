"""`edgekd prepare`."""

from __future__ import annotations

from edgekd.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    OutOption,
    RayOption,
    SetOption,
    TeacherOption,
    VerifyOption,
    cluster_at,
    print_json,
    read_recipe,
    run_folder,
)


def prepare(
    config: ConfigOption = "starter",
    teacher: TeacherOption = None,
    data: DataOption = None,
    out: OutOption = None,
    assignments: SetOption = None,
    verify: VerifyOption = False,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify, filter, split and shard images; cache the teacher's latents and text embeddings."""
    from edgekd.errors import one_line
    from edgekd.progress import console

    recipe = read_recipe(config, assignments, teacher, data)
    from edgekd.jobs.prepare import prepare_run

    run = run_folder(out, f"{recipe.name}-data", config, verify)
    with cluster_at(ray) as cluster:
        result = prepare_run(recipe, run, console(), cluster)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        kept = result.kept
        print(f"kept {sum(kept.values())} of {result.records} images")
        for reason, count in sorted(result.skipped.items()):
            print(one_line(f"  skipped, {reason}: {count}"))
        for reason, count in sorted(result.unused.items()):
            print(one_line(f"  not used, {reason}: {count}"))
        print(f"train {kept['train']}, validation {kept['validation']}: {result.prepared}")
