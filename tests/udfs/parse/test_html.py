from datetime import UTC, datetime

import pytest
from lakevec.udfs.parse.document import Date, Document, Heading
from lakevec.udfs.parse.html import decode_html, parse_html, text_of_html


def parsed(html: str) -> Document:
    [document] = parse_html(html.encode(), "page.html")
    return document


def test_a_page_becomes_headings_paragraphs_and_title():
    page = """<!doctype html><html><head><title>Travel  policy</title><style>p {color: red}</style>
        <meta property="article:published_time" content="2024-05-17T14:30:00+02:00"></head>
        <body><nav><a href="/">Home</a></nav><h1>Travel<br>rules</h1><p>Book   early, <b>always</b>.<br>By train.</p>
        <script>alert("no")</script><h2>Costs</h2><div>Paid&nbsp;back.</div>loose text</body></html>"""

    assert parsed(page) == Document(
        text="# Travel rules\n\nBook early, always.\nBy train.\n\n## Costs\n\nPaid back.\n\nloose text",
        media_type="text/html",
        title="Travel policy",
        headings=(Heading(0, 14, 1, "Travel rules"), Heading(47, 55, 2, "Costs")),
        dates=(Date(datetime(2024, 5, 17, 12, 30, tzinfo=UTC), "html"),),
    )


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ul><li>one<li>two<ul><li>inner</ul></li></ul><p>after", "- one\n- two\n  - inner\n\nafter"),
        ("<ol start=3><li>three<li><p>four</p><p>more</p></ol>", "3. three\n4. four\n   more"),
        ("<dl><dt>Term<dd>Meaning</dl>", "Term\n  Meaning"),
        ("<p>one\nline<br>\n and another</p>", "one line\nand another"),
        ("<pre>\n  if x:\n    y()</pre>", "if x:\n  y()"),
        ("<p>em<em>phas</em>is and soft\u00adhyphen</p>", "emphasis and softhyphen"),
        ("<button>Question?</button><section>Answer.</section>", "Question?\n\nAnswer."),
        ("<p>shown</p><template>no</template><noscript>no</noscript><svg><text>no</text></svg>", "shown"),
        ("<h2>History<span class='mw-editsection'>[edit]</span></h2>", "## History"),
        ("<nav>Only a menu</nav>", "Only a menu"),
        ("<nav>Menu</nav><div role=navigation>Menu</div><p>Text", "Text"),
        ("<p>5 < 6 &amp; 7 &gt; 6 &#x1F600;", "5 < 6 & 7 > 6 \U0001f600"),
        ("", ""),
    ],
)
def test_what_a_reader_sees_comes_out(html, text):
    assert text_of_html(html) == text


def test_a_table_is_rows_and_a_page_laid_out_by_tables_is_prose():
    data = "<table><tr><th>City<th>Fare<th></tr><tr><td>Bonn<td>12&nbsp;€</tr><tr><td></tr><tr><td><td>7</tr></table>"
    assert text_of_html(data) == "City | Fare\nBonn | 12 €\n7"

    layout = f"<table><tr><td><h1>News</h1><p>First.</p><p>Second.</p></td><td>{data}</td></tr></table>"
    assert text_of_html(layout) == "# News\n\nFirst.\n\nSecond.\n\nCity | Fare\nBonn | 12 €\n7"


def test_scripts_of_the_world_come_through_whole():
    text = "漢字かな交じり文 العربية עברית e\u0301 👩‍👩‍👧 ไทย"

    assert parsed(f"<p>{text}</p>").text == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<p>Größe".encode(), "<p>Größe"),
        (b"\xef\xbb\xbf" + "<p>Größe".encode(), "<p>Größe"),
        ("\ufeff<p>Größe".encode("utf-16-le"), "<p>Größe"),
        ("<p>Größe</p>".encode("utf-16-be"), "<p>Größe</p>"),
        ('<meta charset="iso-8859-1"><p>12 €'.encode("cp1252"), '<meta charset="iso-8859-1"><p>12 €'),
        ('<meta charset="iso-8859-1"><p>Größe'.encode(), '<meta charset="iso-8859-1"><p>Größe'),
        ("<meta charset=iso-2022-jp>漢字".encode("iso2022_jp"), "<meta charset=iso-2022-jp>漢字"),
        ("<?xml version='1.0' encoding='euc-kr'?>한글".encode("euc_kr"), "<?xml version='1.0' encoding='euc-kr'?>한글"),
        ("<meta charset=klingon>Größe".encode(), "<meta charset=klingon>Größe"),
    ],
)
def test_bytes_are_read_by_their_encoding(data, text):
    assert decode_html(data) == text


def test_an_encoding_that_is_declared_wrongly_is_guessed():
    arabic = "في قرية من القرى كان هناك رجل حكيم يعرف كل شيء عن الحياة وكان يعلم الناس كيف يعيشون بسلام وانسجام. " * 3

    assert arabic in decode_html(f"<meta charset=utf-8><p>{arabic}</p>".encode("cp1256"))


@pytest.mark.parametrize(
    ("html", "dates"),
    [
        ('<meta name="DC.date" content="2023-04-05">', [datetime(2023, 4, 5, tzinfo=UTC)]),
        (
            '<meta name="last-modified" content="2024-01-02"><meta name="date" content="2023-04-05">',
            [datetime(2023, 4, 5, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)],
        ),
        (
            '<script type="application/ld+json">{"@graph": [{"author": {}}, '
            '{"datePublished": "2021-03-04T05:06:07Z"}]}</script>',
            [datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)],
        ),
        ('<article><time datetime="1965-02-03">then</time></article>', [datetime(1965, 2, 3, tzinfo=UTC)]),
        ('<meta name="date" content="soon"><script type="application/ld+json">{"datePub</script>', []),
        ('<p><time datetime="2020-01-01">an event</time></p>', []),
    ],
)
def test_a_page_says_when_it_was_published(html, dates):
    assert [date.at for date in parsed(html).dates] == dates


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<title>untitled</title><h1>Rules</h1>", "Rules"),
        ("<title></title><title>Second</title>", "Second"),
        ("<svg><title>Icon</title></svg><h2>Part</h2>", ""),
    ],
)
def test_the_title_is_the_pages_own(html, title):
    assert parsed(html).title == title


def test_surrogates_nul_and_deep_nesting_do_no_harm():
    assert text_of_html("<p>a\x00b \ud83d\ude00 \ud800</p>") == "ab \U0001f600 \ufffd"
    assert parsed("<div>" * 5_000 + "deep").text == "deep"
