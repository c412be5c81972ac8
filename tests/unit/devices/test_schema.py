import pytest
from fixtures.agents import DRAWING, export_job
from pydantic import ValidationError

from edgekd.devices.schema import AgentAddress, Hello, JobRequest, common_protocol
from edgekd.errors import InputError

DIGEST = "0" * 64


def test_the_newest_common_version_is_spoken():
    assert common_protocol([0, 1, 2], "pi") == 1


def test_an_agent_of_another_time_is_refused_clearly():
    with pytest.raises(InputError, match=r"agent `pi` must speak version 1 .* speaks 2, 3\. Insta"):
        common_protocol([3, 2], "pi")


def test_a_newer_hello_can_be_read_as_far_as_it_must():
    assert Hello.model_validate({"protocols": [2], "new": {}}).protocols == (2,)


def job(**changes):
    return {"job": {**export_job({"manifest.json": DIGEST}, memory=True), **changes}}


def test_a_job_comes_back_from_json_as_it_was():
    request = JobRequest.model_validate(job())
    assert JobRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "other"},
        {"rows": {}},
        {"rows": {"a": {"files": {"a.pkl": DIGEST}, "drawing": DRAWING}}},
        {"rows": {"a": {"files": {"a.json": "../x"}, "drawing": DRAWING}}},
        {"rows": {"a": {"files": {"a.json": DIGEST}, "drawing": {**DRAWING, "seeds": [1, 2]}}}},
        {"settings": {"threads": 0}},
        {"settings": {"threads": 1, "code": "import os"}},
        {"settings": {"threads": 1, "points": [{"row": "b", "drawing": DRAWING, "threads": 1}]}},
    ],
)
def test_jobs_that_cannot_be_are_refused(changes):
    with pytest.raises(ValidationError):
        JobRequest.model_validate(job(**changes))


def test_an_address_is_of_http_with_a_hash():
    entry = {"address": "https://10.0.0.7:8421", "token": "t" * 16}
    assert AgentAddress.model_validate(entry).fingerprint is None
    for wrong in ({"address": "ftp://a"}, {"fingerprint": "sha1:00"}, {"token": "a b"}):
        with pytest.raises(ValidationError):
            AgentAddress.model_validate({**entry, **wrong})
