"""The optimal genotype that the user brings in a file, and what is no genotype of the study."""

import pytest

from edgenes import ConfigError, SearchSpace, published_genotype, random_genotype
from tests.support.toys import seeded
from tune_jobs.config.genotype_file import read_genotype

SPACE = SearchSpace(4, 2, ("normal", "reduction"))
GENOTYPE = published_genotype("PC_DARTS_CIFAR")


def test_a_file_has_the_form_of_another_program(tmp_path):
    path = tmp_path / "genotype"
    path.write_text(f"genotype = {GENOTYPE.to_darts()}\n")
    assert read_genotype(path, SPACE) == GENOTYPE
    with pytest.raises(ConfigError, match="--inputs-per-node"):
        read_genotype(path, SearchSpace(4, 1, SPACE.cell_types))


@pytest.mark.parametrize("content", [None, b"\xff", b"Genotype()", b"{}"])
def test_a_file_that_is_no_genotype_is_named_beside_what_there_is(tmp_path, content):
    path = tmp_path / "DARTS_V3"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_genotype(path, SPACE)
    assert "DARTS_V2" in str(raised.value) and str(path) in str(raised.value)


def test_a_genotype_of_another_space_names_the_options(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(random_genotype(SearchSpace(3, 2, ("reduction",)), seeded(0)).to_json())
    with pytest.raises(ConfigError, match=r"--nodes, 3 .*--cell-types, .'reduction'. there") as raised:
        read_genotype(path, SPACE)
    assert "--inputs-per-node" not in str(raised.value)
