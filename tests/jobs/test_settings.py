import pytest
from lakevec.jobs.errors import ConfigurationError
from lakevec.jobs.settings import INDEX_PARAMETERS, load_settings
from lakevec.jobs.vectors.index import BUILD, SEARCH


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


def test_int8_is_refused_for_a_gpu():
    with pytest.raises(ConfigurationError, match=r"model\.dtype \(--set\): .*int8.*model\.device is cuda:1"):
        load_settings("local", ["model.dtype=int8", "model.device=cuda:1"], {})


def test_questions_about_passages_in_int8_are_embedded_in_float32():
    of = {dtype: load_settings("local", [f"model.dtype={dtype}"], {}) for dtype in ("int8", "bfloat16")}
    assert {dtype: settings.compute.dtype for dtype, settings in of.items()} == {"int8": "int8", "bfloat16": "bfloat16"}
    questions = {dtype: settings.compute_of_questions.dtype for dtype, settings in of.items()}
    assert questions == {"int8": "float32", "bfloat16": "bfloat16"}


def test_a_secret_is_in_no_error_and_no_text(tmp_path):
    profile = tmp_path / "mine.yml"
    profile.write_text("milvus:\n  token: [root, hunter2]\n")
    with pytest.raises(ConfigurationError, match=r"milvus\.token \(mine\.yml\)") as error:
        load_settings(str(profile), [], {})
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


@pytest.mark.parametrize("text", ["0123456", "2024", "on", "null", "[a, b]", "2024-05-17", "1e3", '""'])
def test_a_setting_that_is_text_is_taken_as_it_stands(text):
    settings = load_settings("local", [f"source.path={text}"], {"LAKEVEC__MILVUS__TOKEN": text})

    assert settings.milvus.token
    assert (settings.source.path, settings.milvus.token.get_secret_value()) == (text, text)


def test_a_setting_that_is_no_text_is_read_as_yaml():
    settings = load_settings("local", ["source.include=['*.md', '*.txt']", "milvus.max_partitions=10"], {})

    assert (settings.source.include, settings.milvus.max_partitions) == (["*.md", "*.txt"], 10)


def test_names_in_the_environment_have_any_case_and_those_of_maps_their_own():
    settings = load_settings(
        "local",
        [],
        {
            "LAKEVEC__Source__PATH": "docs",
            "LAKEVEC__INDEX__BUILD__M": "16",
            "LAKEVEC__INDEX__BUILD__m": "8",
            "LAKEVEC__INDEX__BUILD__EFCONSTRUCTION": "200",
            "LAKEVEC__INDEX__SEARCH__REORDER_K": "50",
            "LAKEVEC__SPARK__CONF__spark__driver__maxResultSize": "2g",
        },
    )

    assert settings.source.path == "docs"
    assert settings.index.build == {"M": 16, "m": 8, "efConstruction": 200}
    assert settings.index.search == {"reorder_k": 50}
    assert settings.spark.conf["spark.driver.maxResultSize"] == "2g"


def test_a_spark_setting_in_capitals_alone_is_refused():
    with pytest.raises(ConfigurationError, match=r"SPARK__DRIVER__MAXRESULTSIZE: upper and lower case.*use --set"):
        load_settings("local", [], {"LAKEVEC__SPARK__CONF__SPARK__DRIVER__MAXRESULTSIZE": "2g"})


@pytest.mark.parametrize("override", ["milvus.token:Sup3r", "milvus.token Sup3r", "milvus.token: Sup3r"])
def test_an_override_without_an_equals_sign_shows_no_value(override):
    with pytest.raises(ConfigurationError, match=r"^--set milvus\.token: expected section\.key=value\.$"):
        load_settings("local", [override], {})


@pytest.mark.parametrize("token", ["'Sup3r", "*Sup3r", "!Sup3r x", "Sup3r: x", "[Sup3r", "@Sup3r"])
def test_a_file_that_is_no_yaml_is_told_by_problem_and_line_alone(tmp_path, token):
    profile = tmp_path / "mine.yml"
    profile.write_text(f"milvus:\n  token: {token}\n")

    with pytest.raises(ConfigurationError, match=r"mine\.yml is not valid YAML: .*, line [23]\.") as error:
        load_settings(str(profile), [], {})
    assert "Sup3r" not in str(error.value)
    assert error.value.__cause__ is None


def test_the_names_of_index_parameters_are_those_that_the_index_knows():
    for key, by_type in (("build", BUILD), ("search", SEARCH)):
        assert set(INDEX_PARAMETERS[key]) == {name for parameters in by_type.values() for name in parameters}
