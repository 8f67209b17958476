"""Operations, the network of one genotype, and the supernet: every pass against another way to compute it."""

import pytest
import torch
from torch import nn

from edgenes.errors import ConfigError
from edgenes.nn.network import Network, OverlappingPool, cell_layout, check_image_size
from edgenes.nn.supernet import Supernet, straight_through
from edgenes.space.choices import FORWARDS
from edgenes.space.genotype import Edge, Genotype, SearchSpace, random_genotype
from edgenes.space.logits import ArchitectureLogits, gumbel_weights
from edgenes.space.operations import DARTS_OPERATIONS
from edgenes.space.published import published_genotype
from edgenes.training.bilevel import initialised
from tests.support.toys import one_hot_logits, random_logits, seeded

SPACES = [
    (SearchSpace(nodes=3), 1),
    (SearchSpace(nodes=3, inputs_per_node=2), 2),
    (SearchSpace(nodes=2, cell_types=("normal",)), 2),
    (SearchSpace(nodes=2, cell_types=("normal", "reduction")), 3),
    (SearchSpace(nodes=2, cell_types=("normal", "reduction"), inputs_per_node=2), 4),
]
EVERY_SPACE = pytest.mark.parametrize(
    ("space", "cells"),
    SPACES,
    ids=lambda x: f"{'+'.join(x.cell_types)}-{x.inputs_per_node}" if not isinstance(x, int) else f"{x} cells",
)
IMAGES = torch.randn(6, 2, 8, 8, generator=seeded(9))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def make_supernet(space, cells=1, seed=0):
    return initialised(seed, lambda: Supernet(space, 2, 3, 4, cells)).double()


def same_weights(genotype, supernet):
    """The genotype's own network with the supernet's weights, in training mode: batch statistics there too."""
    network = initialised(1, lambda: Network(genotype, *supernet.sizes, affine=False)).double()
    own = supernet.state_dict()
    for name, parameter in network.named_parameters():
        parameter.data.copy_(own[name])
    return network.train()


def hot_weights(genotype):
    """(operations, edges) that are 1 at the genotype's edges and operations, else 0."""
    hot = one_hot_logits(genotype, 1.0, torch.float64)
    return (hot.alpha > 0).double() * (hot.beta > 0).double().unsqueeze(-1), (hot.beta > 0).double()


def gradients(module, output):
    module.zero_grad()
    torch.nn.functional.cross_entropy(output, LABELS).backward()
    moved = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name: gradient for name, gradient in moved.items() if gradient.abs().max() > 1e-12}


def assert_same_gradients(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-9), name


@EVERY_SPACE
def test_the_supernet_at_hard_weights_is_the_genotypes_own_network(space, cells):
    supernet = make_supernet(space, cells)
    for seed in range(2):
        genotype = random_genotype(space, seeded(seed))
        network = same_weights(genotype, supernet)
        expected = network(IMAGES.double())
        wanted = gradients(network, expected)
        operations, edges = hot_weights(genotype)
        certain = one_hot_logits(genotype, 200, torch.float64)
        for output in (
            supernet.mixture(IMAGES.double(), operations, edges),
            supernet.sampled(IMAGES.double(), genotype),
            *(supernet.relaxed(IMAGES.double(), certain, forward, 1, seeded()) for forward in FORWARDS),
        ):
            assert torch.allclose(output, expected, atol=1e-9)
            assert_same_gradients(gradients(supernet, output), wanted)
        assert len(wanted) > 5


@EVERY_SPACE
def test_paths_together_are_each_path_by_itself_and_share_what_they_have_in_common(space, cells):
    supernet = make_supernet(space, cells)
    genotypes = [random_genotype(space, seeded(seed)) for seed in range(12)]
    calls = []
    for operation in [o for edge in supernet.cells[0].operations.values() for o in edge.values()]:
        operation.register_forward_hook(lambda module, inputs, output: calls.append(module))
    with torch.no_grad():
        together = supernet.along(IMAGES.double(), genotypes)
        shared = len(calls)
        for logits, genotype in zip(together, genotypes, strict=True):
            assert torch.equal(logits, supernet.sampled(IMAGES.double(), genotype))
    assert shared < len(calls) - shared


