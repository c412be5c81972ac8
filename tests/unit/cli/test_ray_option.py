"""`--ray` may stand without an address."""

import pytest

from edgekd.cli.options import with_address


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ray"], ["--ray", "local"]),
        (["--ray", "--json"], ["--ray", "local", "--json"]),
        (["--ray", "starter"], ["--ray", "local", "starter"]),
        (["--ray", "auto", "starter"], ["--ray", "auto", "starter"]),
        (["--ray", "head:6379"], ["--ray", "head:6379"]),
        (["--ray", "[fd00::1]:6379"], ["--ray", "[fd00::1]:6379"]),
        (["--ray=head:6379"], ["--ray=head:6379"]),
        (["--out", "ray"], ["--out", "ray"]),
        ([], []),
    ],
)
def test_what_stands_behind_it(words, expected):
    assert with_address(words) == expected


def test_a_wrong_address_is_one_line(run_cli):
    code, out, err = run_cli("prepare", "--ray=nowhere")
    assert (code, out) == (2, "")
    assert err == (
        "edgekd: `--ray` must name a running Ray cluster that this machine is part of, but got "
        "nowhere (neither `local`, `auto` nor HOST:PORT). Run `ray start --address=HOST:PORT` here "
        "first, or `--ray` alone for a local cluster.\n"
    )


def test_what_only_measures_takes_no_cluster(run_cli):
    code, _, err = run_cli("search", "--measure-only", "--ray")
    assert code == 2
    assert "`--measure-only` needs no cluster, but got --ray" in err
    code, _, err = run_cli("benchmark", "export-sd15", "--ray")
    assert code == 2
    assert "makes its own pipeline" in err
