"""How lakevec's peers cut passages, and what Daft and Ray Data leave to their users: the text of a file."""

from io import BytesIO

from langchain_text_splitters import RecursiveCharacterTextSplitter
from pypdf import PdfReader
from transformers import AutoTokenizer

# What the model reads, with its two special tokens.
TOKENS, OVERLAP = 254, 32


def splitter_for(model: str) -> RecursiveCharacterTextSplitter:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=TOKENS, chunk_overlap=OVERLAP
    )


def text_of(path: str, content: bytes) -> str:
    """Nothing of a PDF that cannot be read."""
    if not path.endswith(".pdf"):
        return content.decode(errors="replace")
    try:
        text = "\n".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages)
    # Whatever broken files lead it to.
    except Exception:
        return ""
    # Halves of surrogates, which no tokenizer takes.
    return text.encode(errors="replace").decode()
