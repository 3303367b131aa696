"""Questions with judged documents, from a JSONL or a folder in BEIR's layout."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pyarrow as pa
import structlog

from ..errors import ConfigurationError

TEXT_NAMES = ("query", "text", "question")
# What a line may have; metadata, which BEIR's files have, is for whoever wrote it.
KEYS = (*TEXT_NAMES, "id", "_id", "relevant", "metadata")
BEIR_KEYS = ("_id", "text", "metadata")
# trec_eval counts the documents of each grade from 0 on.
HIGHEST_GRADE = 1000
NAMED_SCHEMA = "uri string, name string"
NAMED_IN_ARROW = pa.schema([("uri", pa.string()), ("name", pa.string())])


@dataclass(frozen=True)
class Question:
    """relevant: document -> grade, 1 and more being relevant; a document is named by its uri, by the end of
    its path, or by its file's name without the ending."""

    id: str
    text: str
    relevant: Mapping[str, int] = field(default_factory=dict)


def read_questions(path: str) -> list[Question]:
    """Raises ConfigurationError that names file and line for what is no question."""
    place = Path(path).expanduser()
    if place.is_dir():
        return beir(place)
    if not place.is_file():
        raise ConfigurationError(f"--questions {path}: there is no such file or folder.")
    found = []
    for number, row in lines(place, KEYS):
        text = next((row[name] for name in TEXT_NAMES if isinstance(row.get(name), str)), "")
        found.append(Question(str(row.get("_id", row.get("id", number))), text, grades(place, number, row)))
    return checked(place, found)


def beir(folder: Path) -> list[Question]:
    """queries.jsonl and qrels/test.tsv; of judged sets, the judged questions alone."""
    queries, qrels = folder / "queries.jsonl", folder / "qrels" / "test.tsv"
    if not queries.is_file():
        raise ConfigurationError(f"--questions {folder}: a folder in BEIR's layout has a queries.jsonl.")
    found = [Question(str(row.get("_id", number)), row.get("text", "")) for number, row in lines(queries, BEIR_KEYS)]
    ids = {each.id for each in found}
    judged = judgements_of(qrels, ids) if qrels.is_file() else {}
    if judged:
        if unknown := [question for question in judged if question not in ids]:
            structlog.get_logger().info(
                "tune.not_asked", questions=len(unknown), first=unknown[0], reason=f"{queries.name} does not have them"
            )
        found = [Question(each.id, each.text, judged[each.id]) for each in found if each.id in judged]
        if not found:
            raise ConfigurationError(f"{qrels}: it judges no question of {queries.name}, but {next(iter(judged))!r}.")
    return checked(queries, found)


def judgements_of(qrels: Path, questions: Set[str]) -> dict[str, dict[str, int]]:
    """question -> document -> grade. The first line may be a header: it names no question and has no grade."""
    judged: dict[str, dict[str, int]] = {}
    for number, line in enumerate(text_of(qrels).split("\n"), 1):
        row = line.removesuffix("\r").split("\t")
        header = number == 1 and len(row) == 3 and row[0] not in questions and not row[-1].strip().isdecimal()
        # The last line ends, too.
        if header or row == [""]:
            continue
        try:
            question, document, grade = row
            judged.setdefault(question, {})[document] = int(grade)
            if not is_grade(int(grade)):
                raise ValueError(grade)
        except ValueError as error:
            raise ConfigurationError(
                f"{qrels}, line {number}: expected query-id, corpus-id and score between tabs. Scores are whole "
                f"numbers up to {HIGHEST_GRADE}."
            ) from error
    return judged


def lines(file: Path, known: Sequence[str]) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(text_of(file).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                # JSON's escapes can name half a character, which no other file can hold.
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise ConfigurationError(
                    f"{file}, line {number}: {error.object[error.start]!a} is half of a character, without the other."
                ) from error
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(f"{file}, line {number}: this is no JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ConfigurationError(f"{file}, line {number}: expected an object with the query's text.")
            if unknown := [key for key in row if key not in known]:
                raise ConfigurationError(
                    f"{file}, line {number}: {', '.join(unknown)} means nothing here. A line may have "
                    f"{', '.join(known)}."
                )
            yield number, row


def text_of(file: Path) -> str:
    """Without a byte order mark, with its line ends as they are. Raises ConfigurationError where it is not UTF-8."""
    content = file.read_bytes()
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{file}, line {number}: this is not UTF-8 (byte {error.start} of the file, 0x{content[error.start]:02x}). "
            "Save the file as UTF-8."
        ) from error


def grades(file: Path, number: int, row: dict) -> dict[str, int]:
    relevant = row.get("relevant") or {}
    if isinstance(relevant, list) and all(isinstance(document, str) for document in relevant):
        relevant = dict.fromkeys(relevant, 1)
    if not isinstance(relevant, dict) or not all(map(is_grade, relevant.values())):
        raise ConfigurationError(
            f"{file}, line {number}: relevant is a list of documents' names, or an object of such names with whole "
            f"grades of at most {HIGHEST_GRADE}."
        )
    return relevant


def is_grade(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= HIGHEST_GRADE


def checked(file: Path, questions: list[Question]) -> list[Question]:
    if not questions:
        raise ConfigurationError(f"--questions {file}: it holds no question.")
    for number, question in enumerate(questions, 1):
        if not isinstance(question.text, str) or not question.text.strip():
            raise ConfigurationError(
                f"{file}, question {number}: it has no text. Its name is one of {', '.join(TEXT_NAMES)}."
            )
    if len({question.id for question in questions}) < len(questions):
        raise ConfigurationError(f"--questions {file}: two questions have the same id.")
    return questions


def documents_named(names: Set[str], uris: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each uri with each name that judgements have for it: one may name a document otherwise than another does."""
    for uri in uris:
        parts = PurePosixPath(uri).parts
        # The whole uri, the ends of its path, and the file's name without its ending.
        ways = {uri, *("/".join(parts[first:]) for first in range(len(parts))), PurePosixPath(uri).stem}
        yield from ((uri, name) for name in sorted(ways & names))


def one_document_each(named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """name -> uri. Raises ConfigurationError for a name that several documents have; a whole uri is one's alone."""
    found: dict[str, set[str]] = {}
    for uri, name in named:
        found.setdefault(name, set()).add(uri)
    for name, uris in found.items():
        if len(uris) > 1 and name not in uris:
            first, second = sorted(uris)[:2]
            raise ConfigurationError(
                f"--questions: {name!r} is judged, and {len(uris)} documents have that name, such as {first} and "
                f"{second}. Name the one that is meant by its uri."
            )
    return {name: name if name in uris else next(iter(uris)) for name, uris in found.items()}


def judged_by_uri(relevant: Mapping[str, int], uri_of: Mapping[str, str]) -> dict[str, int]:
    """A question's grades by the documents' uris, whatever the judgements call them; what has no uri keeps its name.

    Of a document with two names the higher grade counts.
    """
    found: dict[str, int] = {}
    for name, grade in relevant.items():
        uri = uri_of.get(name, name)
        found[uri] = max(grade, found.get(uri, grade))
    return found


def named_in_task(names: Set[str], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """`documents_named` of a Spark task's rows (mapInArrow), as rows of NAMED_SCHEMA."""
    for batch in batches:
        found = list(documents_named(names, (uri for uri in batch.column("uri").to_pylist() if uri is not None)))
        columns = {"uri": [uri for uri, _ in found], "name": [name for _, name in found]}
        yield pa.RecordBatch.from_pydict(columns, NAMED_IN_ARROW)
