"""Plain text, in any encoding."""

from .document import Document
from .draft import Draft, clean
from .encoding import decode
from .rst import MEDIA_TYPE as RST
from .rst import Title, document_of_rst, header_of, sections

MEDIA_TYPE = "text/plain"


def parse_plain(data: bytes, name: str) -> list[Document]:
    """The text as it is, but that underlined titles become headings.

    A header as of an e-mail or a PEP at the top gives title and date, and may say that it is reST.
    """
    text = clean(decode(data))
    header = header_of(text)
    if header.media_type == RST:
        return [document_of_rst(text)]
    draft = Draft()
    for part in sections(text):
        if isinstance(part, Title):
            draft.heading(part.level, part.text)
        else:
            draft.block(part)
    return [draft.document(MEDIA_TYPE, title=header.title, dates=header.dates)]