ONE_NODE = SearchSpace(nodes=1, cell_types=("normal",))


def one_node(i, name):
    return Genotype(ONE_NODE, (((Edge(i, name),),),))


def test_gdas_is_soft_in_the_edges_and_evaluates_one_operation_on_each():
    supernet = make_supernet(ONE_NODE)
    logits = random_logits(ONE_NODE, 3, dtype=torch.float64)
    soft, edges = gumbel_weights(logits, ONE_NODE, 0.8, seeded(4))
    output = supernet.relaxed(IMAGES.double(), logits, "gdas", 0.8, seeded(4))
    best = [DARTS_OPERATIONS[o] for o in soft[0].argmax(-1)]
    bias = supernet.classifier.bias
    expected = bias + sum(
        edges[0, i] * (supernet.sampled(IMAGES.double(), one_node(i, best[i])) - bias) for i in (0, 1)
    )
    assert torch.allclose(output, expected, atol=1e-9)
    moved = {tuple(name.split(".")[3:5]) for name in gradients(supernet, output) if ".operations." in name}
    assert moved <= {(str(i), best[i]) for i in (0, 1)}


def test_gates_scale_the_edges_they_belong_to():
    space = SearchSpace(nodes=1, inputs_per_node=2, cell_types=("normal",))
    supernet = make_supernet(space)
    genotype = random_genotype(space, seeded(2))
    gates = torch.tensor([[[0.3, -2.0]]], dtype=torch.float64)
    edges, operations = genotype.indices
    weights = torch.zeros(1, 2, 7, dtype=torch.float64)
    weights[0, edges[0, 0], operations[0, 0]] = gates[0, 0]
    expected = supernet.mixture(IMAGES.double(), weights, torch.ones(1, 2, dtype=torch.float64))
    assert torch.allclose(supernet.sampled(IMAGES.double(), genotype, gates), expected)


@EVERY_SPACE
def test_straight_through_gates_are_one_and_carry_the_relaxations_gradient(space, cells):
    logits = random_logits(space, 5, dtype=torch.float64)
    alpha, beta = logits.alpha.requires_grad_(), logits.beta.requires_grad_()
    for seed in range(5):
        genotype, gates = straight_through(logits, space, 0.6, seeded(seed))
        assert gates.shape == genotype.indices[0].shape
        assert torch.allclose(gates, torch.ones_like(gates), atol=1e-12)
        operation_weights, edge_weights = gumbel_weights(logits, space, 0.6, seeded(seed))  # of the same noise
        edges, operations = genotype.indices
        types = torch.arange(len(edges)).view(-1, 1, 1)
        soft = edge_weights[types, edges] + operation_weights[types, edges, operations]
        factor = torch.randn(gates.shape, generator=seeded(seed), dtype=torch.float64)
        actual = torch.autograd.grad((gates * factor).sum(), (alpha, beta))
        expected = torch.autograd.grad((soft * factor).sum(), (alpha, beta))
        for one, other in zip(actual, expected, strict=True):
            assert torch.allclose(one, other, atol=1e-12)
            assert one.any() or space.nodes == 1
        # the path is the hard draw of that noise
        assert (operation_weights[types, edges].argmax(-1) == operations).all()
        for node in range(space.nodes):
            own = [position for position, (j, _) in enumerate(space.edges) if j == node]
            for kind in range(len(edges)):
                k = space.inputs_per_node
                best = {own[i] for i in edge_weights[kind, own].topk(k).indices}
                assert set(edges[kind, node].tolist()) == best


