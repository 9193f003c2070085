"""The face recogniser as the contract kit sees it."""

from models.face.batches import IdentityBatches, read_people
from models.face.config import EMBEDDING_UNITS, PRESETS, TINY, FaceConfig
from models.face.data import FaceSet
from models.face.network import build_network, build_trainer
from models.face.synthetic import make_faces
from models.face.train import compile_trainer
from tests.models.case import Case


def make_case() -> Case:
    """Builds the TINY trainer, and one batch of drawn faces."""
    people = read_people(FaceSet(make_faces(identities=8, images=4, seed=1, side=40)), TINY)
    trainer = build_trainer(build_network(TINY.network).learned, len(people))
    learned = EMBEDDING_UNITS - TINY.network.discriminants.units

    def compiled():
        compile_trainer(trainer, TINY, steps_per_epoch=10)
        return trainer

    return Case(
        config_class=FaceConfig,
        presets=PRESETS,
        network=trainer,
        batch=IdentityBatches(people, TINY)[0],
        output_shapes={"embedding": (32, learned), "cosines": (32, 8)},
        compiled=compiled,
    )
