"""The command line. Each command: settings, one call, an answer, an exit status."""

import dataclasses
import json
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from .credentials import without_credentials
from .errors import ConfigurationError, LakevecError, cause_of
from .in_words import (
    print_forget,
    print_hits,
    print_rebuild,
    print_retry,
    print_run,
    print_size,
    print_status,
    print_tuned,
    print_verified,
)
from .progress import Progress
from .settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turns a lake of documents into a searchable, always-current Milvus index.",
)
server_app = typer.Typer(no_args_is_help=True, help="The local Milvus server of this lake.")
app.add_typer(server_app, name="server")


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What the global options said."""

    settings: Callable[[], Settings]
    json: bool

    def answer(self, report: Any, for_people: Callable[[Any], None]) -> None:
        """Print what a command found: one JSON object on stdout, or words."""
        if self.json:
            print(json.dumps(plain(report), ensure_ascii=False))
        else:
            for_people(report)


@app.callback()
def options(
    context: typer.Context,
    profile: Annotated[str | None, typer.Option(help="A profile in conf/, or the path of a YAML file.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="A setting; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout; logs on stderr.")] = False,
) -> None:
    context.obj = Invocation(lambda: load_settings(profile, overrides or []), as_json)


Once = Annotated[bool, typer.Option("--once", help="Work off all that is there, then end (the default).")]
Continuous = Annotated[bool, typer.Option("--continuous", help="Go on until SIGTERM, following the source.")]
AllowDeletes = Annotated[bool, typer.Option("--allow-deletes", help="Believe a source that lost many of its files.")]


@app.command()
def run(
    context: typer.Context, once: Once = False, continuous: Continuous = False, allow_deletes: AllowDeletes = False
) -> None:
    """All stages, until the index equals the source."""
    stages(context, None, once, continuous, allow_deletes)


@app.command()
def ingest(
    context: typer.Context, once: Once = False, continuous: Continuous = False, allow_deletes: AllowDeletes = False
) -> None:
    """Files -> documents: read and parse what is new, changed or gone."""
    stages(context, "ingest", once, continuous, allow_deletes)


@app.command()
def chunk(context: typer.Context, once: Once = False, continuous: Continuous = False) -> None:
    """Documents -> chunks."""
    stages(context, "chunk", once, continuous)


@app.command()
def embed(context: typer.Context, once: Once = False, continuous: Continuous = False) -> None:
    """Chunks -> embeddings: embed every new text once."""
    stages(context, "embed", once, continuous)


@app.command()
def load(context: typer.Context, once: Once = False, continuous: Continuous = False) -> None:
    """Embeddings -> Milvus."""
    stages(context, "load", once, continuous)


def stages(context: typer.Context, only: str | None, once: bool, continuous: bool, allow_deletes: bool = False) -> None:
    invocation: Invocation = context.obj
    with failures_told(invocation):
        if once and continuous:
            raise ConfigurationError("--once ends and --continuous goes on: give one of them.")
        settings = invocation.settings()
        # Spark and the rest are imported when they are needed: --help answers at once.
        from .continuous import run_continuous
        from .run import STAGES, run_once

        chosen = (only,) if only else STAGES
        if continuous:
            # Several stages at work at the same time are told in lines, not in bars.
            report = run_continuous(settings, chosen, allow_deletes, Progress(terminal=False))
        else:
            report = run_once(settings, chosen, allow_deletes, Progress(False if invocation.json else None))
        invocation.answer(report, print_run)


@app.command()
def rebuild(
    context: typer.Context,
    partition: Annotated[
        list[str] | None, typer.Option(metavar="RANGE", help="Only this time range, such as 2024; may be repeated.")
    ] = None,
) -> None:
    """Milvus anew from Delta alone, beside what readers search; nothing is parsed or embedded again."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .rebuild import rebuild as make_anew

        report = make_anew(settings, partition or [], Progress(False if invocation.json else None))
        invocation.answer(report, print_rebuild)


@app.command()
def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A question, or words.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 10,
    since: Annotated[str | None, typer.Option(help="Documents of this time or later, such as 2024-05-17.")] = None,
    until: Annotated[str | None, typer.Option(help="Documents before this time.")] = None,
) -> None:
    """Find passages, with the places in their documents. Starts no Spark."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        bounds = moment(since, "--since"), moment(until, "--until")
        if bounds[0] and bounds[1] and bounds[0] >= bounds[1]:
            raise ConfigurationError(f"--since {since} is not before --until {until}: no time lies between them.")
        from .search import search as find

        invocation.answer(find(settings, query, k, *bounds), print_hits)


@app.command()
def status(context: typer.Context) -> None:
    """Tables, partitions, quarantine, and how far each stage is behind."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .status import status as look

        invocation.answer(look(settings), print_status)


@app.command()
def retry(
    context: typer.Context,
    path: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only files whose path in the source matches; unset: all.")
    ] = None,
    forgotten: Annotated[
        bool, typer.Option("--forgotten", help="Bring back what `forget` took of the file that --path names.")
    ] = False,
    allow_deletes: AllowDeletes = False,
) -> None:
    """Read quarantined files again, and say what became of each."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .retry import retry as again

        progress = Progress(False if invocation.json else None)
        invocation.answer(again(settings, path, progress, forgotten, allow_deletes), print_retry)


@app.command()
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="URI|DOC_ID", help="A file, or one document of it.")],
) -> None:
    """Erase a document, or all of a file, everywhere; it does not come back."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .forget import forget as erase

        invocation.answer(erase(settings, name, Progress(False if invocation.json else None)), print_forget)


