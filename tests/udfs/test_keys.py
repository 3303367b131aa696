from lakevec.udfs.keys import bytes_hash, chunk_id, content_hash, digest, doc_id, key_slices


def test_keys_are_32_hex_digits_and_do_not_change_between_releases():
    assert doc_id("docs/travel.md", "") == "dbdc5b990faa7ff39320b134388c9f4e"
    assert chunk_id("d", "heading", "c", 0) == "9f4354f4bb0eb4884925c552afcf0a10"
    assert content_hash("Book early.") == "0b0a2b98cf9998876871707ac315f94a"
    assert bytes_hash(b"Book early.") == "71b712382c50f58718d67559f13abe6e"


def test_where_one_part_ends_is_part_of_the_key():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "") != digest("a")


def test_kinds_of_keys_never_meet():
    assert doc_id("a", "b") != digest("a", "b") != content_hash("a")


def test_equal_passages_of_a_document_have_keys_by_occurrence():
    assert chunk_id("d", "heading", "c", 0) != chunk_id("d", "heading", "c", 1)


def test_slices_hold_every_key_once():
    keys = [digest(str(number)) for number in range(300)] + ["", "k1", "zz"]
    for number in (0, 1, 7):
        slices = key_slices(number)
        assert len(slices) == max(number, 1)
        for key in keys:
            assert sum((s.since is None or s.since <= key) and (s.until is None or key < s.until) for s in slices) == 1
        sizes = [sum((s.since or "") <= key < (s.until or "g") for key in keys[:300]) for s in slices]
        assert min(sizes) > 150 / max(number, 1)
