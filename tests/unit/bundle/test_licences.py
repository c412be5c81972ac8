import pytest
from fixtures.bundles import STARTER_CARD

from edgekd import resources
from edgekd.bundle.licences import find_licence
from edgekd.errors import InputError

NAMED = "---\nlicense: creativeml-openrail-m\nbase_model: somebody/teacher\n---\n"


def licence_of(folder, card, file=None):
    (folder / "README.md").write_text(card)
    return find_licence(folder, file)


def test_what_learned_from_the_starter_carries_its_attributions(tmp_path):
    found = licence_of(tmp_path, STARTER_CARD)
    assert set(found.files) == {"LICENSE", "NOTICE", "STARTER-DATA.md"}
    assert b"CC-BY-4.0" in found.files["STARTER-DATA.md"]
    assert found.name == "apache-2.0"
    assert "CC-BY-4.0" in found.sentence
    assert "STARTER-DATA.md" in found.sentence
    only_data = "---\ndatasets: [edgekd-starter-emoji]\n---\n"
    assert "STARTER-DATA.md" in licence_of(tmp_path, only_data).files


def test_the_starter_teacher_itself_says_where_it_learned(tmp_path):
    found = find_licence(resources.STARTER / "teacher", None)
    assert "STARTER-DATA.md" in found.files


def test_a_licence_without_its_text_asks_for_it(tmp_path):
    found = licence_of(tmp_path, NAMED)
    assert found.name == "creativeml-openrail-m"
    assert "creativeml-openrail-m" in found.sentence
    assert "`edgekd bundle --license FILE`" in found.sentence
    assert set(found.files) == {"LICENSE", "NOTICE"}
    assert not found.has_text
    assert licence_of(tmp_path, STARTER_CARD).has_text


def test_a_licence_of_another_name(tmp_path):
    card = "---\nlicense: other\nlicense_name: as-the-base-model\n---\n"
    assert licence_of(tmp_path, card).name == "as-the-base-model"


@pytest.mark.parametrize("card", ["", "no header", "---\nlicense: [1, 2]\n---\n"])
def test_no_licence_is_said_to_be_none(tmp_path, card):
    found = licence_of(tmp_path, card)
    assert found.name is None
    assert found.sentence.startswith("Nobody said")


def test_a_given_text_goes_in(tmp_path):
    (tmp_path / "terms.txt").write_text("You may.\n")
    found = licence_of(tmp_path, NAMED, tmp_path / "terms.txt")
    assert found.files["MODEL-LICENSE.txt"] == b"You may.\n"
    assert "licences/MODEL-LICENSE.txt" in found.sentence
    assert "not here" not in found.sentence


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00"])
def test_a_text_must_be_one(tmp_path, content):
    (tmp_path / "terms.txt").write_bytes(content)
    with pytest.raises(InputError):
        licence_of(tmp_path, NAMED, tmp_path / "terms.txt")


def test_a_missing_text_names_the_option(tmp_path):
    with pytest.raises(InputError, match=r"`--license` must .*exists, but got .*missing\.txt"):
        licence_of(tmp_path, NAMED, tmp_path / "missing.txt")