@app.command()
def verify(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is wrong, from the tables alone.")] = False,
    sample: Annotated[int, typer.Option(min=0, help="Rows to compare field by field; 0 for none.")] = 1000,
) -> None:
    """Compare the tables with one another and with Milvus, key by key; exit status 1 if anything is wrong."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .verify import verify as compare

        report = compare(settings, repair, sample, Progress(False if invocation.json else None))
        invocation.answer(report, print_verified)
        if not report.ok:
            raise typer.Exit(1)


@app.command()
def tune(
    context: typer.Context,
    questions: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Questions, as JSONL or in BEIR's layout: measured beside sampled passages."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="MINUTES", help="Time for builds and searches.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the sampled passages.")] = 0,
    apply: Annotated[bool, typer.Option("--apply", help="Make the live index as chosen, without a gap.")] = False,
) -> None:
    """Try index types and parameters on a copy of the index, choose by recall and speed, log it all in MLflow."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .tune import tune as try_out

        report = try_out(settings, questions, budget, seed, apply, Progress(False if invocation.json else None))
        invocation.answer(report, print_tuned)
        if report.applied and not report.applied.applied:
            raise typer.Exit(1)


@app.command()
def size(
    context: typer.Context,
    chunks: Annotated[str, typer.Option(help="Passages, such as 150M, 1B or 20k.")],
    dim: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 384,
    index: Annotated[str, typer.Option(help="Index type, such as ivf_sq8 or hnsw.")] = "ivf_sq8",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a passage.")] = 149,
    per_document: Annotated[float, typer.Option(min=0.001, help="Passages of a document.")] = 10.0,
    kilobytes: Annotated[float, typer.Option(min=0, help="Size of a document's file.")] = 100.0,
    hours: Annotated[float, typer.Option(min=0.01, help="Time for all of it.")] = 24.0,
    core_rate: Annotated[float | None, typer.Option(min=0.01, help="Tokens a second that a core embeds.")] = None,
    gpu_rate: Annotated[float | None, typer.Option(min=0.01, help="Tokens a second that a GPU embeds.")] = None,
) -> None:
    """What an index of so many passages asks for: executors, GPUs, Milvus memory, partitions. Starts nothing."""
    invocation: Invocation = context.obj
    with failures_told(invocation):
        from .size import Demand, Rates, index_type, whole_number
        from .size import size as compute

        wanted = whole_number(chunks, "--chunks")
        demand = Demand(wanted, dim, index_type(index), tokens, per_document, kilobytes, hours)
        rates = Rates(
            embed_tokens_per_core=core_rate or Rates.embed_tokens_per_core,
            embed_tokens_per_gpu=gpu_rate or Rates.embed_tokens_per_gpu,
        )
        invocation.answer(compute(demand, rates), print_size)


@server_app.command("start")
def server_start(context: typer.Context) -> None:
    """Start the server, or find it running; it stays until it is stopped."""
    server(context, "start")


@server_app.command("stop")
def server_stop(context: typer.Context) -> None:
    """Stop the server; its data stays."""
    server(context, "stop")


@server_app.command("status")
def server_status(context: typer.Context) -> None:
    """Whether it runs, where it listens and where its data lies."""
    server(context, "status")


def server(context: typer.Context, action: str) -> None:
    invocation: Invocation = context.obj
    with failures_told(invocation):
        settings = invocation.settings()
        from .lake.storage import lake_path
        from .vectors import server as milvus_server

        if settings.milvus.uri != "standalone":
            raise ConfigurationError(
                f"milvus.uri is not standalone, so this lake has no local server to {action}. Leave milvus.uri out, "
                "or look after the server that it names."
            )
        folder = milvus_server.server_folder(lake_path(settings))
        state = getattr(milvus_server, action)(folder)
        invocation.answer(state, lambda s: print(f"{s.state}  {s.uri or '-'}  data in {s.data_path}"))


def moment(text: str | None, option: str) -> datetime | None:
    """An ISO date or time; UTC where it names no offset."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{option} {text}: expected a date or time such as 2024-05-17 or 2024-05-17T09:30+02:00."
        ) from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@contextmanager
def failures_told(invocation: Invocation):
    """Turn errors into a message and an exit status: those raised on purpose, and the cause of all others."""
    try:
        yield
    except LakevecError as error:
        tell(invocation, error, str(error))
        raise typer.Exit(error.exit_status) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (BrokenPipeError, typer.Exit):
        # Nobody reads on (`lakevec search ... | head`): no failure of ours.
        raise
    except Exception as error:
        tell(invocation, error, cause_of(str(error)), f" ({type(error).__name__}). {whole_story(error)}")
        raise typer.Exit(1) from error


def tell(invocation: Invocation, error: Exception, message: str, more: str = "") -> None:
    """Whatever an error says: the secrets of addresses are not shown."""
    message, more = without_credentials(message), without_credentials(more)
    if invocation.json:
        print(json.dumps({"error": type(error).__name__, "message": message}, ensure_ascii=False))
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"lakevec: {message}{more}", markup=False)


def whole_story(error: Exception) -> str:
    """Keep the stack of an error that nobody foresaw, for its report; says where."""
    from .lake.jars import cache_folder

    stack = without_credentials("".join(traceback.format_exception(error)))
    file = cache_folder() / "failure.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(stack)
    except OSError:
        return f"Its stack:\n{stack}"
    return f"Its stack is in {file}."


def plain(value: Any) -> Any:
    """Dataclasses, times and containers as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def main() -> None:
    try:
        app(prog_name="lakevec")
    except SystemExit as end:
        # Schedulers that call this as a function take any SystemExit for a failure.
        if end.code:
            raise


if __name__ == "__main__":
    main()
