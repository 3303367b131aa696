from datetime import UTC, datetime

import pytest
from lakevec.udfs.parse.document import Date, Document, Heading
from lakevec.udfs.parse.rst import parse_rst


def parsed(text: str) -> Document:
    [document] = parse_rst(text.encode(), "a.rst")
    return document


def test_levels_follow_the_order_in_which_adornments_appear():
    text = """\
======
Travel
======
Hotels
======
Pay late.

*Breakfast*
-----------
Included.

Trains
======

By ``rail``
-----------
Book early.
"""
    assert parsed(text) == Document(
        "# Travel\n\n## Hotels\n\nPay late.\n\n### Breakfast\n\nIncluded.\n\n## Trains\n\n### By rail\n\nBook early.",
        "text/x-rst",
        title="Travel",
        headings=(
            Heading(0, 8, 1, "Travel"),
            Heading(10, 19, 2, "Hotels"),
            Heading(32, 45, 3, "Breakfast"),
            Heading(58, 67, 2, "Trains"),
            Heading(69, 80, 3, "By rail"),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "one\n\n-----\n\ntwo",
        "===== =====\nA     B\n===== =====\n1     2\n===== =====",
        "+---+---+\n| a | b |\n+---+---+",
        "Code::\n\n    Title\n    =====",
        "a paragraph\nof two lines\n------------",
        "Three\n...",
        ".. include:: /etc/passwd\n\n.. raw:: html\n   :file: secret.html",
    ],
)
def test_what_only_looks_like_a_title_is_text_and_nothing_is_included(text):
    assert parsed(text) == Document(text, "text/x-rst")


def test_a_header_as_of_a_pep_gives_title_and_date():
    text = (
        "PEP: 8\nTitle: Style Guide\n  for Code\nAuthor: A <a@example.org>,\n  B\nCreated: 05-Jul-2001\n"
        "Post-History: 05-Jul-2001, 01-Aug-2013\n\nScope\n=====\nText"
    )
    document = parsed(text)
    assert document.title == "Style Guide for Code"
    assert document.dates == (
        Date(datetime(2001, 7, 5, tzinfo=UTC), "header"),
        Date(datetime(2001, 7, 5, tzinfo=UTC), "header"),
    )
    assert document.text.startswith("PEP: 8\nTitle: Style Guide\n")
    assert document.text.endswith("\n\n# Scope\n\nText")


@pytest.mark.parametrize("created", ["22-Aug-2001 (edited on 9-Jan-2002)", "22-Aug-2001, 01-Jan-2005", "2001-08-22"])
def test_the_first_date_of_a_header_line_counts(created):
    document = parsed(f"Title: Releases\nCreated: {created}\n\nText")
    assert document.dates == (Date(datetime(2001, 8, 22, tzinfo=UTC), "header"),)


def test_a_field_list_gives_title_and_date():
    document = parsed("Travel\n======\n\n:Author: Ana\n:Date: July 17, 2006\n\nText")
    assert (document.title, document.dates[0].at) == ("Travel", datetime(2006, 7, 17, tzinfo=UTC))


def test_comments_are_left_out_and_what_only_begins_like_one_stays():
    text = """\
One.

.. A comment
   of two lines

   and a paragraph
..  [1] A footnote
.. _target: https://example.org
.. |name| replace:: text
.. note:: Listen

   well
..

   A quotation

..
   Local Variables:
   mode: indented-text
   End:
"""
    assert parsed(text).text == (
        "One.\n\n\n..  [1] A footnote\n.. _target: https://example.org\n.. |name| replace:: text\n"
        ".. note:: Listen\n\n   well\n\n   A quotation"
    )
