"""Whether the title in a file's properties is one that a person wrote."""

import re

from .draft import clean

# What programs fill in by themselves.
FILLED_IN = re.compile(
    r"\(?(untitled|unnamed|anonymous|no title|title|document|dokument|word document|excel workbook|"
    r"(microsoft )?(powerpoint|word|excel|office)( presentation| document| worksheet)?|"
    r"powerpoint-pr\w+sentation|presentation|workbook|new document|slide 1|"
    r"untitled (document|presentation|spreadsheet|form|\d+)|(document|presentation|book|sheet)\s?\d+)\)?",
    re.IGNORECASE,
)
PRINTED_FROM = re.compile(r"microsoft (office )?(word|powerpoint|excel|outlook) - ", re.IGNORECASE)
FILE_NAME = re.compile(
    r"\S.*\.(docx?|pptx?|xlsx?|od[tsp]|rtf|txt|html?|pdf|indd|qxp|tex|dvi|ps|eps|png|jpe?g|tiff?|md|fm|pub|wpd)"
)


def sensible_title(title: str, name: str) -> str:
    """The title on one line, or "" where it only says "untitled" or repeats a file's name.

    name: the name of the file that the title was read from.
    """
    title = " ".join(clean(title).split())
    stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    machine_made = title.isascii() and " " not in title and re.search(r"[\d_.-]", title)
    if (
        machine_made
        or not any(character.isalpha() for character in title)
        or title.casefold() in (name.casefold(), stem.casefold())
        or FILLED_IN.fullmatch(title)
        or PRINTED_FROM.match(title)
        or FILE_NAME.fullmatch(title.casefold())
    ):
        return ""
    return title
