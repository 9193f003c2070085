import numpy as np

from models.sentiment.naive_bayes import hash_bigrams, log_count_ratios


def test_ratios_by_hand():
    # Three features; class 0 holds {0, 1}, class 1 holds {1, 2} and {2, 2} (a repeat counts once).
    features = [np.array([0, 1]), np.array([1, 2]), np.array([2, 2])]
    found = log_count_ratios(features, [0, 1, 1], (3, 2))
    negative, positive = np.array([2, 2, 1]) / 5, np.array([1, 2, 3]) / 6
    np.testing.assert_allclose(found[:, 0], np.log(positive / negative), rtol=1e-6)


def test_hash_fits_int32_and_spreads():
    largest = np.array([2**15 - 1, 2**15 - 1])
    assert 0 <= hash_bigrams(largest, 2**31 - 1)[0] < 2**31 - 1
    random = np.random.default_rng(0)
    # Word frequencies follow Zipf's law; distinct pairs should meet rarely in 2^20 buckets.
    ids = np.minimum(random.zipf(1.3, 200_000) + 1, 20_000)
    pairs = np.unique(np.stack([ids[:-1], ids[1:]], axis=1), axis=0)
    buckets = np.array([hash_bigrams(pair, 1_048_573)[0] for pair in pairs])
    expected = 1_048_573 * (1 - (1 - 1 / 1_048_573) ** len(pairs))  # of a random hash
    assert len(np.unique(buckets)) > 0.97 * expected


def test_hash_depends_on_order():
    assert hash_bigrams(np.array([5, 9]), 1021) != hash_bigrams(np.array([9, 5]), 1021)
