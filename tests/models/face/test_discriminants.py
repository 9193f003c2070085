import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from models.face.discriminants import fit_discriminants


def people(seed=0, count=30, pictures=8, size=12):
    """Means differ along the first three axes only; noise is strongest along the others."""
    random = np.random.default_rng(seed)
    means = np.zeros((count, size))
    means[:, :3] = random.normal(0, 2, (count, 3))
    noise = random.normal(0, 1, (count, pictures, size)) * np.linspace(0.5, 4, size)
    identities = np.repeat(np.arange(count), pictures)
    return (means[:, None] + noise).reshape(-1, size).astype(np.float32), identities


def correlations(a, b):
    """Canonical correlations of two sets of columns: all 1 where they span the same space."""
    a, b = (np.linalg.qr(values - values.mean(axis=0))[0] for values in (a, b))
    return np.linalg.svd(a.T @ b, compute_uv=False)


def test_it_spans_the_space_that_scikit_learn_finds():
    features, identities = people()
    fitted = fit_discriminants(features, identities, 3, 12, 1e-6, 100)
    reference = LinearDiscriminantAnalysis(solver="eigen", n_components=3)
    expected = reference.fit(features, identities).transform(features)
    assert correlations(features @ fitted.kernel + fitted.bias, expected).min() > 0.98


def test_pictures_of_one_person_have_unit_variance_and_the_mean_is_zero():
    features, identities = people()
    fitted = fit_discriminants(features, identities, 3, 12, 1e-6, 100)
    found = features @ fitted.kernel + fitted.bias
    within = found - np.stack([found[identities == i].mean(axis=0) for i in identities])
    np.testing.assert_allclose(within.T @ within / len(found), np.eye(3), atol=1e-2)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)


def test_a_person_with_many_pictures_counts_no_more_than_allowed():
    features, identities = people()
    crowd = np.concatenate([features, np.repeat(features[:8] * 5, 20, axis=0)])
    numbers = np.concatenate([identities, np.repeat(identities[:8], 20)])
    limited = fit_discriminants(crowd, numbers, 3, 12, 0.1, 8)
    free = fit_discriminants(crowd, numbers, 3, 12, 0.1, 1000)
    assert not np.allclose(limited.kernel, free.kernel)


@pytest.mark.parametrize("components", [5, 1000])
def test_components_are_limited_by_what_there_is(components):
    features, identities = people()
    fitted = fit_discriminants(features, identities, 2, components, 0.1, 100)
    assert (fitted.kernel.shape, fitted.bias.shape) == ((12, 2), (2,))
    assert fitted.kernel.dtype == np.float32


def test_two_people_differ_in_one_direction():
    features, identities = people(count=2, pictures=40)
    fitted = fit_discriminants(features, identities, 5, 12, 0.1, 100)
    assert fitted.kernel.shape == (12, 5)
    assert not fitted.kernel[:, 2:].any()
