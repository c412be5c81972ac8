from edgekd.errors import InputError


def test_a_message_is_one_line_that_steers_no_terminal():
    error = InputError("a rule", "X\x1b[31m\nsecond\tl\u00e4ne\u202e \udcff", "A fix.")
    assert str(error) == "a rule, but got X\\x1b[31m second l\u00e4ne\\u202e \\udcff. A fix."
    assert error.found.startswith("X\x1b")
