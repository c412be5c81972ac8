import json

from fixtures.bundles import toy_export


def test_prints_paths_for_people_and_machines(run_cli, tmp_path):
    export, out = toy_export(tmp_path / "export"), tmp_path / "out"
    code, told, _ = run_cli("bundle", str(export), "--for", "desktop", "--out", str(out), "--zip")
    assert code == 0
    first, second = told.splitlines()
    assert first.startswith(f"bundle: {out} (")
    assert second.startswith(f"zip: {out}.zip (")
    code, told, _ = run_cli("bundle", str(export), "--for", "desktop", "--out", str(out), "--json")
    assert code == 0
    found = json.loads(told)
    assert found["path"] == str(out)
    assert found["zip"] is None
    assert (found["kind"], found["precision"], found["licence"]) == (
        "desktop",
        "fp32",
        "apache-2.0",
    )


def test_nobody_s_licence_is_said(run_cli, tmp_path):
    export = toy_export(tmp_path / "export", card="")
    code, _, err = run_cli(
        "bundle", str(export), "--for", "desktop", "--out", str(tmp_path / "out")
    )
    assert code == 0
    assert "Nobody said under which licence" in err


def test_bad_usage_is_one_line(run_cli, tmp_path):
    out = str(tmp_path / "out")
    for arguments in (
        [str(tmp_path), "--for", "toaster", "--out", out],
        [str(tmp_path), "--for", "desktop", "--out", out],
        [str(tmp_path), "--out", out],
        [str(tmp_path), "--for", "desktop"],
        [str(tmp_path), "--for", "desktop", "--precision", "fp8", "--out", out],
    ):
        code, told, err = run_cli("bundle", *arguments)
        assert (code, told, len(err.splitlines())) == (2, "", 1), arguments


def test_distill_refuses_an_unknown_kind_before_it_starts(run_cli, tmp_path):
    out = tmp_path / "run"
    code, _, err = run_cli("distill", "--bundle", "toaster", "--out", str(out))
    assert code == 2
    assert "`--for` must be one of" in err
    assert not out.exists()
