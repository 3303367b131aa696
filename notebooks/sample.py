"""Write the sample: the knowledge base of Ternvik Components, a maker of bicycle parts that does not exist.

    python notebooks/sample.py TARGET_FOLDER

The texts stand in `knowledge_base/`. Most are copied as they are; a second suffix says what one is
made from: `leave-2022.docx.md` becomes `leave-2022.docx`, `works-council.txt.latin-1` is written in
that encoding, and a folder named `*.zip` is packed. `modified.yml` gives every file its modification
time. Two runs write the same bytes. `questions.jsonl` names the files that answer each question.
"""

import io
import json
import os
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

import yaml
from docx import Document as WordDocument
from fpdf import FPDF
from openpyxl import Workbook
from pptx import Presentation

HERE = Path(__file__).parent
TEXTS = HERE / "knowledge_base"
COMPANY = "Ternvik Components"


def write_sample(target: Path) -> list[Path]:
    """Write every file of the sample under `target`; gives their paths."""
    modified = yaml.safe_load((HERE / "modified.yml").read_text(encoding="utf-8"))
    written = []
    for name, data in [*files_of(TEXTS), *unreadable_files()]:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        seconds = modified[name].replace(tzinfo=UTC).timestamp()
        os.utime(path, (seconds, seconds))
        written.append(path)
    return written


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name below the folder and content of every file that its texts become."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() and path.suffix == ".zip":
            yield inside.as_posix(), zip_of([*files_of(path), *slack_directory(path)])
        elif path.is_file() and not any(parent.suffix == ".zip" for parent in inside.parents):
            made = made_from_text(path)
            if made is None:
                yield inside.as_posix(), path.read_bytes()
            else:
                yield inside.with_suffix("").as_posix(), made


def made_from_text(path: Path) -> bytes | None:
    """What a text with two suffixes becomes; None for a file that is copied."""
    text = path.read_text(encoding="utf-8")
    match path.suffixes[-2:]:
        case [".pdf", ".md"]:
            return pdf_of(Text.read(text))
        case [".docx", ".md"]:
            return docx_of(Text.read(text))
        case [".pptx", ".md"]:
            return pptx_of(Text.read(text))
        case [".xlsx", ".yml"]:
            return xlsx_of(yaml.safe_load(text))
        case [".json", ".txt"]:
            return slack_day_of(text, datetime.fromisoformat(path.name.split(".")[0]))
        case [".txt", encoding]:
            return text.encode(encoding.removeprefix("."))
    return None


@dataclass(frozen=True)
class Text:
    """Markdown with front matter, as far as the sample needs it.

    blocks: (kind, content): heading level ("h1" to "h3") or "p", "bullet", "note" with their text;
        "table" with its rows.
    """

    title: str
    author: str
    date: datetime
    blocks: list[tuple[str, str | list[list[str]]]]

    @classmethod
    def read(cls, text: str) -> "Text":
        _, front, body = text.split("---\n", 2)
        properties = yaml.safe_load(front)
        return cls(
            properties["title"], properties["author"], properties["date"], [block_of(b) for b in split_blocks(body)]
        )


def split_blocks(body: str) -> list[str]:
    """Paragraphs and tables whole, bullets one by one."""
    return [block for block in re.split(r"\n\n+|\n(?=- )", body.strip()) if block]


def block_of(block: str) -> tuple[str, str | list[list[str]]]:
    if block.startswith("|"):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        return "table", [row for row in rows if not set("".join(row)) <= set("- ")]
    line = " ".join(block.split())
    if marks := re.match(r"(#+) ", line):
        return f"h{len(marks[1])}", line[marks.end() :]
    for mark, kind in (("- ", "bullet"), ("> ", "note")):
        if line.startswith(mark):
            return kind, line.removeprefix(mark)
    return "p", line


class Report(FPDF):
    """A4 with a running header and page numbers, as an office prints it; the title stands on a cover."""

    def header(self) -> None:
        self.set_font("Helvetica", "I", 8)
        self.cell(0, 6, f"{COMPANY} | {self.title}", new_x="LMARGIN", new_y="NEXT")
        self.ln(4)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", "I", 8)
        self.cell(0, 8, f"Page {self.page_no()}", align="C")


def pdf_of(text: Text, password: str | None = None) -> bytes:
    pdf = Report()
    pdf.set_title(text.title)
    pdf.set_author(text.author)
    pdf.set_creation_date(text.date.replace(tzinfo=UTC))
    if password:
        pdf.set_encryption(owner_password=password, user_password=password)
    pdf.add_page()
    for kind, content in text.blocks:
        match kind, content:
            case ("table", list(rows)):
                pdf.set_font("Helvetica", size=9)
                with pdf.table(line_height=5) as table:
                    for row in rows:
                        table.row(row)
                pdf.ln(4)
            case ("h1", str(line)):
                pdf.set_y(100)
                pdf.set_font("Helvetica", "B", 24)
                pdf.multi_cell(0, 12, line, new_x="LMARGIN", new_y="NEXT")
                pdf.set_font("Helvetica", size=12)
                pdf.multi_cell(0, 8, f"{text.author}, {text.date:%d %B %Y}", new_x="LMARGIN", new_y="NEXT")
                pdf.add_page()
            case ("h2" | "h3", str(line)):
                pdf.set_font("Helvetica", "B", {"h2": 15, "h3": 12}[kind])
                pdf.multi_cell(0, 9, line, new_x="LMARGIN", new_y="NEXT")
            case (_, str(line)):
                pdf.set_font("Helvetica", size=12)
                pdf.multi_cell(0, 7, f"- {line}" if kind == "bullet" else line, new_x="LMARGIN", new_y="NEXT")
                pdf.ln(2)
    return bytes(pdf.output())


