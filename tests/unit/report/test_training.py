"""What the report says of a training's curves."""

from edgekd.report.training import training_sentences


def curve(**terms):
    """A curve of weighted terms, a value for each step."""
    return {
        f"{name}_weighted": [(float(step), value) for step, value in enumerate(values, start=1)]
        for name, values in terms.items()
    }


def test_the_term_that_is_most_of_the_loss_at_the_end_is_named():
    found = training_sentences({"kd": curve(task=[9.0] * 9 + [1.0], output=[1.0] * 9 + [3.0])})
    assert found == ["kd: output dominates the loss at the end (output 75 %, task 25 %)."]


def test_a_term_that_rose_is_named_with_its_peak():
    found = training_sentences({"kd": curve(task=[2.0, 1.0], feature=[0.5, 4.0])})
    assert found[1].startswith("kd: feature rose to 8 times its first value at step 2;")
    assert len(training_sentences({"kd": curve(task=[2.0, 1.0], feature=[0.5, 2.4])})) == 1


def test_nothing_is_said_of_a_loss_of_one_term_or_of_none():
    assert training_sentences({"few_step": curve(trajectory=[1.0, 9.0]), "x": {"loss": []}}) == []
    assert training_sentences({"kd": curve(task=[0.0], output=[0.0])}) == []
