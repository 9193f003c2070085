"""Every rival that can be measured, by name."""

from collections.abc import Mapping, Sequence

from tests.bench.rivals import bentoml, kserve, litserve, mlserver, ray_serve, triton
from tests.bench.rivals.rival import Rival

RIVALS: Mapping[str, Rival] = {
    module.RIVAL.name: module.RIVAL
    for module in (triton, mlserver, kserve, litserve, bentoml, ray_serve)
}


def chosen(names: Sequence[str]) -> list[Rival]:
    """Returns the rivals of these names.

    Raises:
        SystemExit: there is no such rival.
    """
    unknown = [name for name in names if name not in RIVALS]
    if unknown:
        raise SystemExit(f"error: no rival {', '.join(unknown)}; known: {', '.join(RIVALS)}")
    return [RIVALS[name] for name in names]
