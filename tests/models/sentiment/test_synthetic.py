from models.sentiment.synthetic import make_examples, make_source


def test_repeats_with_the_seed():
    assert make_examples(20, 1) == make_examples(20, 1)
    assert make_examples(20, 1) != make_examples(20, 2)


def test_source_has_all_splits_and_both_classes():
    source = make_source(200)
    assert {name: len(part) for name, part in source.splits.items()} == {
        "train": 140,
        "dev": 30,
        "test": 30,
    }
    for part in source.splits.values():
        assert {example.class_id for example in part} == {0, 1}