def docx_of(text: Text) -> bytes:
    word = WordDocument()
    put_properties(word.core_properties, text)
    for kind, content in text.blocks:
        match kind, content:
            case ("table", list(rows)):
                table = word.add_table(rows=0, cols=len(rows[0]))
                for row in rows:
                    for cell, value in zip(table.add_row().cells, row, strict=True):
                        cell.text = value
            case ("h1" | "h2" | "h3", str(line)):
                word.add_heading(line, int(kind[1]))
            case (_, str(line)):
                word.add_paragraph(line, style="List Bullet" if kind == "bullet" else None)
    return settled(word, text.date)


def pptx_of(text: Text) -> bytes:
    """A title slide of the first heading, then a slide per `##`; `> ` lines are the speaker's notes."""
    deck = Presentation()
    put_properties(deck.core_properties, text)
    slide = None
    for kind, content in text.blocks:
        line = str(content)
        if kind in ("h1", "h2"):
            slide = deck.slides.add_slide(deck.slide_layouts[0 if kind == "h1" else 1])
            slide.shapes.title.text = line
        elif kind == "note":
            slide.notes_slide.notes_text_frame.text = line
        else:
            body = slide.placeholders[1].text_frame
            paragraph = body.add_paragraph() if body.text else body.paragraphs[0]
            paragraph.text = line
    return settled(deck, text.date)


def put_properties(properties, text: Text) -> None:
    properties.title, properties.author, properties.last_modified_by = text.title, text.author, text.author
    properties.created = properties.modified = text.date


def xlsx_of(book: dict) -> bytes:
    """`sheets`: name to rows, the first of them the header; dates in YAML become dates in the cells."""
    workbook = Workbook()
    workbook.remove(workbook.active)
    workbook.properties.title, workbook.properties.creator = book["title"], book["author"]
    workbook.properties.created = book["date"]
    for name, rows in book["sheets"].items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return settled(workbook, book["date"])


def settled(document, date: datetime) -> bytes:
    """The document's ZIP, with the document's date wherever saving puts the time of day."""
    buffer = io.BytesIO()
    document.save(buffer)
    with zipfile.ZipFile(buffer) as saved:
        members = [(name, saved.read(name)) for name in saved.namelist()]
    stamp = re.compile(rb"(<dcterms:modified[^>]*>)[^<]*")
    core = rb"\g<1>" + date.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return zip_of((name, stamp.sub(core, data) if name == "docProps/core.xml" else data) for name, data in members)


def zip_of(members) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# "08:12 Petra Lind: ...", and "08:15 > Emil Strand: ..." for an answer in the thread above.
MESSAGE = re.compile(r"(?P<hour>\d\d):(?P<minute>\d\d) (?P<answer>> )?(?P<name>[^:]+): (?P<text>.*)")


def slack_day_of(text: str, day: datetime) -> bytes:
    """One channel-day as Slack exports it. `@{Petra Lind}` is a mention."""
    messages: list[dict] = []
    thread = ""
    for number, line in enumerate(text.splitlines()):
        said = MESSAGE.fullmatch(line)
        if said is None:
            raise ValueError(f"Slack, {day:%Y-%m-%d}, line {number + 1}: expected 'hh:mm Name: text', got {line!r}")
        at = day.replace(hour=int(said["hour"]), minute=int(said["minute"]), tzinfo=UTC)
        ts = f"{int(at.timestamp())}.{number:06d}"
        thread = thread if said["answer"] else ts
        mentioned = re.sub(r"@\{(.+?)\}", lambda name: f"<@{slack_id(name[1])}>", escape_text(said["text"]))
        messages.append(
            {
                "type": "message",
                "user": slack_id(said["name"]),
                "text": mentioned,
                "ts": ts,
                "user_profile": {"real_name": said["name"], "display_name": said["name"].split()[0].lower()},
                **({"thread_ts": thread} if said["answer"] else {}),
            }
        )
    return json.dumps(messages, ensure_ascii=False, indent=2).encode()


def escape_text(text: str) -> str:
    """As Slack writes it: & < > escaped, but for its own <https://...|label>."""
    return "".join(part if part.startswith("<http") else escape(part) for part in re.split(r"(<http[^>]*>)", text))


def slack_id(name: str) -> str:
    """A user's id: the same for the same name."""
    return f"U{zlib.crc32(name.encode()):08X}"


def slack_directory(folder: Path) -> list[tuple[str, bytes]]:
    """channels.json and users.json, which lie beside the channels of an export."""
    days = sorted(folder.rglob("*.json.txt"))
    names = sorted({said["name"] for day in days for said in MESSAGE.finditer(day.read_text(encoding="utf-8"))})
    users = [{"id": slack_id(name), "name": name.split()[0].lower(), "real_name": name} for name in names]
    channels = [{"name": name} for name in sorted({day.parent.name for day in days})]
    return [("channels.json", json.dumps(channels).encode()), ("users.json", json.dumps(users).encode())]


def unreadable_files() -> list[tuple[str, bytes]]:
    """Three files that no reader can help: a password, a torn file, a format of a machine of ours."""
    contract = Text(
        "Supply contract", "Lars Ohlin", datetime(2024, 3, 1), [("h1", "Supply contract"), ("p", "Confidential.")]
    )
    readings = b"".join(struct.pack("<If", 60 * minute, 38 + minute % 7 / 10) for minute in range(256))
    return [
        ("unreadable/locked-contract.pdf", pdf_of(contract, password="kitahama")),
        ("unreadable/torn-scan.pdf", pdf_of(contract)[:180]),
        ("unreadable/torque-logger.bin", b"TQLG\x00\x01" + readings),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{len(write_sample(Path(sys.argv[1])))} files written to {sys.argv[1]}")
