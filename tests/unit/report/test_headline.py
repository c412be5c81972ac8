import pytest

from edgekd.metrics.metric import Figure
from edgekd.report.headline import headline_text
from edgekd.report.view import cards


def test_the_headline_says_the_ratios_in_words(full_report):
    found = headline_text(full_report)
    rows = {row.name: row for row in full_report.rows}
    student, teacher = rows["sd-small onnx fp32"], rows["teacher onnx fp32"]
    faster = teacher.value("latency_ms") / student.value("latency_ms")
    assert found.title == (
        f"Draws a picture {faster:.2f} times as fast as the teacher and keeps 98 % of the "
        "teacher's caption score (25.0 of 25.6)"
    )
    assert "FD to real images is 1.26 times the teacher's (121 against 96.0, lower is better)." in (
        found.sentences
    )
    assert "medians of 7 and 7 pictures" in found.sentences[0]


def test_a_slower_student_is_called_slower(full_report):
    full_report.metrics.ratios["latency_ms"] = 1.5
    assert headline_text(full_report).title.startswith(
        "Needs 1.5 times as long as the teacher for a picture"
    )


@pytest.mark.parametrize(("low", "said"), [(0.2, True), (3.0, False)])
def test_a_difference_that_chance_explains_is_said_to_be_one(full_report, low, said):
    rows = {row.name: row for row in full_report.rows}
    noise = [(-1) ** index * 1.0 for index in range(64)]
    for name, level in (("sd-small onnx fp32", 0.0), ("teacher onnx fp32", low)):
        samples = [25 + level + (noise[i] if level else 0) for i in range(64)]
        rows[name].figures["score"] = Figure(value=25.0 + level, samples=samples)
    title = headline_text(full_report).title
    assert ("no difference beyond chance on 64 pictures" in title) == said


def test_intervals_that_overlap_are_said_to(full_report):
    rows = {row.name: row for row in full_report.rows}
    for name, low, high in (("sd-small onnx fp32", 94, 130), ("teacher onnx fp32", 90, 99)):
        rows[name].figures["fd"] = Figure(value=96, low=low, high=high)
    assert any(
        "their 95 % intervals overlap" in said for said in headline_text(full_report).sentences
    )


def test_no_speed_is_claimed_of_what_was_not_executed(full_report):
    full_report.metrics.evaluated = "no Mac"
    full_report.metrics.ratios["latency_ms"] = None
    found = headline_text(full_report)
    assert "as fast" not in found.title
    assert "evaluated, not executed, so that nothing is known of its speed" in found.title
    assert "no Mac" in found.sentences[0]


def test_another_precision_than_the_teachers_is_said(full_report):
    full_report.metrics.rows.student = "sd-small onnx int8"
    said = headline_text(full_report).sentences[0]
    assert "the teacher in onnx fp32, the student in onnx int8" in said


@pytest.mark.parametrize(
    ("threads", "trust", "kind"),
    [(1, "by processor time alone", "least processor time"), (2, "not to be trusted", "median")],
)
def test_a_busy_machine_is_in_the_same_sentence(full_report, threads, trust, kind):
    """On one thread the figure is the least processor time then, and no median."""
    full_report.suite.speed.threads = threads
    rows = {row.name: row for row in full_report.rows}
    for name in ("sd-small onnx fp32", "teacher onnx fp32"):
        rows[name].speed["image"] = rows[name].speed["image"].model_copy(update={"busy": True})
    said = headline_text(full_report)
    assert f"held the cores: {trust})" in said.title
    assert f"({kind}s of 7 and 7 pictures" in said.sentences[0]
    rows["teacher onnx fp32"].speed["image"].busy = False
    both = kind if kind == "median" else f"{kind} and median"
    assert f"({both}" in headline_text(full_report).sentences[0]


def on_a_device(report):
    """The headline's student was timed on a device, the teacher nowhere."""
    row = next(row for row in report.rows if row.name == "sd-small onnx fp32")
    report.rows.append(row.model_copy(update={"name": "there", "device": "pi5"}))
    metrics = report.metrics
    metrics.rows.student = "there"
    metrics.teacher["latency_ms"] = metrics.ratios["latency_ms"] = None
    return row


def test_a_student_that_was_timed_alone_has_its_own_time_in_the_headline(full_report):
    row = on_a_device(full_report)
    title = headline_text(full_report).title
    ms = f"{row.value('latency_ms'):.0f} ms"
    assert f"draws a picture in {ms} on pi5, where the teacher was not timed" in title
    first = next(card for card in cards(full_report) if card.note and not card.teacher)
    assert (first.ratio, first.student, first.verdict) == (ms, "on pi5", "")


def test_a_card_gives_no_verdict_on_what_chance_or_other_work_may_explain(full_report):
    rows = {row.name: row for row in full_report.rows}
    student, teacher = rows["sd-small onnx fp32"], rows["teacher onnx fp32"]
    noise = [(-1) ** index * 1.0 for index in range(8)]
    student.figures["score"] = Figure(value=25.0, samples=[25.0] * 8)
    teacher.figures["score"] = Figure(value=25.2, samples=[25.2 + one for one in noise])
    full_report.metrics.ratios["score"] = 0.9
    titles = {one.name: one.title for one in full_report.shown("card")}
    verdicts = {card.title: card.verdict for card in cards(full_report)}
    assert verdicts[titles["score"]] == ""
    assert verdicts[titles["latency_ms"]] == "better"
    student.speed["image"] = student.speed["image"].model_copy(update={"busy": True})
    verdicts = {card.title: card.verdict for card in cards(full_report)}
    assert verdicts[titles["latency_ms"]] == ""
