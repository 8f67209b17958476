"""Genotypes from elsewhere: the published cells by name, and texts of any of the known forms."""

from edgenes.errors import ConfigError
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.validation import check_choice

PUBLISHED = {
    # Liu et al. (2019), first and second order, on CIFAR-10
    "DARTS_V1": """Genotype(
        normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
                ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
        normal_concat=[2, 3, 4, 5],
        reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
                ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)],
        reduce_concat=[2, 3, 4, 5])""",
    "DARTS_V2": """Genotype(
        normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
        normal_concat=[2, 3, 4, 5],
        reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
                ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
        reduce_concat=[2, 3, 4, 5])""",
    # Xu et al. (2020), on CIFAR-10 and on ImageNet
    "PC_DARTS_CIFAR": """Genotype(
        normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
                ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)],
        normal_concat=range(2, 6),
        reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
                ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)],
        reduce_concat=range(2, 6))""",
    "PC_DARTS_IMAGENET": """Genotype(
        normal=[('skip_connect', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 1),
                ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('dil_conv_5x5', 4)],
        normal_concat=range(2, 6),
        reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
                ('sep_conv_3x3', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 3)],
        reduce_concat=range(2, 6))""",
}
"""The published cells, in DARTS's form."""


def published_genotype(name: str, space: SearchSpace | None = None) -> Genotype:
    """A published genotype; `space` is by default DARTS's own, which it was searched in.

    Raises ConfigError for an unknown name, and for a space that the cells do not fit.

    Example:
        >>> from edgenes import published_genotype
        >>> print(published_genotype("DARTS_V2").cells[0][3])
        (Edge(input=0, operation='skip_connect'), Edge(input=2, operation='dil_conv_3x3'))
    """
    check_choice("a published genotype", name, tuple(PUBLISHED))
    try:
        return Genotype.from_darts(PUBLISHED[name], space)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def genotype_of_text(text: str, space: SearchSpace | None = None) -> Genotype:
    """The genotype of a text in any form: own JSON, DARTS's, NASLib's or NAS-Bench-301's; ConfigError for others.

    `space` as in `Genotype.from_darts`; the own form brings its space.
    """
    if "Genotype(" in text:
        return Genotype.from_darts(text, space)
    if text.lstrip()[:1] in ("(", "["):
        return Genotype.from_naslib(text, space)
    if "NetworkSelectorDatasetInfo" in text:
        return Genotype.from_nasbench301(text, space)
    return Genotype.from_json(text)
