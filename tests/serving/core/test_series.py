from serving.core.series import Counter, Histogram


def test_counter_text_has_tensorflow_servings_form() -> None:
    counter = Counter("/tensorflow/serving/request_count", "model_name", "status")
    assert list(counter.lines()) == ["# TYPE :tensorflow:serving:request_count counter"]
    counter.add("m", "OK")
    counter.add("m", "OK")
    counter.add('a"b\\c\nd', "OK")
    assert list(counter.lines())[1:] == [
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 2',
        ':tensorflow:serving:request_count{model_name="a\\"b\\\\c\\nd",status="OK"} 1',
    ]
    assert counter.total() == 3


def test_histogram_buckets_are_cumulative() -> None:
    histogram = Histogram("/x", (1, 2.5, 1e6), "l")
    for value in (0.5, 1, 2, 1234567.25):
        histogram.observe(value, "a")
    assert list(histogram.lines()) == [
        "# TYPE :x histogram",
        ':x_bucket{l="a",le="1"} 2',
        ':x_bucket{l="a",le="2.5"} 3',
        ':x_bucket{l="a",le="1e+06"} 3',
        ':x_bucket{l="a",le="+Inf"} 4',
        ':x_sum{l="a"} 1234570.75',
        ':x_count{l="a"} 4',
    ]


def test_several_values_count_like_one_after_the_other() -> None:
    together, apart = Histogram("/x", (1, 2)), Histogram("/x", (1, 2))
    together.series().observe_all([0.5, 1.5, 1.5, 9])
    for value in (0.5, 1.5, 1.5, 9):
        apart.observe(value)
    assert list(together.lines()) == list(apart.lines())


def test_a_forgotten_series_still_counts_in_the_total() -> None:
    counter = Counter("/x", "model", "code")
    counter.add("a", "OK")
    counter.add("a", "NOT_FOUND", amount=2)
    counter.add("b", "OK", amount=4)
    counter.forget({"model": "a"})
    assert list(counter.lines())[1:] == [':x{model="b",code="OK"} 4']
    assert counter.total() == 7
    counter.forget({"code": "OK"})
    assert counter.items() == []
    assert counter.total() == 7
