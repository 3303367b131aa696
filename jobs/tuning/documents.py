"""Which document a passage belongs to, and which one a judgement means."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ..errors import ConfigurationError
from ..lake.lake import Lake
from ..lake.tables import EMBEDDINGS
from .measures import answer_quality, ranked_documents
from .query_sets import QuerySet
from .questions import NAMED_SCHEMA, judged_by_uri, named_in_task, one_document_each


class Documents:
    """Passages' documents, looked up in `embeddings` when they are first asked for.

    Raises ConfigurationError where a judgement may mean several documents.
    """

    def __init__(self, lake: Lake, version: int, queries: QuerySet):
        self.embeddings = lake.tables.read(EMBEDDINGS, version).select("chunk_id", "uri")
        self.queries = queries
        self.known: dict[str, str] = {}
        judged = {document for relevant in queries.judged.values() for document in relevant}
        # On the executors: of all documents, only the judged ones are wanted here.
        uris = self.embeddings.select("uri").distinct()
        uri_of = one_document_each(map(tuple, uris.mapInArrow(partial(named_in_task, judged), NAMED_SCHEMA).collect()))
        self.judged = {question: judged_by_uri(relevant, uri_of) for question, relevant in queries.judged.items()}
        # Of the judged documents, those that the lake does not have: no answer can name them.
        self.missing = sorted(judged - uri_of.keys())
        if self.missing and len(self.missing) == len(judged):
            first = self.embeddings.select("uri").first()
            raise ConfigurationError(
                f"--questions: the lake has none of the {len(judged):,} judged documents, such as {self.missing[0]!r}. "
                f"A document is named by its uri, such as {first and first['uri']!r}, by the end of its path, or by "
                "its file's name without the ending."
            )

    def of(self, chunk_ids: Iterable[str]) -> Mapping[str, str]:
        unknown = sorted(set(chunk_ids) - self.known.keys())
        if unknown:
            spark = self.embeddings.sparkSession
            wanted = spark.createDataFrame([(key,) for key in unknown], "chunk_id string")
            for key, uri in self.embeddings.join(wanted, "chunk_id", "left_semi").collect():
                self.known[key] = uri or ""
        return self.known

    def quality(self, answers: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
        """nDCG@10, MRR@10 and hit@10 of each judged question, from the documents of the passages that a search gives.

        answers: passages of each question, best first; of exact search as many as of an index.
        """
        document_of = self.of(key for keys in answers for key in keys)
        ranked = {
            question: ranked_documents(keys, document_of)
            for question, keys in zip(self.queries.ids, answers, strict=True)
        }
        return answer_quality(ranked, self.judged)
