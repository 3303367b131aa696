"""The Databricks bundle: its job as the typed models read it, its parameters as the command line does."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
import yaml
from databricks.bundles.core import Variable
from databricks.bundles.jobs import Job
from lakevec.jobs.cli import app
from lakevec.jobs.run import STAGES
from lakevec.jobs.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text())
JOB_FILE = ROOT / "conf/resources/lakevec_job.yml"
RESOURCES = yaml.safe_load(JOB_FILE.read_text())["resources"]

# What has no default: a person gives it at `databricks bundle deploy --var`.
GIVEN = {"milvus_uri": "http://milvus.internal:19530", "staging": "s3://bucket/staging"}


@pytest.fixture(scope="module")
def job() -> Job:
    return Job.from_dict(RESOURCES["jobs"]["lakevec"])


def values(target: str) -> dict[str, str]:
    defaults = {name: variable["default"] for name, variable in BUNDLE["variables"].items() if "default" in variable}
    return {**defaults, **BUNDLE["targets"][target].get("variables", {}), **GIVEN}


def parameters_of(job: Job, target: str) -> dict[str, list[str]]:
    """Each task's parameters, variables put in."""
    known = values(target)
    return {
        task.task_key: [
            re.sub(r"\$\{var\.(\w+)\}", lambda name: str(known[name[1]]), parameter)
            for parameter in task.python_wheel_task.parameters
        ]
        for task in job.tasks
    }


def parsed(parameters: list[str]) -> tuple[Settings, str, dict]:
    """Settings, command and its options, as the command line reads them."""
    group = typer.main.get_command(app)
    context = group.make_context("lakevec", list(parameters))
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    options = command.make_context(name, rest, parent=context).params
    return load_settings(context.params["profile"], context.params["overrides"], {}), name, options


def test_the_tasks_are_the_stages_in_their_order(job):
    assert [task.task_key for task in job.tasks] == list(STAGES)
    assert [[before.task_key for before in task.depends_on] for task in job.tasks] == [
        [],
        ["ingest"],
        ["chunk"],
        ["embed"],
    ]


def test_every_task_runs_an_entry_point_of_the_wheel_that_the_bundle_builds(job):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert entry_points(group="console_scripts")["lakevec"].load() is not None
    for task in job.tasks:
        assert task.python_wheel_task.package_name == project["name"]
        assert task.python_wheel_task.entry_point in project["scripts"]
        assert [library.whl for library in task.libraries] == ["../../dist/*.whl"]
    assert BUNDLE["artifacts"] == {"wheel": {"type": "whl", "build": "uv build --wheel", "path": "."}}
    assert (JOB_FILE.parent / "../..").resolve() == ROOT


@pytest.mark.parametrize("target", ["dev", "prod"])
def test_every_task_calls_its_stage_with_settings_that_exist(job, target):
    known = values(target)
    for name, parameters in parameters_of(job, target).items():
        settings, command, options = parsed(parameters)
        assert (command, options["once"]) == (name, True)
        assert settings.lake.path == known["lake_path"]
        assert settings.lake.catalog_schema == known["catalog_schema"]
        assert settings.partition.granularity == "month"


def test_each_stage_is_told_what_it_alone_needs(job):
    parameters = parameters_of(job, "prod")
    assert parsed(parameters["ingest"])[0].source.path == "/Volumes/main/lakevec/documents"
    embed = parsed(parameters["embed"])[0].model
    assert (embed.device, embed.dtype) == ("cuda", "bfloat16")
    load = parsed(parameters["load"])[0]
    assert (load.milvus.uri, load.milvus.collection) == ("http://milvus.internal:19530", "lakevec")
    assert load.load.staging == "s3://bucket/staging"


def test_embedding_alone_runs_on_gpus_one_task_each(job):
    assert {task.task_key: task.job_cluster_key for task in job.tasks} == {
        "ingest": "cpu",
        "chunk": "cpu",
        "embed": "gpu",
        "load": "cpu",
    }
    clusters = {cluster.job_cluster_key: cluster.new_cluster for cluster in job.job_clusters}
    assert clusters["gpu"].spark_conf == {"spark.task.resource.gpu.amount": "1"}
    assert clusters["cpu"].spark_conf == {}


def test_the_token_comes_from_a_secret_and_never_as_a_parameter(job):
    clusters = {cluster.job_cluster_key: cluster.new_cluster for cluster in job.job_clusters}
    assert clusters["cpu"].spark_env_vars == {
        "LAKEVEC__MILVUS__TOKEN": "{{secrets/${var.milvus_secret_scope}/milvus-token}}"
    }
    assert clusters["gpu"].spark_env_vars == {}
    token = load_settings("databricks", [], {"LAKEVEC__MILVUS__TOKEN": "root:secret"}).milvus.token
    assert token.get_secret_value() == "root:secret"
    assert not any("milvus.token" in parameter for task in job.tasks for parameter in task.python_wheel_task.parameters)


def test_variables_and_targets_fit_the_job(job):
    assert set(re.findall(r"\$\{var\.(\w+)\}", JOB_FILE.read_text())) == set(BUNDLE["variables"])
    assert {name for name, variable in BUNDLE["variables"].items() if "default" not in variable} == set(GIVEN)
    modes = {name: (target["mode"], target.get("default", False)) for name, target in BUNDLE["targets"].items()}
    assert modes == {"dev": ("development", True), "prod": ("production", False)}
    assert values("dev")["lake_path"] != values("prod")["lake_path"]
    assert values("dev")["catalog_schema"] != values("prod")["catalog_schema"]
    assert [path.name for pattern in BUNDLE["include"] for path in ROOT.glob(pattern)] == ["lakevec_job.yml"]
    assert job.schedule.quartz_cron_expression == Variable(path="var.schedule", type=str)
    assert job.max_concurrent_runs == 1
