"""Optuna Dashboard shows the study that a search keeps."""

import io
import json
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
from fixtures.studies import SCORING, study_plan

from edgekd.search.storage import sqlite_url
from edgekd.search.study import StudyBudget, run_study


def ask(app, path):
    """The JSON of a GET request to a WSGI application."""
    where, _, query = path.partition("?")
    environ = {"PATH_INFO": where, "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    status = []
    body = b"".join(app(environ, lambda line, *rest: status.append(line)))
    assert status == ["200 OK"], body[:200]
    return json.loads(body)


def test_it_shows_every_trial_with_its_three_values(tmp_path):
    url = sqlite_url(tmp_path / "study.db")
    run_study(study_plan(url), SCORING, StudyBudget(0, 4, 600))
    app = optuna_dashboard.wsgi(url)
    (study,) = ask(app, "/api/studies")["study_summaries"]
    assert study["directions"] == ["minimize", "maximize", "minimize"]
    shown = ask(app, f"/api/studies/{study['study_id']}?after=0")
    complete = [one for one in shown["trials"] if one["state"] == "Complete"]
    assert len(complete) >= 4
    assert all(len(one["values"]) == 3 and one["params"] for one in complete)
