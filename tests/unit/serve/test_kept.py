from edgekd.serve.kept import KeptPictures


def test_bounded_in_number_bytes_and_time():
    now = [0.0]
    kept = KeptPictures(count=3, size=10, seconds=60, clock=lambda: now[0])
    names = [kept.put(b"ab", "image/png") for _ in range(4)]
    assert len(set(names)) == 4
    assert min(map(len, names)) == 32  # 192 bits in base64
    assert kept.get(names[0]) is None
    assert kept.get(names[3]).content == b"ab"
    large = kept.put(b"x" * 9, "image/webp")  # and nothing beside it
    assert [kept.get(name) for name in names] == [None] * 4
    assert kept.get(large).media_type == "image/webp"
    larger = kept.put(b"x" * 20, "image/png")  # the newest stays
    assert kept.get(large) is None
    now[0] = 59.0
    assert kept.get(larger) is not None
    now[0] = 60.0
    assert kept.get(larger) is None
    assert kept.put(b"ab", "image/png")
    assert kept.get("") is None
