"""The linear baseline that the network has to beat: TF-IDF and logistic regression.

    python -m models.sentiment.baseline [DATA_FOLDER ...]

prints its dev accuracy for each folder, on the same held-out texts as training uses.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from models.common.data_dir import data_dir
from models.sentiment.config import BASE
from models.sentiment.data import SHARED_DATASETS, Source, build_corpus, load_source


def baseline_accuracy(source: Source) -> float:
    """Trains on the source's train part and returns the accuracy on its dev part."""
    corpus = build_corpus([source])
    dev = corpus.dev[source.name]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=1000),
    )
    model.fit([e.text for e in corpus.train], [e.class_id for e in corpus.train])
    return float(model.score([e.text for e in dev], [e.class_id for e in dev]))


def main(folders: Sequence[Path]) -> None:
    """Prints one JSON line: folder name -> dev accuracy."""
    sources = (load_source(f, BASE.labels, BASE.training.dev_fraction) for f in folders)
    print(json.dumps({source.name: round(baseline_accuracy(source), 4) for source in sources}))


if __name__ == "__main__":
    main([Path(p) for p in sys.argv[1:]] or [data_dir() / name for name in SHARED_DATASETS])
