import json

from edgekd.cli.targets import targets
from edgekd.target import list_targets


def test_the_samplers_of_each_targets_clients_are_listed(capsys):
    targets()
    lines = capsys.readouterr().out.splitlines()
    for target in list_targets():
        (at,) = [i for i, line in enumerate(lines) if line.split()[0] == target.name]
        samplers = lines[at + 1].strip().removeprefix("samplers: ").split(", ")
        assert len(samplers) == len(target.schedulers)
        if target.name == "coreml":
            assert samplers == ["pndm", "dpm++2m", "euler_a"]
    targets(as_json=True)
    listed = {row["name"]: row["schedulers"] for row in json.loads(capsys.readouterr().out)}
    assert listed == {target.name: target.schedulers for target in list_targets()}
