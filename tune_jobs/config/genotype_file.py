"""The optimal genotype that the user brings."""

from pathlib import Path

from edgenes.errors import ConfigError
from edgenes.parsing import shown
from edgenes.space.genotype import Genotype, SearchSpace
from edgenes.space.published import PUBLISHED, genotype_of_text
from tune_jobs.config.sweep import OPTIMA


def read_genotype(path: Path, space: SearchSpace) -> Genotype:
    """The user's optimal genotype, in any known form; raises ConfigError if it is none of the study's space."""
    expected = f"--optimal must be {', '.join((*OPTIMA, *PUBLISHED))} or a genotype file"
    try:
        genotype = genotype_of_text(path.read_text(), space)
    except OSError as error:
        raise ConfigError(f"{expected}; {path} cannot be read: {error.strerror}.") from error
    except (ConfigError, UnicodeDecodeError) as error:
        raise ConfigError(f"{expected}; {path}: {error}") from error
    if genotype.space != space:
        theirs, ours = genotype.space.to_dict(), space.to_dict()
        differing = [
            f"--{name.replace('_', '-')}, {shown(value)} there and {shown(ours[name])} here"
            for name, value in theirs.items()
            if value != ours[name]
        ]
        raise ConfigError(f"the genotype in {path} is of another search space: give alike {'; '.join(differing)}.")
    return genotype