@pytest.mark.parametrize("forward", ["sampled", "gdas", "mixture"])
def test_every_relaxed_pass_moves_the_architecture_on_the_edges_it_used(forward):
    space = SearchSpace(nodes=2, cell_types=("normal", "reduction"), inputs_per_node=2)
    supernet = make_supernet(space, 3)
    logits = random_logits(space, 6, dtype=torch.float64)
    leaves = ArchitectureLogits(logits.alpha.requires_grad_(), logits.beta.requires_grad_())
    loss = torch.nn.functional.cross_entropy(supernet.relaxed(IMAGES.double(), leaves, forward, 1.0, seeded()), LABELS)
    alpha, beta = torch.autograd.grad(loss, (leaves.alpha, leaves.beta))
    assert alpha.isfinite().all()
    assert beta.isfinite().all()
    used = alpha.any(-1)
    assert used.sum() == (2 * 2 * 2 if forward == "sampled" else 2 * 5)
    assert beta[:, 2:].any()  # the first node has no choice of inputs, and so no gradient of them
    assert beta[:, :2].abs().max() < 1e-9


@pytest.mark.parametrize("options", [{}, {"darts_layout": True}, {"parts": 4}], ids=str)
def test_a_genotypes_network_predicts_each_image_on_its_own(options):
    space, cells = SPACES[3]
    supernet = initialised(0, lambda: Supernet(space, 2, 3, 4, cells, **options))
    genotype = random_genotype(space, seeded(1))
    calibration = torch.randn(64, 2, 8, 8, generator=seeded(3))
    before = torch.get_rng_state()
    network = supernet.as_network(genotype, calibration)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    together = network(IMAGES)
    alone = torch.cat([network(image[None]) for image in IMAGES])
    assert torch.allclose(together, alone, atol=1e-5)
    # On the calibration images it is the supernet's own pass, but for the n / (n - 1) of the variance.
    assert torch.allclose(network(calibration), supernet.sampled(calibration, genotype), atol=0.05)


@EVERY_SPACE
def test_networks_give_a_logit_a_class_and_their_cells_have_the_sizes_of_their_types(space, cells):
    network = initialised(0, lambda: Network(random_genotype(space, seeded()), 2, 3, 4, cells)).eval()
    channels, size = 4, 8
    outputs = network.features(IMAGES, network._mix)
    for kind, output in zip(cell_layout(space, cells), outputs, strict=True):
        if kind == "reduction":
            channels, size = 2 * channels, size // 2
        assert output.shape == (6, channels * space.nodes, size, size)
    torch.testing.assert_close(network(IMAGES), network.classifier(outputs[-1].mean((2, 3))))
    assert network(IMAGES).shape == (6, 3)


def test_reduction_cells_stand_at_a_third_and_two_thirds():
    both = SearchSpace(cell_types=("normal", "reduction"))
    assert [i for i, kind in enumerate(cell_layout(both, 20)) if kind == "reduction"] == [6, 13]
    assert cell_layout(both, 3) == ("normal", "reduction", "reduction")
    assert cell_layout(SearchSpace(), 3) == ("reduction",) * 3
    for space, cells in ((both, 2), (both, 0), (SearchSpace(), 0)):
        with pytest.raises(ConfigError, match=f"cells?.*got {cells}"):
            cell_layout(space, cells)
    check_image_size(SearchSpace(), 2, 8)
    with pytest.raises(ConfigError, match="16x16"):
        check_image_size(SearchSpace(), 3, 8)


SEPARABLE = one_node(1, "sep_conv_3x3")


