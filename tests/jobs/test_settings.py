import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import load_settings


def test_later_layers_win(tmp_path):
    profile = tmp_path / "mine.yml"
    profile.write_text("source:\n  path: from-profile\nchunk:\n  tokens: 100\n  overlap: 10\n")
    environment = {"LAKEVEC__CHUNK__TOKENS": "110", "LAKEVEC__CHUNK__OVERLAP": "11"}

    settings = load_settings(str(profile), ["chunk.overlap=12"], environment)

    assert (settings.source.path, settings.chunk.tokens, settings.chunk.overlap) == ("from-profile", 110, 12)


def test_what_somebody_set_is_known_and_what_base_holds_is_not():
    settings = load_settings("local", ["chunk.tokens=128"], {})

    assert "chunk.tokens" in settings.explicit
    assert "chunk.overlap" not in settings.explicit


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("chunk.token=1", "Did you mean chunk.tokens?"),
        ("chnk.tokens=1", "Did you mean chunk?"),
        ("chunk.tokens", "expected section.key=value"),
        ("tokens=1", "expected a section and a key"),
        ("explicit.x=1", "Unknown setting explicit"),
    ],
)
def test_an_unknown_setting_is_an_error_that_names_the_nearest(override, hint):
    with pytest.raises(ConfigurationError) as error:
        load_settings("local", [override], {})

    assert hint in str(error.value)
    assert "--set" in str(error.value)
    assert error.value.exit_status == 2


def test_an_unknown_setting_in_a_file_names_the_file(tmp_path):
    profile = tmp_path / "mine.yml"
    profile.write_text("sorce:\n  path: x\n")

    with pytest.raises(ConfigurationError, match=r"Unknown setting sorce \(mine.yml\). Did you mean source\?"):
        load_settings(str(profile), [], {})


def test_a_value_of_the_wrong_type_names_the_setting_its_origin_and_the_value():
    with pytest.raises(ConfigurationError, match=r"chunk.tokens \(--set\): .*integer.*, got 'many'"):
        load_settings("local", ["chunk.tokens=many"], {})


def test_a_secret_is_in_no_error_and_no_text():
    with pytest.raises(ConfigurationError) as error:
        load_settings("local", ["milvus.token=[root, hunter2]"], {})
    settings = load_settings("local", [], {"LAKEVEC__MILVUS__TOKEN": "root:hunter2"})

    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(settings)
    assert settings.milvus.token
    assert settings.milvus.token.get_secret_value() == "root:hunter2"


def test_an_empty_value_is_an_empty_string():
    assert load_settings("local", ["mlflow.experiment="], {}).mlflow.experiment == ""


def test_spark_settings_keep_their_dots_and_write_booleans_as_spark_does():
    settings = load_settings("local", ["spark.conf.spark.ui.enabled=true", "spark.conf.spark.executor.cores=4"], {})

    assert settings.spark.conf["spark.ui.enabled"] == "true"
    assert settings.spark.conf["spark.executor.cores"] == "4"
    assert settings.spark.conf["spark.sql.session.timeZone"] == "UTC"


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(ConfigurationError, match="Known profiles: base, databricks, gpu, local, prod"):
        load_settings("prd", [], {})


@pytest.mark.parametrize("profile", ["local", "gpu", "databricks", "prod"])
def test_every_profile_is_valid(profile):
    settings = load_settings(profile, [], {})

    assert settings.partition.granularity == ("year" if profile in ("local", "gpu") else "month")
