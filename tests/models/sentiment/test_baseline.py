from models.sentiment.baseline import baseline_accuracy
from models.sentiment.synthetic import make_source


def test_counting_words_alone_does_not_solve_the_synthetic_task():
    assert 0.5 < baseline_accuracy(make_source()) < 0.95
