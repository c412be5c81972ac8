import getpass
import json
import platform

from edgekd.measure.environment import environment


def test_environment_is_json_and_says_what_a_reader_needs():
    found = json.loads(json.dumps(environment(), allow_nan=False))
    assert found["cores"] >= 1
    assert found["ram_bytes"] > 2**28
    assert found["cpu"]["model"]
    assert found["versions"]["torch"]
    assert found["python"] == platform.python_version()


def test_environment_names_no_host_and_no_user():
    values = {str(value) for value in environment().values()}
    assert platform.node() not in values
    assert getpass.getuser() not in values
