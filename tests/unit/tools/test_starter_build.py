"""The rebuild of the starter's images, without network and without resvg."""

import base64
import hashlib
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fixtures.captioned import make_tar
from PIL import Image

from edgekd.errors import InputError
from tools.starter import build as build_module
from tools.starter.build import (
    SHIPPED,
    Emoji,
    IconSet,
    list_emoji,
    read_members,
    render,
    verify,
)
from tools.starter.compare import compare
from tools.starter.packages import EMOJIBASE, STYLES, Package


def pinned(path: Path) -> Package:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return Package("some", "1.0.0", digest)


def test_one_changed_byte_is_seen(tmp_path):
    path = make_tar(tmp_path / "a.tgz", {"package/a.json": b"{}"}, "w:gz")
    package = pinned(path)
    verify(path, package)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="SHA-512"):
        verify(path, package)


def test_only_wanted_members_are_read(tmp_path):
    members = {"package/a.json": b"1", "package/b.json": b"2", "../package/a.json": b"3"}
    assert read_members(make_tar(tmp_path / "a.tgz", members, "w:gz"), r"package/a\.json") == {
        "a.json": b"1"
    }


def test_emoji_of_the_six_groups_keep_their_order():
    data = [
        {"hexcode": "1F34E", "label": "red apple", "tags": ["fruit"], "group": 4},
        {"hexcode": "1F1E6", "label": "regional indicator A"},
        {"hexcode": "1F44B", "label": "waving hand", "group": 1},
        {"hexcode": "2615", "label": "hot beverage", "group": 4},
    ]
    assert list_emoji(data) == [
        Emoji("1f34e", "red apple", ["fruit"], "food & drink"),
        Emoji("2615", "hot beverage", [], "food & drink"),
    ]


@pytest.mark.parametrize(
    ("label", "slug"),
    [
        ("red apple", "red-apple"),
        ("woman\N{RIGHT SINGLE QUOTATION MARK}s boot", "womans-boot"),
        ("A & b: c", "a-and-b-c"),
    ],
)
def test_slug(label, slug):
    assert Emoji("1", label, [], "objects").slug == slug


def test_icons_are_centred_in_a_square():
    icons = {
        "icons": {"wide": {"body": "<path/>", "width": 40}, "plain": {"body": "<g/>"}},
        "aliases": {"other": {"parent": "plain"}, "mirrored": {"parent": "plain", "hFlip": True}},
        "width": 32,
        "height": 32,
    }
    found = IconSet(icons, {}, {})
    assert 'viewBox="0 -4 40 40"' in str(found.svg("wide"))
    assert 'viewBox="0 0 32 32"' in str(found.svg("plain"))
    assert found.svg("other") == found.svg("plain")
    assert found.svg("mirrored") is None
    assert found.svg("none") is None


def test_each_style_finds_its_drawing():
    red = Emoji("2764-fe0f", "red heart", [], "smileys & emotion")
    icons = {"icons": {"heart": {"body": "H"}, "red-heart": {"body": "R"}}, "width": 1, "height": 1}
    coded = IconSet(icons, {"2764": "heart"}, {})
    sets = {style.name: coded for style in STYLES}
    sets["3d"] = IconSet({}, {}, {"2764": b"webp"})
    bodies = {}
    for style in STYLES:
        drawing = build_module._drawing(sets, style, red)
        bodies[style.name] = drawing if isinstance(drawing, bytes) else drawing[-7:-6]
    assert bodies == {
        **dict.fromkeys(("noto", "twemoji", "fluent", "flat"), "H"),
        **dict.fromkeys(("blob", "emojione"), "R"),
        "3d": b"webp",
    }


def test_rendering_keeps_transparency_and_size():
    image = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    image.paste((200, 30, 30, 255), (64, 64, 192, 192))
    stream = io.BytesIO()
    image.save(stream, "WEBP", lossless=True)
    content = render(stream.getvalue())
    assert content == render(stream.getvalue())
    small = Image.open(io.BytesIO(content)).convert("RGBA")
    assert small.size == (64, 64)
    assert small.getpixel((2, 2))[3] == 0
    red, green, _, alpha = small.getpixel((32, 32))
    assert (red > 180, green < 60, alpha) == (True, True, 255)


def test_comparison_counts_words_bytes_and_pixels(tmp_path):
    table = pq.read_table(SHIPPED).slice(0, 6)
    rows = table.to_pylist()
    rows[0]["tags"] = []
    rows[1]["image"]["bytes"] = rows[2]["image"]["bytes"]
    import pyarrow as pa

    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:5], table.schema), tmp_path / "b.parquet")
    found = compare(tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert (found.rows, found.other_rows) == (6, 5)
    assert (found.equal_words, found.equal_bytes, found.equal_pixels) == (4, 4, 4)
    assert found.max_difference > 10


def counts(column: str) -> dict[str, int]:
    values = pq.read_table(SHIPPED, columns=[column])[column].to_pylist()
    return {value: values.count(value) for value in set(values)}


@pytest.mark.parametrize("column", ["style", "license", "group"])
def test_the_data_card_has_the_right_numbers(column):
    card = (SHIPPED.parent / "DATA_CARD.md").read_text()
    rows = [line.split("|")[1:-1] for line in card.splitlines() if line.startswith("| ")]
    told = {row[0].strip(): row[1].strip().replace(",", "") for row in rows}
    assert {name: told.get(name) for name in counts(column)} == {
        name: str(count) for name, count in counts(column).items()
    }


def test_the_data_card_names_every_source():
    card = (SHIPPED.parent / "DATA_CARD.md").read_text()
    for style in STYLES:
        assert f"`{style.package.spec}`" in card
        assert counts("source")[f"npm:{style.package.spec}"] == counts("style")[style.name]
    assert EMOJIBASE.spec in card
    assert json.dumps(counts("license")).count("CC-BY-4.0") == 1
