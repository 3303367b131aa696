"""What the README says of the settings, the stages and the commands is what the code says."""

import re
from pathlib import Path

from lakevec.jobs.cli import app, server_app
from lakevec.jobs.settings import Settings

README = Path(__file__).parents[1] / "README.md"


def settings_table() -> str:
    lines = ["| setting | default | what it means |", "|---|---|---|"]
    for section, field in Settings.model_fields.items():
        if section == "explicit":
            continue
        for name, setting in field.annotation.model_fields.items():
            default = setting.default if setting.default not in (None, [], {}, "") else ""
            lines.append(f"| `{section}.{name}` | {f'`{default}`' if default != '' else ''} | {setting.description} |")
    return "\n".join(lines)


def test_every_setting_stands_in_the_readme_as_the_code_has_it():
    assert settings_table() in README.read_text()


def test_every_command_stands_in_the_readme():
    text = README.read_text()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}

    assert commands == {
        "run",
        "ingest",
        "chunk",
        "embed",
        "load",
        "search",
        "status",
        "retry",
        "rebuild",
        "forget",
        "verify",
        "tune",
        "size",
    }
    assert all(re.search(rf"`(?:lakevec )?{name}\b", text) for name in commands)
    assert {command.name for command in server_app.registered_commands} == {"start", "stop", "status"}
