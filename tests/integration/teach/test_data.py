"""The starter's whole corpus."""

import hashlib

from edgekd.data.records import iter_records
from edgekd.data.split import holdout
from edgekd.recipe import SourcesSection, SplitSection
from edgekd.teach.data import load_corpus
from edgekd.teach.recipe import TeachDataSection


def test_starter_split_is_the_projects_own():
    corpus = load_corpus(TeachDataSection(resolution=16))
    held_out = {
        record.fields["label"]
        for record in iter_records(SourcesSection())
        if holdout(
            record.fields["label"], hashlib.sha256(record.image_bytes).hexdigest(), SplitSection()
        )
        == "group"
    }
    assert held_out
    assert not held_out & {s.label for s in corpus.train}
    assert held_out == {s.label for s in corpus.validation if s.split == "group"}
    assert len(corpus.train) + len(corpus.validation) == 6661
