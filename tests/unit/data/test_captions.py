"""Texts of other tools, and where they keep the caption."""

import pytest

from edgekd.data.captions import decode_text, find_caption, parse_json, text_fields


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_has_no_mark_and_no_space_around_it(encoding):
    assert decode_text(" Käse\r\n".encode(encoding)) == "Käse"


@pytest.mark.parametrize("content", [b"\xe9", b"\xff\xfea", b"a\0b\0"])
def test_what_is_no_text(content):
    with pytest.raises(ValueError, match=r"codec|NUL"):
        decode_text(content)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 5_000])
def test_what_is_no_json(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


@pytest.mark.parametrize(
    ("row", "column", "found"),
    [
        ({"text": "a", "caption": "b"}, None, ("text", "a")),
        ({"text": " ", "caption": ["b", "c"]}, None, ("caption", "b")),
        *(
            ({name: " a "}, None, (name, "a"))
            for name in ("captions", "prompt", "TEXT", "en_text", "additional_feature")
        ),
        ({"text": "a", "alt": "b"}, "alt", ("alt", "b")),
        ({"text": "a"}, "alt", ("", "")),
        ({"text": 3, "caption": []}, None, ("", "")),
    ],
)
def test_caption_is_the_first_that_holds_text(row, column, found):
    assert find_caption(row, column) == found


def test_fields_are_scalars_and_lists_as_text():
    row = {"a": 0.5, "b": ["x", "y"], "c": None, "d": {"e": 1}, "f": b"x", "g": "left out"}
    assert text_fields(row, ("g",)) == {"a": "0.5", "b": "x, y"}
