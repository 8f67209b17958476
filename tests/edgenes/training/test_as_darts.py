"""What a search takes over from DARTS: the architecture's weight decay, the layout of its supernet."""

import torch

from edgenes import SearchConfig, SearchSpace, search_genotype
from edgenes.training.bilevel import Bilevel
from tests.support.toys import blobs


def test_the_layout_of_darts_reaches_the_search():
    def stem(layout):
        config = SearchConfig(space=SearchSpace(nodes=1, operations=("skip_connect",)), channels=2, darts_layout=layout)
        return Bilevel(config, blobs()).supernet.stem[0].out_channels

    assert stem(True) == 3 * stem(False)


def test_weight_decay_pulls_the_architecture_towards_zero():
    def size(decay):
        config = SearchConfig(
            space=SearchSpace(nodes=1, operations=("skip_connect", "max_pool_3x3")),
            channels=2,
            epochs=2,
            batch_size=32,
            paths=2,
            architecture_weight_decay=decay,
        )
        logits = search_genotype(config, blobs()).logits
        return torch.cat([logits.alpha.flatten(), logits.beta.flatten()]).norm().item()

    assert size(10.0) < 0.7 * size(0.0)
