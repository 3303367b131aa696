import codecs
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakevec.udfs.parse.document import ParseError
from lakevec.udfs.parse.encoding import decode

GERMAN = "Übermäßig große Straßen führen über die Brücke nach Köln, sagte der Bürgermeister am späten Abend.\n" * 3
FRENCH = "Les élèves ont été reçus à l'hôtel de ville, où la fête a commencé après le dîner près du château.\n" * 3
RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом.\n" * 3
GREEK = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.\n" * 3
HEBREW = "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון.\n" * 3
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。\n" * 3
CHINESE = "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。\n" * 3
SPANISH = "El niño comió una manzana en la montaña; después, ¿pasó el año rápido?, y volvió a España.\n"
PORTUGUESE = "São Paulo é a maior cidade da América do Sul; não há dúvida de que a população é numerosa.\n"
SWEDISH = "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft.\n"
ENGLISH = "Plain English with one word: a “naïve” café — that is all there is to it here.\n"
POLISH = "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw, mówią źródła.\n"
CZECH = "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem.\n"
TURKISH = "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.\n"
KOREAN = (
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성을 부여받았다.\n" * 3
)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Plain words.\n", "ascii"),
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-32"),
        (GERMAN, "utf-16-le"),
        (GERMAN, "utf-16-be"),
        (GERMAN, "utf-32-le"),
        (GERMAN, "utf-32-be"),
        (GERMAN, "iso8859-1"),
        (FRENCH, "cp1252"),
        (SPANISH, "cp1252"),
        (PORTUGUESE, "iso8859-1"),
        (SWEDISH, "iso8859-1"),
        (ENGLISH, "cp1252"),
        ("Grüße aus Köln", "cp1252"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859-2"),
        (CZECH, "cp1250"),
        (TURKISH, "cp1254"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (GREEK, "iso8859-7"),
        (HEBREW, "cp1255"),
        (HEBREW, "iso8859-8"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE, "gb18030"),
        (CHINESE, "hz"),
        (KOREAN, "euc_kr"),
        (KOREAN, "iso2022_kr"),
    ],
)
def test_a_text_is_read_whatever_its_encoding(text, encoding):
    assert decode(text.encode(encoding)) == text


def test_a_utf8_text_cut_within_a_character_loses_only_that():
    assert decode("Straße nach Köln".encode()[:-3]) == "Straße nach K"


def test_a_utf8_text_with_a_broken_byte_stays_utf8():
    assert decode(GERMAN.encode() + b"\xff" + GERMAN.encode()) == f"{GERMAN}\ufffd{GERMAN}"


def test_a_large_text_is_judged_by_its_lines_that_are_not_ascii():
    text = "plain words only\n" * 100_000 + GERMAN
    assert decode(text.encode("cp1252")) == text


def test_bytes_after_a_mark_that_are_no_characters_are_replaced():
    assert decode(codecs.BOM_UTF16_LE + "ab".encode("utf-16-le") + b"\x00\xd8c\x00") == "ab\ufffdc"


def test_braces_in_code_are_not_taken_for_chinese():
    assert decode(b"a ~{b} ~} c") == "a ~{b} ~} c"


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 4, b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00"]
)
def test_binary_data_is_no_text(data):
    with pytest.raises(ParseError, match="binary data"):
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_refused(data):
    with suppress(ParseError):
        decode(data).encode()
