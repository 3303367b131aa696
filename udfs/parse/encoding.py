"""From bytes to characters, in any encoding."""

import codecs
import re
from collections import Counter

from charset_normalizer import from_bytes

from .document import ParseError

# Longest first: UTF-32's little-endian mark begins with UTF-16's.
MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
# Detection reads so much of a text, of those lines that tell encodings apart; of a long line, a piece.
SAMPLE_BYTES = 32_768
CONTEXT_BYTES = 1_024
NOT_ASCII = re.compile(rb"[\x80-\xff]")
# What Python says of UTF-8 that ends within a character.
CUT = "unexpected end of data"
# A UTF-8 text with a few broken bytes is still UTF-8: so many good characters for one bad.
GOOD_PER_BAD = 10
# Above this share of control characters it is no text; in UTF-8, which binary data never is, far above.
MOST_CONTROLS = 0.02
MOST_CONTROLS_UTF8 = 0.3
CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"

# The letters beyond ASCII of languages, by the encodings that they are written in; the likely ones first.
# charset-normalizer takes Spanish, French and Portuguese for Central European and Hebrew for Cyrillic,
# as the bytes are letters there too; but those are no letters of one language.
LETTERS = [
    (
        ("cp1252",),
        [
            *("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúüªº", "àáâãçéêíóôõúüªº", "àèéìíîòóùú", "åäöæøéü"),
            *("éèëïóöüáí", "áðéíóúýþæö", "àçèéíïòóúü·"),
        ],
    ),
    (("cp1255", "iso8859_8"), ["אבגדהוזחטיךכלםמןנסעףפץצקרשת"]),
    (
        ("cp1250", "iso8859_2"),
        ["ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţ", "čćđšž"],
    ),
    (("cp1254",), ["âçğıîöşûüİ"]),
    (("cp1257", "iso8859_13"), ["ąčęėįšųūž", "āčēģīķļņšūž", "äõöšüž"]),
]
SIGNS = "\xa0\xad«»‹›“”„‘’‚–—…•·°§©®™€£¡¿´×²³½"
# So much of what is not ASCII must be a language's letters or such signs.
ENOUGH = 0.98


def decode(data: bytes) -> str:
    """A text's characters, whatever its encoding; what cannot be read becomes U+FFFD.

    Raises ParseError for what is no text.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    encoding = seven_bit(data) or wide(data)
    if encoding:
        return data.decode(encoding, "replace")
    if is_binary(data):
        raise ParseError("it is no text: it holds binary data")
    return eight_bit(data)


def is_marked(data: bytes) -> bool:
    """Whether a byte order mark says that it is text."""
    return data.startswith(tuple(mark for mark, _ in MARKS))


def is_binary(data: bytes) -> bool:
    """Whether it holds more control characters than any text does."""
    sample = data[:SAMPLE_BYTES]
    controls = len(sample) - len(sample.translate(None, CONTROLS))
    return controls > (MOST_CONTROLS_UTF8 if is_utf8(sample) else MOST_CONTROLS) * len(sample)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.end >= len(data) and error.reason == CUT
    return True


def seven_bit(data: bytes) -> str | None:
    """The encodings that hide in ASCII bytes."""
    if not data.isascii():
        return None
    if b"\x1b$)C" in data:
        return "iso2022_kr"
    if b"\x1b$" in data:
        return "iso2022_jp_2"
    if b"~{" in data and b"~}" in data:
        text = data.decode("hz", "ignore")
        # In text that only looks so, the braces' content makes few ideographs.
        if sum("\u4e00" <= character <= "\u9fff" for character in text) > len(text) // 4:
            return "hz"
    return None


def wide(data: bytes) -> str | None:
    """UTF-16 and UTF-32 without a mark, told by where the zero bytes are."""
    sample = data[: SAMPLE_BYTES // 4 * 4]
    if len(sample) < 4:
        return None
    zeros = [sample[place::4].count(0) / max(1, len(sample) // 4) for place in range(4)]
    most, least = 0.9, 0.1
    if zeros[3] > most and zeros[2] > most and zeros[0] < least:
        return "utf-32-le"
    if zeros[0] > most and zeros[1] > most and zeros[3] < least:
        return "utf-32-be"
    # A text in Latin letters; in others the mark is all there is.
    most = 0.6
    if zeros[1] > most and zeros[3] > most and zeros[0] < least and zeros[2] < least:
        return "utf-16-le"
    if zeros[0] > most and zeros[2] > most and zeros[1] < least and zeros[3] < least:
        return "utf-16-be"
    return None


def eight_bit(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.end >= len(data) and error.reason == CUT:
            return data[: error.start].decode()
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = len(text) - bad - len(data.translate(None, bytes(range(128, 256))))
    if good >= GOOD_PER_BAD * bad:
        return text
    return data.decode(detected(data), "replace")


def detected(data: bytes) -> str:
    """The best guess for 8-bit text, from the places in it that are not ASCII."""
    sample = bytearray()
    place = 0
    while len(sample) < SAMPLE_BYTES and (found := NOT_ASCII.search(data, place)):
        start = max(place, data.rfind(b"\n", place, found.start()) + 1, found.start() - CONTEXT_BYTES)
        place = found.end() + CONTEXT_BYTES
        place = data.find(b"\n", found.end(), place) + 1 or place
        sample += data[start:place]
    known = by_letters(bytes(sample))
    if known:
        return known
    best = from_bytes(bytes(sample)).best()
    return best.encoding if best else "cp1252"


def by_letters(sample: bytes) -> str | None:
    """The first encoding by which what is not ASCII is, nearly all of it, one language's letters."""
    high = sample.translate(None, bytes(range(128)))
    for encodings, languages in LETTERS:
        for encoding in encodings:
            try:
                characters = Counter(high.decode(encoding))
            except UnicodeDecodeError:
                continue
            for letters in languages:
                known = set(letters + letters.upper() + SIGNS)
                if sum(characters[letter] for letter in known) >= ENOUGH * characters.total():
                    return encoding
    return None
