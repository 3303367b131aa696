from lakevec.jobs.vectors.census import KEYS_PER_SLICE, slices_of


def test_slices_together_are_all_keys_whatever_they_are():
    (whole,) = slices_of("2024", "p2024_g1", KEYS_PER_SLICE)
    assert (whole.expression, whole.rows) == ('chunk_id >= ""', KEYS_PER_SLICE)

    pieces = slices_of("2024", "p2024_g1", 4 * KEYS_PER_SLICE)

    assert [piece.expression for piece in pieces] == [
        'chunk_id >= "" && chunk_id < "40000000"',
        'chunk_id >= "40000000" && chunk_id < "80000000"',
        'chunk_id >= "80000000" && chunk_id < "c0000000"',
        'chunk_id >= "c0000000"',
    ]
    # A part of a range has a count of its own, which nobody asked yet.
    assert {piece.rows for piece in pieces} == {None}
