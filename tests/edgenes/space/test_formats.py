"""Genotypes in the forms of DARTS, NASLib and NAS-Bench-301: there and back, and what is no genotype."""

import json
import os
from collections import namedtuple

import pytest

from edgenes import ConfigError, Edge, Genotype, SearchSpace, random_genotype
from edgenes.space.published import PUBLISHED, genotype_of_text, published_genotype
from tests.support.toys import seeded

BOTH = ("normal", "reduction")
DARTS = SearchSpace(4, 2, BOTH)
Theirs = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")  # of another's code
PREFIX = "NetworkSelectorDatasetInfo:darts:"
FORMS = {
    "darts": lambda one: str(one.to_darts()),
    "naslib": lambda one: str(one.to_naslib()),
    "nasbench301": lambda one: json.dumps(one.to_nasbench301()),
    "own": lambda one: one.to_json(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_text_gives_its_genotype_back(form):
    for seed in range(10):
        genotype = random_genotype(DARTS, seeded(seed))
        assert genotype_of_text(FORMS[form](genotype)) == genotype


def test_forms_are_read_as_values_too():
    genotype = random_genotype(DARTS, seeded(1))
    assert Genotype.from_darts(Theirs(*genotype.to_darts())) == genotype
    assert Genotype.from_naslib([list(map(list, cell)) for cell in genotype.to_naslib()]) == genotype
    assert Genotype.from_nasbench301(genotype.to_nasbench301() | {"OptimizerSelector:optimizer": "sgd"}) == genotype


def test_the_three_forms_of_one_cell_by_hand():
    normal = ((Edge(0, "sep_conv_3x3"), Edge(1, "skip_connect")), (Edge(0, "max_pool_3x3"), Edge(2, "dil_conv_5x5")))
    rest = ((Edge(1, "avg_pool_3x3"), Edge(3, "sep_conv_5x5")), (Edge(2, "dil_conv_3x3"), Edge(4, "skip_connect")))
    genotype = Genotype(DARTS, ((*normal, *rest), (*normal, *rest)))
    edges = [("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 0), ("dil_conv_5x5", 2)]
    edges += [("avg_pool_3x3", 1), ("sep_conv_5x5", 3), ("dil_conv_3x3", 2), ("skip_connect", 4)]
    assert genotype.to_darts() == (edges, [2, 3, 4, 5], edges, [2, 3, 4, 5])
    assert genotype.to_naslib() == (((0, 3), (1, 2), (0, 0), (2, 6), (1, 1), (3, 4), (2, 5), (4, 2)),) * 2
    found = genotype.to_nasbench301()
    assert len(found) == 2 * (8 + 3)
    assert [found[f"{PREFIX}inputs_node_reduce_{k}"] for k in (3, 4, 5)] == ["0_2", "1_3", "2_4"]
    numbers = {0: 0, 1: 1, 2: 2, 4: 3, 6: 4, 8: 5, 11: 6, 13: 7}  # edge number: position in the list above
    assert all(found[f"{PREFIX}edge_normal_{edge}"] == edges[k][0] for edge, k in numbers.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_genotype_is_one_of_darts_space(name):
    genotype = published_genotype(name)
    assert genotype.space == DARTS
    assert Genotype.from_darts(f"{name} = {PUBLISHED[name]}") == genotype
    assert published_genotype(name, SearchSpace(4, 2, BOTH[::-1])).cells == genotype.cells[::-1]


def test_darts_form_has_any_number_of_nodes():
    space = SearchSpace(3, 2, BOTH, operations=("sep_conv_3x3", "skip_connect"))
    genotype = random_genotype(space, seeded(0))
    assert Genotype.from_darts(str(genotype.to_darts()), space) == genotype
    assert Genotype.from_darts(genotype.to_darts()).space == SearchSpace(3, 2, BOTH)


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (SearchSpace(4, 1, BOTH), "--inputs-per-node 2"),
        (SearchSpace(3, 2, BOTH), "--nodes 4"),
        (SearchSpace(4, 2, ("reduction",)), "--cell-types both"),
        (SearchSpace(4, 2, BOTH, ("max_pool_3x3", "sep_conv_3x3", "skip_connect")), "dil_conv_3x3"),
    ],
)
def test_a_space_that_does_not_fit_is_named(space, named):
    with pytest.raises(ConfigError, match=named):
        published_genotype("DARTS_V2", space)


@pytest.mark.parametrize(
    ("space", "form"),
    [
        (SearchSpace(), "to_darts"),
        (SearchSpace(3, 2, BOTH), "to_naslib"),
        (SearchSpace(3, 2, BOTH), "to_nasbench301"),
    ],
)
def test_a_form_that_cannot_hold_the_genotype_is_refused(space, form):
    with pytest.raises(ConfigError, match="to_json"):
        getattr(random_genotype(space, seeded(0)), form)()


def test_an_operation_that_a_form_does_not_know_is_refused(monkeypatch):
    from edgenes.space.operations import OPERATIONS

    monkeypatch.setattr(OPERATIONS, "_entries", {**OPERATIONS, "own": OPERATIONS["skip_connect"]})
    genotype = random_genotype(SearchSpace(4, 2, BOTH, ("own",)), seeded(0))
    for form in ("to_naslib", "to_nasbench301"):
        with pytest.raises(ConfigError, match="own"):
            getattr(genotype, form)()
    assert Genotype.from_darts(genotype.to_darts(), genotype.space) == genotype


WHOLE = str(random_genotype(DARTS, seeded(2)).to_darts())
SETTINGS = random_genotype(DARTS, seeded(2)).to_nasbench301()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Genotype()",
        "Genotype(1)",
        WHOLE.replace("Genotype(", "Genotype(1, "),
        "os.Genotype(normal=[])",
        WHOLE.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 3, 4]"),
        WHOLE.replace("normal_concat=[2, 3, 4, 5]", f"normal_concat=range(2, {10**9})"),
        WHOLE.replace("normal_concat=[2, 3, 4, 5]", f"normal_concat=range({10**30})"),
        WHOLE.replace("normal=[(", "normal=[('none', 0), (", 1),
        WHOLE.replace("reduce=[", "reduce=[] and [", 1),
        WHOLE.replace(", 0)", ", 7)", 1),
        WHOLE.replace("conv", "none"),
        WHOLE + "; import os",
        WHOLE + " " * 10_000,
        "Genotype(" + "(" * 500,
        "Genotype(" + "-" * 9000 + "1)",
        "Genotype(normal=" + "+".join("1" * 4000) + ")",
        "Genotype(normal=" + "9" * 9000 + ")",
        "Genotype(\0)",
        "[" * 5000,
        "[]",
        "[[[0, 9], [1, 0]], [[0, 0], [1, 0]]]",
        "[[[0, 0]], [[0, 0]]]",
        "[[[0, 0], [1, 0]], [[0, 0], [1, 0], [0, 0], [1, 0]]]",
        "[[[0.0, 0], [1, 0]], [[0, 0], [1, 0]]]",
        json.dumps({PREFIX: 1}),
        json.dumps({**SETTINGS, f"{PREFIX}inputs_node_normal_3": 1}),
        json.dumps({**SETTINGS, f"{PREFIX}inputs_node_normal_3": "0_1_2"}),
        json.dumps({**SETTINGS, f"{PREFIX}inputs_node_normal_3": "-1_0"}),
        json.dumps({**SETTINGS, f"{PREFIX}edge_normal_0": None}),
    ],
    ids=range(30),
)
def test_a_text_that_is_no_genotype_gets_a_sentence(text):
    with pytest.raises(ConfigError) as raised:
        genotype_of_text(text)
    assert 20 < len(str(raised.value)) < 800


def test_an_odd_number_of_edges_is_said():
    with pytest.raises(ConfigError, match="two edges a node, got 3"):
        genotype_of_text("[[[0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0]]]")


def test_a_text_runs_no_code(tmp_path):
    strange = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    for text in (WHOLE.replace("normal=", f"normal={strange} or ", 1), f"[{strange}, []]", f"Genotype({strange})"):
        with pytest.raises(ConfigError):
            genotype_of_text(text)
    assert os.listdir(tmp_path) == []
