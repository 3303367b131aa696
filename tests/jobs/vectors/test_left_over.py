from lakevec.jobs.vectors import successor
from lakevec.jobs.vectors.collection import Owner
from lakevec.jobs.vectors.index import VectorIndex
from lakevec.jobs.vectors.left_over import drop_left_over
from lakevec.jobs.vectors.routes import Routes
from lakevec.jobs.vectors.shadow import shadow_name

OWNER, OTHER = Owner("11111111-1", "m", "c", 4), Owner("22222222-2", "m", "c", 4)
BASE = OWNER.collection_name("docs")
LEFT = {shadow_name("docs", OWNER, "0a1b2c3d"), shadow_name("docs", OWNER, "probe_scann"), f"{BASE}_3"}
STAYS = {
    f"{BASE}_2",
    "docs_routes_1",
    # Another lake under the same alias, which may be in the middle of its sweep.
    shadow_name("docs", OTHER, "0a1b2c3d"),
    # Other aliases, however they are called.
    OWNER.collection_name("docs_shadow"),
    OWNER.collection_name(f"docs_{OWNER.lake_id[:8]}_shadow_0a1b2c3d"),
    "docs_other",
}


class Client:
    def __init__(self):
        self.dropped = set()

    def list_collections(self):
        return sorted(LEFT | STAYS)

    def drop_collection(self, name):
        self.dropped.add(name)


def test_what_a_killed_sweep_or_switch_left_goes_with_its_import_files_and_nothing_else(tmp_path, monkeypatch):
    routes = Routes(f"{BASE}_2", OWNER.lake_id, "m", "m", VectorIndex("FLAT"))
    monkeypatch.setattr(successor, "read_routes", lambda *_: routes)
    monkeypatch.setattr(successor, "aliased", lambda *_: routes.collection)
    for name in LEFT | STAYS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "2024-0.parquet").write_text("passages")
    client = Client()

    assert drop_left_over(client, "docs", OWNER, tmp_path) == sorted(LEFT)
    assert client.dropped == LEFT
    assert {path.name for path in tmp_path.iterdir()} == STAYS
    # A place that is not there yet has nothing left in it.
    assert drop_left_over(client, "docs", OWNER, tmp_path / "new") == sorted(LEFT)


def test_before_there_are_routes_no_collection_is_taken_for_a_left_over(monkeypatch):
    monkeypatch.setattr(successor, "read_routes", lambda *_: None)
    client = Client()
    drop_left_over(client, "docs", OWNER, None)
    assert f"{BASE}_3" not in client.dropped
