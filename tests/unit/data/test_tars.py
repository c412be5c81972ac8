"""Shards: readable by webdataset, the same bytes each time, whole or not there."""

import tarfile

from edgekd.data.tars import ShardWriter, iter_samples

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
