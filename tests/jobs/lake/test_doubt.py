from datetime import UTC, datetime, timedelta

from lakevec.jobs.lake.doubt import doubtful
from lakevec.jobs.lake.tables import DOCUMENTS, FILES

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_a_file_of_other_documents_is_read_again_and_bytes_that_are_kept_away_stay_known(spark):
    def file(uri, **more):
        known = {"size": 9, "modified_at": NOON, "hash": uri, "state": "parsed", "documents": 1, "seen_at": NOON}
        return tuple({**dict.fromkeys(FILES.schema.names), "uri": uri, **known, **more}[n] for n in FILES.schema.names)

    def document(uri):
        values = {"doc_id": uri, "uri": uri, "changed_at": NOON + timedelta(seconds=1)}
        return tuple({**dict.fromkeys(DOCUMENTS.schema.names), **values}[n] for n in DOCUMENTS.schema.names)

    files = [file("sure"), file("doubtful"), file("partly forgotten", forgotten=["d1"])]
    rows = doubtful(
        spark.createDataFrame([*files, file("forgotten", state="forgotten")], FILES.schema),
        spark.createDataFrame([document(uri) for uri in ("doubtful", "partly forgotten", "unknown")], DOCUMENTS.schema),
    ).where("uri <> 'sure'").collect()  # fmt: skip

    assert {row["uri"]: (row["state"], row["hash"], row["modified_at"]) for row in rows} == {
        "doubtful": ("parsed", None, None),
        "partly forgotten": ("quarantined", "partly forgotten", None),
        "forgotten": ("forgotten", "forgotten", None),
        "unknown": ("parsed", None, None),
    }