def test_drop_path_zeroes_whole_images_and_scales_the_others():
    network = initialised(0, lambda: Network(SEPARABLE, 1, 3, 4, 1))
    images = torch.randn(400, 1, 8, 8, generator=seeded(1))
    bias = network.classifier.bias
    whole = network(images) - bias
    network.drop_path, network.generator = 0.25, seeded(2)
    before = torch.get_rng_state()
    dropped = network(images) - bias
    assert torch.equal(torch.get_rng_state(), before)
    zero = (dropped == 0).all(1)
    assert torch.allclose(dropped[~zero], whole[~zero] / 0.75, atol=1e-5)
    assert abs(zero.sum().item() - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5
    network.generator = seeded(2)
    assert torch.equal(network(images) - bias, dropped)
    network.eval()
    assert torch.equal(network(images), network(images))
    assert not (network(images) == bias).all(1).any()


def test_drop_path_keeps_skip_connections_that_change_no_resolution():
    def run(cell_type, drop_path):
        space = SearchSpace(nodes=1, cell_types=(cell_type,))
        network = initialised(0, lambda: Network(Genotype(space, (((Edge(1, "skip_connect"),),),)), 1, 3, 4, 1))
        network.drop_path, network.generator = drop_path, seeded(2)
        return network(torch.randn(40, 1, 8, 8, generator=seeded(1)))

    assert torch.equal(run("normal", 0.5), run("normal", 0.0))
    assert not torch.equal(run("reduction", 0.5), run("reduction", 0.0))


@pytest.mark.parametrize(("cells", "at"), [(1, None), (2, 1), (4, 2)])
def test_the_auxiliary_head_speaks_in_training_only_and_sees_the_cells_before_it(cells, at):
    network = initialised(0, lambda: Network(SEPARABLE, 1, 3, 4, cells, auxiliary=True))
    images = torch.randn(6, 1, 8, 8, generator=seeded(1))
    assert network.eval()(images).shape == (6, 3)
    outputs = network.train()(images)
    if at is None:
        assert outputs.shape == (6, 3)
        return
    assert [output.shape for output in outputs] == [(6, 3)] * 2
    outputs[1].square().sum().backward()
    reached = [any(p.grad is not None and p.grad.any() for p in cell.parameters()) for cell in network.cells]
    assert reached == [True] * (at + 1) + [False] * (cells - at - 1)


# --- as DARTS's code builds them ------------------------------------------------------------------------------------


def published(name, channels, cells, **layout):
    with torch.device("meta"):
        return Network(published_genotype(name), 3, 10, channels, cells, auxiliary=True, **layout)


@pytest.mark.parametrize(("name", "count"), [("DARTS_V2", 3_349_342), ("PC_DARTS_CIFAR", 3_634_678)])
def test_published_networks_have_the_parameters_that_were_published(name, count):
    named = published(name, 36, 20, darts_layout=True).named_parameters()
    assert sum(p.numel() for key, p in named if "auxiliary" not in key) == count  # as DARTS counts


def test_the_stem_is_three_times_as_wide_and_retrained_pools_have_no_norm():
    darts, ours = published("DARTS_V2", 4, 3, darts_layout=True), published("DARTS_V2", 4, 3)
    assert (darts.stem[0].out_channels, ours.stem[0].out_channels) == (12, 4)

    def number(network, kind):
        return sum(isinstance(module, kind) for module in network.cells.modules())

    assert number(darts, nn.MaxPool2d) == number(ours, nn.MaxPool2d) == 2 * 5
    assert number(ours, nn.BatchNorm2d) - number(darts, nn.BatchNorm2d) == 2 * 5


def test_the_auxiliary_pool_overlaps_as_in_darts():
    images = torch.randn(2, 3, 8, 8, generator=seeded())
    assert torch.allclose(OverlappingPool()(images), nn.functional.avg_pool2d(images, 5, 3), atol=1e-6)
    assert all(OverlappingPool()(torch.ones(1, 1, size, size)).shape[2:] == (2, 2) for size in range(2, 40))


def test_a_supernet_of_this_layout_keeps_the_pools_norms():
    supernets = [Supernet(SPACES[3][0], 2, 3, 4, 3, darts_layout=layout) for layout in (True, False)]
    norms = [sum(isinstance(each, nn.BatchNorm2d) for each in one.modules()) for one in supernets]
    assert norms[0] == norms[1]
