"""Shards: readable by webdataset, the same bytes each time, whole or not there."""

import gzip
import io
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_iterator

from edgekd.data.tars import ShardWriter, iter_samples
from edgekd.errors import InputError

SAMPLES = [(f"{i:09d}", {"png": bytes([i]) * 100, "json": b"{}"}) for i in range(5)]


def write(path):
    writer = ShardWriter(path)
    for key, parts in SAMPLES:
        writer.write(key, parts)
    writer.close()
    return path


def test_round_trip(tmp_path):
    found = iter_samples(write(tmp_path / "a.tar"))
    assert [(sample.key, sample.parts) for sample in found] == SAMPLES


def test_webdataset_reads_it(tmp_path):
    from webdataset import WebDataset

    path = str(write(tmp_path / "a.tar"))
    found = list(WebDataset([path], shardshuffle=False))
    assert [(s["__key__"], s["png"], s["json"]) for s in found] == [
        (key, parts["png"], parts["json"]) for key, parts in SAMPLES
    ]


def test_equal_samples_give_equal_bytes(tmp_path):
    assert write(tmp_path / "a.tar").read_bytes() == write(tmp_path / "b.tar").read_bytes()


def test_no_shard_before_it_is_closed(tmp_path):
    writer = ShardWriter(tmp_path / "a.tar")
    writer.write(*SAMPLES[0])
    assert not (tmp_path / "a.tar").exists()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_reading_forgets_what_it_has_passed(tmp_path, monkeypatch):
    seen = []
    real_open = tarfile.open

    def spy(*args, **kwargs):
        seen.append(real_open(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(tarfile, "open", spy)
    for _ in iter_samples(write(tmp_path / "a.tar")):
        assert len(seen[-1].members) <= 1


NAMES = st.lists(
    st.text(st.sampled_from("ab._/AJ"), min_size=1, max_size=8), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=200)
@given(NAMES)
def test_samples_are_webdatasets_own(names):
    """webdataset ends at a part that is twice in a sample; here that sample alone is lost."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(bytes([number])))
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(content.getvalue())
        file.flush()
        found = list(iter_samples(Path(file.name)))
    files = tar_file_iterator(io.BytesIO(content.getvalue()))
    try:
        expected = list(group_by_keys({**file, "__url__": ""} for file in files))
    except ValueError:
        assert any(sample.problem for sample in found)
        return
    assert [(s.key, s.parts) for s in found] == [
        (
            s["__key__"],
            {part: data for part, data in s.items() if part not in ("__key__", "__url__")},
        )
        for s in expected
    ]


def test_hidden_members_are_passed_over_and_others_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("./._a.jpg", "./a.jpg", "README", "./a.txt", "._b.jpg", "a.npy"):
            info = tarfile.TarInfo(name)
            archive.addfile(info)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"../../{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    (one, two) = iter_samples(tmp_path / "a.tar", is_read=lambda part: part != "npy")
    assert (one.key, one.parts, one.unread) == ("./a", {"jpg": b"", "txt": b""}, ["README"])
    links = [f"../../{kind}.png" for kind in "2163"]
    assert (two.key, two.parts, two.unread) == ("a", {}, ["a.npy", *links])


def test_what_a_sample_holds_is_bounded(tmp_path, write_tar):
    members = {f"a.{n}": b"x" * 600 for n in range(5)} | {"b.0": b"x" * 600, "c.0": b"x" * 9000}
    found = list(iter_samples(write_tar(tmp_path / "a.tar", members), 4096))
    assert [sum(content is None for content in s.parts.values()) for s in found] == [2, 0, 1]


def test_a_sparse_member_may_promise_more_than_there_is(tmp_path):
    info = tarfile.TarInfo("a.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"%011o\0" % (1 << 32)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    assert [sample.parts for sample in iter_samples(tmp_path / "a.tar")] == [{"png": None}]


def damaged(content: bytes, start: int, new: bytes) -> bytes:
    return content[:start] + new + content[start + len(new) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:700],
        lambda content: content[:1100],
        lambda content: damaged(content, 1024 + 148, b"9999999"),
        lambda content: damaged(content, 1024, b"junk" * 128),
        lambda content: gzip.compress(content, 0)[:900],
        lambda content: b"x" * 2000,
        lambda content: b"",
    ],
)
def test_a_damaged_tar_is_one_line_and_not_a_shorter_one(tmp_path, write_tar, damage):
    write_tar(tmp_path / "a.tar", {"a.png": b"x" * 512, "b.png": b"y" * 512})
    (tmp_path / "a.tar").write_bytes(damage((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(InputError, match="whole tar file"):
        list(iter_samples(tmp_path / "a.tar"))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_long_header_is_not_read(tmp_path, kind):
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, 1 << 32
    with open(tmp_path / "a.tar", "wb") as stream:
        stream.write(info.tobuf())
        stream.truncate(1 << 33)
    with pytest.raises(InputError, match="header that is too long"):
        list(iter_samples(tmp_path / "a.tar"))
